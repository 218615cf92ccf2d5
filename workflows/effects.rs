//! What stories change in our tables: each effect is applied in batches, in the transaction that records its step.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use herald_engine::{Effect, EffectError, EffectResult, Locked, MachineFails, Transient};
use herald_message::status::Status;
use herald_store::{
    callbacks::{self as events, Lane},
    complaints::{self, NewComplaint},
    notifications::{self, Marked, NewNotification, Sent, Settled, Settlement},
    received::{self, NewReceivedText},
    sealed::Sealer,
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{callbacks, measures};

/// A message is accepted.
pub struct Insert(pub NewNotification);

impl Effect for Insert {
    async fn apply(batch: &[&Self], conn: &mut PgConnection) -> EffectResult {
        let rows: Vec<&NewNotification> = batch.iter().map(|insert| &insert.0).collect();
        notifications::insert(conn, &rows).await.map_err(told)?;
        Ok(())
    }
}

/// A provider has taken it.
pub struct MarkSending(pub Sent);

impl Effect for MarkSending {
    async fn apply(batch: &[&Self], conn: &mut PgConnection) -> EffectResult {
        let sent: Vec<&Sent> = batch.iter().map(|mark| &mark.0).collect();
        let marked = notifications::mark_sending(conn, &sent).await.map_err(told)?;
        measure_waits(&sent, &marked);
        Ok(())
    }
}

/// A provider has not taken a text, which has so many fragments all the same.
pub struct CountFragments {
    pub id: Uuid,
    pub fragments: i32,
}

impl Effect for CountFragments {
    async fn apply(batch: &[&Self], conn: &mut PgConnection) -> EffectResult {
        let counts: Vec<(Uuid, i32)> = batch.iter().map(|text| (text.id, text.fragments)).collect();
        notifications::count_fragments(conn, &counts).await.map_err(told)
    }
}

/// Something happened that a service may want to be told of. It is one kind of effect and a last one: a batch locks the
/// numbers and the lanes of services once, in an order, so that batches of several workers cannot deadlock.
pub struct Happened {
    pub what: What,
    pub sealer: Arc<Sealer>,
}

/// A message that is settled by it is told to its service. One that was settled before is left as it is.
pub enum What {
    Receipt(Settlement),
    /// No receipt has come in time, or the message could not be sent while its service wanted it to be.
    TimeIsOver(Uuid),
    /// People do not want to know any more what becomes of it.
    LetGo(Uuid),
    /// A recipient has complained. A complaint that was told before is left as it is.
    Complaint(NewComplaint),
    /// Somebody has sent a text to a service. One that the provider repeats is left as it is.
    ReceivedText(NewReceivedText),
}

impl Effect for Happened {
    const LAST: bool = true;

    async fn apply(batch: &[&Self], conn: &mut PgConnection) -> EffectResult {
        let Some(Self { sealer, .. }) = batch.first() else {
            return Ok(());
        };
        let (mut receipts, mut late, mut let_go) = (Vec::new(), Vec::new(), Vec::new());
        let (mut reported, mut received) = (Vec::new(), Vec::new());
        for Self { what, .. } in batch {
            match what {
                What::Receipt(settlement) => receipts.push(settlement),
                What::TimeIsOver(id) => late.push((*id, Status::TemporaryFailure)),
                What::LetGo(id) => let_go.push((*id, Status::TemporaryFailure)),
                What::Complaint(complaint) => reported.push(complaint),
                What::ReceivedText(text) => received.push(text),
            }
        }
        let mut settled = notifications::settle(conn, &receipts).await.map_err(told)?;
        measure_receipts(&receipts, &settled);
        tell_of_unknown(&receipts, &settled);
        let late = notifications::fail(conn, &late).await.map_err(told)?;
        measures::timed_out(&late);
        settled.extend(late);
        settled.extend(notifications::fail(conn, &let_go).await.map_err(told)?);
        for settled in &settled {
            tracing::debug!(notification = %settled.id, status = %settled.status, "settled");
        }
        let complaints = complaints::insert(conn, &reported).await.map_err(told)?;
        let texts = received::insert(conn, &received).await.map_err(told)?;

        let mut events = callbacks::of_settled(conn, sealer, &settled).await.map_err(told)?;
        events.extend(
            callbacks::of_complaints(conn, sealer, &complaints)
                .await
                .map_err(told)?,
        );
        events.extend(callbacks::of_received_texts(conn, sealer, &texts).await.map_err(told)?);
        callbacks::tell(conn, &events).await.map_err(told)
    }
}

/// Somebody wanted it not to be sent, in time.
pub struct Cancel {
    pub id: Uuid,
}

impl Effect for Cancel {
    async fn apply(batch: &[&Self], conn: &mut PgConnection) -> EffectResult {
        fail(conn, batch.iter().map(|cancel| cancel.id), Status::Cancelled).await
    }
}

/// We could not send it.
pub struct GiveUp {
    pub id: Uuid,
}

impl Effect for GiveUp {
    async fn apply(batch: &[&Self], conn: &mut PgConnection) -> EffectResult {
        fail(conn, batch.iter().map(|give_up| give_up.id), Status::TechnicalFailure).await
    }
}

/// A service was told of an event, or refused for good to be told, and why.
pub struct Close {
    pub event: Uuid,
    pub refusal: Option<String>,
}

impl Effect for Close {
    async fn apply(batch: &[&Self], conn: &mut PgConnection) -> EffectResult {
        let (mut delivered, mut refused) = (Vec::new(), Vec::new());
        for Self { event, refusal } in batch {
            match refusal {
                None => delivered.push(*event),
                Some(why) => refused.push((*event, why.as_str())),
            }
        }
        events::delivered(conn, &delivered).await.map_err(told)?;
        events::undeliverable(conn, &refused).await.map_err(told)
    }
}

/// People do not want what waits in a lane to be told any more.
pub struct Abandon {
    pub lane: Lane,
    pub run: Uuid,
}

impl Effect for Abandon {
    async fn apply(batch: &[&Self], conn: &mut PgConnection) -> EffectResult {
        // A deed of people: there are few.
        for Self { lane, run } in batch {
            events::abandon(conn, *lane, *run).await.map_err(told)?;
        }
        Ok(())
    }
}

async fn fail(conn: &mut PgConnection, ids: impl Iterator<Item = Uuid>, status: Status) -> EffectResult {
    let failed: Vec<(Uuid, Status)> = ids.map(|id| (id, status)).collect();
    notifications::fail(conn, &failed).await.map_err(told)?;
    Ok(())
}

/// How long each message waited until a provider took it.
fn measure_waits(sent: &[&Sent], marked: &[Marked]) {
    let by: HashMap<Uuid, &str> = sent.iter().map(|sent| (sent.id, sent.sent_by.as_str())).collect();
    for marked in marked {
        if let (Some(provider), Some(waited)) = (by.get(&marked.id), marked.waited_ms) {
            measures::sent(provider, millis(waited));
        }
    }
}

/// How long after its send each message's receipt came.
fn measure_receipts(settlements: &[&Settlement], settled: &[Settled]) {
    let by: HashMap<Uuid, &str> = settlements
        .iter()
        .map(|settlement| (settlement.id, settlement.receipt.provider.name()))
        .collect();
    for settled in settled {
        if let (Some(provider), Some(after)) = (by.get(&settled.id), settled.sent_ms_ago) {
            measures::receipted(provider, settled.status, millis(after));
        }
    }
}

/// What a provider never documented. Only a receipt that settles a message is told of, once: whoever posts others, as
/// anybody may, does not write our log.
fn tell_of_unknown(settlements: &[&Settlement], settled: &[Settled]) {
    let mut told = HashSet::new();
    for Settlement { id, receipt, .. } in settlements {
        let has_become = |statuses: &[Status]| {
            settled
                .iter()
                .any(|settled| settled.id == *id && statuses.contains(&settled.status))
        };
        if let Some(error) = receipt.unknown_status_error()
            && has_become(&[Status::TechnicalFailure])
            && told.insert(*id)
        {
            tracing::error!(notification = %id, "{error}");
        }
        if let Some(code) = receipt.unknown_code()
            && has_become(&[Status::PermanentFailure, Status::TemporaryFailure])
            && told.insert(*id)
        {
            let provider = receipt.provider.name();
            tracing::warn!(notification = %id, provider, code, "a receipt's code is unknown");
        }
    }
}

fn millis(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

/// Tells the engine which errors of the database pass.
fn told(error: herald_store::Error) -> EffectError {
    if error.is_locked() {
        Box::new(Locked)
    } else if error.is_of_the_machine() {
        Box::new(MachineFails(error.to_string()))
    } else if error.is_transient() {
        Box::new(Transient(error.to_string()))
    } else {
        Box::new(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_is_told_what_a_failure_of_the_database_is_about() {
        let unavailable = |code: &str| told(herald_store::Error::Unavailable(code.to_owned()));
        assert!(unavailable("55P03").is::<Locked>());
        assert!(unavailable("58030").is::<MachineFails>());
        for code in ["53100", "57P01", "connection reset"] {
            assert!(unavailable(code).is::<Transient>(), "{code}");
        }
        assert!(!told(herald_store::Error::Corrupt("column 1".to_owned())).is::<Transient>());
    }
}
