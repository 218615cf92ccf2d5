//! A run as its story sees it: steps that are recorded once and replayed ever after.
//!
//! What the story does between two looks at the outside world is gathered and written as one checkpoint. A process
//! that dies before the checkpoint dies as if it had not done those steps; replay does them again.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use tokio::{sync::oneshot, time::Instant};
use uuid::Uuid;

use crate::{
    committer::Client,
    effect::{AnyEffect, Effect},
    journal::{Event, Replay},
    leases::Watch,
    slots::Slot,
    statements::{ClaimedRow, SignalRow},
    submission::{Checkpoint, Claim, Control, NewRun, NewSignal, Submission, Submitted, Then},
    workflow::{Failure, Queue, StepFailure, Workflow},
};

mod attempt;
mod waiting;
pub use attempt::Prepared;

/// One life of a workflow.
pub struct Run {
    row: Arc<ClaimedRow>,
    claim: Claim,
    /// When the claim was sent, by this process' monotonic clock: what has passed since is added to the database's time of
    /// the claim.
    claimed: Instant,
    seq: i32,
    /// No attempt begins after this.
    expires_at: Option<DateTime<Utc>>,
    cancelled: Option<String>,
    replay: Replay,
    inbox: Vec<SignalRow>,
    client: Client,
    /// Not yet written.
    events: Vec<Event>,
    pending: Submission,
    /// Tells the executor that the run is parked; its story is then dropped where it stands.
    parked: Option<oneshot::Sender<()>>,
    slot: Slot,
    /// None for one that is not held.
    lease: Option<Watch>,
    /// Whether it only shows that the story fits its past: it then stops where something new would happen.
    rehearsing: bool,
}

/// What the executor gives a run to begin with.
pub(crate) struct Beginning {
    pub row: Arc<ClaimedRow>,
    pub owner: Uuid,
    pub replay: Replay,
    pub inbox: Vec<SignalRow>,
    pub slot: Slot,
    pub claimed: Instant,
    pub lease: Option<Watch>,
}

impl Run {
    pub(crate) fn new(beginning: Beginning, client: Client, parked: oneshot::Sender<()>) -> Self {
        let Beginning {
            row,
            owner,
            replay,
            inbox,
            slot,
            claimed,
            lease,
        } = beginning;
        let start_by = row.start_by.filter(|_| replay.is_fresh());
        let is_cancelled = row.control.as_deref().and_then(Control::named) == Some(Control::Cancelled);
        Self {
            claim: Claim {
                epoch: row.epoch,
                owner,
                at: row.claimed_at,
            },
            claimed,
            seq: replay.last_seq,
            expires_at: [start_by, row.expires_at].into_iter().flatten().min(),
            cancelled: is_cancelled.then(|| row.control_reason.clone().unwrap_or_default()),
            row,
            replay,
            inbox,
            client,
            events: Vec::new(),
            pending: Submission::new(),
            parked: Some(parked),
            slot,
            lease,
            rehearsing: false,
        }
    }

    /// A run that does nothing that is not recorded.
    pub(crate) fn rehearsing(beginning: Beginning, client: Client, parked: oneshot::Sender<()>) -> Self {
        Self {
            rehearsing: true,
            ..Self::new(beginning, client, parked)
        }
    }

