//! underway: each task runs inside the transaction that took it.

use jiff::ToSpan;
use serde::{Deserialize, Serialize};
use sqlx08::{PgPool, postgres::PgPoolOptions};
use underway::{Job as Steps, To};

use super::{Contestant, Peer, Program, Work, linked, serve::aside, tally::TALLY};

pub const UNDERWAY: Contestant = Contestant {
    name: "underway",
    program: Program::Rust("underway", linked::<Underway>),
    loads: "abce",
    runs_at_most: 5_000,
    unfinished: "select exists (select from underway.task where state in ('pending', 'in_progress'))",
    settings: "a connection for each run at once, polls every 10 ms beside notifications (a poll or a notification adds \
               one of the runs at once); story: five steps, without the wait, as it has no signals",
};

pub struct Underway {
    pool: PgPool,
    concurrency: usize,
}

type Built = Steps<Input, ()>;

impl Underway {
    async fn jobs(&self) -> anyhow::Result<Built> {
        let step = |_, Input { offered_at }: Input| async move {
            TALLY.handle(offered_at).await;
            To::done()
        };
        Ok(Steps::builder()
            .step(step)
            .name("jobs")
            .pool(self.pool.clone())
            .build()
            .await?)
    }

    async fn stories(&self) -> anyhow::Result<Built> {
        let last = |_, _: Input| async move {
            TALLY.count();
            To::done()
        };
        Ok(Steps::builder()
            .step(|_, input: Input| async move { To::next(input) })
            .step(|_, input: Input| async move { To::next(input) })
            .step(|_, input: Input| async move { To::next(input) })
            .step(|_, input: Input| async move { To::next(input) })
            .step(last)
            .name("stories")
            .pool(self.pool.clone())
            .build()
            .await?)
    }

    async fn built(&self, work: Work) -> anyhow::Result<Built> {
        match work {
            Work::Jobs => self.jobs().await,
            Work::Stories => self.stories().await,
        }
    }
}

impl Peer for Underway {
    async fn prepare(url: &str) -> anyhow::Result<()> {
        let peer = Self::connect(url, 2).await?;
        let pool = peer.pool.clone();
        aside(move || async move { underway::run_migrations(&pool).await }).await??;
        // Queues are rows, made by whoever builds a job first.
        peer.jobs().await?;
        peer.stories().await?;
        Ok(())
    }

    async fn connect(url: &str, concurrency: usize) -> anyhow::Result<Self> {
        // Two connections listen.
        let connections = u32::try_from(concurrency)? + 4;
        Ok(Self {
            pool: PgPoolOptions::new().max_connections(connections).connect(url).await?,
            concurrency,
        })
    }

    async fn fill(&self, work: Work, runs: usize) -> anyhow::Result<()> {
        let job = self.built(work).await?;
        let mut transaction = self.pool.begin().await?;
        for _ in 0..runs {
            job.enqueue_using(&mut *transaction, &Input { offered_at: 0 }).await?;
        }
        Ok(transaction.commit().await?)
    }

    async fn enqueue(&self, offered_at: i64) -> anyhow::Result<()> {
        self.jobs().await?.enqueue(&Input { offered_at }).await?;
        Ok(())
    }

    async fn work(&self, work: Work, _: usize) -> anyhow::Result<()> {
        let mut worker = self.built(work).await?.worker();
        worker.set_concurrency_limit(self.concurrency);
        Ok(worker.run_every(10.milliseconds()).await?)
    }
}

#[derive(Serialize, Deserialize)]
struct Input {
    offered_at: i64,
}
