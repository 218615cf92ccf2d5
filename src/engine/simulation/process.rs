//! A worker process without loops: it does what the driver says, one operation at a time.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use sqlx::PgPool;
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::Instant,
};
use uuid::Uuid;

use crate::{
    Error, Registry, WorkerSettings,
    batch::{self, Locks, Trial},
    claims::{self, Claimable, Claimed, Claimer},
    committer::{Client, Tried, try_once},
    executor::Executor,
    frontier::Bounds,
    leases::Leases,
    registry::Stories,
    slots::Slots,
    statements,
    submission::{Item, Submission, Submitted},
    wake::Bells,
    workflow::Queue,
};

/// What becomes of one try to write a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Answered,
    /// It is committed, and the process does not learn it.
    AnswerLost,
    /// The connection broke before.
    NeverArrived,
}

/// How an operation of the driver on the outside's submission ended, once it has.
pub struct Reply(oneshot::Receiver<Result<Submitted, Error>>);

impl Reply {
    pub fn get(&mut self) -> Option<Result<Submitted, Error>> {
        self.0.try_recv().ok()
    }
}

/// Dropping it is its sudden death.
pub struct Process {
    pool: PgPool,
    queues: Vec<Queue>,
    owner: Uuid,
    settings: WorkerSettings,
    stories: Arc<dyn Stories>,
    leases: Leases,
    permits: Arc<Semaphore>,
    client: Client,
    submitted: mpsc::Receiver<Item>,
    /// Waits for a batch.
    gathered: VecDeque<Item>,
    batches: Vec<Batch>,
    held: Vec<Held>,
    /// The zero of the driver's monotonic time.
    start: Instant,
    /// What the last walk of each queue has seen.
    seen: HashMap<&'static str, Option<Bounds>>,
}

struct Batch {
    items: Vec<Item>,
    trial: Trial,
}

struct Held {
    run: Uuid,
    epoch: i64,
    played: BoxFuture<'static, ()>,
}

