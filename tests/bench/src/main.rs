//! `herald-bench program` (what `make bench` runs) measures the built program from outside, all of it or the lines that
//! are named (`"POST sms"`, `"GET by id"`, …, `delivered`, `receipts`, `flood`,
//! `switch`); `herald-bench peers` runs
//! Herald's engine and other engines on the same Postgres. `herald-bench peer …` is one engine's process of the latter.

mod contest;
mod database;
mod herald;
mod load;
mod outside;
mod peers;
mod program;

use anyhow::bail;
use mimalloc::MiMalloc;

/// The program's allocator, for every engine that is linked in here.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        None => program::run(&[]).await,
        Some((verb, rest)) if verb == "program" => program::run(rest).await,
        Some((verb, rest)) if verb == "peers" => contest::run(&contest::Settings::parse(rest)?).await,
        Some((verb, rest)) if verb == "peer" => peers::act(rest).await,
        Some((verb, _)) => bail!(
            "there is no {verb:?}: say `program` with the names of its lines, or `peers` with {}",
            contest::USAGE
        ),
    }
}

/// Cores, and the load average before.
fn machine() -> (usize, String) {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    (cores, load.trim().to_owned())
}
