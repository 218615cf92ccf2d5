//! `herald`: one program, its role chosen by the first argument.

mod build_info;
mod check_upgrade;
mod cli;
mod config;
mod dev;
mod operate;
mod pooler;
mod postgres;
mod roles;
mod seed;
mod shutdown;
mod supervisor;
mod token;
mod try_input;
mod wiring;

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// A message is hundreds of small allocations, made on one thread and freed on another.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    // One TLS implementation for all clients, chosen before the first of them is made.
    let _ = rustls::crypto::ring::default_provider().install_default();
    cli::run()
}