    pub fn id(&self) -> Uuid {
        self.row.id
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

    /// How long after its creation this claim took the run, by the database's clock.
    pub fn age(&self) -> Duration {
        (self.claim.at - self.row.created_at).to_std().unwrap_or(Duration::ZERO)
    }

    /// What is left of the time that a run may take, as of this claim.
    pub fn left_of_age(&self, age: Duration) -> Duration {
        age.saturating_sub(self.age())
    }

    pub(crate) async fn finish(&mut self) -> Result<(), crate::Error> {
        self.events.push(match &self.cancelled {
            None => Event::Finished {
                workflow: self.row.workflow.clone(),
            },
            Some(why) => Event::Cancelled { why: why.clone() },
        });
        self.write(Then::Finish).await.map(drop)
    }

    pub(crate) async fn fail(&mut self, why: String) -> Result<(), crate::Error> {
        self.events.push(Event::GaveUp { why: why.clone() });
        self.write(Then::Fail { why }).await.map(drop)
    }

    /// Leaves the run to a worker that can read it. Its journal is not touched, nor is anything written that the
    /// story wanted since its last checkpoint.
    pub(crate) async fn set_aside(&mut self, why: String) -> Result<(), crate::Error> {
        self.events.clear();
        self.pending = Submission::new();
        self.write(Then::Park { why }).await.map(drop)
    }

    /// Leaves the run to be played again after `delay`, because it broke its worker.
    pub(crate) async fn calm_down(
        &mut self,
        delay: Duration,
        queue: Queue,
        attempt: u32,
        why: String,
    ) -> Result<(), crate::Error> {
        self.events.clear();
        self.pending = Submission::new();
        let then = Then::Sleep {
            delay,
            queue,
            attempt,
            last_error: Some(why),
            died: true,
        };
        self.write(then).await.map(drop)
    }

    /// Whether a step that needs no waiting is still to be done; the journal must not hold another kind of step there.
    fn is_new(&mut self, step: &str, same: fn(&Event) -> bool) -> Result<bool, Failure> {
        match self.replay.next(step).map(|recorded| recorded.event) {
            None => self.at_the_end_of_the_past(step).map(|()| true),
            Some(event) if same(&event) => Ok(false),
            Some(other) => Err(unexpected(step, &other)),
        }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.is_some()
    }

    /// A recorded step that the story has not come to.
    pub(crate) fn skipped(&self) -> Option<String> {
        self.replay.skipped().map(str::to_owned)
    }

    /// A new step may only follow when the story has come to all that is recorded: otherwise steps were renamed or
    /// left out, and doing them anew under other names would do them twice.
    fn at_the_end_of_the_past(&self, step: &str) -> Result<(), Failure> {
        match self.replay.skipped() {
            None => Ok(()),
            Some(skipped) => Err(Failure::Unfit(format!(
                "the story comes to the new step {step:?} without the recorded step {skipped:?}"
            ))),
        }
    }

    /// As [`Self::at_the_end_of_the_past`], before a step that waits or calls: as far as a rehearsal goes.
    async fn leave_the_past(&mut self, step: &str) -> Result<(), Failure> {
        self.at_the_end_of_the_past(step)?;
        if self.rehearsing {
            self.stop_here().await
        }
        Ok(())
    }

    async fn park<T>(&mut self, step: &'static str, then: Then) -> Result<T, Failure> {
        let submitted = self.write(then).await?;
        self.unless_cancelled(step, submitted).await
    }

    /// A cancelled run does not park: its story learns it, and ends in its own way.
    async fn unless_cancelled<T>(&mut self, step: &'static str, submitted: Submitted) -> Result<T, Failure> {
        if submitted.control == Some(Control::Cancelled) {
            self.cancelled.get_or_insert_default();
            return Err(StepFailure::Cancelled { step }.into());
        }
        self.stop_here().await
    }

    /// The step ends here, for the story may go on.
    fn call_off(&mut self, step: &'static str) -> StepFailure {
        self.events.push(Event::CalledOff { step: step.to_owned() });
        StepFailure::Cancelled { step }
    }

    pub(crate) async fn take_slot(&mut self) {
        self.slot.enter().await;
    }

    async fn write(&mut self, then: Then) -> Result<Submitted, crate::Error> {
        if !matches!(then, Then::Continue) {
            self.slot.leave();
        }
        let events = std::mem::take(&mut self.events);
        if !events.is_empty() {
            self.seq += 1;
        }
        let mut submission = std::mem::take(&mut self.pending);
        submission.checkpoint = Some(Checkpoint {
            run: self.row.id,
            claim: self.claim,
            seq: self.seq,
            events,
            then,
        });
        let submitted = self.client.write(submission).await?;
        if submitted.signal.is_some() || submitted.control.is_some() {
            self.slot.enter().await;
        }
        Ok(submitted)
    }

    /// The run is parked: its story is dropped at this point, and played again from the top when it is due.
    async fn stop_here<T>(&mut self) -> T {
        if let Some(parked) = self.parked.take() {
            let _ = parked.send(());
        }
        std::future::pending().await
    }
}

/// The story has changed in a way that its recorded past does not fit: the run is kept for people to look at.
fn unexpected(step: &str, found: &Event) -> Failure {
    Failure::Unfit(format!(
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
        | Event::Confirmed { .. }
        | Event::Presumed { .. }
        | Event::Withdrawn { .. }
        | Event::Abandoned { .. }
        | Event::Expired { .. } => "an attempt",
        Event::CalledOff { .. } => "a step that was called off",
        Event::Committed { .. } => "a commit",
        Event::Started { .. } => "a start",
        Event::Signalled { .. } => "a signal sent",
        Event::Waiting { .. } | Event::Received { .. } | Event::TimedOut { .. } => "a wait",
        Event::Finished { .. } | Event::GaveUp { .. } | Event::Cancelled { .. } => "an end",
        Event::Redriven { .. } => "a new beginning",
    }
}
