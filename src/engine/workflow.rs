//! What a story is made of: the [`Workflow`] itself, the queue it waits in, the signals it waits for, and how it
//! may fail.

use std::{future::Future, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

use crate::run::Run;

/// A durable story. Its value is the input of a run; [`Workflow::run`] tells what happens.
///
/// Between its steps a story is pure: no clock, no randomness, no I/O. It is played again from the top after each
/// wait, and steps that are already recorded return what they returned the first time.
pub trait Workflow: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The outside world as the story sees it.
    type Tools: Send + Sync + 'static;
    /// Frozen: it is data in the database.
    const NAME: &'static str;
    /// Where a new run waits for a worker.
    const QUEUE: Queue;

    fn run(self, run: &mut Run, tools: &Self::Tools) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// A named lane of due runs; worker processes are scaled a queue. The name is data in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Queue(pub &'static str);

/// A message to a run from outside, waited for by name.
pub trait Signal: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Frozen: it is data in the database.
    const NAME: &'static str;
    /// Where a run waits for a worker once this signal, or the end of its patience, has come.
    const QUEUE: Queue;
}

/// How one call to the outside world failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptError {
    /// It surely had no effect: try again, after the policy's back-off or the given time.
    Again { why: String, after: Option<Duration> },
    /// No repetition will help.
    Never { why: String },
    /// It may have had its effect: the policy's [`crate::OnUnknown`] decides.
    Unknown { why: String },
}

impl AttemptError {
    pub fn again(why: impl Into<String>) -> Self {
        Self::Again {
            why: why.into(),
            after: None,
        }
    }

    pub fn never(why: impl Into<String>) -> Self {
        Self::Never { why: why.into() }
    }

    pub fn unknown(why: impl Into<String>) -> Self {
        Self::Unknown { why: why.into() }
    }
}

/// How a step ended without a result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepFailure {
    #[error("{step}: {why}")]
    Never { step: &'static str, why: String },
    #[error("{step}: gave up after {attempts} attempts: {last_error}")]
    Exhausted {
        step: &'static str,
        attempts: u32,
        last_error: String,
    },
    /// The outcome of an attempt was never learnt, and the policy forbids another.
    #[error("{step}: the outcome of attempt {attempt} is unknown")]
    Unknown { step: &'static str, attempt: u32 },
    /// The run's time was over before the step was done.
    #[error("{step}: expired")]
    Expired { step: &'static str },
    /// People want the run to end. The story may still write what is to be written, and should then end.
    #[error("{step}: cancelled")]
    Cancelled { step: &'static str },
}

/// How a story ends other than well. The run is kept, in the state `failed`, until somebody looks at it.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Step(#[from] StepFailure),
    #[error("{0}")]
    Because(String),
    /// The recorded past does not fit this version of the story. The run is parked: another version may know it.
    #[error("{0}")]
    Unfit(String),
    /// Not the story's fault: the write did not happen, and the run is left to whoever holds it now.
    #[error(transparent)]
    Engine(#[from] crate::Error),
}
