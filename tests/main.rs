//! The one test binary: real Postgres, the built program, and the stub as the outside world.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where it stopped")]

mod api_edges;
mod api_golden;
mod api_lists;
mod api_rows;
mod arrivals;
mod beyond;
mod callbacks;
mod clients;
mod deploys;
mod dev;
mod emails;
mod engine;
mod faults;
mod files;
mod fuzz;
mod harness;
mod health;
mod inbound;
mod limits;
mod message_golden;
mod metrics;
mod operate;
mod plans;
mod providers;
mod receipts;
mod receipts_rules;
mod ses_moto;
mod settings;
mod sns;
mod spec;
mod store;
mod stub;
mod switching;
mod tree;
mod unsubscribe;
mod workflows;
