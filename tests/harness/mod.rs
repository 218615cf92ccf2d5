//! What tests stand on.

mod database;
mod eventually;

pub use database::{Database, database};
pub use eventually::eventually;
