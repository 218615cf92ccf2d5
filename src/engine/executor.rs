//! Plays one claimed run as far as it gets, and records how it ended.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use tokio::{sync::oneshot, time::Instant};
use uuid::Uuid;

use crate::{
    Error,
    claims::Claimed,
    committer::Client,
    leases::Lease,
    past::Past,
    registry::Stories,
    run::{Beginning, Run},
    seldom::Seldom,
    slots::Slots,
    statements::ClaimedRow,
    workflow::{Failure, Queue},
};

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Executor {
    pub stories: Arc<dyn Stories>,
    pub client: Client,
    pub queue: Queue,
    pub slots: Slots,
    /// How many times in a row a run may be held by a process that dies, or panic, before it is set aside.
    pub deaths: i16,
    /// What this process told last of runs that failed or were parked: each has its reason in its row.
    pub told: Arc<Told>,
}

/// How often runs of one queue ended in need of somebody. When both providers are away for long, every message does.
#[derive(Default)]
pub(crate) struct Told {
    failed: Seldom,
    parked: Seldom,
}

/// How far a claimed run got.
enum Ending {
    Finished,
    Failed(Failure),
    /// It waits or sleeps; everything is written.
    Parked,
    /// It belongs to another worker now.
    Lost,
    /// Nobody here can read it.
    Unfit(String),
    Panicked(String),
}

impl Executor {
    pub async fn execute(&self, claimed: Claimed) {
        let Claimed {
            row,
            owner,
            past,
            lease,
            permit,
        } = claimed;
        let row = Arc::new(row);
        // On the heap: what calls this moves it about until it runs.
        let played = Box::pin(self.play(row.clone(), owner, past, &lease));
        if let Some(Err(error)) = lease.lost.run_until_cancelled(played).await {
            // Whatever was not written was not done: the lease ends, and the run is claimed again.
            tracing::warn!(run = %row.id, workflow = %row.workflow, %error, "let go of a run");
        }
        drop((lease, permit));
    }

    async fn play(&self, row: Arc<ClaimedRow>, owner: Uuid, past: Past, lease: &Lease) -> Result<(), Error> {
        let (parked, is_parked) = oneshot::channel();
        let ((replay, inbox), unreadable) = match past {
            Ok(past) => (past, None),
            Err(error) => (Default::default(), Some(error)),
        };
        let beginning = Beginning {
            row: row.clone(),
            owner,
            replay,
            inbox,
            slot: self.slots.slot(),
            claimed: lease.since,
            lease: Some(lease.watch()),
        };
        let mut run = Run::new(beginning, self.client.clone(), parked);
        let ending = match unreadable {
            // Nothing can be added to it either.
            Some(error) => Ending::Unfit(format!("the journal cannot be read: {error}")),
            None if row.deaths > self.deaths => {
                return run.fail(format!("its worker died {} times in a row", row.deaths)).await;
            }
            None => {
                run.take_slot().await;
                self.tell(&row, &mut run, is_parked).await
            }
        };
        self.end(&row, &mut run, ending).await
    }

    /// Plays a run's story through its recorded past and no further; says why it does not fit, if it does not.
    pub async fn rehearse(&self, row: Arc<ClaimedRow>, past: Past) -> Option<String> {
        let (parked, is_parked) = oneshot::channel();
        let (replay, inbox) = match past {
            Ok(past) => past,
            Err(error) => return Some(format!("the journal cannot be read: {error}")),
        };
        let beginning = Beginning {
            row: row.clone(),
            owner: Uuid::nil(),
            replay,
            inbox,
            slot: self.slots.slot(),
            claimed: Instant::now(),
            lease: None,
        };
        let mut run = Run::rehearsing(beginning, self.client.clone(), parked);
        match self.tell(&row, &mut run, is_parked).await {
            Ending::Unfit(why) | Ending::Panicked(why) => Some(why),
            Ending::Finished => run
                .skipped()
                .map(|step| format!("the story ends without the recorded step {step:?}")),
            Ending::Failed(_) | Ending::Parked | Ending::Lost => None,
        }
    }

    async fn end(&self, row: &ClaimedRow, run: &mut Run, ending: Ending) -> Result<(), Error> {
        match ending {
            Ending::Parked => Ok(()),
            Ending::Lost => Err(Error::LeaseLost),
            Ending::Finished => match run.skipped() {
                None => run.finish().await,
                Some(step) => {
                    run.set_aside(format!("the story ends without the recorded step {step:?}"))
                        .await
                }
            },
            Ending::Failed(Failure::Step(_)) if run.is_cancelled() => run.finish().await,
            Ending::Failed(Failure::Engine(error @ (Error::Unavailable | Error::Database(_)))) => Err(error),
            Ending::Failed(failure) => {
                match self.told.failed.happened() {
                    Some(times) => {
                        tracing::error!(run = %row.id, workflow = %row.workflow, %failure, times, "a run failed");
                    }
                    None => tracing::debug!(run = %row.id, workflow = %row.workflow, %failure, "a run failed"),
                }
                run.fail(failure.to_string()).await
            }
            Ending::Unfit(why) => {
                match self.told.parked.happened() {
                    Some(times) => {
                        tracing::error!(run = %row.id, workflow = %row.workflow, %why, times, "a run was parked");
                    }
                    None => tracing::debug!(run = %row.id, workflow = %row.workflow, %why, "a run was parked"),
                }
                run.set_aside(why).await
            }
            Ending::Panicked(why) => {
                tracing::error!(run = %row.id, workflow = %row.workflow, %why, "a story panicked");
                let delay = Duration::from_secs(5) * u32::from(row.deaths.unsigned_abs() + 1);
                run.calm_down(delay, self.queue, row.attempt.unsigned_abs(), why).await
            }
        }
    }

    /// Plays the story until it ends, or stops at a point where the run has been parked.
    async fn tell(&self, row: &ClaimedRow, run: &mut Run, is_parked: oneshot::Receiver<()>) -> Ending {
        let story = match self.stories.tell(&row.workflow, &row.input, run) {
            Ok(story) => story,
            Err(untellable) => return Ending::Unfit(untellable.to_string()),
        };
        tokio::select! {
            biased;
            ended = AssertUnwindSafe(story).catch_unwind() => match ended {
                Ok(Ok(())) => Ending::Finished,
                Ok(Err(Failure::Engine(Error::LeaseLost))) => Ending::Lost,
                Ok(Err(Failure::Engine(error @ Error::Payload(_)))) => Ending::Unfit(error.to_string()),
                Ok(Err(Failure::Unfit(why))) => Ending::Unfit(why),
                Ok(Err(failure)) => Ending::Failed(failure),
                Err(panic) => Ending::Panicked(describe(&*panic)),
            },
            _ = is_parked => Ending::Parked,
        }
    }
}

/// The words of a panic, which are the program's own; nothing from a payload is added.
fn describe(panic: &(dyn Any + Send)) -> String {
    let words = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", words.unwrap_or("without words"))
}
