//! When a failed attempt is made again, and what to do about one whose outcome is unknown.

use std::time::Duration;

use rand::Rng;

use serde_json::Value;

use crate::workflow::Queue;

/// The policy of one step. Bounded: exhaustion is a state with a reason.
#[derive(Debug, Clone)]
pub struct RetryPolicy {
    /// How many attempts at most, the first included.
    pub attempts: u32,
    pub backoff: Backoff,
    /// The queue that repeated attempts wait in.
    pub queue: Queue,
    pub on_unknown: OnUnknown,
}

/// The time between the end of one attempt and the start of the next.
#[derive(Debug, Clone, PartialEq)]
pub struct Backoff {
    /// After the first attempt.
    pub first: Duration,
    /// After each later one.
    pub then: Duration,
    /// The share of the delay, 0 to 1, that is added at random, so that an outage does not end in a stampede.
    pub jitter: f64,
}

impl Backoff {
    pub(crate) fn after(&self, attempt: u32) -> Duration {
        let delay = if attempt <= 1 { self.first } else { self.then };
        delay.mul_f64(1.0 + self.jitter.clamp(0.0, 1.0) * rand::rng().random::<f64>())
    }
}

/// What to do when an attempt may or may not have reached the outside world: its process died, or no answer came.
#[derive(Debug, Clone)]
pub enum OnUnknown {
    /// The call is harmless to repeat.
    Repeat,
    /// Wait for this signal, which proves that it was done, for `patience`, and twice as long with each attempt up to the
    /// back-off; when none has come by then, repeat it on record. One that may not be repeated, because it was the last that the
    /// policy allows or the run has expired, is presumed done: a story that follows it learns the rest.
    AwaitThenRepeat {
        signal: &'static str,
        patience: Duration,
        queue: Queue,
        /// What a payload of the signal says of an attempt with this plan. Of several such attempts it proves the newest,
        /// those of unknown outcome first.
        proves: fn(plan: &Value, payload: &Value) -> Proof,
    },
    GiveUp,
}

/// What a signal says of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// Nothing: it is about another one.
    None,
    /// It was done and came to nothing. That counts where no later one may have been done.
    InVain,
    Done,
}
