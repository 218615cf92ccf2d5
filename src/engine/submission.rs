//! What can be written in one go: effects, new runs, signals, and, for a running run, its checkpoint.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{
    Value,
    value::{RawValue, to_raw_value},
};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::{
    Error,
    effect::{AnyEffect, Effect},
    journal::Event,
    workflow::{Queue, Signal, Workflow},
};

/// Everything in it commits together, or not at all.
#[derive(Debug, Default)]
pub struct Submission {
    pub(crate) effects: Vec<AnyEffect>,
    pub(crate) starts: Vec<NewRun>,
    pub(crate) signals: Vec<NewSignal>,
    pub(crate) checkpoint: Option<Checkpoint>,
}

impl Submission {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn effect(mut self, effect: impl Effect) -> Self {
        self.effects.push(AnyEffect::new(effect));
        self
    }

    pub fn start(mut self, run: NewRun) -> Self {
        self.starts.push(run);
        self
    }

    pub fn signal(mut self, signal: NewSignal) -> Self {
        self.signals.push(signal);
        self
    }
}

/// What came of a [`Submission`].
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Submitted {
    /// Starts that did not happen because their key had been used before.
    pub duplicates: Vec<Uuid>,
    /// For a run that wanted to wait: the signal that was there already. It keeps its lease.
    pub(crate) signal: Option<(i64, Value)>,
    /// What people want of the run, where that keeps it from going on, or from waiting. It keeps its lease.
    pub(crate) control: Option<Control>,
}

/// What people want of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Control {
    Paused,
    Cancelled,
}

impl Control {
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "paused" => Some(Self::Paused),
            "cancelled" => Some(Self::Cancelled),
            _ => None,
        }
    }
}

/// A run to be started.
#[derive(Debug, Clone)]
pub struct NewRun {
    pub(crate) id: Uuid,
    pub(crate) workflow: &'static str,
    pub(crate) queue: Queue,
    pub(crate) input: Box<RawValue>,
    pub(crate) after: Duration,
    /// Ahead of (positive) or behind the present, in seconds: its turn in the queue.
    pub(crate) turn: f64,
    pub(crate) tenant: Option<Uuid>,
    pub(crate) priority: Priority,
    pub(crate) key: Option<ConcurrencyKey>,
    pub(crate) start_within: Option<Duration>,
    pub(crate) expires_within: Option<Duration>,
    pub(crate) once: Option<String>,
}

/// How a run stands against others that are ready in its queue. It is an advance in time, so that nothing starves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Priority {
    /// Ahead of everything normal that has come within half a day.
    Urgent,
    #[default]
    Normal,
    /// Behind everything normal that comes within half a day.
    Bulk,
}

impl Priority {
    /// In seconds: where its turns lie, seen from the present.
    pub(crate) fn advance(self) -> f64 {
        const DAY: f64 = 24.0 * 60.0 * 60.0;
        match self {
            Self::Urgent => -DAY,
            Self::Normal => 0.0,
            Self::Bulk => DAY,
        }
    }
}

/// At most `limit` runs with this name are ready or running at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConcurrencyKey {
    pub name: String,
    pub limit: i32,
}

impl NewRun {
    /// A run of `workflow`, due at once.
    ///
    /// # Errors
    /// [`Error::Payload`] when the input does not serialize.
    pub fn of<W: Workflow>(workflow: &W) -> Result<Self, Error> {
        Ok(Self {
            id: fresh_id(),
            workflow: W::NAME,
            queue: W::QUEUE,
            input: to_raw_value(workflow)?,
            after: Duration::ZERO,
            turn: 0.0,
            tenant: None,
            priority: Priority::Normal,
            key: None,
            start_within: None,
            expires_within: None,
            once: None,
        })
    }

    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Gives the run the id of the thing it is about, so that signals find it without a look-up. Starting it
    /// twice by the same id is starting it once. Use a version 7 id: its time chooses the journal's partition.
    pub fn with_id(mut self, id: Uuid) -> Self {
        self.id = id;
        self
    }

    pub fn on(mut self, queue: Queue) -> Self {
        self.queue = queue;
        self
    }

