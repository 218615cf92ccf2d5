//! Plays one claimed run as far as it gets, and records how it ended.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use tokio::sync::oneshot;

use crate::{
    Error,
    claims::Claimed,
    committer::Client,
    registry::Stories,
    run::Run,
    statements::ClaimedRow,
    submission::{Checkpoint, Submission, Then},
    workflow::{Failure, Queue},
};

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Executor {
    pub stories: Arc<dyn Stories>,
    pub client: Client,
    pub queue: Queue,
    /// How many times in a row a run may be held by a process that dies, or panic, before it is set aside.
    pub deaths: i16,
}

/// How far a claimed run got.
enum Ending {
    Finished,
    Failed(Failure),
    /// It waits or sleeps; everything is written.
    Parked,
    /// It belongs to another worker now.
    Lost,
    Panicked(String),
}

impl Executor {
    pub async fn execute(self, claimed: Claimed) {
        let Claimed {
            row,
            past,
            lease,
            permit,
        } = claimed;
        let (id, workflow) = (row.id, row.workflow.clone());
        let ended = lease.lost.clone().run_until_cancelled_owned(self.play(row, past)).await;
        if let Some(Err(error)) = ended {
            // Whatever was not written was not done: the lease ends, and the run is claimed again.
            tracing::warn!(run = %id, %workflow, %error, "let go of a run");
        }
        drop((lease, permit));
    }

    async fn play(self, row: ClaimedRow, past: PastOf) -> Result<(), Error> {
        let (parked, is_parked) = oneshot::channel();
        let (replay, inbox) = match past {
            Ok(past) => past,
            Err(error) => {
                return self
                    .set_aside(&row, &format!("the journal cannot be read: {error}"))
                    .await;
            }
        };
        let mut run = Run::new(row.beginning(replay, inbox), self.client.clone(), parked);
        if row.deaths > self.deaths {
            return run.fail(format!("its worker died {} times in a row", row.deaths)).await;
        }
        let ending = self.tell(&row, &mut run, is_parked).await;
        match ending {
            Ending::Parked => Ok(()),
            Ending::Lost => Err(Error::LeaseLost),
            Ending::Finished => run.finish().await,
            Ending::Failed(Failure::Engine(error @ (Error::Unavailable | Error::Database(_)))) => Err(error),
            Ending::Failed(failure) => {
                tracing::error!(run = %row.id, workflow = %row.workflow, %failure, "a run failed");
                run.fail(failure.to_string()).await
            }
            Ending::Panicked(why) => {
                tracing::error!(run = %row.id, workflow = %row.workflow, %why, "a story panicked");
                let delay = Duration::from_secs(5) * u32::from(row.deaths.unsigned_abs() + 1);
                let attempt = row.attempt.unsigned_abs();
                let then = Then::Sleep {
                    delay,
                    queue: self.queue,
                    attempt,
                    last_error: Some(why),
                    died: true,
                };
                self.write(&row, then).await
            }
        }
    }

    /// Plays the story until it ends, or stops at a point where the run has been parked.
    async fn tell(&self, row: &ClaimedRow, run: &mut Run, is_parked: oneshot::Receiver<()>) -> Ending {
        let story = match self.stories.tell(&row.workflow, row.input.clone(), run) {
            Ok(story) => story,
            Err(untellable) => return Ending::Failed(Failure::Because(untellable.to_string())),
        };
        tokio::select! {
            biased;
            ended = AssertUnwindSafe(story).catch_unwind() => match ended {
                Ok(Ok(())) => Ending::Finished,
                Ok(Err(Failure::Engine(Error::LeaseLost))) => Ending::Lost,
                Ok(Err(failure)) => Ending::Failed(failure),
                Err(panic) => Ending::Panicked(describe(&*panic)),
            },
            _ = is_parked => Ending::Parked,
        }
    }

    /// Keeps a run that nothing here can read, without touching its journal.
    async fn set_aside(&self, row: &ClaimedRow, why: &str) -> Result<(), Error> {
        tracing::error!(run = %row.id, workflow = %row.workflow, %why, "a run was set aside");
        self.write(row, Then::Fail { why: why.to_owned() }).await
    }

    async fn write(&self, row: &ClaimedRow, then: Then) -> Result<(), Error> {
        let checkpoint = Checkpoint {
            run: row.id,
            epoch: row.epoch,
            seq: 0,
            events: Vec::new(),
            then,
        };
        let submission = Submission {
            checkpoint: Some(checkpoint),
            ..Submission::new()
        };
        self.client.write(submission).await.map(drop)
    }
}

type PastOf = Result<(crate::journal::Replay, Vec<crate::statements::SignalRow>), serde_json::Error>;

/// The words of a panic, which are the program's own; nothing from a payload is added.
fn describe(panic: &(dyn Any + Send)) -> String {
    let words = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", words.unwrap_or("without words"))
}
