//! What the journal tells of a step that touches the outside world.

use std::time::Duration;

use serde_json::Value;

use crate::{
    Outcome, PastAttempt, StepFailure,
    journal::{Event, Recorded},
    run::{Run, unexpected},
    workflow::Failure,
};

/// What the journal tells of a step.
#[derive(Default)]
pub(super) struct History {
    pub past: Vec<PastAttempt>,
    /// The newest intent, while its outcome is not recorded.
    pub open: Option<(u32, Value)>,
    /// The attempt that may or may not have been done.
    pub unresolved: Option<u32>,
    /// How much of the patience for it is left, once the wait has begun.
    pub left: Option<Duration>,
    /// Attempts from before people wanted the step to be tried again: they do not count against the policy.
    pub forgiven: u32,
}

impl History {
    /// The newest attempt that may have been done.
    pub fn doubtful(&self) -> Option<&PastAttempt> {
        self.past.iter().rfind(|past| past.outcome == Outcome::Unknown)
    }

    /// What the attempts planned that were made, the one that is not recorded to have ended included.
    pub fn plans(&self) -> impl Iterator<Item = &Value> {
        let plans = self.past.iter().map(|past| &past.plan);
        plans
            .chain(self.open.iter().map(|(_, plan)| plan))
            .filter(|plan| !plan.is_null())
    }

    fn plan_of(&self, attempt: u32) -> Value {
        let past = self.past.iter().rfind(|past| past.attempt == attempt);
        past.map(|past| past.plan.clone()).unwrap_or_default()
    }
}

/// How a recorded step ended.
pub(super) enum End {
    Done { plan: Value, answer: Option<Value> },
    Failed(StepFailure),
}

impl Run {
    /// Consumes the step's recorded events, up to its end if it has one.
    pub(super) fn read_history(&mut self, step: &'static str, history: &mut History) -> Result<Option<End>, Failure> {
        while let Some(Recorded { at, event, .. }) = self.replay.next(step) {
            match event {
                Event::Intent { attempt, plan, .. } => {
                    history.open = Some((attempt, plan));
                    history.left = None;
                }
                Event::Done { plan, answer, .. } => {
                    let plan = plan
                        .or_else(|| history.open.take().map(|(_, plan)| plan))
                        .unwrap_or_default();
                    return Ok(Some(End::Done {
                        plan,
                        answer: Some(answer),
                    }));
                }
                Event::Confirmed { attempt, .. } | Event::Presumed { attempt, .. } => {
                    return Ok(Some(End::Done {
                        plan: history.plan_of(attempt),
                        answer: None,
                    }));
                }
                Event::Failed {
                    attempt,
                    outcome,
                    why,
                    last,
                    ..
                } => {
                    if last && outcome == Outcome::Never {
                        return Ok(Some(End::Failed(StepFailure::Never { step, why })));
                    }
                    if last {
                        return Ok(Some(End::Failed(StepFailure::Exhausted {
                            step,
                            attempts: attempt,
                            last_error: why,
                        })));
                    }
                    let plan = history.open.take().map(|(_, plan)| plan).unwrap_or_default();
                    history.past.push(PastAttempt { attempt, plan, outcome });
                    history.unresolved = (outcome == Outcome::Unknown).then_some(attempt);
                    history.left = None;
                }
                Event::Waiting { patience_ms, .. } => history.left = Some(self.left_of(at, patience_ms)),
                Event::Resent { .. } => history.unresolved = None,
                Event::Withdrawn { .. } => history.open = None,
                Event::Abandoned { attempt, .. } => {
                    return Ok(Some(End::Failed(StepFailure::Unknown { step, attempt })));
                }
                Event::CalledOff { .. } => return Ok(Some(End::Failed(StepFailure::Cancelled { step }))),
                Event::Expired { .. } => return Ok(Some(End::Failed(StepFailure::Expired { step }))),
                Event::Redriven { .. } => {
                    history.unresolved = None;
                    history.forgiven = u32::try_from(history.past.len()).unwrap_or(u32::MAX);
                }
                other => return Err(unexpected(step, &other)),
            }
        }
        Ok(None)
    }
}
