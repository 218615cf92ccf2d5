//! What a story waits for: a signal, or that time passes. Neither holds a worker meanwhile.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{Run, unexpected};
use crate::{
    journal::{Event, Recorded},
    statements::SignalRow,
    submission::Then,
    workflow::{Failure, Queue, Signal, StepFailure},
};

impl Run {
    /// The next signal of this kind, in order of arrival; `None` when none has come within `patience`. While it
    /// waits the run holds no worker, no connection and no memory.
    ///
    /// # Errors
    /// When the signal does not fit its type, or the run could not be written.
    pub async fn wait_for<S: Signal>(&mut self, patience: Duration) -> Result<Option<S>, Failure> {
        let mut left = patience;
        let mut waiting = false;
        while let Some(Recorded { at, event, .. }) = self.replay.next(S::NAME) {
            match event {
                Event::Waiting { patience_ms, .. } => {
                    waiting = true;
                    left = self.left_of(at, patience_ms);
                }
                Event::Received { payload, .. } => {
                    return Ok(Some(serde_json::from_value(payload).map_err(crate::Error::from)?));
                }
                Event::TimedOut { .. } => return Ok(None),
                Event::CalledOff { .. } => return Err(StepFailure::Cancelled { step: S::NAME }.into()),
                other => return Err(unexpected(S::NAME, &other)),
            }
        }
        let next = self.new_in_inbox(S::NAME).next();
        let next = next.map(|row| (row.n, row.payload.clone()));
        if let Some((_, payload)) = next.as_ref().filter(|_| self.rehearsing) {
            serde_json::from_value::<S>(payload.clone()).map_err(crate::Error::from)?;
        }
        self.leave_the_past(S::NAME).await?;
        if let Some((n, payload)) = next {
            return self.receive(n, payload).map(Some);
        }
        if self.cancelled.is_some() {
            return Err(self.call_off(S::NAME).into());
        }
        if waiting && left.is_zero() {
            self.events.push(Event::TimedOut {
                step: S::NAME.to_owned(),
            });
            return Ok(None);
        }
        let patience = (!waiting).then_some(patience);
        match self.park_for_signal(S::NAME, S::NAME, patience, left, S::QUEUE).await {
            Ok((n, payload)) => self.receive(n, payload).map(Some),
            Err(Failure::Step(StepFailure::Cancelled { step })) => Err(self.call_off(step).into()),
            Err(failure) => Err(failure),
        }
    }

    /// Does nothing for so long, across any number of restarts.
    ///
    /// # Errors
    /// When the run could not be written.
    pub async fn sleep(&mut self, step: &'static str, length: Duration, queue: Queue) -> Result<(), Failure> {
        let mut left = length;
        match self.replay.next(step) {
            None => {
                self.leave_the_past(step).await?;
                let patience_ms = millis(length);
                self.events.push(Event::Waiting {
                    step: step.to_owned(),
                    patience_ms,
                });
            }
            Some(Recorded {
                at,
                event: Event::Waiting { patience_ms, .. },
                ..
            }) => {
                match self.replay.next(step).map(|recorded| recorded.event) {
                    None => {}
                    Some(Event::TimedOut { .. }) => return Ok(()),
                    Some(Event::CalledOff { .. }) => return Err(StepFailure::Cancelled { step }.into()),
                    Some(other) => return Err(unexpected(step, &other)),
                }
                left = self.left_of(at, patience_ms);
                if left.is_zero() {
                    self.events.push(Event::TimedOut { step: step.to_owned() });
                    return Ok(());
                }
            }
            Some(Recorded { event, .. }) => return Err(unexpected(step, &event)),
        }
        let then = Then::Sleep {
            delay: left,
            queue,
            attempt: 0,
            last_error: None,
            died: false,
        };
        match self.park(step, then).await {
            Err(Failure::Step(StepFailure::Cancelled { step })) => Err(self.call_off(step).into()),
            parked => parked,
        }
    }

    fn receive<S: Signal>(&mut self, n: i64, payload: Value) -> Result<S, Failure> {
        let signal = serde_json::from_value(payload.clone()).map_err(crate::Error::from)?;
        self.replay.receive(S::NAME, n);
        self.events.push(Event::Received {
            step: S::NAME.to_owned(),
            n,
            payload,
        });
        Ok(signal)
    }

    /// Signals of this kind that the story has not received, in order of arrival.
    pub(super) fn new_in_inbox(&self, signal: &str) -> impl Iterator<Item = &SignalRow> {
        let last = self.replay.last_received(signal);
        self.inbox.iter().filter(move |row| row.name == signal && row.n > last)
    }

    /// What is left of a wait that was recorded at `at`, by the database's clock.
    pub(super) fn left_of(&self, at: DateTime<Utc>, patience_ms: i64) -> Duration {
        let until = at + chrono::Duration::milliseconds(patience_ms);
        (until - self.claim.at).to_std().unwrap_or(Duration::ZERO)
    }

    /// Waits for a signal after those that were looked at; returns only if it is there already. `patience` is recorded when
    /// the wait is new.
    pub(super) async fn park_for_signal(
        &mut self,
        step: &'static str,
        signal: &'static str,
        patience: Option<Duration>,
        left: Duration,
        queue: Queue,
    ) -> Result<(i64, Value), Failure> {
        if let Some(patience) = patience {
            self.events.push(Event::Waiting {
                step: step.to_owned(),
                patience_ms: millis(patience),
            });
        }
        let looked_at = self.new_in_inbox(signal).map(|row| row.n).max();
        let after_n = looked_at.unwrap_or_else(|| self.replay.last_received(signal));
        let then = Then::Wait {
            signal: signal.to_owned(),
            after_n,
            patience: left,
            queue,
        };
        let submitted = self.write(then).await?;
        if let Some(there) = submitted.signal {
            return Ok(there);
        }
        self.unless_cancelled(step, submitted).await
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
