//! What tests stand on.

mod client;
mod database;
mod eventually;
mod herald;

pub use client::Client;
pub use database::{Database, database};
pub use eventually::eventually;
pub use herald::{Herald, Process, SEALING_KEYS, program};
