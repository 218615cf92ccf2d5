//! Calls to services.

use std::time::{Duration, Instant};

use futures::FutureExt;
use herald_engine::{AttemptError, Outcome, PastAttempt, Prepared};
use herald_message::callback::signing_key;
use herald_providers::callbacks::{Call, Refusal};
use herald_store::{
    callbacks::{self as events, Lane, Waiting},
    sealed::{OpenError, Sealed, Sealer, context},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Tools, database, in_time};
use crate::{callbacks, retry};

/// What a service is called about; in the journal before the call.
#[derive(Debug, Serialize, Deserialize)]
pub struct Event {
    pub id: Uuid,
    pub sequence: i64,
    /// The one after it, called about at once should the endpoint fail at this one again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Uuid>,
    /// Former versions called about the one after it in a call of its own; this is then the first.
    #[serde(default, skip_serializing)]
    pub instead_of: Option<Uuid>,
}

/// What the service said.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Answer {
    /// It failed at the event, and took the next one.
    Skipped { took: Uuid },
    /// Why it will not be told of the event; none when it was.
    Known(Option<String>),
}

impl Tools {
    /// Calls about the first event of the lane that waits; nothing where none does, or the lane is another run's. Where
    /// the endpoint has failed for half an hour, at this event too, the next failure is followed at once by a call about
    /// the second, and if that was taken by one more about the first: they tell whether the endpoint or the event is ill.
    /// Such an endpoint is not waited for beyond the day that each event has, and one that fails twice not beyond two.
    pub(crate) async fn call_service<'a>(
        &'a self,
        lane: Lane,
        run: Uuid,
        done: &[Uuid],
        past: Vec<PastAttempt>,
    ) -> Result<Prepared<'a, Option<Event>, Answer>, AttemptError> {
        let failures = past.iter().filter(|past| was_refused(past)).count();
        let mut conn = self.pool.acquire().await.map_err(database)?;
        let first = events::next(&mut conn, lane, run, done);
        let mut first = in_time(first).await.map_err(database)?;
        let overdue = match failures {
            0 | 1 => Duration::MAX,
            _ if retry::is_long(failures) => Duration::ZERO,
            _ => retry::TELLING_PATIENCE,
        };
        if first
            .as_ref()
            .is_some_and(|first| first.overdue >= overdue.as_secs_f64())
        {
            let late = events::give_up_late(&mut conn, lane, overdue).await.map_err(database)?;
            tracing::warn!(service = %lane.service_id, kind = %lane.callback_type, events = late, "undeliverable");
            let next = events::next(&mut conn, lane, run, done);
            first = in_time(next).await.map_err(database)?;
        }
        let Some(first) = first else {
            let (plan, answer) = (None, Answer::Known(None));
            return Ok(Prepared::Done { plan, answer });
        };
        let mut second = None;
        if retry::is_long(failures) && first.failures > 0 {
            let skipped = [done, &[first.id]].concat();
            let next = events::next(&mut conn, lane, run, &skipped);
            second = in_time(next).await.map_err(database)?;
        }
        drop(conn);
        // One that cannot be called about tells nothing of the endpoint.
        let second = second.and_then(|second| self.prepare_call(&second).ok());
        let id = first.id;
        let plan = Some(Event {
            id,
            sequence: first.sequence,
            next: second.as_ref().map(|second| second.id),
            instead_of: None,
        });
        let call = match self.prepare_call(&first) {
            Ok(call) => call,
            Err(Unprepared::NotYet(why)) => return Err(AttemptError::again(why)),
            Err(Unprepared::Never(why)) => {
                let answer = Answer::Known(Some(why));
                return Ok(Prepared::Done { plan, answer });
            }
        };
        let called = async move {
            match self.call_measured(lane, &call).await {
                Ok(()) => Ok(Answer::Known(None)),
                Err(Refusal::Never { why }) => {
                    tracing::warn!(service = %lane.service_id, kind = %lane.callback_type, event = %id, why, "refused for good");
                    Ok(Answer::Known(Some(why)))
                }
                Err(Refusal::Again { why, mut after }) => {
                    // Who asks to be left alone says that it is not the event.
                    if let Some(second) = second.filter(|_| after.is_none())
                        && self.call_measured(lane, &second).await.is_ok()
                    {
                        // The endpoint may have just recovered, or half of it be ill.
                        match self.call_measured(lane, &call).await {
                            Ok(()) => return Ok(Answer::Known(None)),
                            Err(Refusal::Again { after: Some(later), .. }) => after = Some(later),
                            Err(_) => {
                                tracing::warn!(service = %lane.service_id, kind = %lane.callback_type, event = %id, why, "undeliverable: the next one was taken");
                                return Ok(Answer::Skipped { took: second.id });
                            }
                        }
                    }
                    self.note_failure(id, &why).await;
                    let back_off = retry::calling_after(failures);
                    let after = Some(after.map_or(back_off, |after| after.max(back_off)));
                    Err(AttemptError::Again { why, after })
                }
            }
        };
        Ok(Prepared::Call {
            plan,
            call: called.boxed(),
        })
    }

    #[expect(clippy::disallowed_methods, reason = "measured, not told to the story")]
    async fn call_measured(&self, lane: Lane, call: &Call) -> Result<(), Refusal> {
        let began = Instant::now();
        let called = self.callbacks.call(call).await;
        herald_metrics::service_called(lane.callback_type.as_str(), called.is_ok(), began.elapsed());
        called
    }

    /// Lets go of a lane. It is done in the call, so that what the run has changed is written before.
    pub(crate) async fn rest(&self, lane: Lane, run: Uuid) -> Result<Prepared<'_, (), ()>, AttemptError> {
        let call = async move {
            in_time(callbacks::hand_on(&self.pool, lane, run))
                .await
                .map_err(database)
        };
        let (plan, call) = ((), call.boxed());
        Ok(Prepared::Call { plan, call })
    }

    /// Frees lanes whose run has failed or was put away, starts one where something waits and none is, and forgets what has been undeliverable for long.
    pub(crate) async fn tidy_callbacks(&self) -> Result<Prepared<'_, (), ()>, AttemptError> {
        let mut conn = self.pool.acquire().await.map_err(database)?;
        let held = events::held(&mut conn).await.map_err(database)?;
        let runs: Vec<Uuid> = held.iter().map(|(_, run)| *run).collect();
        let alive = herald_engine::alive(&mut conn, &runs).await.map_err(database)?;
        drop(conn);
        for (lane, run) in held.into_iter().filter(|(_, run)| !alive.contains(run)) {
            tracing::error!(service = %lane.service_id, kind = %lane.callback_type, %run, "its run is gone or has failed; another one goes on");
            callbacks::hand_on(&self.pool, lane, run).await.map_err(database)?;
        }
        callbacks::pick_up(&self.pool).await.map_err(database)?;
        let mut conn = self.pool.acquire().await.map_err(database)?;
        events::tidy(&mut conn, self.keep_undeliverable_days)
            .await
            .map_err(database)?;
        let (plan, answer) = ((), ());
        Ok(Prepared::Done { plan, answer })
    }

    fn prepare_call(&self, event: &Waiting) -> Result<Call, Unprepared> {
        let Some(endpoint) = &event.endpoint else {
            return Err(Unprepared::Never(
                "the service does not want to be called any more".to_owned(),
            ));
        };
        let open = |context, sealed: &Sealed| open(&self.sealer, context, sealed);
        let signing_secret = endpoint.signing_secret.as_ref();
        let signing_secret = signing_secret
            .map(|sealed| open(context::CALLBACK_SIGNING_SECRET, sealed))
            .transpose()?;
        let malformed = || Unprepared::Never("the signing secret is malformed".to_owned());
        let signing_key = signing_secret
            .map(|secret| signing_key(&secret).ok_or_else(malformed))
            .transpose()?;
        Ok(Call {
            id: event.id,
            sequence: event.sequence,
            bearer_token: open(context::CALLBACK_TOKEN, &endpoint.bearer_token)?.into(),
            body: open(context::CALLBACK_PAYLOAD, &event.payload)?,
            url: endpoint.url.clone(),
            signing_key,
        })
    }

    /// For people who look at what waits; a failure of it changes nothing.
    async fn note_failure(&self, id: Uuid, why: &str) {
        let noted = async { events::failed_once(&mut *self.pool.acquire().await?, id, why).await };
        if let Err(error) = in_time(noted).await {
            tracing::warn!(event = %id, %error, "a failed call could not be noted");
        }
    }
}

/// Why there is no call.
enum Unprepared {
    NotYet(String),
    Never(String),
}

fn open(sealer: &Sealer, context: &str, sealed: &Sealed) -> Result<String, Unprepared> {
    sealer.open(context, sealed).map_err(|error| {
        let why = format!("{context} cannot be opened: {error}");
        match error {
            // A key that is missing here may be known to a worker with other settings.
            OpenError::UnknownKey(_) => Unprepared::NotYet(why),
            OpenError::Forged | OpenError::Form => Unprepared::Never(why),
        }
    })
}

/// Whether it was the service that failed, and not a look at our own database, nor a worker that died.
fn was_refused(past: &PastAttempt) -> bool {
    past.outcome == Outcome::Refused && !past.plan.is_null()
}
