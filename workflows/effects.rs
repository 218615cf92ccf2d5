//! What stories change in our tables: each effect is applied in batches, in the transaction that records its step.

use herald_engine::{Effect, EffectError, EffectResult, Transient};

use herald_message::{receipt::Receipt, status::Status};
use herald_store::{
    complaints::{self, NewComplaint},
    notifications::{self, NewNotification, Sent, Settlement},
    received::{self, NewReceivedText},
};
use sqlx::PgConnection;
use uuid::Uuid;

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
        notifications::mark_sending(conn, &sent).await.map_err(told)?;
        Ok(())
    }
}

/// A receipt has come. A message that is settled already is left as it is.
pub struct Settle {
    pub id: Uuid,
    pub receipt: Receipt,
    pub billable_units: Option<i32>,
}

impl Effect for Settle {
    async fn apply(batch: &[&Self], conn: &mut PgConnection) -> EffectResult {
        let settlements: Vec<Settlement> = batch
            .iter()
            .map(|settle| Settlement {
                id: settle.id,
                receipt: settle.receipt.clone(),
                billable_units: settle.billable_units,
            })
            .collect();
        for settled in notifications::settle(conn, &settlements).await.map_err(told)? {
            tracing::debug!(notification = %settled.id, status = %settled.status, "settled");
        }
        Ok(())
    }
}

/// A recipient has complained. A complaint that was told before is left as it is.
pub struct KeepComplaint(pub NewComplaint);

impl Effect for KeepComplaint {
    async fn apply(batch: &[&Self], conn: &mut PgConnection) -> EffectResult {
        let complaints: Vec<NewComplaint> = batch.iter().map(|keep| keep.0.clone()).collect();
        complaints::insert(conn, &complaints).await.map_err(told)?;
        Ok(())
    }
}

/// Somebody has sent a text to a service. One that the provider repeats is left as it is.
pub struct KeepReceivedText(pub NewReceivedText);

impl Effect for KeepReceivedText {
    async fn apply(batch: &[&Self], conn: &mut PgConnection) -> EffectResult {
        let texts: Vec<&NewReceivedText> = batch.iter().map(|keep| &keep.0).collect();
        received::insert(conn, &texts).await.map_err(told)?;
        Ok(())
    }
}

/// No receipt has come in time.
pub struct TimeOut {
    pub id: Uuid,
}

impl Effect for TimeOut {
    async fn apply(batch: &[&Self], conn: &mut PgConnection) -> EffectResult {
        fail(conn, batch.iter().map(|timeout| timeout.id), Status::TemporaryFailure).await
    }
}

/// It could not be sent while its service wanted it to be.
pub struct Expire {
    pub id: Uuid,
}

impl Effect for Expire {
    async fn apply(batch: &[&Self], conn: &mut PgConnection) -> EffectResult {
        fail(conn, batch.iter().map(|expire| expire.id), Status::TemporaryFailure).await
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

async fn fail(conn: &mut PgConnection, ids: impl Iterator<Item = Uuid>, status: Status) -> EffectResult {
    let failed: Vec<(Uuid, Status)> = ids.map(|id| (id, status)).collect();
    notifications::fail(conn, &failed).await.map_err(told)?;
    Ok(())
}

/// Tells the engine which errors of the database pass.
fn told(error: herald_store::Error) -> EffectError {
    if error.is_transient() {
        Box::new(Transient(error.to_string()))
    } else {
        Box::new(error)
    }
}
