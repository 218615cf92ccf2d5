//! One trial: a fresh database, what is to be done put into it, workers started together, and everything counted
//! until all of it is done.

use std::time::{Duration, Instant};

use anyhow::ensure;
use tokio::time::sleep;

use super::{
    Settings, Trial,
    databases::Databases,
    processes::{self, Worker},
};
use crate::{
    database::{Counters, Database},
    peers::Contestant,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Load {
    /// What is enqueued already, by so many processes with so many runs at once each.
    BurnDown { processes: usize, concurrency: usize },
    /// Jobs a second, each of 1 ms; one process, 64 at once.
    Offered { rate: usize },
    /// Steps and signals, enqueued already; one process, 64 at once.
    Stories,
}

/// What one trial showed.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    pub runs: usize,
    pub rate: f64,
    /// Of a burn-down, after its first fifth: without the start of the workers.
    pub steady: Option<f64>,
    /// Milliseconds from offer to start, of stories from the answer to the next step: median, 95th and 99th of a hundred.
    pub latency: Option<[f64; 3]>,
    /// For each run.
    pub used: Counters,
    /// Dead versions of rows left at the end.
    pub dead: i64,
}

const STORIES: usize = 2000;
const AT_ONCE: usize = 64;
/// Longer than this no trial goes on.
const PATIENCE: Duration = Duration::from_secs(90);

pub async fn measure(
    databases: &Databases,
    peer: &Contestant,
    trial: &Trial,
    settings: &Settings,
) -> anyhow::Result<Figures> {
    let url = databases.copy(peer, trial.base).await?;
    let (enqueued, processes, concurrency) = match trial.load {
        Load::BurnDown { processes, concurrency } => (
            usize::try_from(settings.runs)?.min(peer.runs_at_most),
            processes,
            concurrency,
        ),
        Load::Stories => (STORIES.min(peer.runs_at_most / 5), 1, AT_ONCE),
        Load::Offered { .. } => (0, 1, AT_ONCE),
    };
    let work = trial.load.work();
    if enqueued > 0 {
        processes::finish(peer, &["fill", &url, work.word(), &enqueued.to_string()]).await?;
    }
    let database = Database::connect(&url).await?;
    database.execute("vacuum analyze").await?;
    database.execute("checkpoint").await?;
    let mut workers = Vec::new();
    for _ in 0..processes {
        workers.push(Worker::start(peer, &url, work, concurrency).await?);
    }
    let before = database.counters().await?;
    let began = Instant::now();
    for worker in &mut workers {
        worker.go().await?;
    }
    let mut steady = None;
    let (runs, seconds) = if let Load::Offered { rate } = trial.load {
        // Workers that have just started are not what this load is about.
        sleep(Duration::from_secs(1)).await;
        let (offered, seconds) = processes::offer(peer, &url, rate, settings.seconds).await?;
        let all_offered = Instant::now();
        until_done(&mut workers, &database, peer, offered).await?;
        (usize::try_from(offered)?, seconds + all_offered.elapsed().as_secs_f64())
    } else {
        let (done, since) = until_done(&mut workers, &database, peer, enqueued as u64).await?;
        if let Load::BurnDown { .. } = trial.load {
            steady = Some((enqueued as u64 - done) as f64 / since.elapsed().as_secs_f64());
        }
        (enqueued, began.elapsed().as_secs_f64())
    };
    let mut latency = None;
    for worker in workers {
        latency = worker.stop().await?;
    }
    let used = (database.counters().await? - before).per(runs);
    let dead = database.dead_versions().await?;
    Ok(Figures {
        runs,
        rate: runs as f64 / seconds,
        steady,
        latency,
        used,
        dead,
    })
}

/// First every handler has to have ended, then the database must know of it. Tells when a fifth of them had, and how many
/// those were.
async fn until_done(
    workers: &mut [Worker],
    database: &Database,
    peer: &Contestant,
    runs: u64,
) -> anyhow::Result<(u64, Instant)> {
    let until = Instant::now() + PATIENCE;
    let mut first_fifth = None;
    let unfinished = peer.unfinished.replace("{runs}", &runs.to_string());
    loop {
        let mut handled = 0;
        for worker in &mut *workers {
            handled += worker.handled()?;
        }
        if handled >= runs / 5 {
            first_fifth.get_or_insert_with(|| (handled, Instant::now()));
        }
        if let Some(first_fifth) = first_fifth
            && handled >= runs
            && !database.value::<bool>(&unfinished).await?
        {
            return Ok(first_fifth);
        }
        ensure!(
            Instant::now() < until,
            "{handled} of {runs} handled in {} s, and not all are done",
            PATIENCE.as_secs()
        );
        sleep(Duration::from_millis(5)).await;
    }
}
