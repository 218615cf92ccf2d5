//! What people see of runs and queues: where each stands, what happened to it, and why it does not run now. Reading costs
//! the same at any size: every look goes by an index and reads a bounded number of rows.

mod standstill;

use standstill::Around;
pub use standstill::Standstill;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::{
    control::{ALL_QUEUES, Action, QueueLimits, Selection},
    statements::{self as sql, LiveRow, QueueRow, WrittenRow},
    window::Window,
};

/// One run. Of one that has ended only the journal is left.
#[derive(Debug, Clone, Serialize)]
pub struct RunView {
    pub id: Uuid,
    /// Absent where no run of this id lives, and its journal does not say.
    pub workflow: Option<String>,
    /// `finished` and `cancelled` for runs that have ended, else the state of the row.
    pub state: String,
    /// Absent once it has ended.
    pub live: Option<LiveView>,
    /// What happened, oldest first; at most 10,000 entries of each kind.
    pub timeline: Vec<Entry>,
}

/// Where a live run stands.
#[derive(Debug, Clone, Serialize)]
pub struct LiveView {
    pub id: Uuid,
    pub workflow: String,
    pub queue: String,
    pub state: String,
    pub created_at: DateTime<Utc>,
    /// When a worker has to look at it next; for a ready run its turn. None: never, as it stands.
    pub due_at: Option<DateTime<Utc>>,
    pub attempt: i32,
    /// Deaths of workers while they held it, in a row.
    pub deaths: i16,
    pub last_error: Option<String>,
    pub tenant: Option<Uuid>,
    pub key: Option<String>,
    pub start_by: Option<DateTime<Utc>>,
    pub expires_at: Option<DateTime<Utc>>,
    /// `paused` or `cancelled`: what people want of it.
    pub control: Option<String>,
    pub control_reason: Option<String>,
    /// Why it does not run now; for a running run, who holds it.
    pub standstill: Standstill,
}

/// Some of the live runs that fit a selection.
#[derive(Debug, Clone)]
pub struct Page {
    pub runs: Vec<LiveView>,
    /// After which run to go on; none when nothing more fits. A page may have fewer runs than were asked for, or none,
    /// and not be the last: one look goes through a bounded number of runs.
    pub next: Option<Uuid>,
}

/// Something that happened to a run.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    pub at: DateTime<Utc>,
    /// `claimed`, `unrecorded`, `signal`, or the kind of the journal's event: `intent`, `done`, `failed`, `resent`, …
    /// `unrecorded` stands for claims that left nothing in the journal: their workers died, lost the run, gave it back, could
    /// not read it, panicked at it, or had nothing to add. They were after the last claim and before its time, which is the
    /// next claim's or that of the look.
    pub kind: String,
    pub step: Option<String>,
    /// Which claim of the run it belongs to.
    pub epoch: Option<i64>,
    /// The worker process of that claim.
    pub owner: Option<Uuid>,
    /// The event as it was recorded; without personal data, as everything in the journal.
    pub details: Value,
}

/// One queue.
#[derive(Debug, Clone, Serialize)]
pub struct QueueView {
    pub name: String,
    pub paused: bool,
    pub limits: QueueLimits,
    /// In the bucket now, where the queue has a rate.
    pub tokens: Option<f64>,
    pub counts: Vec<Count>,
}

/// How many runs are in a state.
#[derive(Debug, Clone, Serialize)]
pub struct Count {
    /// One of [`COUNTED_AS`].
    pub state: String,
    pub runs: i64,
    /// Whether that is the planner's estimate: there are more than are counted.
    pub estimated: bool,
    /// The first of the instants at which they are due.
    pub first_due: Option<DateTime<Utc>>,
}

/// Something that people did to runs or queues.
#[derive(Debug, Clone, Serialize)]
pub struct AuditEntry {
    pub id: i64,
    pub at: DateTime<Utc>,
    pub actor: String,
    /// `cancel`, `pause`, `resume`, `redrive`, `pause_queue`, `resume_queue`, `limit_queue`.
    pub action: String,
    /// The selection, or the queue.
    pub target: Value,
    pub reason: String,
    /// How many runs or queues; of a selection there is an entry for each batch.
    pub changed: i32,
}

/// The states of live runs.
pub const STATES: [&str; 7] = ["ready", "blocked", "running", "waiting", "sleeping", "parked", "failed"];

/// The states as runs are counted: those that people paused, and no worker holds, apart from all others.
pub const COUNTED_AS: [&str; 8] = [
    "ready", "blocked", "running", "waiting", "sleeping", "parked", "failed", "paused",
];

