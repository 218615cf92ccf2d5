//! Our own apalis backend: claims due runs of one queue, with their journals, as apalis tasks.
//!
//! Claiming runs in a tokio task of its own; apalis only reads a channel, so nothing that a handler does can keep a
//! claim, or a renewal, from being made. It never reports an error to apalis, which would end the worker: database
//! trouble is retried here.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use apalis_core::{
    backend::{Backend, BackendConfig, finalize::Ephemeral},
    task::{Task, task_id::RandomId},
    worker::context::WorkerContext,
};
use futures::{FutureExt, future::BoxFuture};
use rand::Rng;
use sqlx::PgPool;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tower::layer::util::Identity;
use uuid::Uuid;

use crate::{
    committer::ENOUGH,
    frontier::{Bounds, Frontier, Walk},
    leases::{Lease, Leases},
    past::{Past, read_past},
    slots::Ahead,
    statements::{self as sql, ClaimedRow},
    wake::Bells,
    workflow::Queue,
};

/// A run under lease, on its way to the executor.
pub(crate) struct Claimed {
    pub row: ClaimedRow,
    pub owner: Uuid,
    /// The journal as it was read, or why it could not be.
    pub past: Past,
    pub lease: Lease,
    /// Counts against what this process holds of the queue until the run is parked or ended.
    pub permit: OwnedSemaphorePermit,
}

/// What a claimer needs, and its limits.
#[derive(Clone)]
pub(crate) struct Claimer {
    pub pool: PgPool,
    pub queue: Queue,
    pub owner: Uuid,
    pub leases: Leases,
    pub bells: Bells,
    /// Runs of this queue that this process works on at once at most.
    pub concurrency: usize,
    pub gather: Duration,
    pub longest_idle: Duration,
}

/// The backend of one queue.
pub(crate) struct Claims {
    claimer: Claimer,
    stop: CancellationToken,
    state: State,
}

enum State {
    /// Not polled yet. A backend that is built and never run must claim nothing.
    Idle,
    Claiming {
        claimed: mpsc::Receiver<Claimed>,
        ended: tokio::task::JoinHandle<()>,
    },
    Closing(BoxFuture<'static, ()>),
    Closed,
}

impl Claims {
    /// Claims nothing any more once `draining`.
    pub fn new(claimer: Claimer, draining: &CancellationToken) -> Self {
        Self {
            claimer,
            stop: draining.child_token(),
            state: State::Idle,
        }
    }
}

impl Drop for Claims {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Backend for Claims {
    type Task = Task<Claimed>;
    type Error = Infallible;

