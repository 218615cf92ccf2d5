//! The one test binary: real Postgres, the built program, and the stub as the outside world.

mod engine;
mod harness;