impl Process {
    /// The owner is a new id, so a world must be set.
    pub fn new<T: Send + Sync + 'static>(
        pool: PgPool,
        registry: Arc<Registry<T>>,
        queues: &[Queue],
        settings: WorkerSettings,
    ) -> Self {
        let (items, submitted) = mpsc::channel(1_000);
        Self {
            pool,
            queues: queues.to_vec(),
            owner: super::fresh_id().unwrap_or_default(),
            stories: registry,
            leases: Leases::new(settings.lease),
            permits: Arc::new(Semaphore::new(settings.concurrency)),
            settings,
            client: Client::into(items),
            submitted,
            gathered: VecDeque::new(),
            batches: Vec::new(),
            held: Vec::new(),
            start: Instant::now(),
            seen: HashMap::new(),
        }
    }

    /// Claims what is due, and gives back at once what is not to be kept. Returns the runs with their epochs, sorted. Unless
    /// `whole`, it begins where the last claim has seen everything, as under an old transaction. Of what there is room for it
    /// takes `most`.
    ///
    /// # Errors
    /// Any error of the database.
    pub async fn claim(
        &mut self,
        queue: Queue,
        now: Duration,
        whole: bool,
        most: usize,
        mut keep: impl FnMut(Uuid) -> bool,
    ) -> sqlx::Result<Vec<(Uuid, i64, bool)>> {
        let limit = self.permits.available_permits().min(most);
        let seen = self.seen.get(queue.0).copied().flatten();
        let bounds = seen.filter(|_| !whole);
        let claimer = self.claimer(queue);
        let (mut claimed, walk) = claimer.claim(limit, self.start + now, bounds).await?;
        if let Some(walk) = walk {
            self.seen.insert(queue.0, walk.seen(seen));
        }
        claimed.sort_by_key(|claimed| claimed.row.id);
        let (mut told, mut refused) = (Vec::new(), Vec::new());
        for Claimable { row, past, lease } in claimed {
            let Ok(permit) = self.permits.clone().try_acquire_owned() else {
                unreachable!("no more runs are claimed than there is room for");
            };
            let (run, epoch) = (row.id, row.epoch);
            let claimed = Claimed {
                row,
                owner: self.owner,
                past,
                lease,
                permit,
            };
            let kept = keep(run);
            told.push((run, epoch, kept));
            if kept {
                self.hold(run, epoch, claimed, queue);
            } else {
                refused.push(claimed);
            }
        }
        claims::release(&self.pool, refused.iter().map(|run| &run.row)).await;
        Ok(told)
    }

    fn claimer(&self, queue: Queue) -> Claimer {
        Claimer {
            pool: self.pool.clone(),
            queue,
            owner: self.owner,
            leases: self.leases.clone(),
            bells: Bells::new(&self.queues),
            concurrency: self.settings.concurrency,
            gather: Duration::ZERO,
            longest_idle: self.settings.longest_idle,
        }
    }

    fn hold(&mut self, run: Uuid, epoch: i64, claimed: Claimed, queue: Queue) {
        let executor = Executor {
            stories: self.stories.clone(),
            client: self.client.clone(),
            queue,
            slots: Slots::new(self.settings.concurrency),
            deaths: self.settings.deaths,
            told: Arc::default(),
        };
        let played = tokio::task::unconstrained(async move { executor.execute(claimed).await }).boxed();
        self.held.push(Held { run, epoch, played });
    }

    /// The runs it holds, with their epochs, in the order of their claims.
    pub fn held(&self) -> Vec<(Uuid, i64)> {
        self.held.iter().map(|held| (held.run, held.epoch)).collect()
    }

    /// Goes on with one of the runs as far as it gets; true when it let go of it.
    pub fn poll(&mut self, which: usize) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        let over = self.held[which].played.poll_unpin(&mut context).is_ready();
        if over {
            drop(self.held.remove(which));
        }
        while let Ok(item) = self.submitted.try_recv() {
            self.gathered.push_back(item);
        }
        over
    }

    /// What somebody from outside wants to be written, by this process.
    pub fn submit(&mut self, submission: Submission) -> Reply {
        let (reply, answer) = oneshot::channel();
        self.gathered.push_back(Item { submission, reply });
        Reply(answer)
    }

    /// Submissions that wait for a batch.
    pub fn gathered(&self) -> usize {
        self.gathered.len()
    }

    /// Batches that are not settled.
    pub fn batches(&self) -> usize {
        self.batches.len()
    }

    /// Makes a batch of the first `n` submissions, or of all.
    pub fn form_batch(&mut self, n: usize) {
        let items: Vec<Item> = self.gathered.drain(..n.min(self.gathered.len())).collect();
        if !items.is_empty() {
            let trial = Trial::First;
            self.batches.push(Batch { items, trial });
        }
    }

    /// One try to write a batch.
    pub async fn write(&mut self, which: usize, fate: Fate) {
        let Batch { mut items, trial } = self.batches.remove(which);
        let next = match fate {
            Fate::Answered => try_once(&self.pool, items, trial, Locks::Awaited).await,
            Fate::NeverArrived => Tried::NotYet(items),
            Fate::AnswerLost => {
                items.retain(|item| !item.reply.is_closed());
                // Refused or written: nobody learns it.
                let _ = batch::write(&self.pool, &items, trial, Locks::Awaited).await;
                Tried::NotYet(items)
            }
        };
        match next {
            Tried::Settled { .. } => {}
            Tried::NotYet(items) | Tried::Failing(items) | Tried::Locked(items) => {
                let trial = Trial::Repeated;
                self.batches.insert(which, Batch { items, trial });
            }
            Tried::Refused(items) => self.batches.extend(items.into_iter().map(|item| Batch {
                items: vec![item],
                trial: Trial::First,
            })),
        }
    }

    /// Renews the leases that are old enough; the process may not get to know it. Returns their number.
    ///
    /// # Errors
    /// Any error of the database.
    pub async fn renew(&mut self, now: Duration, answered: bool) -> sqlx::Result<usize> {
        let sent = self.start + now;
        let (ids, epochs) = self.leases.to_renew(sent);
        if ids.is_empty() {
            return Ok(0);
        }
        let conn = &mut *self.pool.acquire().await?;
        let renewed = statements::renew(conn, &ids, &epochs, self.leases.length()).await?;
        if answered {
            self.leases.note(&ids, &epochs, &renewed, sent);
        }
        Ok(ids.len())
    }

    /// Stops the runs whose lease was not renewed in time. They notice when they are polled.
    pub fn give_up(&self, now: Duration) {
        self.leases.give_up(self.start + now);
    }
}
