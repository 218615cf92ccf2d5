//! `herald`: one program, its role chosen by the first argument.

mod cli;
mod postgres;
mod shutdown;

use std::process::ExitCode;

fn main() -> ExitCode {
    // One TLS implementation for all clients, chosen before the first of them is made.
    let _ = rustls::crypto::ring::default_provider().install_default();
    cli::run()
}
