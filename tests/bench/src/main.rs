//! Measures the built program from outside, and Herald's engine beside others; `--help` says how.

mod contest;
mod database;
mod herald;
mod load;
mod outside;
mod peers;
mod program;

use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;

/// The program's allocator, for every engine that is linked in here.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Measures Herald. Results are printed to standard output, progress to standard error.
#[derive(Parser)]
#[command(name = "herald-bench", version)]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Measures the built program over HTTP; what it costs is read from Postgres' own counters
    Program {
        /// What to measure; all of it where nothing is named
        lines: Vec<program::Line>,
    },
    /// Runs Herald's engine and others on the same Postgres, in turns; a whole run is kept in RESULTS.md
    Peers(contest::Settings),
    /// One engine's process of `peers`
    #[command(hide = true)]
    Peer {
        name: String,
        #[command(subcommand)]
        verb: peers::Verb,
    },
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().what {
        What::Program { lines } => program::run(&lines).await,
        What::Peers(settings) => contest::run(&settings).await,
        What::Peer { name, verb } => peers::act(&name, verb).await,
    }
}

/// Cores, and the load average before.
fn machine() -> (usize, String) {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    (cores, load.trim().to_owned())
}
