//! A run as its story sees it: steps that are recorded once and replayed ever after.
//!
//! What the story does between two looks at the outside world is gathered and written as one checkpoint. A process
//! that dies before the checkpoint dies as if it had not done those steps; replay does them again.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::{
    committer::Client,
    effect::{AnyEffect, Effect},
    journal::{Event, Recorded, Replay},
    statements::SignalRow,
    submission::{Checkpoint, NewRun, NewSignal, Submission, Submitted, Then},
    workflow::{Failure, Queue, Signal, Workflow},
};

mod attempt;
pub use attempt::Prepared;

/// One life of a workflow.
pub struct Run {
    id: Uuid,
    epoch: i64,
    seq: i32,
    created_at: DateTime<Utc>,
    claimed_at: DateTime<Utc>,
    replay: Replay,
    inbox: Vec<SignalRow>,
    client: Client,
    /// Not yet written.
    events: Vec<Event>,
    pending: Submission,
    /// Tells the executor that the run is parked; its story is then dropped where it stands.
    parked: Option<oneshot::Sender<()>>,
}

/// What the executor gives a run to begin with.
pub(crate) struct Beginning {
    pub id: Uuid,
    pub epoch: i64,
    pub created_at: DateTime<Utc>,
    pub claimed_at: DateTime<Utc>,
    pub replay: Replay,
    pub inbox: Vec<SignalRow>,
}

impl Run {
    pub(crate) fn new(beginning: Beginning, client: Client, parked: oneshot::Sender<()>) -> Self {
        let Beginning {
            id,
            epoch,
            created_at,
            claimed_at,
            replay,
            inbox,
        } = beginning;
        Self {
            id,
            epoch,
            seq: replay.last_seq,
            created_at,
            claimed_at,
            replay,
            inbox,
            client,
            events: Vec::new(),
            pending: Submission::new(),
            parked: Some(parked),
        }
    }

    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Changes our own database, exactly once: together with the record of this step.
    ///
    /// # Errors
    /// When the journal holds another kind of step under this name.
    pub fn commit(&mut self, step: &'static str, effect: impl Effect) -> Result<(), Failure> {
        if self.is_new(step, |event| matches!(event, Event::Committed { .. }))? {
            self.pending.effects.push(AnyEffect::new(effect));
            self.events.push(Event::Committed { step: step.to_owned() });
        }
        Ok(())
    }

    /// Starts another run, exactly once.
    ///
    /// # Errors
    /// As [`Self::commit`], or when the workflow does not serialize.
    pub fn start<W: Workflow>(&mut self, step: &'static str, workflow: &W) -> Result<(), Failure> {
        if self.is_new(step, |event| matches!(event, Event::Started { .. }))? {
            let new = NewRun::of(workflow)?;
            self.events.push(Event::Started {
                step: step.to_owned(),
                run: new.id,
            });
            self.pending.starts.push(new);
        }
        Ok(())
    }

