//! What tests stand on.

mod admin;
mod balancer;
mod client;
mod cluster;
mod database;
mod eventually;
mod gate;
mod herald;
mod proxy;
mod redis;
mod tls;

pub use admin::Admin;
pub use balancer::Balancer;
pub use client::{Client, EMAIL_TEMPLATE, SERVICE, SMS_TEMPLATE, http, live_token};
pub use cluster::{Cluster, account, programs};
pub use database::{Database, database, empty_database};
pub use eventually::{eventually, eventually_within};
pub use gate::Gate;
pub use herald::{Herald, Process, SEALING_KEYS, free_port, program, this_program, words};
pub use proxy::LossyProxy;
pub use redis::Redis;
pub use tls::{Authority, TlsFront};
