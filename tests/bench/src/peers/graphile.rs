//! graphile_worker, as its guide to local queues and its own benchmark set it up for many small jobs.

use std::time::Duration;

use anyhow::ensure;
use graphile_worker::{
    IntoTaskHandlerResult, JobSpec, LocalQueueConfig, RawJobSpec, TaskHandler, WorkerContext, WorkerOptions,
    WorkerUtils,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::{PgPool, postgres::PgPoolOptions};

use super::{Contestant, Peer, Program, Work, linked, tally::TALLY};

pub const GRAPHILE: Contestant = Contestant {
    name: "graphile_worker",
    program: Program::Rust("graphile_worker", linked::<Graphile>),
    loads: "abe",
    runs_at_most: usize::MAX,
    unfinished: "select exists (select from graphile_worker._private_jobs)",
    settings: "local queue of 1000, completions batched for 5 ms, notifications; batch insert of 1000",
};

const SCHEMA: &str = "graphile_worker";

pub struct Graphile {
    pool: PgPool,
    utils: WorkerUtils,
}

impl Peer for Graphile {
    async fn prepare(url: &str) -> anyhow::Result<()> {
        let peer = Self::connect(url, 2).await?;
        Ok(peer.utils.migrate().await?)
    }

    async fn connect(url: &str, concurrency: usize) -> anyhow::Result<Self> {
        let connections = u32::try_from(concurrency)?.max(16);
        let pool = PgPoolOptions::new().max_connections(connections).connect(url).await?;
        Ok(Self {
            utils: WorkerUtils::new(&pool, SCHEMA),
            pool,
        })
    }

    async fn fill(&self, work: Work, runs: usize) -> anyhow::Result<()> {
        const AT_ONCE: usize = 1000;
        ensure!(work == Work::Jobs, "it has jobs only");
        for first in (0..runs).step_by(AT_ONCE) {
            let job = || RawJobSpec {
                identifier: Job::IDENTIFIER.to_owned(),
                payload: json!({"offered_at": 0}),
                spec: JobSpec::default(),
            };
            let jobs: Vec<RawJobSpec> = (first..runs.min(first + AT_ONCE)).map(|_| job()).collect();
            self.utils.add_raw_jobs(&jobs).await?;
        }
        Ok(())
    }

    async fn enqueue(&self, offered_at: i64) -> anyhow::Result<()> {
        self.utils.add_job(Job { offered_at }, JobSpec::default()).await?;
        Ok(())
    }

    async fn work(&self, _: Work, concurrency: usize) -> anyhow::Result<()> {
        let worker = WorkerOptions::default()
            .pg_pool(self.pool.clone())
            .schema(SCHEMA)
            .concurrency(concurrency)
            .local_queue(LocalQueueConfig::default().with_size(1000))
            .complete_job_batch_delay(Duration::from_millis(5))
            .define_job::<Job>()
            .init()
            .await?;
        Ok(worker.run().await?)
    }
}

#[derive(Serialize, Deserialize)]
struct Job {
    offered_at: i64,
}

impl TaskHandler for Job {
    const IDENTIFIER: &'static str = "job";

    async fn run(self, _: WorkerContext) -> impl IntoTaskHandlerResult {
        TALLY.handle(self.offered_at).await;
        Ok::<(), String>(())
    }
}
