//! A step that touches the outside world. It cannot be done exactly once, so its intent is written before the call,
//! and an attempt whose outcome was never learnt is a fact that the policy decides about, on record.

use std::{future::Future, time::Duration};

use futures::future::BoxFuture;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::time::Instant;

use super::Run;
use crate::{
    AttemptError, Attempted, Error, OnUnknown, Outcome, PastAttempt, Proof, RetryPolicy, StepFailure,
    journal::Event,
    statements::SignalRow,
    submission::{Control, Submission, Then},
    workflow::{Failure, Queue},
};

mod history;
use history::{End, History};

/// What an attempt turns out to need.
pub enum Prepared<'a, P, T> {
    /// A call to the outside world. The plan is journaled first; the future must not have begun yet.
    Call {
        plan: P,
        call: BoxFuture<'a, Result<T, AttemptError>>,
    },
    /// No call: the answer is known.
    Done { plan: P, answer: T },
}

impl Run {
    /// Calls the outside world, at least once and never blindly twice.
    ///
    /// `prepare` is given the earlier attempts and looks up what the call needs; its own failures count as attempts
    /// without effect. Plan and answer are journaled: they must hold no personal data.
    ///
    /// # Errors
    /// [`Failure::Step`] when the step has ended without an answer; a story may handle that. Others end the run.
    pub async fn attempt<'a, P, T, F>(
        &mut self,
        step: &'static str,
        policy: &RetryPolicy,
        prepare: impl FnOnce(Vec<PastAttempt>) -> F + Send,
    ) -> Result<Attempted<P, T>, Failure>
    where
        P: Serialize + DeserializeOwned + Send,
        T: Serialize + DeserializeOwned + Send,
        F: Future<Output = Result<Prepared<'a, P, T>, AttemptError>> + Send,
    {
        self.attempt_or(step, policy, prepare, |_| Submission::new()).await
    }

    /// As [`Self::attempt`]; the effects of `no_yes`, given the plan, commit with the record that its call brought no yes.
    ///
    /// # Errors
    /// As [`Self::attempt`].
    pub async fn attempt_or<'a, P, T, F>(
        &mut self,
        step: &'static str,
        policy: &RetryPolicy,
        prepare: impl FnOnce(Vec<PastAttempt>) -> F + Send,
        no_yes: fn(&P) -> Submission,
    ) -> Result<Attempted<P, T>, Failure>
    where
        P: Serialize + DeserializeOwned + Send,
        T: Serialize + DeserializeOwned + Send,
        F: Future<Output = Result<Prepared<'a, P, T>, AttemptError>> + Send,
    {
        let mut history = History::default();
        match self.read_history(step, &mut history)? {
            Some(End::Done { plan, answer }) => return decode(plan, answer),
            Some(End::Failed(failure)) => return Err(failure.into()),
            None => {}
        }
        if self.rehearsing && matches!(policy.on_unknown, OnUnknown::AwaitThenRepeat { .. }) {
            // A signal may prove any of them.
            for plan in history.plans() {
                P::deserialize(plan).map_err(Error::from)?;
            }
        }
        self.leave_the_past(step).await?;
        let policy = &RetryPolicy {
            attempts: policy.attempts.saturating_add(history.forgiven),
            ..policy.clone()
        };
        if let Some((attempt, plan)) = history.open.take() {
            self.events.push(failed(
                step,
                attempt,
                Outcome::Unknown,
                "the worker died before it had an answer",
                false,
                None,
            ));
            history.past.push(PastAttempt {
                attempt,
                plan,
                outcome: Outcome::Unknown,
            });
            history.unresolved = Some(attempt);
        }
        let went = async {
            if let Some(plan) = self.proved(step, policy, &history) {
                return decode(plan, None);
            }
            if let Some(attempt) = history.unresolved {
                if self.cancelled.is_some() {
                    return Err(StepFailure::Cancelled { step }.into());
                }
                if let Some(plan) = self.resolve_unknown(step, policy, attempt, &history).await? {
                    return decode(plan, None);
                }
            }
            let attempt = u32::try_from(history.past.len()).unwrap_or(u32::MAX).saturating_add(1);
            if attempt > policy.attempts {
                let why = "the outcome of the last attempt is unknown";
                return Err(self.exhausted(step, attempt - 1, why).into());
            }
            self.may_attempt(step)?;
            self.make_attempt(step, policy, attempt, &mut history, prepare, no_yes)
                .await
        };
        match went.await {
            Err(Failure::Step(StepFailure::Cancelled { .. })) => Err(self.take_back(step, policy, &history).into()),
            Err(Failure::Step(StepFailure::Expired { .. })) => match history.doubtful() {
                Some(past) if matches!(policy.on_unknown, OnUnknown::AwaitThenRepeat { .. }) => {
                    decode(self.presume(step, past), None)
                }
                _ => {
                    self.events.push(Event::Expired { step: step.to_owned() });
                    Err(StepFailure::Expired { step }.into())
                }
            },
            went => went,
        }
    }

    /// Refuses to begin an attempt for a run that is cancelled or whose time is over.
    fn may_attempt(&mut self, step: &'static str) -> Result<(), StepFailure> {
        if self.cancelled.is_some() {
            return Err(StepFailure::Cancelled { step });
        }
        if self.time_left() == Some(Duration::ZERO) {
            return Err(StepFailure::Expired { step });
        }
        Ok(())
    }

    /// What is left until the run expires, by the database's clock.
    fn time_left(&self) -> Option<Duration> {
        let left = (self.expires_at? - self.claim.at).to_std().unwrap_or(Duration::ZERO);
        Some(left.saturating_sub(self.claimed.elapsed()))
    }

    /// A run that has begun can only expire: it is not too late for its start any more.
    fn note_begun(&mut self) {
        self.expires_at = self.row.expires_at;
    }

    async fn make_attempt<'a, P, T, F>(
        &mut self,
        step: &'static str,
        policy: &RetryPolicy,
        attempt: u32,
        history: &mut History,
        prepare: impl FnOnce(Vec<PastAttempt>) -> F + Send,
        no_yes: fn(&P) -> Submission,
    ) -> Result<Attempted<P, T>, Failure>
    where
        P: Serialize + DeserializeOwned + Send,
        T: Serialize + DeserializeOwned + Send,
        F: Future<Output = Result<Prepared<'a, P, T>, AttemptError>> + Send,
    {
        let mut took_ms = None;
        let error = match prepare(history.past.clone()).await {
            Ok(Prepared::Done { plan, answer }) => {
                self.note_begun();
                let recorded = Some(to_value(&plan)?);
                self.events.push(Event::Done {
                    step: step.to_owned(),
                    attempt,
                    plan: recorded,
                    answer: to_value(&answer)?,
                    took_ms: None,
                });
                return Ok(Attempted {
                    plan,
                    answer: Some(answer),
                });
            }
            Ok(Prepared::Call { plan, call }) => {
                let recorded = to_value(&plan)?;
                self.events.push(Event::Intent {
                    step: step.to_owned(),
                    attempt,
                    plan: recorded.clone(),
                });
                self.write_intent(step, attempt, policy.queue).await?;
                self.note_begun();
                history.past.push(PastAttempt {
                    attempt,
                    plan: recorded,
                    outcome: Outcome::Unknown,
                });
                // What was waited for an earlier attempt does not count for this one.
                history.left = None;
                let began = Instant::now();
                let called = call.await;
                took_ms = u64::try_from(began.elapsed().as_millis()).ok();
                match called {
                    Ok(answer) => {
                        self.events.push(Event::Done {
                            step: step.to_owned(),
                            attempt,
                            plan: None,
                            answer: to_value(&answer)?,
                            took_ms,
                        });
                        return Ok(Attempted {
                            plan,
                            answer: Some(answer),
                        });
                    }
                    Err(error) => {
                        self.pending.effects.extend(no_yes(&plan).effects);
                        error
                    }
                }
            }
            // Without a call there is nothing that could have been done.
            Err(AttemptError::Unknown { why }) => AttemptError::again(why),
            Err(error) => error,
        };
        self.note_begun();
        match error {
            AttemptError::Never { why } => {
                self.events
                    .push(failed(step, attempt, Outcome::Never, &why, true, took_ms));
                Err(StepFailure::Never { step, why }.into())
            }
            AttemptError::Again { why, after } => {
                history.past.retain(|past| past.attempt != attempt);
                if attempt < policy.attempts {
                    self.events
                        .push(failed(step, attempt, Outcome::Refused, &why, false, took_ms));
                }
                self.back_off(step, policy, attempt, why, after).await
            }
            AttemptError::Unknown { why } => {
                self.events
                    .push(failed(step, attempt, Outcome::Unknown, &why, false, took_ms));
                match self.resolve_unknown(step, policy, attempt, history).await? {
                    Some(plan) => decode(plan, None),
                    // It may be repeated, as a new attempt of a new claim.
                    None => self.back_off(step, policy, attempt, why, None).await,
                }
            }
        }
    }

    /// Returns when the intent is on record and the call may be made. A run that was paused, cancelled or has expired
    /// by then calls nobody, and the record says so.
    async fn write_intent(&mut self, step: &'static str, attempt: u32, queue: Queue) -> Result<(), Failure> {
        #[cfg(feature = "simulation")]
        if crate::simulation::sabotage().intent {
            return Ok(());
        }
        let control = self.write(Then::Continue).await?.control;
        if self.lease.as_ref().is_some_and(|lease| !lease.is_kept()) {
            return Err(Error::LeaseLost.into());
        }
        if control.is_none() && self.time_left() != Some(Duration::ZERO) {
            return Ok(());
        }
        self.events.push(Event::Withdrawn {
            step: step.to_owned(),
            attempt,
        });
        match control {
            None => Ok(self.may_attempt(step)?),
            Some(Control::Cancelled) => {
                self.cancelled.get_or_insert_default();
                Err(StepFailure::Cancelled { step }.into())
            }
            // It goes on from here once the pause ends.
            Some(Control::Paused) => {
                let then = Then::Sleep {
                    delay: Duration::ZERO,
                    queue,
                    attempt: attempt - 1,
                    last_error: None,
                    died: false,
                };
                self.park(step, then).await
            }
        }
    }

    /// Parks the run until the attempt after this one is due, if the policy allows another.
    async fn back_off<T>(
        &mut self,
        step: &'static str,
        policy: &RetryPolicy,
        attempt: u32,
        why: String,
        after: Option<Duration>,
    ) -> Result<T, Failure> {
        if attempt >= policy.attempts {
            return Err(self.exhausted(step, attempt, &why).into());
        }
        let delay = after.unwrap_or_else(|| policy.backoff.after(attempt));
        let then = Then::Sleep {
            // A run that expires meanwhile is to learn it then.
            delay: delay.min(self.time_left().unwrap_or(Duration::MAX)),
            queue: policy.queue,
            attempt,
            last_error: Some(why),
            died: false,
        };
        self.park(step, then).await
    }

    fn exhausted(&mut self, step: &'static str, attempts: u32, why: &str) -> StepFailure {
        self.events
            .push(failed(step, attempts, Outcome::Refused, why, true, None));
        StepFailure::Exhausted {
            step,
            attempts,
            last_error: why.to_owned(),
        }
    }

    /// Decides about an attempt that may have been done: its plan if it was, nothing if it is to be made again. What is
    /// awaited is awaited for the policy's patience, and twice as long with each attempt, up to the back-off.
    async fn resolve_unknown(
        &mut self,
        step: &'static str,
        policy: &RetryPolicy,
        attempt: u32,
        history: &History,
    ) -> Result<Option<Value>, Failure> {
        let OnUnknown::AwaitThenRepeat {
            signal,
            patience,
            queue,
            ..
        } = policy.on_unknown
        else {
            if matches!(policy.on_unknown, OnUnknown::GiveUp) {
                return Err(self.abandon(step, attempt).into());
            }
            self.events.push(Event::Resent {
                step: step.to_owned(),
                attempt,
            });
            return Ok(None);
        };
        let is_last = attempt >= policy.attempts;
        if history.left == Some(Duration::ZERO) {
            self.may_attempt(step)?;
            if let Some(past) = history.doubtful().filter(|_| is_last) {
                return Ok(Some(self.presume(step, past)));
            }
            self.events.push(Event::Resent {
                step: step.to_owned(),
                attempt,
            });
            let why = "no proof has come of an attempt whose outcome is unknown".to_owned();
            return self.back_off(step, policy, attempt, why, Some(Duration::ZERO)).await;
        }
        let (mut new, left) = match history.left {
            Some(left) => (None, left),
            None => {
                let most = if is_last {
                    patience
                } else {
                    policy.backoff.after(attempt).max(patience)
                };
                let grown = patience.saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1)));
                let until = grown
                    .min(most)
                    .min(self.time_left().unwrap_or(Duration::MAX).max(patience));
                (Some(until), until)
            }
        };
        loop {
            let (n, payload) = self.park_for_signal(step, signal, new.take(), left, queue).await?;
            // Only looked at here; the story's own wait receives it.
            self.inbox.push(SignalRow {
                run_id: self.row.id,
                name: signal.to_owned(),
                n,
                payload,
            });
            if let Some(plan) = self.proved(step, policy, history) {
                return Ok(Some(plan));
            }
        }
    }

    fn presume(&mut self, step: &'static str, past: &PastAttempt) -> Value {
        self.events.push(Event::Presumed {
            step: step.to_owned(),
            attempt: past.attempt,
        });
        past.plan.clone()
    }

    /// The plan of the attempt that was done, whatever its caller was told, once a signal is there that proves it: the
    /// newest that the signal is about, those of unknown outcome first. A signal that is about none proves nothing.
    fn proved(&mut self, step: &'static str, policy: &RetryPolicy, history: &History) -> Option<Value> {
        let OnUnknown::AwaitThenRepeat { signal, proves, .. } = policy.on_unknown else {
            return None;
        };
        let newest_doubtful = history.doubtful().map(|past| past.attempt);
        let is_doubtful = |past: &&PastAttempt| past.outcome == Outcome::Unknown;
        let made = || history.past.iter().rev().filter(|past| !past.plan.is_null());
        let done = self.new_in_inbox(signal).find_map(|row| {
            let is_done = |past: &&PastAttempt| match proves(&past.plan, &row.payload) {
                Proof::None => false,
                Proof::InVain => newest_doubtful.is_none_or(|newest| past.attempt >= newest),
                Proof::Done => true,
            };
            made()
                .filter(is_doubtful)
                .find(is_done)
                .or_else(|| made().find(is_done))
        })?;
        self.events.push(Event::Confirmed {
            step: step.to_owned(),
            attempt: done.attempt,
        });
        Some(done.plan.clone())
    }

    /// How a step ends that people have cancelled. Where an attempt may have been done, and that matters, it was not
    /// cancelled in time for all that anybody knows.
    fn take_back(&mut self, step: &'static str, policy: &RetryPolicy, history: &History) -> StepFailure {
        match history.doubtful() {
            Some(past) if !matches!(policy.on_unknown, OnUnknown::Repeat) => self.abandon(step, past.attempt),
            _ => self.call_off(step),
        }
    }

    fn abandon(&mut self, step: &'static str, attempt: u32) -> StepFailure {
        self.events.push(Event::Abandoned {
            step: step.to_owned(),
            attempt,
        });
        StepFailure::Unknown { step, attempt }
    }
}

fn failed(step: &str, attempt: u32, outcome: Outcome, why: &str, last: bool, took_ms: Option<u64>) -> Event {
    Event::Failed {
        step: step.to_owned(),
        attempt,
        outcome,
        why: why.to_owned(),
        last,
        took_ms,
    }
}

fn to_value<T: Serialize>(value: &T) -> Result<Value, Error> {
    Ok(serde_json::to_value(value)?)
}

fn decode<P: DeserializeOwned, T: DeserializeOwned>(
    plan: Value,
    answer: Option<Value>,
) -> Result<Attempted<P, T>, Failure> {
    let plan = serde_json::from_value(plan).map_err(Error::from)?;
    let answer = answer.map(serde_json::from_value).transpose().map_err(Error::from)?;
    Ok(Attempted { plan, answer })
}