/// What is counted exactly.
const COUNTED: i64 = 10_000;

/// Of what is before each run of a list.
const COUNTED_IN_LISTS: i64 = 100;
const MOST_ENTRIES: u16 = 10_000;

/// Everything about one run; none when nothing is known of it.
///
/// # Errors
/// Any error of the database.
pub async fn run(pool: &PgPool, id: Uuid) -> sqlx::Result<Option<RunView>> {
    let conn = &mut *pool.acquire().await?;
    let row = sql::live(conn, &[id], &Selection::default(), 1).await?.pop();
    let written = sql::written(conn, id, MOST_ENTRIES.into()).await?;
    if row.is_none() && written.is_empty() {
        return Ok(None);
    }
    let live = row.as_ref().filter(|_| written.len() < MOST_ENTRIES.into());
    let mut timeline = timeline(written, live);
    for signal in sql::arrived(conn, id, MOST_ENTRIES.into()).await? {
        timeline.push(Entry {
            at: signal.at,
            kind: "signal".to_owned(),
            step: Some(signal.name),
            epoch: None,
            owner: None,
            details: serde_json::json!({ "key": signal.key }),
        });
    }
    timeline.sort_by_key(|entry| entry.at);
    let live = match row {
        Some(row) => {
            let mut around = Around::new(sql::queues(conn).await?, COUNTED);
            Some(view(conn, row, &mut around).await?)
        }
        None => None,
    };
    let end = timeline
        .iter()
        .rfind(|entry| ["finished", "cancelled"].contains(&entry.kind.as_str()));
    let recorded = end.and_then(|end| end.details["workflow"].as_str()).map(str::to_owned);
    Ok(Some(RunView {
        id,
        workflow: live.as_ref().map(|live| live.workflow.clone()).or(recorded),
        state: match (&live, end) {
            (Some(live), _) => live.state.clone(),
            (None, Some(end)) => end.kind.clone(),
            (None, None) => "unknown".to_owned(),
        },
        live,
        timeline,
    }))
}

/// Selected live runs after the id `after`, in the order of their ids: oldest first.
///
/// # Errors
/// Any error of the database.
pub async fn runs(pool: &PgPool, selection: &Selection, after: Option<Uuid>, limit: u16) -> sqlx::Result<Page> {
    let conn = &mut *pool.acquire().await?;
    let window = Window::after(conn, selection, None, after.unwrap_or_default()).await?;
    let rows = sql::live(conn, &window.runs, selection, limit.into()).await?;
    let last = rows.last().map(|row| row.id);
    let next = if rows.len() < usize::from(limit) {
        window.next
    } else {
        last
    };
    let mut around = Around::new(sql::queues(conn).await?, COUNTED_IN_LISTS);
    let mut runs = Vec::new();
    for row in rows {
        runs.push(view(conn, row, &mut around).await?);
    }
    Ok(Page { runs, next })
}

/// All queues that have live runs, or of which anything was decided.
///
/// # Errors
/// Any error of the database.
pub async fn queues(pool: &PgPool) -> sqlx::Result<Vec<QueueView>> {
    queues_and(pool, &[]).await
}

/// As [`queues`], and these queues in any case.
///
/// # Errors
/// Any error of the database.
pub async fn queues_and(pool: &PgPool, known: &[&str]) -> sqlx::Result<Vec<QueueView>> {
    let conn = &mut *pool.acquire().await?;
    let decided = sql::queues(conn).await?;
    let mut names = sql::queue_names(conn).await?;
    names.extend(known.iter().map(|&name| name.to_owned()));
    names.sort_unstable();
    names.dedup();
    let mut views = Vec::new();
    for name in names {
        let counts = counts(conn, &name).await?;
        let own = decided.iter().find(|queue| queue.name == name);
        views.push(QueueView {
            paused: is_paused(&decided, &name),
            limits: own.map(limits).unwrap_or_default(),
            tokens: own.filter(|queue| queue.rate.is_some()).map(|queue| queue.tokens),
            counts,
            name,
        });
    }
    Ok(views)
}

/// To how many runs [`control`](crate::control()) would do it now.
///
/// # Errors
/// Any error of the database.
pub async fn would_change(pool: &PgPool, action: Action, selection: &Selection) -> sqlx::Result<i64> {
    let conn = &mut *pool.acquire().await?;
    let (mut after, mut all) = (Some(Uuid::nil()), 0);
    while let Some(from) = after {
        let window = Window::after(conn, selection, Some(action), from).await?;
        all += sql::count_chosen(conn, &window.runs, selection, action.applies_to()).await?;
        after = window.next;
    }
    Ok(all)
}

