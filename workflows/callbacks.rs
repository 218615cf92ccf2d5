//! The way in for events that services are told of. An event is written, with its service's next number, in the
//! transaction of what happened; where no run tells the events of its lane yet, one is started there too.

use std::collections::BTreeSet;

use herald_engine::{Actor, NewRun};
use herald_message::callback::{Complaint, DeliveryStatus, InboundSms};
use herald_store::{
    CallbackType, Error, Result,
    callbacks::{self, Lane, NewEvent, Rest, Selection},
    notifications::Settled,
    sealed::{Sealer, context},
};
use serde_json::json;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::{call_service::CallService, retry::TELLING_PATIENCE};

/// Events in one transaction of a replay.
const REPLAYED_AT_ONCE: i64 = 500;

/// What is to be told of messages that were settled: their final status, where their service wants to know.
pub(crate) async fn of_settled(conn: &mut PgConnection, sealer: &Sealer, settled: &[Settled]) -> Result<Vec<NewEvent>> {
    let is_final = |settled: &&Settled| settled.status.is_completed();
    let ids: Vec<Uuid> = settled.iter().filter(is_final).map(|settled| settled.id).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let wanted = callbacks::delivery_statuses(conn, &ids).await?;
    let event = |(service_id, status): (Uuid, DeliveryStatus)| {
        let body = status.body();
        event(sealer, service_id, CallbackType::DeliveryStatus, &body)
    };
    Ok(wanted.into_iter().map(event).collect())
}

/// What is to be told of complaints that were recorded.
pub(crate) async fn of_complaints(conn: &mut PgConnection, sealer: &Sealer, ids: &[Uuid]) -> Result<Vec<NewEvent>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let wanted = callbacks::complaints(conn, ids).await?;
    let event = |(service_id, complaint): (Uuid, Complaint)| {
        event(sealer, service_id, CallbackType::Complaint, &complaint.body())
    };
    Ok(wanted.into_iter().map(event).collect())
}

/// What is to be told of texts that were received.
pub(crate) async fn of_received_texts(conn: &mut PgConnection, sealer: &Sealer, ids: &[Uuid]) -> Result<Vec<NewEvent>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut events = Vec::new();
    for text in callbacks::received_texts(conn, ids).await? {
        let content = sealer.open(context::RECEIVED_TEXT, &text.content);
        let told = InboundSms {
            id: text.id,
            source_number: text.user_number,
            destination_number: text.notify_number,
            message: content.map_err(|error| Error::Corrupt(error.to_string()))?,
            date_received: text.created_at,
        };
        events.push(event(sealer, text.service_id, CallbackType::InboundSms, &told.body()));
    }
    Ok(events)
}

/// Writes events, in this order, and sees to it that a run tells them. In the transaction of what happened, once, and as
/// the last thing there that takes locks.
///
/// # Errors
/// Any error of the database.
pub async fn tell(conn: &mut PgConnection, events: &[NewEvent]) -> Result<()> {
    callbacks::add(conn, events, TELLING_PATIENCE).await?;
    begin(conn, events.iter().map(|event| event.lane).collect()).await
}

fn event(sealer: &Sealer, service_id: Uuid, callback_type: CallbackType, body: &str) -> NewEvent {
    NewEvent {
        lane: Lane {
            service_id,
            callback_type,
        },
        payload: sealer.seal(context::CALLBACK_PAYLOAD, body),
    }
}

/// Starts a run for each of these lanes that has none.
async fn begin(conn: &mut PgConnection, lanes: BTreeSet<Lane>) -> Result<()> {
    if lanes.is_empty() {
        return Ok(());
    }
    let mut runs = Vec::with_capacity(lanes.len());
    for lane in lanes {
        runs.push((lane, run(lane)?));
    }
    let wanted: Vec<(Lane, Uuid)> = runs.iter().map(|(lane, run)| (*lane, run.id())).collect();
    let taken = callbacks::take(conn, &wanted).await?;
    runs.retain(|(lane, _)| taken.contains(lane));
    let runs: Vec<NewRun> = runs.into_iter().map(|(_, run)| run).collect();
    Ok(herald_engine::start(conn, &runs).await?)
}

fn run(lane: Lane) -> Result<NewRun> {
    let run = NewRun::of(&CallService { lane }).map_err(|error| Error::Invalid(error.to_string()))?;
    Ok(run.of_tenant(lane.service_id))
}

/// Starts runs for lanes in which something waits and that have none.
pub(crate) async fn pick_up(pool: &PgPool) -> Result<()> {
    let mut transaction = pool.begin().await?;
    let lanes = callbacks::stranded(&mut transaction).await?;
    begin(&mut transaction, lanes.into_iter().collect()).await?;
    Ok(transaction.commit().await?)
}

/// Takes a lane from its run, and gives it to a new one if anything waits.
pub(crate) async fn hand_on(pool: &PgPool, lane: Lane, from: Uuid) -> Result<()> {
    let successor = run(lane)?;
    let mut transaction = pool.begin().await?;
    let rest = callbacks::rest(&mut transaction, lane, from, successor.id()).await?;
    if rest == Rest::HandedOn {
        herald_engine::start(&mut transaction, &[successor]).await?;
    }
    Ok(transaction.commit().await?)
}

/// Tells undeliverable events once more, each service's in order, and says how many. In batches, each with its row in
/// the audit log; `progress` hears how many it were so far.
///
/// # Errors
/// Any error of the database. What was done before it stays done.
pub async fn replay(pool: &PgPool, selection: &Selection, actor: &Actor, progress: impl Fn(usize)) -> Result<usize> {
    // What fails again meanwhile is not replayed for ever.
    let until = callbacks::now(&mut *pool.acquire().await?).await?;
    let target = json!(selection);
    let mut replayed = 0;
    loop {
        let mut transaction = pool.begin().await?;
        let conn = &mut *transaction;
        let lanes = callbacks::replay(conn, selection, until, TELLING_PATIENCE, REPLAYED_AT_ONCE).await?;
        if lanes.is_empty() {
            return Ok(replayed);
        }
        replayed += lanes.len();
        herald_engine::audit(conn, actor, "replay_callbacks", &target, lanes.len()).await?;
        begin(conn, lanes.into_iter().collect()).await?;
        transaction.commit().await?;
        progress(replayed);
    }
}