    fn poll_ready(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        if matches!(self.state, State::Idle) {
            let (sender, claimed) = mpsc::channel(self.claimer.concurrency + Ahead::MOST);
            let ended = tokio::spawn(self.claimer.clone().claim_until(self.stop.clone(), sender));
            self.state = State::Claiming { claimed, ended };
        }
        Poll::Ready(Ok(()))
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Option<Result<Task<Claimed>, Infallible>>> {
        match &mut self.state {
            State::Claiming { claimed, .. } => claimed.poll_recv(cx).map(|next| next.map(|run| Ok(Task::new(run)))),
            State::Idle | State::Closing(_) | State::Closed => Poll::Pending,
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        loop {
            match std::mem::replace(&mut self.state, State::Closed) {
                State::Idle | State::Closed => return Poll::Ready(Ok(())),
                State::Claiming { claimed, ended } => {
                    self.stop.cancel();
                    self.state = State::Closing(give_back(self.claimer.pool.clone(), claimed, ended).boxed());
                }
                State::Closing(mut closing) => {
                    if closing.poll_unpin(cx).is_pending() {
                        self.state = State::Closing(closing);
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

impl BackendConfig for Claims {
    type Args = Claimed;
    type Id = RandomId;
    type Kind = Ephemeral;
    type Config = ();
    type Layer = Identity;

    fn config(&self) -> &() {
        &()
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> Identity {
        Identity::new()
    }
}

/// Waits for the claimer's end, then gives back what no handler has begun.
async fn give_back(pool: PgPool, mut claimed: mpsc::Receiver<Claimed>, ended: tokio::task::JoinHandle<()>) {
    claimed.close();
    let mut unbegun = Vec::new();
    while let Some(run) = claimed.recv().await {
        unbegun.push(run);
    }
    let _ = ended.await;
    release(&pool, unbegun.iter().map(|run| &run.row)).await;
}

pub(crate) async fn release<'a>(pool: &PgPool, runs: impl Iterator<Item = &'a ClaimedRow>) {
    let (ids, epochs): (Vec<Uuid>, Vec<i64>) = runs.map(|run| (run.id, run.epoch)).unzip();
    if ids.is_empty() {
        return;
    }
    let released = async { sql::release(&mut *pool.acquire().await?, &ids, &epochs).await };
    if let Err(error) = released.await {
        tracing::warn!(%error, runs = ids.len(), "could not give runs back; their leases will end by themselves");
    }
}

impl Claimer {
    async fn claim_until(self, stop: CancellationToken, sender: mpsc::Sender<Claimed>) {
        let permits = Arc::new(Semaphore::new(self.concurrency + Ahead::MOST));
        let mut ahead = Ahead::new();
        let mut idle = Duration::ZERO;
        let mut frontier = Frontier::default();
        let mut found = 0;
        // How long the queue's rate let nothing begin, as the last look has it.
        let mut empty_for = None;
        while !stop.is_cancelled() {
            // At least an eighth of the room is free before a claim, so that a busy queue is claimed in batches.
            let least = ((self.concurrency + ahead.runs()) / 8).max(1);
            let reserve = Ahead::MOST - ahead.runs();
            let Some(Some(mut room)) = stop.run_until_cancelled(all_of(&permits, reserve + least)).await else {
                return;
            };
            // The permits of the reserve are given back at once: they only keep the process from claiming too much.
            drop(room.split(reserve));
            if !self.gather.is_zero()
                && found < ENOUGH
                && empty_for.is_none()
                && stop
                    .run_until_cancelled(tokio::time::sleep(self.gather))
                    .await
                    .is_none()
            {
                return;
            }
            // What cannot be renewed must not be claimed. Those who were given up have just made room.
            if stop.run_until_cancelled(self.leases.can_be_kept()).await.is_none() {
                return;
            }
            let now = Instant::now();
            let bounds = frontier.bounds(now);
            match tokio::time::timeout(self.leases.length(), self.claim(room.num_permits(), now, bounds))
                .await
                .unwrap_or(Err(sqlx::Error::PoolTimedOut))
            {
                Ok((rows, walk)) => {
                    if let Some(walk) = walk {
                        frontier.note(bounds, Instant::now(), walk);
                    }
                    found = rows.len();
                    empty_for = walk.and_then(|walk| walk.rest);
                    if !rows.is_empty() {
                        idle = Duration::ZERO;
                        ahead.note(rows.len());
                        if !self.hand_over(rows, &mut room, &sender).await {
                            return;
                        }
                        continue;
                    }
                    ahead.note(0);
                    idle = (idle * 2).clamp(Duration::from_millis(20), self.longest_idle);
                    if bounds.is_some() {
                        idle = idle.min(frontier.rest(now));
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, queue = self.queue.0, "could not claim");
                    idle = self.longest_idle;
                    empty_for = None;
                }
            }
            drop(room);
            match empty_for {
                // Whatever is rung for cannot begin before. Whoever else waits for that token wakes at another moment.
                Some(rest) => {
                    let wait = rest.min(self.longest_idle) + Duration::from_millis(2).mul_f64(rand::rng().random());
                    stop.run_until_cancelled(tokio::time::sleep(wait)).await;
                }
                None => {
                    let wait = idle.mul_f64(rand::rng().random_range(0.75..1.25));
                    stop.run_until_cancelled(self.bells.wait(self.queue, wait)).await;
                }
            }
        }
    }

    /// Claims, and reads the journals of the runs that have one. The leases count from `since`. Runs whose journal cannot be
    /// read at the moment are given back: that is no death of theirs.
    pub(crate) async fn claim(
        &self,
        limit: usize,
        since: Instant,
        bounds: Option<Bounds>,
    ) -> Result<(Vec<Claimable>, Option<Walk>), sqlx::Error> {
        // As long as a renewal: who waits longer for a connection holds leases that cannot be renewed.
        let mut conn = tokio::time::timeout(self.leases.length() / 3, self.pool.acquire())
            .await
            .unwrap_or(Err(sqlx::Error::PoolTimedOut))?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let (rows, walk) = sql::claim(&mut conn, self.queue.0, self.owner, self.leases.length(), limit, bounds).await?;
        let mut runs: Vec<Claimable> = rows
            .into_iter()
            .map(|row| Claimable {
                lease: self.leases.hold(row.id, row.epoch, since),
                row,
                past: Ok(Default::default()),
            })
            .collect();
        let begun: Vec<Uuid> = runs
            .iter()
            .filter(|run| run.row.epoch > 1)
            .map(|run| run.row.id)
            .collect();
        if begun.is_empty() {
            return Ok((runs, walk));
        }
        let reading = tokio::time::timeout_at(since + self.leases.length() / 2, read_past(&mut conn, &begun)).await;
        // Giving back takes one too.
        drop(conn);
        match reading.unwrap_or(Err(sqlx::Error::PoolTimedOut)) {
            Ok(mut pasts) => {
                for run in &mut runs {
                    run.past = pasts.remove(&run.row.id).unwrap_or_else(|| Ok(Default::default()));
                }
                Ok((runs, walk))
            }
            Err(error) => {
                let (fresh, unread): (Vec<Claimable>, Vec<Claimable>) =
                    runs.into_iter().partition(|run| run.row.epoch == 1);
                release(&self.pool, unread.iter().map(|run| &run.row)).await;
                if fresh.is_empty() {
                    return Err(error);
                }
                tracing::warn!(%error, runs = unread.len(), "could not read journals");
                Ok((fresh, walk))
            }
        }
    }

    /// False when nobody takes them any more.
    async fn hand_over(
        &self,
        runs: Vec<Claimable>,
        room: &mut OwnedSemaphorePermit,
        to: &mpsc::Sender<Claimed>,
    ) -> bool {
        let mut refused = Vec::new();
        for Claimable { row, past, lease } in runs {
            let Some(permit) = room.split(1) else {
                unreachable!("no more runs are claimed than there is room for");
            };
            if let Err(mpsc::error::SendError(claimed)) = to
                .send(Claimed {
                    row,
                    owner: self.owner,
                    past,
                    lease,
                    permit,
                })
                .await
            {
                refused.push(claimed);
            }
        }
        release(&self.pool, refused.iter().map(|run| &run.row)).await;
        refused.is_empty()
    }
}

/// Waits until `least` permits are free, and takes all that are.
async fn all_of(permits: &Arc<Semaphore>, least: usize) -> Option<OwnedSemaphorePermit> {
    let least = u32::try_from(least).unwrap_or(u32::MAX);
    let mut taken = permits.clone().acquire_many_owned(least).await.ok()?;
    let more = u32::try_from(permits.available_permits()).unwrap_or(u32::MAX);
    if let Ok(more) = permits.clone().try_acquire_many_owned(more) {
        taken.merge(more);
    }
    Some(taken)
}

pub(crate) struct Claimable {
    pub row: ClaimedRow,
    pub past: Past,
    pub lease: Lease,
}