/// What people did, newest first, from before the entry `before` on.
///
/// # Errors
/// Any error of the database.
pub async fn audit(pool: &PgPool, before: Option<i64>, limit: u16) -> sqlx::Result<Vec<AuditEntry>> {
    let conn = &mut *pool.acquire().await?;
    sql::audited(conn, before.unwrap_or(i64::MAX), limit.into()).await
}

async fn counts(conn: &mut PgConnection, queue: &str) -> sqlx::Result<Vec<Count>> {
    let mut counts = Vec::new();
    let rows = sql::counts(conn, queue, COUNTED).await?;
    // Timers are counted together: where there are too many of them, each of their states is estimated.
    let timers: i64 = rows
        .iter()
        .filter(|row| is_timer(&row.state))
        .map(|row| row.count)
        .sum();
    for row in rows.into_iter().filter(|row| row.count > 0) {
        let estimated = row.count >= COUNTED || (is_timer(&row.state) && timers >= COUNTED);
        let runs = if estimated {
            sql::estimate(conn, queue, &row.state).await?.max(row.count)
        } else {
            row.count
        };
        counts.push(Count {
            state: row.state,
            runs,
            estimated,
            first_due: row.first_due,
        });
    }
    Ok(counts)
}

fn is_timer(state: &str) -> bool {
    ["waiting", "sleeping", "parked"].contains(&state)
}

fn is_paused(decided: &[QueueRow], queue: &str) -> bool {
    let said = |name: &str| decided.iter().find(|row| row.name == name).and_then(|row| row.paused);
    said(queue).or_else(|| said(ALL_QUEUES)).unwrap_or(false)
}

fn limits(queue: &QueueRow) -> QueueLimits {
    QueueLimits {
        max_running: queue.max_running.and_then(|max| u32::try_from(max).ok()),
        rate: queue.rate,
        burst: queue.burst,
    }
}

fn timeline(written: Vec<WrittenRow>, live: Option<&LiveRow>) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut claim = 0;
    for row in written {
        if row.owner.is_none() {
            // People's: nobody held it then.
            entries.extend(unrecorded(row.at, claim + 1, row.epoch));
            claim = claim.max(row.epoch);
        } else if let Some(at) = row.claimed_at.filter(|_| claim != row.epoch) {
            entries.extend(unrecorded(at, claim + 1, row.epoch - 1));
            claim = row.epoch;
            entries.push(Entry {
                at,
                kind: "claimed".to_owned(),
                step: None,
                epoch: Some(row.epoch),
                owner: row.owner,
                details: Value::Null,
            });
        }
        let events = match row.events {
            Value::Array(events) => events,
            other => vec![other],
        };
        entries.extend(events.into_iter().map(|event| Entry {
            at: row.at,
            kind: event["event"].as_str().unwrap_or("unreadable").to_owned(),
            step: event["step"].as_str().map(str::to_owned),
            epoch: Some(row.epoch),
            owner: row.owner,
            details: event,
        }));
    }
    if let Some(row) = live {
        // Whoever holds it may still write.
        let over = row.epoch - i64::from(row.state == "running");
        entries.extend(unrecorded(row.seen_at, claim + 1, over));
    }
    entries
}

fn unrecorded(at: DateTime<Utc>, first: i64, last: i64) -> Option<Entry> {
    (first <= last).then(|| Entry {
        at,
        kind: "unrecorded".to_owned(),
        step: None,
        epoch: None,
        owner: None,
        details: serde_json::json!({ "first_epoch": first, "last_epoch": last }),
    })
}

async fn view(conn: &mut PgConnection, row: LiveRow, around: &mut Around) -> sqlx::Result<LiveView> {
    let standstill = Standstill::of(conn, &row, around).await?;
    Ok(LiveView {
        id: row.id,
        workflow: row.workflow,
        queue: row.queue,
        state: row.state,
        created_at: row.created_at,
        due_at: row.due_at,
        attempt: row.attempt,
        deaths: row.deaths,
        last_error: row.last_error,
        tenant: row.tenant,
        key: row.key,
        start_by: row.start_by,
        expires_at: row.expires_at,
        control: row.control,
        control_reason: row.control_reason,
        standstill,
    })
}
