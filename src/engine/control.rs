//! What people can do to runs and queues: cancel, pause, resume and redrive runs, one or a selection; pause, open and
//! limit queues. Every deed leaves an audit row, in the transaction that does it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::{
    Error,
    error::{is_broken_off, is_locked},
    journal::Event,
    statements as sql,
    window::Window,
};

/// What to do to runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Ends a run: it calls nobody any more, and its story writes what is to be written then. A run that has failed,
    /// or that nobody can read, is put away as it is.
    Cancel,
    /// Keeps a run from calling anybody and from being due until it is resumed. Signals to it are kept.
    Pause,
    Resume,
    /// Tries a run that has failed, or that nobody could read, again: what had failed in it is open once more. One that was
    /// cancelled before is not called off from that.
    Redrive,
}

impl Action {
    pub fn name(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Redrive => "redrive",
        }
    }
}

/// Who does it, and why: kept for ever.
#[derive(Debug, Clone)]
pub struct Actor {
    pub name: String,
    pub reason: String,
}

/// Live runs that fit everything that is said here.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Selection {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Uuid>,
    /// Words in the last error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_after: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_before: Option<DateTime<Utc>>,
    /// Only those that no worker has held yet.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unbegun: bool,
}

impl Selection {
    pub fn one(run: Uuid) -> Self {
        Self {
            ids: vec![run],
            ..Self::default()
        }
    }

    /// Whether it says nothing, and so means every live run.
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }
}

/// Which runs an action changes something about.
pub(crate) struct Applicable {
    /// Runs in one of these states...
    states: &'static [&'static str],
    /// ...of which people have wanted one of these things so far.
    wanted: &'static [&'static str],
    /// Besides them, cancelled runs in one of these states.
    cancelled: &'static [&'static str],
}

impl Applicable {
    /// As parameters.
    pub fn words(&self) -> [Vec<String>; 3] {
        [self.states, self.wanted, self.cancelled].map(|words| words.iter().map(|&word| word.to_owned()).collect())
    }
}

/// Runs in one transaction.
const BATCH: i64 = 500;

/// Does it to all selected runs that it makes sense for, in batches, oldest first; returns to how many. `progress` is
/// told after each batch. Repeating it goes on where it was interrupted.
///
/// # Errors
/// Any error of the database; batches before it are done, with their audit rows.
pub async fn control(
    pool: &PgPool,
    action: Action,
    selection: &Selection,
    actor: &Actor,
    mut progress: impl FnMut(usize),
) -> Result<usize, Error> {
    let (mut after, mut changed) = (Some(Uuid::nil()), 0);
    while let Some(from) = after {
        let window = Window::after(&mut *pool.acquire().await?, selection, Some(action), from).await?;
        let mut left = window.runs.as_slice();
        loop {
            let done = change_some(pool, action, selection, actor, left).await?;
            let Some(last) = done.last() else { break };
            changed += done.len();
            progress(changed);
            left = &left[left.partition_point(|run| run <= last)..];
        }
        after = window.next;
    }
    Ok(changed)
}

/// How often a batch is tried.
const TRIES: usize = 5;

/// As [`try_some`], and again where that was broken off: a batch of the committer may hold a key that is to be passed
/// on here, and wait for a run that is locked here.
async fn change_some(
    pool: &PgPool,
    action: Action,
    selection: &Selection,
    actor: &Actor,
    among: &[Uuid],
) -> Result<Vec<Uuid>, Error> {
    for _ in 1..TRIES {
        match try_some(pool, action, selection, actor, among).await {
            Err(Error::Database(error)) if is_broken_off(&error) || is_locked(&error) => {
                tracing::warn!(%error, "a deed was broken off, and is tried again");
            }
            tried => return tried,
        }
    }
    try_some(pool, action, selection, actor, among).await
}

/// Does it to the first of these runs, in one transaction; returns to which.
async fn try_some(
    pool: &PgPool,
    action: Action,
    selection: &Selection,
    actor: &Actor,
    among: &[Uuid],
) -> Result<Vec<Uuid>, Error> {
    if among.is_empty() {
        return Ok(Vec::new());
    }
    let mut transaction = pool.begin().await?;
    let chosen = sql::choose(&mut transaction, among, selection, action.applies_to(), BATCH).await?;
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    let runs: Vec<Uuid> = chosen.iter().map(|run| run.id).collect();
    let keys: Vec<String> = chosen.iter().filter_map(|run| run.key.clone()).collect();
    let mut queues = apply(&mut transaction, action, &runs, &actor.reason).await?;
    if !keys.is_empty() {
        queues.extend(sql::promote(&mut transaction, &keys).await?);
    }
    queues.sort_unstable();
    queues.dedup();
    sql::notify(&mut transaction, &queues).await?;
    let target = serde_json::to_value(selection)?;
    sql::audit(&mut transaction, actor, action.name(), &target, runs.len()).await?;
    transaction.commit().await?;
    Ok(runs)
}

