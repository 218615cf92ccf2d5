//! A linked engine's process: reads its arguments, speaks its lines.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use clap::Subcommand;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    task::JoinSet,
};

use super::{
    Peer, Work,
    tally::{TALLY, now},
};

/// How long after the second step of a story its signal is sent.
pub const ANSWERS_AFTER: Duration = Duration::from_millis(50);

#[derive(Subcommand)]
pub enum Verb {
    Prepare {
        url: String,
    },
    Fill {
        url: String,
        work: Work,
        runs: usize,
    },
    Offer {
        url: String,
        rate: f64,
        seconds: f64,
    },
    Work {
        url: String,
        work: Work,
        concurrency: usize,
    },
}

pub async fn serve<P: Peer>(verb: Verb) -> anyhow::Result<()> {
    const PRODUCERS: usize = 16;
    match verb {
        Verb::Prepare { url } => P::prepare(&url).await,
        Verb::Fill { url, work, runs } => P::connect(&url, PRODUCERS).await?.fill(work, runs).await,
        Verb::Offer { url, rate, seconds } => offer(P::connect(&url, PRODUCERS).await?, rate, seconds).await,
        Verb::Work { url, work, concurrency } => {
            let peer = P::connect(&url, concurrency).await?;
            println!("ready");
            let mut input = BufReader::new(tokio::io::stdin());
            let mut line = String::new();
            input.read_line(&mut line).await?;
            ensure!(line.trim() == "go", "expected go, got {line:?}");
            tokio::select! {
                ended = peer.work(work, concurrency) => {
                    ended?;
                    bail!("the workers ended by themselves");
                }
                () = report() => {}
                read = input.read_to_string(&mut line) => { read?; }
            }
            let [p50, p95, p99] = TALLY.latency();
            println!("latency {p50} {p95} {p99}");
            Ok(())
        }
    }
}

/// Awaits, on a thread of its own, what cannot be sent to another: some migrations' futures are not [`Send`].
pub async fn aside<F: Future>(make: impl FnOnce() -> F + Send + 'static) -> anyhow::Result<F::Output>
where
    F::Output: Send + 'static,
{
    let runtime = tokio::runtime::Handle::current();
    Ok(tokio::task::spawn_blocking(move || runtime.block_on(make())).await?)
}

async fn report() {
    let mut told = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let handled = TALLY.handled();
        if handled != told {
            println!("handled {handled}");
            told = handled;
        }
    }
}

/// Offers jobs when they are due, whether or not the earlier ones have been enqueued yet.
async fn offer<P: Peer>(peer: P, rate: f64, seconds: f64) -> anyhow::Result<()> {
    let peer = Arc::new(peer);
    let mut under_way = JoinSet::new();
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    let (began, total) = (Instant::now(), (rate * seconds) as usize);
    let mut offered = 0;
    while offered < total {
        ticks.tick().await;
        let due = ((began.elapsed().as_secs_f64() * rate) as usize).min(total);
        for _ in offered..due {
            let peer = peer.clone();
            under_way.spawn(async move { peer.enqueue(now()).await });
        }
        offered = due;
        while let Some(enqueued) = under_way.try_join_next() {
            enqueued.context("enqueuing")??;
        }
    }
    while let Some(enqueued) = under_way.join_next().await {
        enqueued.context("enqueuing")??;
    }
    println!("offered {total} {}", began.elapsed().as_secs_f64());
    Ok(())
}
