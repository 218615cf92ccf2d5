//! One committer a process: gathers what concurrent runs and requests want to write, at once when idle and in
//! batches under load, and writes each batch in one transaction. Many requests, one commit; each is answered after it.

use std::{collections::HashSet, sync::Arc, time::Duration};

use sqlx::PgPool;
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::{
    Error,
    batch::{self, Locks, Trial, Written},
    error::{Transient, is_locked, is_of_the_machine, is_transient},
    submission::{Item, Submission, Submitted},
    turns::Turns,
    wake::Ringer,
};

/// How batches are formed.
#[derive(Debug, Clone)]
pub struct BatchLimits {
    /// Submissions in one transaction at most.
    pub batch: usize,
    /// Transactions at the same time: while one commits, the next gathers.
    pub lanes: usize,
    /// Submissions that wait for a lane at most; beyond that, callers wait.
    pub waiting: usize,
    /// How long a batch waits for more after its first submission, unless it holds enough before. Zero where somebody waits
    /// for the answer; a little where nobody does, and fewer commits leave the disk to others.
    pub gather: Duration,
    /// How long a caller from outside a run waits for its commit.
    pub patience: Duration,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self {
            batch: 256,
            lanes: 2,
            waiting: 10_000,
            gather: Duration::ZERO,
            patience: Duration::from_secs(15),
        }
    }
}

/// What a batch holds whose commit costs its submissions next to nothing: waiting for more saves nothing either.
pub(crate) const ENOUGH: usize = 32;

/// Writes submissions. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    items: mpsc::Sender<Item>,
    patience: Duration,
    turns: Turns,
}

impl Client {
    /// Starts the committer on the current tokio runtime; it ends when the last clone is dropped.
    pub fn new(pool: PgPool, limits: BatchLimits) -> Self {
        let (items, queue) = mpsc::channel(limits.waiting);
        let queue = Arc::new(Mutex::new(queue));
        let (locked, waiting) = mpsc::unbounded_channel();
        let turns = Turns::new(pool.clone());
        let lane = Lane {
            ringer: Ringer::new(pool.clone()),
            pool,
            locked,
        };
        tokio::spawn(commit_locked(lane.clone(), waiting));
        for _ in 0..limits.lanes.max(1) {
            tokio::spawn(lane.clone().commit_batches(queue.clone(), limits.clone()));
        }
        Self {
            items,
            patience: limits.patience,
            turns,
        }
    }

    /// One that writes nothing.
    pub(crate) fn nowhere() -> Self {
        Self {
            items: mpsc::channel(1).0,
            patience: Duration::ZERO,
            turns: Turns::by_the_clock(),
        }
    }

    /// For a caller that takes the items out itself.
    #[cfg(feature = "simulation")]
    pub(crate) fn into(items: mpsc::Sender<Item>) -> Self {
        Self {
            items,
            patience: Duration::MAX,
            turns: Turns::by_the_clock(),
        }
    }

    /// Returns when the submission is committed.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it took too long: whether it was, or will be, written is not known.
    /// [`Error::Refused`] when the database would refuse it again.
    pub async fn submit(&self, submission: Submission) -> Result<Submitted, Error> {
        tokio::time::timeout(self.patience, self.write(submission))
            .await
            .map_err(|_| Error::Unavailable)?
    }

    /// As [`Self::submit`], for as long as it takes: a run's own lease bounds the wait.
    pub(crate) async fn write(&self, mut submission: Submission) -> Result<Submitted, Error> {
        for run in &mut submission.starts {
            run.turn = self.turns.take(run).await;
        }
        let (reply, answer) = oneshot::channel();
        self.items
            .send(Item { submission, reply })
            .await
            .map_err(|_| Error::Unavailable)?;
        answer.await.map_err(|_| Error::Unavailable)?
    }
}

/// What writes one batch after the other.
#[derive(Clone)]
struct Lane {
    pool: PgPool,
    ringer: Ringer,
    /// Takes what waits for a lock that somebody keeps, or that Postgres' machine fails at, so that nobody else has to wait
    /// for it. Whoever stops waiting for its answer leaves.
    locked: mpsc::UnboundedSender<(Item, Trial)>,
}

impl Lane {
    async fn commit_batches(self, queue: Arc<Mutex<mpsc::Receiver<Item>>>, limits: BatchLimits) {
        let limit = limits.batch.max(1);
        let mut items = Vec::with_capacity(limit);
        loop {
            let mut queue = queue.lock().await;
            if queue.recv_many(&mut items, limit).await == 0 {
                return;
            }
            if !limits.gather.is_zero() {
                let more = async {
                    let mut room = limit - items.len();
                    while items.len() < ENOUGH.min(limit) && queue.recv_many(&mut items, room).await > 0 {
                        room = limit - items.len();
                    }
                };
                // What has been gathered until then stays in `items`.
                let _ = tokio::time::timeout(limits.gather, more).await;
            }
            drop(queue);
            self.commit_until_settled(std::mem::take(&mut items), Trial::First, Locks::Awaited, BORNE)
                .await;
        }
    }

