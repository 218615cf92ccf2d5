//! What can be written in one go: effects, new runs, signals, and, for a running run, its checkpoint.

use std::time::Duration;

use serde_json::Value;
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
}

/// A run to be started.
#[derive(Debug, Clone)]
pub struct NewRun {
    pub(crate) id: Uuid,
    pub(crate) workflow: &'static str,
    pub(crate) queue: Queue,
    pub(crate) input: Value,
    pub(crate) after: Duration,
    pub(crate) key: Option<String>,
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
            input: serde_json::to_value(workflow)?,
            after: Duration::ZERO,
            key: None,
        })
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
        self.key = Some(key.into());
        self
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
    pub epoch: i64,
    pub seq: i32,
    pub events: Vec<Event>,
    pub then: Then,
}

/// What becomes of the run after a checkpoint.
#[derive(Debug)]
pub(crate) enum Then {
    /// It goes on, and keeps its lease.
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
