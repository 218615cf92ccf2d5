//! apalis with its own Postgres storage, as it comes.

use std::time::Duration;

use anyhow::ensure;
use apalis::{layers::WorkerBuilderExt, prelude::*};
use apalis_postgres::{Config, PgPool, PostgresStorage};
use futures::stream;
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgPoolOptions;

use super::{Contestant, Peer, Program, Work, linked, tally::TALLY};

pub const APALIS: Contestant = Contestant {
    name: "apalis-postgres",
    program: Program::Rust("apalis-postgres", linked::<Apalis>),
    loads: "abe",
    runs_at_most: 100_000,
    unfinished: "select exists (select from apalis.jobs where status <> 'Done')",
    settings: "polls every 20 ms (its notifications lose wake-ups), batches of 100; insert as a stream",
};

pub struct Apalis {
    pool: PgPool,
}

impl Apalis {
    fn storage(&self) -> PostgresStorage<Job> {
        PostgresStorage::new(&self.pool).with_config(Config::default().queue("bench").batch_size(100))
    }
}

impl Peer for Apalis {
    async fn prepare(url: &str) -> anyhow::Result<()> {
        Ok(PostgresStorage::setup(&Self::connect(url, 2).await?.pool).await?)
    }

    async fn connect(url: &str, _: usize) -> anyhow::Result<Self> {
        Ok(Self {
            pool: PgPoolOptions::new().max_connections(16).connect(url).await?,
        })
    }

    async fn fill(&self, work: Work, runs: usize) -> anyhow::Result<()> {
        const AT_ONCE: usize = 1000;
        ensure!(work == Work::Jobs, "its workflows have no signals");
        let mut storage = self.storage();
        for first in (0..runs).step_by(AT_ONCE) {
            let jobs = (first..runs.min(first + AT_ONCE)).map(|_| Job { offered_at: 0 });
            storage.push_stream(&mut stream::iter(jobs)).await?;
        }
        Ok(())
    }

    async fn enqueue(&self, offered_at: i64) -> anyhow::Result<()> {
        Ok(self.storage().push(Job { offered_at }).await?)
    }

    async fn work(&self, _: Work, concurrency: usize) -> anyhow::Result<()> {
        let name = format!("bench-{}", std::process::id());
        let worker = WorkerBuilder::new(name)
            .backend(self.storage().poll_with_interval(Duration::from_millis(20)))
            .concurrency(concurrency)
            .build(handle);
        Ok(worker.run().await?)
    }
}

#[derive(Serialize, Deserialize)]
struct Job {
    offered_at: i64,
}

async fn handle(job: Job) -> Result<(), BoxDynError> {
    TALLY.handle(job.offered_at).await;
    Ok(())
}
