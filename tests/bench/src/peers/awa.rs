//! Awa on its queue storage, with jobs that have no deadline: its documented short path.

use std::time::Duration;

use anyhow::ensure;
use awa::{Client, InsertOpts, InsertParams, JobArgs, JobResult, QueueConfig, QueueStorage, QueueStorageConfig};
use serde::{Deserialize, Serialize};
use sqlx08::{PgPool, postgres::PgPoolOptions};

use super::{Contestant, Peer, Program, Work, linked, serve::aside, tally::TALLY};

pub const AWA: Contestant = Contestant {
    name: "awa",
    program: Program::Rust("awa", linked::<Awa>),
    loads: "abe",
    runs_at_most: usize::MAX,
    unfinished: "select coalesce((select sum(completed_count) from awa.receipt_completion_batches), 0)
                      + (select count(*) from awa.done_entries)
                      + coalesce((select sum(pruned_completed_count) from awa.queue_terminal_rollups), 0) < {runs}",
    settings: "queue storage, no deadline (receipts instead of leases), poll 50 ms beside notifications, claims of 512; \
               4 shards; \
               insert by COPY of 1000, a job alone by the storage's batch insert",
};

const QUEUE: &str = "bench";

pub struct Awa {
    pool: PgPool,
    storage: QueueStorage,
}

impl Peer for Awa {
    async fn prepare(url: &str) -> anyhow::Result<()> {
        let peer = Self::connect(url, 2).await?;
        aside(move || async move {
            awa::migrations::run(&peer.pool).await?;
            peer.storage.install(&peer.pool).await?;
            sqlx08::query("insert into awa.queue_meta (queue, enqueue_shards) values ($1, 4)")
                .bind(QUEUE)
                .execute(&peer.pool)
                .await?;
            anyhow::Ok(())
        })
        .await?
    }

    async fn connect(url: &str, _: usize) -> anyhow::Result<Self> {
        let pool = PgPoolOptions::new().max_connections(20).connect(url).await?;
        Ok(Self {
            pool,
            storage: QueueStorage::new(QueueStorageConfig::default())?,
        })
    }

    async fn fill(&self, work: Work, runs: usize) -> anyhow::Result<()> {
        const AT_ONCE: usize = 1000;
        ensure!(work == Work::Jobs, "it has jobs only");
        for first in (0..runs).step_by(AT_ONCE) {
            let jobs = (first..runs.min(first + AT_ONCE))
                .map(|_| params(0))
                .collect::<anyhow::Result<Vec<_>>>()?;
            self.storage.enqueue_params_copy(&self.pool, &jobs).await?;
        }
        Ok(())
    }

    async fn enqueue(&self, offered_at: i64) -> anyhow::Result<()> {
        self.storage
            .enqueue_params_batch(&self.pool, &[params(offered_at)?])
            .await?;
        Ok(())
    }

    async fn work(&self, _: Work, concurrency: usize) -> anyhow::Result<()> {
        let queue = QueueConfig {
            max_workers: u32::try_from(concurrency)?,
            poll_interval: Duration::from_millis(50),
            deadline_duration: Duration::ZERO,
            ..QueueConfig::default()
        };
        let client = Client::builder(self.pool.clone())
            .queue(QUEUE, queue)
            .register::<Job, _, _>(|job, _| async move {
                TALLY.handle(job.offered_at).await;
                Ok(JobResult::Completed)
            })
            .build()?;
        client.start().await?;
        std::future::pending().await
    }
}

#[derive(Serialize, Deserialize, JobArgs)]
struct Job {
    offered_at: i64,
}

fn params(offered_at: i64) -> anyhow::Result<InsertParams> {
    let opts = InsertOpts {
        queue: QUEUE.to_owned(),
        ..InsertOpts::default()
    };
    let args = Job { offered_at }.to_args()?;
    Ok(InsertParams {
        kind: Job::kind().to_owned(),
        args,
        opts,
    })
}
