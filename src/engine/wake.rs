//! Wakes the claimers of a queue when something there has become due: by Postgres' notifications from other
//! processes, and directly within this one. Only a hint; claimers poll as well.

use std::{collections::HashMap, sync::Arc, time::Duration};

use sqlx::{PgPool, postgres::PgListener};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{statements::WAKE_CHANNEL, workflow::Queue};

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
