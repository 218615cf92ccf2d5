//! Why a run does not run now: what stands in its own row, then what holds up its queue, then whose turn it is. A time
//! is told while it lies ahead; what is overdue is held up by something else.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;

use super::is_paused;
use crate::statements::{self as sql, LiveRow, QueueRow};

/// Why a run does not run now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Standstill {
    /// One word for programs: `held`, `paused`, `cancelled`, `queue_paused`, `queue_full`, `rate`, `key`, `turn`,
    /// `back_off`, `sleep`, `wait`, `unreadable`, `failed`.
    pub kind: &'static str,
    /// For people.
    pub why: String,
    /// When that may end by itself: never a time that is over.
    pub until: Option<DateTime<Utc>>,
}

/// What is known around the runs that are looked at.
pub(super) struct Around {
    /// What was decided about queues.
    decided: Vec<QueueRow>,
    /// Runs that hold a worker, by queue, as far as they were counted.
    held: HashMap<String, i64>,
    /// Of what is before a run, so many are counted.
    most: i64,
}

impl Around {
    pub fn new(decided: Vec<QueueRow>, most: i64) -> Self {
        Self {
            decided,
            held: HashMap::new(),
            most,
        }
    }

    async fn held(&mut self, conn: &mut PgConnection, queue: &str, max: i64) -> sqlx::Result<i64> {
        if let Some(held) = self.held.get(queue) {
            return Ok(*held);
        }
        let held = sql::count_held(conn, queue, max).await?;
        self.held.insert(queue.to_owned(), held);
        Ok(held)
    }
}

impl Standstill {
    pub(super) async fn of(conn: &mut PgConnection, row: &LiveRow, around: &mut Around) -> sqlx::Result<Self> {
        if let Some(standstill) = by_itself(row) {
            return Ok(standstill);
        }
        if is_paused(&around.decided, &row.queue) {
            return Ok(say("queue_paused", format!("the queue {} is paused", row.queue), None));
        }
        if row.state != "ready" && !row.overdue {
            return Ok(by_its_timer(row));
        }
        if let Some(standstill) = by_its_limits(conn, row, around).await? {
            return Ok(standstill);
        }
        by_its_turn(conn, row, around.most).await
    }
}

/// Reasons that stand in the run's own row.
fn by_itself(row: &LiveRow) -> Option<Standstill> {
    let reason = row.control_reason.as_deref().unwrap_or_default();
    Some(match (row.state.as_str(), row.control.as_deref()) {
        ("running", _) if !row.overdue => say(
            "held",
            format!(
                "the worker {} holds it under a lease until then",
                row.owner.unwrap_or_default()
            ),
            row.due_at,
        ),
        ("failed", _) => say("failed", format!("{}; redrive it or cancel it", error(row)), None),
        (_, Some("paused")) => say("paused", format!("people paused it: {reason}"), None),
        (_, Some(_)) => say(
            "cancelled",
            format!("people cancelled it ({reason}); a worker will end it"),
            None,
        ),
        ("blocked", None) => say(
            "key",
            format!(
                "of the key {} only {} may be ready or running at once",
                row.key.as_deref().unwrap_or_default(),
                row.key_limit.unwrap_or_default()
            ),
            None,
        ),
        ("parked", None) if !row.overdue => unreadable(row),
        _ => return None,
    })
}

/// For what has its time ahead.
fn by_its_timer(row: &LiveRow) -> Standstill {
    match row.state.as_str() {
        "sleeping" if row.attempt > 0 => say(
            "back_off",
            format!(
                "attempt {} failed ({}); the next one is due then",
                row.attempt,
                error(row)
            ),
            row.due_at,
        ),
        "sleeping" => say("sleep", "it sleeps until then".to_owned(), row.due_at),
        _ => say(
            "wait",
            format!(
                "it waits for the signal {}, until then at most",
                row.waits_for.as_deref().unwrap_or_default()
            ),
            row.due_at,
        ),
    }
}

async fn by_its_limits(
    conn: &mut PgConnection,
    row: &LiveRow,
    around: &mut Around,
) -> sqlx::Result<Option<Standstill>> {
    let Some(queue) = around.decided.iter().find(|queue| queue.name == row.queue) else {
        return Ok(None);
    };
    if let Some(rate) = queue.rate
        && queue.tokens < 1.0
    {
        let why = format!("the queue's rate is used up: {rate} a second");
        return Ok(Some(say("rate", why, None)));
    }
    // A dead worker's run has its place in the queue already.
    if let Some(max) = queue.max_running
        && row.state != "running"
    {
        let held = around.held(conn, &row.queue, max.into()).await?;
        if held >= max.into() {
            let why = format!("{held} runs of the queue hold a worker, as many as may");
            return Ok(Some(say("queue_full", why, None)));
        }
    }
    Ok(None)
}

/// For what nothing holds up.
async fn by_its_turn(conn: &mut PgConnection, row: &LiveRow, most: i64) -> sqlx::Result<Standstill> {
    let why = match row.state.as_str() {
        "parked" => return Ok(unreadable(row)),
        "running" if row.deaths >= 2 => format!(
            "the lease of the worker {} has ended; of runs that workers died with one is taken over at a time",
            row.owner.unwrap_or_default()
        ),
        "running" => format!(
            "the lease of the worker {} has ended; a worker with room takes it over next",
            row.owner.unwrap_or_default()
        ),
        "ready" => {
            let turn = row.due_at.unwrap_or(DateTime::<Utc>::MAX_UTC);
            let before = sql::before_in_turn(conn, &row.queue, turn, most).await?;
            let more = if before >= most { "at least " } else { "" };
            format!(
                "{more}{before} runs of the queue have their turn before it; a worker with room takes it next after them"
            )
        }
        _ => "its time has come; a worker with room takes it next after those that were due before it".to_owned(),
    };
    Ok(say("turn", why, None))
}

fn unreadable(row: &LiveRow) -> Standstill {
    let until = row.due_at.filter(|_| !row.overdue);
    say("unreadable", format!("no worker could read it: {}", error(row)), until)
}

fn error(row: &LiveRow) -> &str {
    row.last_error.as_deref().unwrap_or("no reason recorded")
}

fn say(kind: &'static str, why: String, until: Option<DateTime<Utc>>) -> Standstill {
    Standstill { kind, why, until }
}
