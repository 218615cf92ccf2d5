//! Runs as they are shown.

use herald_engine::look::{Entry, LiveView, RunView, Standstill};
use poem_openapi::Object;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::payload::Timestamp;

/// One run. Of one that has ended only the journal is left.
#[derive(Debug, Serialize, Object)]
pub struct RunShown {
    id: Uuid,
    /// Null once it has ended.
    live: Option<LiveRun>,
    /// `finished` and `cancelled` for runs that have ended, else `ready`, `blocked`, `running`, `waiting`, `sleeping`,
    /// `parked` or `failed`.
    state: String,
    /// What happened, oldest first; at most 10,000 entries of each kind.
    timeline: Vec<Happening>,
    /// Null where no run of this id lives, and its journal does not say.
    workflow: Option<String>,
}

/// Where a live run stands.
#[derive(Debug, Serialize, Object)]
pub struct LiveRun {
    attempt: i32,
    /// `paused` or `cancelled`: what people want of it.
    control: Option<String>,
    control_reason: Option<String>,
    created_at: Timestamp,
    /// Deaths of workers while they held it, in a row.
    deaths: i32,
    /// When a worker has to look at it next; for a ready run its turn. Null: never, as it stands.
    due_at: Option<Timestamp>,
    /// After this no attempt is made.
    expires_at: Option<Timestamp>,
    id: Uuid,
    /// At most so many runs of a key are ready or running at once as its limit says.
    key: Option<String>,
    last_error: Option<String>,
    queue: String,
    standstill: WhyNot,
    /// A run that has not begun by then makes no attempt.
    start_by: Option<Timestamp>,
    state: String,
    /// Whose run it is: the service.
    tenant: Option<Uuid>,
    workflow: String,
}

/// Why a run does not run now; for a running run, who holds it.
#[derive(Debug, Serialize, Object)]
struct WhyNot {
    /// `held`, `paused`, `cancelled`, `queue_paused`, `queue_full`, `rate`, `key`, `turn`, `back_off`, `sleep`, `wait`,
    /// `unreadable` or `failed`.
    kind: String,
    /// When that may end by itself: never a time that is over.
    until: Option<Timestamp>,
    /// For people.
    why: String,
}

/// Something that happened to a run.
#[derive(Debug, Serialize, Object)]
struct Happening {
    at: Timestamp,
    /// As it was recorded; without personal data.
    details: Value,
    /// Which claim of the run it belongs to.
    epoch: Option<i64>,
    /// `claimed`, `unrecorded` (claims that left nothing in the journal), `signal`, or the kind of the journal's event:
    /// `intent`, `done`, `failed`, `resent`, …
    kind: String,
    /// The worker process of that claim.
    owner: Option<Uuid>,
    step: Option<String>,
}

impl From<RunView> for RunShown {
    fn from(run: RunView) -> Self {
        Self {
            id: run.id,
            live: run.live.map(LiveRun::from),
            state: run.state,
            timeline: run.timeline.into_iter().map(Happening::from).collect(),
            workflow: run.workflow,
        }
    }
}

impl From<LiveView> for LiveRun {
    fn from(run: LiveView) -> Self {
        Self {
            attempt: run.attempt,
            control: run.control,
            control_reason: run.control_reason,
            created_at: Timestamp(run.created_at),
            deaths: run.deaths.into(),
            due_at: run.due_at.map(Timestamp),
            expires_at: run.expires_at.map(Timestamp),
            id: run.id,
            key: run.key,
            last_error: run.last_error,
            queue: run.queue,
            standstill: run.standstill.into(),
            start_by: run.start_by.map(Timestamp),
            state: run.state,
            tenant: run.tenant,
            workflow: run.workflow,
        }
    }
}

impl From<Standstill> for WhyNot {
    fn from(standstill: Standstill) -> Self {
        Self {
            kind: standstill.kind.to_owned(),
            until: standstill.until.map(Timestamp),
            why: standstill.why,
        }
    }
}

impl From<Entry> for Happening {
    fn from(entry: Entry) -> Self {
        Self {
            at: Timestamp(entry.at),
            details: entry.details,
            epoch: entry.epoch,
            kind: entry.kind,
            owner: entry.owner,
            step: entry.step,
        }
    }
}
