//! Wakes the claimers of a queue when something there has become due, by Postgres' notifications. Only a hint;
//! claimers poll as well.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use sqlx::{PgPool, postgres::PgListener};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::{
    statements::{self as sql, WAKE_CHANNEL},
    workflow::Queue,
};

/// Rings in all processes, once what is due there is committed. Not within that transaction: Postgres lets one with
/// notifications commit at a time, so that the others' flushes would come one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Ringer(mpsc::Sender<HashSet<String>>);

impl Ringer {
    /// It rings on the current tokio runtime until the last clone is dropped.
    pub fn new(pool: PgPool) -> Self {
        let (sender, due) = mpsc::channel(MOST_RUNG);
        tokio::spawn(ring_until_dropped(pool, due));
        Self(sender)
    }

    /// While the database does not take notifications, most are forgotten.
    pub fn ring(&self, due: HashSet<String>) {
        if !due.is_empty() {
            let _ = self.0.try_send(due);
        }
    }
}

/// What is gathered while one notification is under way; a batch adds one.
const MOST_RUNG: usize = 64;

async fn ring_until_dropped(pool: PgPool, mut due: mpsc::Receiver<HashSet<String>>) {
    let mut sets = Vec::new();
    while due.recv_many(&mut sets, MOST_RUNG).await > 0 {
        let queues: HashSet<String> = sets.drain(..).flatten().collect();
        let queues: Vec<String> = queues.into_iter().collect();
        let rung = async { sql::notify(&mut *pool.acquire().await?, &queues).await };
        if let Err(error) = rung.await {
            tracing::debug!(%error, "could not ring; claimers find by themselves what is due");
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Bells(Arc<HashMap<&'static str, Notify>>);

impl Bells {
    pub fn new(queues: &[Queue]) -> Self {
        Self(Arc::new(queues.iter().map(|queue| (queue.0, Notify::new())).collect()))
    }

    pub fn ring(&self, queue: &str) {
        if let Some(bell) = self.0.get(queue) {
            bell.notify_one();
        }
    }

    /// Returns when the queue was rung for since the last call, or after `longest`.
    pub async fn wait(&self, queue: Queue, longest: Duration) {
        match self.0.get(queue.0) {
            Some(bell) => {
                let _ = tokio::time::timeout(longest, bell.notified()).await;
            }
            None => tokio::time::sleep(longest).await,
        }
    }

    /// Passes notifications on until `stop`. When the connection is lost it is made again; polling bridges the gap.
    pub async fn listen(self, pool: PgPool, stop: CancellationToken) {
        stop.run_until_cancelled(async {
            loop {
                if let Err(error) = self.listen_once(&pool).await {
                    tracing::warn!(%error, "lost the connection that listens for wake-ups");
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        })
        .await;
    }

    async fn listen_once(&self, pool: &PgPool) -> sqlx::Result<()> {
        let mut listener = PgListener::connect_with(pool).await?;
        listener.listen(WAKE_CHANNEL).await?;
        loop {
            let notification = listener.recv().await?;
            self.ring(notification.payload());
        }
    }
}