impl Action {
    /// What it changes something about.
    pub(crate) fn applies_to(self) -> Applicable {
        const ENDED: &[&str] = &["parked", "failed"];
        const OPEN: &[&str] = &["ready", "blocked", "running", "waiting", "sleeping", "parked"];
        const ANY: &[&str] = &["ready", "blocked", "running", "waiting", "sleeping", "parked", "failed"];
        let (states, wanted): (_, &[&str]) = match self {
            Self::Cancel => (ANY, &["", "paused"]),
            Self::Pause => (OPEN, &[""]),
            Self::Resume => (OPEN, &["paused"]),
            Self::Redrive => (ENDED, &["", "paused"]),
        };
        // Those that were cancelled and could not learn it: put away now, or tried again to learn it.
        let cancelled: &[&str] = match self {
            Self::Cancel | Self::Redrive => ENDED,
            Self::Pause | Self::Resume => &[],
        };
        Applicable {
            states,
            wanted,
            cancelled,
        }
    }
}

/// Returns the queues in which something may be due now. The runs are locked.
async fn apply(conn: &mut PgConnection, action: Action, runs: &[Uuid], reason: &str) -> Result<Vec<String>, Error> {
    let why = reason.to_owned();
    match action {
        Action::Cancel => {
            sql::append_event(conn, runs, &["failed", "parked"], &event(&Event::Cancelled { why })?).await?;
            sql::put_away(conn, runs).await?;
            Ok(sql::cancel(conn, runs, reason).await?)
        }
        Action::Pause => {
            sql::pause(conn, runs, reason).await?;
            Ok(Vec::new())
        }
        Action::Resume => Ok(sql::resume(conn, runs).await?),
        Action::Redrive => {
            sql::append_event(conn, runs, &["failed"], &event(&Event::Redriven { why })?).await?;
            Ok(sql::redrive(conn, runs).await?)
        }
    }
}

fn event(event: &Event) -> Result<Value, Error> {
    Ok(json!([serde_json::to_value(event)?]))
}

/// The limits of a queue over all workers. What is not said is not limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueueLimits {
    /// Runs that hold a worker at once.
    pub max_running: Option<u32>,
    /// Starts a second: a token bucket.
    pub rate: Option<f64>,
    /// Starts that may come at once after a quiet time; as many as in a second where nothing is said.
    pub burst: Option<f64>,
}

/// What to do to a queue. The queue `*` stands for all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum QueueChange {
    /// No run of it is begun, and no timer of it goes off, until it is resumed. What runs goes on to its next wait.
    Pause,
    /// Opens a queue, also while all others are paused; opening `*` opens all.
    Resume,
    Limit(QueueLimits),
}

/// The name that means every queue.
pub const ALL_QUEUES: &str = "*";

/// Changes a queue, for every worker from its next claim on.
///
/// # Errors
/// [`Error::Refused`] for limits that make no sense; any error of the database.
pub async fn change_queue(pool: &PgPool, queue: &str, change: QueueChange, actor: &Actor) -> Result<(), Error> {
    let mut transaction = pool.begin().await?;
    let (action, target) = match change {
        QueueChange::Pause => {
            sql::pause_queue(&mut transaction, queue, true).await?;
            ("pause_queue", json!({ "queue": queue }))
        }
        QueueChange::Resume => {
            sql::pause_queue(&mut transaction, queue, false).await?;
            ("resume_queue", json!({ "queue": queue }))
        }
        QueueChange::Limit(limits) => {
            let limits = checked(queue, limits)?;
            sql::limit_queue(&mut transaction, queue, &limits).await?;
            ("limit_queue", json!({ "queue": queue, "limits": limits }))
        }
    };
    sql::audit(&mut transaction, actor, action, &target, 1).await?;
    let rung = if queue == ALL_QUEUES {
        sql::queue_names(&mut transaction).await?
    } else {
        vec![queue.to_owned()]
    };
    sql::notify(&mut transaction, &rung).await?;
    Ok(transaction.commit().await?)
}

/// Records a deed on what belongs to others than the engine, in the transaction that does it.
///
/// # Errors
/// Any error of the database.
pub async fn audit(
    conn: &mut PgConnection,
    actor: &Actor,
    action: &str,
    target: &Value,
    changed: usize,
) -> sqlx::Result<()> {
    sql::audit(conn, actor, action, target, changed).await
}

fn checked(queue: &str, limits: QueueLimits) -> Result<QueueLimits, Error> {
    let refuse = |why: &str| Err(Error::Refused(why.to_owned()));
    if queue == ALL_QUEUES {
        return refuse("limits are set queue by queue");
    }
    if limits.max_running == Some(0) || limits.max_running > Some(1_000_000) {
        return refuse("max_running must be from 1 to 1000000");
    }
    let allowed = 0.001..=1_000_000.0;
    if limits.rate.is_some_and(|rate| !allowed.contains(&rate)) {
        return refuse("rate must be from 0.001 to 1000000 a second");
    }
    if limits.burst.is_some() && limits.rate.is_none() {
        return refuse("burst needs a rate");
    }
    let burst = limits.burst.or(limits.rate.map(|rate| rate.max(1.0)));
    if burst.is_some_and(|burst| !(1.0..=1_000_000.0).contains(&burst)) {
        return refuse("burst must be from 1 to 1000000");
    }
    Ok(QueueLimits { burst, ..limits })
}
