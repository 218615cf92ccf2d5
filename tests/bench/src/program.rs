//! The built program: requests a second, texts delivered a second, and what each costs the database. Everything runs
//! on this machine: the load, the program's processes, Postgres and the stub share its cores.

use std::time::{Duration, Instant};

use anyhow::Context;
use clap::ValueEnum;

use crate::{
    database::Counters,
    herald::{self, Herald},
    load::{self, Ask},
    machine, outside,
};

const TEXTS: usize = 20_000;
const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_secs(5);

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Line {
    /// Requests a second that the API answers, while nothing works on what it accepts
    Requests,
    /// Texts a second, accepted, sent and delivered by receipt
    Delivered,
    /// Receipts a second, accepted and settled
    Receipts,
    /// How long texts wait beside a flood of receipts
    Flood,
    /// How soon texts go to the other provider when one fails
    Switch,
}

/// Measures the lines that are named, or all if none is.
pub async fn run(lines: &[Line]) -> anyhow::Result<()> {
    conditions();
    let herald = Herald::start().await?;
    for line in Line::value_variants() {
        if !lines.is_empty() && !lines.contains(line) {
            continue;
        }
        match line {
            Line::Requests => answer(&herald).await?,
            Line::Delivered => deliver(&herald).await?,
            Line::Receipts => outside::receipts(&herald).await?,
            Line::Flood => outside::flood(&herald).await?,
            Line::Switch => outside::switch(&herald).await?,
        }
    }
    Ok(())
}

fn conditions() {
    let (cores, load) = machine();
    println!("{cores} cores shared by load, API, workers, stub and Postgres; load average before: {load}");
    println!(
        "Postgres with fsync, synchronous_commit on; medians of {ROUNDS} rounds of {} s\n",
        ROUND.as_secs()
    );
}

/// The API alone: nothing works on what it accepts meanwhile.
async fn answer(herald: &Herald) -> anyhow::Result<()> {
    println!("The API and Postgres only; nothing works on what is accepted");
    println!(
        "{:>14} {:>12} {:>10} {:>10} {:>10} {:>16} {:>15} {:>17}",
        "request", "connections", "req/s", "p50 ms", "p99 ms", "CPU s/1000 req", "commits/request", "WAL bytes/request"
    );
    let known = load::once(herald, &Ask::send_text()).await?;
    let id = known["id"].as_str().context("the id of a text")?;
    let asks = [Ask::send_text(), Ask::send_email(), Ask::read(id), Ask::list()];
    for ask in asks {
        for connections in [1, 16, 64, 256] {
            let mut rounds = Vec::new();
            for _ in 0..ROUNDS {
                let (before, cpu) = (herald.database.counters().await?, herald::cpu_seconds());
                let run = load::for_a_while(herald, &ask, connections, ROUND).await?;
                let cpu = (herald::cpu_seconds() - cpu) / run.count() as f64 * 1000.0;
                let used = herald.database.counters().await? - before;
                rounds.push((
                    run.rate(),
                    run.percentile(0.5),
                    run.percentile(0.99),
                    cpu,
                    used.per(run.count()),
                ));
            }
            rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
            let (rate, p50, p99, cpu, Counters { commits, wal, .. }) = rounds[ROUNDS / 2];
            println!(
                "{:>14} {connections:>12} {rate:>10.0} {p50:>10.2} {p99:>10.2} {cpu:>16.3} {commits:>15.3} {wal:>17.0}",
                ask.name
            );
        }
    }
    Ok(())
}

/// Everything at work: from the first request until the last text is delivered.
async fn deliver(herald: &Herald) -> anyhow::Result<()> {
    herald.database.forget_messages().await?;
    let _workers = herald.start_workers("100-300").await?;
    println!("\n{TEXTS} texts accepted over 64 connections, sent, and delivered by receipt");
    println!(
        "{:>12} {:>12} {:>14} {:>14} {:>14} {:>16}",
        "accepted/s", "delivered/s", "seconds", "commits/text", "WAL bytes/text", "CPU s/1000 texts"
    );
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        herald.database.forget_messages().await?;
        let before = herald.database.counters().await?;
        let cpu = herald::cpu_seconds();
        let began = Instant::now();
        let run = load::so_many(herald, &Ask::send_text(), 64, TEXTS).await?;
        herald.database.until("delivered", TEXTS).await?;
        let seconds = began.elapsed().as_secs_f64();
        let cpu = herald::cpu_seconds() - cpu;
        let Counters { commits, wal, .. } = (herald.database.counters().await? - before).per(TEXTS);
        let texts = TEXTS as f64;
        rounds.push((texts / seconds, run.rate(), seconds, commits, wal, cpu / texts * 1000.0));
    }
    rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (delivered, accepted, seconds, commits, wal, cpu) = rounds[ROUNDS / 2];
    println!("{accepted:>12.0} {delivered:>12.0} {seconds:>14.1} {commits:>14.3} {wal:>14.0} {cpu:>16.2}");
    Ok(())
}
