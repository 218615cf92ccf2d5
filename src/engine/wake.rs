//! Wakes the claimers of a queue when something there has become due, by Postgres' notifications. Only a hint;
//! claimers poll as well.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    io,
    sync::Arc,
    time::Duration,
};

use sqlx::{
    PgPool,
    postgres::{PgListener, PgPoolOptions},
};
use tokio::{
    sync::{Notify, mpsc},
    time::timeout,
};
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
        if let Err(error) = in_time(rung).await {
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
                let _ = timeout(longest, bell.notified()).await;
            }
            None => tokio::time::sleep(longest).await,
        }
    }

    /// Passes notifications on until `stop`. When the connection is lost it is made again; polling bridges the gap.
    pub async fn listen(self, pool: PgPool, stop: CancellationToken) {
        stop.run_until_cancelled(async {
            loop {
                let Err(error) = hear(&pool, WAKE_CHANNEL, |queue| self.ring_for(queue)).await;
                tracing::warn!(%error, "lost the connection that listens for wake-ups");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        })
        .await;
    }

    /// For all queues, where it is not known for which.
    fn ring_for(&self, queue: Option<&str>) {
        match queue {
            Some(queue) => self.ring(queue),
            None => self.0.values().for_each(Notify::notify_one),
        }
    }
}

/// Hears what Postgres tells on a channel, until the connection is lost, also to a host that says nothing any more: a
/// connection that has been silent for a quarter of a minute is tried. `heard` is called with nothing when it begins to listen,
/// since what was told before was not heard. It listens on a connection of its own, made as those of `pool` are.
///
/// # Errors
/// Why the connection was lost, or could not be made.
pub async fn hear(
    pool: &PgPool,
    channel: &str,
    mut heard: impl FnMut(Option<&str>),
) -> Result<Infallible, sqlx::Error> {
    // Not of that pool: one whose host is silent would keep its place there until TCP gives up.
    let alone = PgPoolOptions::new().max_connections(1);
    let alone = alone.connect_lazy_with((*pool.connect_options()).clone());
    let mut listener = in_time(async {
        let mut listener = PgListener::connect_with(&alone).await?;
        listener.listen(channel).await?;
        Ok(listener)
    })
    .await?;
    listener.eager_reconnect(false);
    heard(None);
    loop {
        match timeout(SILENCE, listener.try_recv()).await {
            Ok(Ok(Some(told))) => heard(Some(told.payload())),
            Ok(Ok(None)) => return Err(sqlx::Error::Io(io::ErrorKind::ConnectionAborted.into())),
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                in_time(sqlx::query("select 1").execute(&mut listener)).await?;
            }
        }
    }
}

const SILENCE: Duration = Duration::from_secs(15);

/// What an answer may take.
const LONGEST: Duration = Duration::from_secs(5);

async fn in_time<T>(asked: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    timeout(LONGEST, asked)
        .await
        .unwrap_or_else(|_| Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into())))
}
