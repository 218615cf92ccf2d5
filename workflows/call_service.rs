//! Tells a service, one event after the other, what happened to its messages.
//!
//! Order is kept by having one teller: the events of a service and kind are a lane, a lane belongs to one run at a time,
//! and this run calls about the first event that waits until the service has taken it, has refused it for good, or
//! it is given up. The run that adds the first event to an empty lane starts the teller in the same
//! transaction; the teller lets go of its lane under the lane's lock, and starts a successor if anything came meanwhile.
//! So nothing is forgotten, and nobody polls.
//!
//! The circuit breaker needs no state of its own: what an endpoint that does not answer costs is this one run, asleep
//! under a back-off that grows from seconds to half an hour. No other lane waits for it. Once it has failed for half an
//! hour, what has waited for a day is given up without another call, and once it fails twice, what has waited for two;
//! people can replay it (`herald callbacks replay`).
//!
//! One event that an endpoint cannot bear must not make it deaf: when calls have failed for half an hour, one that fails
//! again is followed at once by one about the second event that waits, and, where that is taken, by one more about the first.
//! If that fails too, the first is undeliverable; otherwise it stays the first. At once, and once more, as otherwise an
//! endpoint that recovers in between, or half of which is ill, would look as if it could not bear the first.
//!
//! A worker that dies between a call and our commit calls again, with the same event id.

use herald_engine::{Attempted, Failure, Queue, Run, StepFailure, Workflow};
use herald_store::callbacks::Lane;
use serde::{Deserialize, Serialize};

use crate::{
    Tools,
    effects::{Abandon, Close},
    queues, retry,
    tools::Answer,
};

/// Events that one run tells: a journal that is read in one go.
const EVENTS: usize = 100;

/// Why an event is undeliverable that holds up others.
const ILL: &str = "the endpoint took the event after it, but not this one";

#[derive(Debug, Serialize, Deserialize)]
pub struct CallService {
    #[serde(flatten)]
    pub lane: Lane,
}

impl Workflow for CallService {
    type Tools = Tools;
    const NAME: &'static str = "call_service";
    const QUEUE: Queue = queues::SERVICE_CALLBACKS;

    async fn run(self, run: &mut Run, tools: &Tools) -> Result<(), Failure> {
        match self.tell(run, tools).await {
            Err(cancelled @ Failure::Step(StepFailure::Cancelled { .. })) => {
                let (lane, id) = (self.lane, run.id());
                run.commit("abandoned", Abandon { lane, run: id })?;
                Err(cancelled)
            }
            told => told,
        }
    }
}

impl CallService {
    async fn tell(&self, run: &mut Run, tools: &Tools) -> Result<(), Failure> {
        let (lane, id) = (self.lane, run.id());
        let mut done = Vec::new();
        while done.len() < EVENTS {
            let called = run
                .attempt("call", &retry::telling(), |past| {
                    tools.call_service(lane, id, &done, past)
                })
                .await;
            let Attempted { plan, answer } = match called {
                // A journal is long enough; the successor goes on.
                Err(Failure::Step(StepFailure::Exhausted { .. })) => break,
                called => called?,
            };
            let Some(event) = plan else { break };
            let (ill, closed, refusal) = match answer {
                Some(Answer::Skipped { took }) => (Some(event.id), took, None),
                Some(Answer::Known(Some(why))) => (None, event.id, Some(why)),
                Some(Answer::Known(None)) | None => (event.instead_of, event.id, None),
            };
            if let Some(event) = ill {
                let refusal = Some(ILL.to_owned());
                run.commit("set aside", Close { event, refusal })?;
                done.push(event);
            }
            run.commit("closed", Close { event: closed, refusal })?;
            done.push(closed);
        }
        run.attempt("rest", &retry::resting(), |_| tools.rest(lane, id)).await?;
        Ok(())
    }
}