    /// Repeats a batch over database trouble until it is written. Where it is a lock, or where Postgres' machine has failed at
    /// it more than `borne` times, each submission is tried by itself, and those that it is about are put aside.
    async fn commit_until_settled(&self, mut items: Vec<Item>, mut trial: Trial, locks: Locks, mut borne: u32) {
        let mut pause = FIRST_PAUSE;
        loop {
            match try_once(&self.pool, items, trial, locks).await {
                Tried::Settled { due } => return self.ringer.ring(due),
                Tried::NotYet(same) => items = same,
                Tried::Failing(same) if borne > 0 => {
                    borne -= 1;
                    items = same;
                }
                Tried::Locked(alone) | Tried::Failing(alone) if alone.len() == 1 => {
                    for item in alone {
                        let _ = self.locked.send((item, trial));
                    }
                    return;
                }
                Tried::Refused(items) => return self.commit_apart(items, trial, locks, borne).await,
                Tried::Locked(items) => return self.commit_apart(items, trial, Locks::Tried, borne).await,
                Tried::Failing(items) => return self.commit_apart(items, trial, locks, 0).await,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            trial = Trial::Repeated;
        }
    }

    async fn commit_apart(&self, items: Vec<Item>, trial: Trial, locks: Locks, borne: u32) {
        for item in items {
            Box::pin(self.commit_until_settled(vec![item], trial, locks, borne)).await;
        }
    }
}

/// So often, within a second and a half, what Postgres' machine fails at is taken to be about all of a batch.
const BORNE: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Tries what was put aside, one after the other, and takes one connection for it. Between rounds nothing is locked, so
/// that leases can be renewed.
async fn commit_locked(lane: Lane, mut waiting: mpsc::UnboundedReceiver<(Item, Trial)>) {
    let Lane { pool, ringer, locked } = lane;
    // It must not keep itself alive.
    drop(locked);
    let mut round = Vec::new();
    while let Some(first) = waiting.recv().await {
        round.push(first);
        while !round.is_empty() {
            tokio::time::sleep(LONGEST_PAUSE).await;
            while let Ok(next) = waiting.try_recv() {
                round.push(next);
            }
            for (item, trial) in std::mem::take(&mut round) {
                match try_once(&pool, vec![item], trial, Locks::Tried).await {
                    Tried::Settled { due } => ringer.ring(due),
                    Tried::NotYet(items) | Tried::Failing(items) => {
                        round.extend(items.into_iter().map(|item| (item, Trial::Repeated)));
                    }
                    Tried::Locked(items) | Tried::Refused(items) => {
                        round.extend(items.into_iter().map(|item| (item, trial)));
                    }
                }
            }
        }
    }
}

/// What came of one try.
pub(crate) enum Tried {
    /// Everybody has an answer.
    Settled {
        /// Queues in which something is due now.
        due: HashSet<String>,
    },
    /// Database trouble: whether it was written is not known.
    NotYet(Vec<Item>),
    /// The same, since Postgres' machine fails at one of them, or at all.
    Failing(Vec<Item>),
    /// Nothing was written, because somebody keeps a lock that one of them needs, or all.
    Locked(Vec<Item>),
    /// Nothing was written. To be taken apart, so that one bad submission fails alone.
    Refused(Vec<Item>),
}

/// What a try may take: beyond the database's own limits, its connection is as good as dead.
const LONGEST_TRY: Duration = Duration::from_secs(20);

pub(crate) async fn try_once(pool: &PgPool, mut items: Vec<Item>, trial: Trial, locks: Locks) -> Tried {
    // Whoever has stopped waiting, a request that timed out or a run whose lease ended, is not written any more.
    items.retain(|item| !item.reply.is_closed());
    if items.is_empty() {
        return Tried::Settled { due: HashSet::new() };
    }
    let written = tokio::time::timeout(LONGEST_TRY, batch::write(pool, &items, trial, locks)).await;
    match written.unwrap_or_else(|_| Err(Box::new(Transient("no answer from the database".to_owned())))) {
        Ok(Written { answers, due }) => {
            answer(items, answers);
            Tried::Settled { due }
        }
        Err(error) if is_locked(&*error) => {
            tracing::warn!(%error, submissions = items.len(), "a batch cannot be written while somebody keeps a lock");
            Tried::Locked(items)
        }
        Err(error) if is_transient(&*error) => {
            tracing::warn!(%error, submissions = items.len(), "a batch could not be written yet");
            if is_of_the_machine(&*error) {
                Tried::Failing(items)
            } else {
                Tried::NotYet(items)
            }
        }
        Err(error) if items.len() == 1 => {
            tracing::error!(%error, "the database refused a submission");
            answer(items, vec![Err(Error::Refused(error.to_string()))]);
            Tried::Settled { due: HashSet::new() }
        }
        Err(_) => Tried::Refused(items),
    }
}

fn answer(items: Vec<Item>, answers: Vec<Result<Submitted, Error>>) {
    for (item, answer) in items.into_iter().zip(answers) {
        // A caller that has gone needs no answer.
        let _ = item.reply.send(answer);
    }
}
