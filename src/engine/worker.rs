//! A worker process: one apalis worker a queue, the renewal of leases, and the listening for wake-ups.

use std::{future::Future, io, sync::Arc, time::Duration};

use apalis::prelude::{Data, Monitor, ParallelizeExt, WorkerBuilder};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    claims::{Claimed, Claimer, Claims},
    committer::Client,
    executor::Executor,
    leases::Leases,
    registry::{Registry, Stories},
    slots::Slots,
    wake::Bells,
    workflow::Queue,
};

/// The limits of a worker process.
#[derive(Debug, Clone)]
pub struct WorkerSettings {
    /// Runs worked on at once, a queue. Those that are only being written, and a few that come next, are held as well.
    pub concurrency: usize,
    /// How long a run is held without renewal: what a killed worker's runs wait at most until they go on elsewhere.
    pub lease: Duration,
    /// How long a queue is left alone before a look, so that fewer looks find more, unless the last one found plenty. Zero
    /// where somebody waits.
    pub gather: Duration,
    /// The longest time between two looks at a queue that nobody rang for.
    pub longest_idle: Duration,
    /// Deaths in a row before a run is set aside.
    pub deaths: i16,
    /// How long a stopping worker waits for the runs it has begun.
    pub grace: Duration,
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self {
            concurrency: 256,
            lease: Duration::from_secs(10),
            gather: Duration::ZERO,
            longest_idle: Duration::from_millis(500),
            deaths: 5,
            grace: Duration::from_secs(25),
        }
    }
}

/// Plays the runs of some queues.
pub struct Worker {
    pub pool: PgPool,
    /// Where LISTEN works: what listens is connected as its connections are, and is none of them.
    pub listening: PgPool,
    pub client: Client,
    pub queues: Vec<Queue>,
    pub settings: WorkerSettings,
}

impl Worker {
    /// Works until `shutdown` is done, then finishes what it has begun and gives the rest back.
    ///
    /// # Errors
    /// When the workers could not be stopped in an orderly way.
    pub async fn run<T: Send + Sync + 'static>(
        self,
        registry: Registry<T>,
        shutdown: impl Future<Output = ()> + Send,
    ) -> io::Result<()> {
        let stories: Arc<dyn Stories> = Arc::new(registry);
        let bells = Bells::new(&self.queues);
        let leases = Leases::new(self.settings.lease);
        let stop = CancellationToken::new();
        let draining = CancellationToken::new();
        tokio::spawn(bells.clone().listen(self.listening, stop.clone()));
        tokio::spawn(leases.clone().keep(self.pool.clone(), stop.clone()));
        let owner = Uuid::now_v7();
        let mut monitor = Monitor::new().shutdown_timeout(self.settings.grace);
        for queue in self.queues {
            let claimer = Claimer {
                pool: self.pool.clone(),
                queue,
                owner,
                leases: leases.clone(),
                bells: bells.clone(),
                concurrency: self.settings.concurrency,
                gather: self.settings.gather,
                longest_idle: self.settings.longest_idle,
            };
            let executor = Executor {
                stories: stories.clone(),
                client: self.client.clone(),
                queue,
                slots: Slots::new(self.settings.concurrency),
                deaths: self.settings.deaths,
                told: Arc::default(),
            };
            let drained = draining.clone();
            monitor = monitor.register(move |_| {
                WorkerBuilder::new(format!("{}-{owner}", queue.0))
                    .backend(Claims::new(claimer.clone(), &drained))
                    .data(executor.clone())
                    .parallelize(tokio::spawn)
                    .build(play)
            });
        }
        let ended = monitor
            .run_with_signal(async {
                shutdown.await;
                draining.cancel();
                Ok(())
            })
            .await;
        stop.cancel();
        ended.map_err(io::Error::other)
    }
}

async fn play(claimed: Claimed, executor: Data<Executor>) {
    executor.execute(claimed).await;
}
