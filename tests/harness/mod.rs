//! What tests stand on.

mod admin;
mod client;
mod database;
mod eventually;
mod herald;
mod proxy;

pub use admin::Admin;
pub use client::{Client, SMS_TEMPLATE, http, live_token};
pub use database::{Database, database};
pub use eventually::eventually;
pub use herald::{Herald, SEALING_KEYS, program};
pub use proxy::LossyProxy;