    /// Sends a signal to another run, exactly once.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub fn signal(&mut self, step: &'static str, signal: NewSignal) -> Result<(), Failure> {
        if self.is_new(step, |event| matches!(event, Event::Signalled { .. }))? {
            self.events.push(Event::Signalled {
                step: step.to_owned(),
                run: signal.run,
            });
            self.pending.signals.push(signal);
        }
        Ok(())
    }

    /// What is left of the time that a run may take, counted from its creation, by the database's clock as of
    /// this claim.
    pub fn left_of_age(&self, age: Duration) -> Duration {
        let age = chrono::Duration::from_std(age).unwrap_or(chrono::Duration::MAX);
        (self.created_at + age - self.claimed_at)
            .to_std()
            .unwrap_or(Duration::ZERO)
    }

    /// The next signal of this kind, in order of arrival; `None` when none has come within `patience`. While it
    /// waits the run holds no worker, no connection and no memory.
    ///
    /// # Errors
    /// When the signal does not fit its type, or the run could not be written.
    pub async fn wait_for<S: Signal>(&mut self, patience: Duration) -> Result<Option<S>, Failure> {
        let mut left = patience;
        let mut waiting = false;
        while let Some(Recorded { at, event }) = self.replay.next(S::NAME) {
            match event {
                Event::Waiting { patience_ms, .. } => {
                    waiting = true;
                    left = self.left_of(at, patience_ms);
                }
                Event::Received { payload, .. } => {
                    return Ok(Some(serde_json::from_value(payload).map_err(crate::Error::from)?));
                }
                Event::TimedOut { .. } => return Ok(None),
                other => return Err(unexpected(S::NAME, &other)),
            }
        }
        if let Some((n, payload)) = self.next_in_inbox(S::NAME) {
            return self.receive(n, payload).map(Some);
        }
        if waiting && left.is_zero() {
            self.events.push(Event::TimedOut {
                step: S::NAME.to_owned(),
            });
            return Ok(None);
        }
        let (n, payload) = self
            .park_for_signal(S::NAME, S::NAME, (!waiting).then_some(patience), left, S::QUEUE)
            .await?;
        self.receive(n, payload).map(Some)
    }

    /// Does nothing for so long, across any number of restarts.
    ///
    /// # Errors
    /// When the run could not be written.
    pub async fn sleep(&mut self, step: &'static str, length: Duration, queue: Queue) -> Result<(), Failure> {
        let mut left = length;
        match self.replay.next(step) {
            None => {
                let patience_ms = millis(length);
                self.events.push(Event::Waiting {
                    step: step.to_owned(),
                    patience_ms,
                });
            }
            Some(Recorded {
                at,
                event: Event::Waiting { patience_ms, .. },
            }) => {
                if matches!(self.replay.peek(step), Some(Event::TimedOut { .. })) {
                    self.replay.next(step);
                    return Ok(());
                }
                left = self.left_of(at, patience_ms);
                if left.is_zero() {
                    self.events.push(Event::TimedOut { step: step.to_owned() });
                    return Ok(());
                }
            }
            Some(Recorded { event, .. }) => return Err(unexpected(step, &event)),
        }
        self.park(Then::Sleep {
            delay: left,
            queue,
            attempt: 0,
            last_error: None,
            died: false,
        })
        .await
    }

    pub(crate) async fn finish(&mut self) -> Result<(), crate::Error> {
        self.events.push(Event::Finished);
        self.write(Then::Finish).await.map(drop)
    }

    pub(crate) async fn fail(&mut self, why: String) -> Result<(), crate::Error> {
        self.events.push(Event::GaveUp { why: why.clone() });
        self.write(Then::Fail { why }).await.map(drop)
    }

    /// Whether a step that needs no waiting is still to be done; the journal must not hold another kind of step there.
    fn is_new(&mut self, step: &str, same: fn(&Event) -> bool) -> Result<bool, Failure> {
        match self.replay.next(step).map(|recorded| recorded.event) {
            None => Ok(true),
            Some(event) if same(&event) => Ok(false),
            Some(other) => Err(unexpected(step, &other)),
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

    fn next_in_inbox(&self, signal: &str) -> Option<(i64, Value)> {
        let last = self.replay.last_received(signal);
        self.inbox
            .iter()
            .find(|row| row.name == signal && row.n > last)
            .map(|row| (row.n, row.payload.clone()))
    }

    /// What is left of a wait that was recorded at `at`, by the database's clock.
    fn left_of(&self, at: DateTime<Utc>, patience_ms: i64) -> Duration {
        let until = at + chrono::Duration::milliseconds(patience_ms);
        (until - self.claimed_at).to_std().unwrap_or(Duration::ZERO)
    }

    /// Waits for a signal; returns only if it is there already. `patience` is recorded when the wait is new.
    async fn park_for_signal(
        &mut self,
        step: &str,
        signal: &str,
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
        let after_n = self.replay.last_received(signal);
        let then = Then::Wait {
            signal: signal.to_owned(),
            after_n,
            patience: left,
            queue,
        };
        match self.write(then).await?.signal {
            Some(there) => Ok(there),
            None => self.stop_here().await,
        }
    }

    async fn park<T>(&mut self, then: Then) -> Result<T, Failure> {
        self.write(then).await?;
        self.stop_here().await
    }

    async fn write(&mut self, then: Then) -> Result<Submitted, crate::Error> {
        let events = std::mem::take(&mut self.events);
        if !events.is_empty() {
            self.seq += 1;
        }
        let mut submission = std::mem::take(&mut self.pending);
        submission.checkpoint = Some(Checkpoint {
            run: self.id,
            epoch: self.epoch,
            seq: self.seq,
            events,
            then,
        });
        self.client.write(submission).await
    }

    /// The run is parked: its story is dropped at this point, and played again from the top when it is due.
    async fn stop_here<T>(&mut self) -> T {
        if let Some(parked) = self.parked.take() {
            let _ = parked.send(());
        }
        std::future::pending().await
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The story has changed in a way that its recorded past does not fit: the run is kept for people to look at.
fn unexpected(step: &str, found: &Event) -> Failure {
    Failure::Because(format!(
        "the journal does not fit the story: step {step:?} was recorded as {}",
        kind(found)
    ))
}

fn kind(event: &Event) -> &'static str {
    match event {
        Event::Intent { .. }
        | Event::Done { .. }
        | Event::Failed { .. }
        | Event::Resent { .. }
        | Event::Confirmed { .. } => "an attempt",
        Event::Committed { .. } => "a commit",
        Event::Started { .. } => "a start",
        Event::Signalled { .. } => "a signal sent",
        Event::Waiting { .. } | Event::Received { .. } | Event::TimedOut { .. } => "a wait",
        Event::Finished | Event::GaveUp { .. } => "an end",
    }
}