    pub fn after(mut self, delay: Duration) -> Self {
        self.after = delay;
        self
    }

    /// Starts at most one run of this workflow with this key.
    pub fn once(mut self, key: impl Into<String>) -> Self {
        self.once = Some(key.into());
        self
    }

    /// Whose run it is: those who share a queue get fair shares of it.
    pub fn of_tenant(mut self, tenant: Uuid) -> Self {
        self.tenant = Some(tenant);
        self
    }

    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// At most `limit` runs with this key hold a worker, or stand ready for one, at once; a run that waits or sleeps
    /// lets others through.
    pub fn keyed(mut self, key: impl Into<String>, limit: u16) -> Self {
        self.key = Some(ConcurrencyKey {
            name: key.into(),
            limit: i32::from(limit.max(1)),
        });
        self
    }

    /// A run that has not begun by then makes no attempt: its first one fails as expired.
    pub fn start_within(mut self, limit: Duration) -> Self {
        self.start_within = Some(limit);
        self
    }

    /// No attempt is made after this, neither a first one nor a repetition.
    pub fn expires_within(mut self, limit: Duration) -> Self {
        self.expires_within = Some(limit);
        self
    }

    pub(crate) fn first_state(&self) -> &'static str {
        if !self.after.is_zero() {
            "sleeping"
        } else if self.key.is_some() {
            "blocked"
        } else {
            "ready"
        }
    }

    /// In seconds from now: its start if that lies ahead, else its turn.
    pub(crate) fn first_due(&self) -> f64 {
        if self.after.is_zero() {
            self.turn
        } else {
            self.after.as_secs_f64()
        }
    }
}

fn fresh_id() -> Uuid {
    #[cfg(feature = "simulation")]
    if let Some(id) = crate::simulation::fresh_id() {
        return id;
    }
    Uuid::now_v7()
}

/// A signal to be sent.
#[derive(Debug, Clone)]
pub struct NewSignal {
    pub(crate) run: Uuid,
    pub(crate) name: &'static str,
    pub(crate) key: String,
    pub(crate) payload: Value,
    pub(crate) otherwise: Option<NewRun>,
}

impl NewSignal {
    /// To `run`, which need not wait for it yet. Of signals with the same key the first is kept.
    ///
    /// # Errors
    /// [`Error::Payload`] when the signal does not serialize.
    pub fn to<S: Signal>(run: Uuid, key: impl Into<String>, signal: &S) -> Result<Self, Error> {
        Ok(Self {
            run,
            name: S::NAME,
            key: key.into(),
            payload: serde_json::to_value(signal)?,
            otherwise: None,
        })
    }

    /// When there is no such live run, starts this one instead of keeping the signal.
    pub fn or_start(mut self, run: NewRun) -> Self {
        self.otherwise = Some(run);
        self
    }
}

/// A running run's progress: fenced by its epoch.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    pub run: Uuid,
    pub claim: Claim,
    pub seq: i32,
    pub events: Vec<Event>,
    pub then: Then,
}

/// The claim under which something is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim {
    pub epoch: i64,
    pub owner: Uuid,
    pub at: DateTime<Utc>,
}

/// What becomes of the run after a checkpoint.
#[derive(Debug)]
pub(crate) enum Then {
    /// It goes on to an outside call, and keeps its lease.
    Continue,
    /// It waits for a signal that arrived after number `after_n`, and for `patience` at most.
    Wait {
        signal: String,
        after_n: i64,
        patience: Duration,
        queue: Queue,
    },
    /// It sleeps: a back-off, or a timer of the story's.
    Sleep {
        delay: Duration,
        queue: Queue,
        attempt: u32,
        last_error: Option<String>,
        died: bool,
    },
    /// Nobody here can read it; another worker may.
    Park {
        why: String,
    },
    Finish,
    Fail {
        why: String,
    },
}

/// A submission on its way to the committer.
#[derive(Debug)]
pub(crate) struct Item {
    pub submission: Submission,
    pub reply: oneshot::Sender<Result<Submitted, Error>>,
}
