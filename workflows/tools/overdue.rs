//! Messages that nobody follows any more.

use std::time::Duration;

use herald_engine::{AttemptError, Prepared};
use herald_message::status::Status;
use herald_store::{
    notifications::{self, Overdue},
    services,
};
use serde::{Deserialize, Serialize};
use sqlx::Connection;
use uuid::Uuid;

use super::{Tools, database};
use crate::{callbacks, follow::HOURS_72, measures};

/// Messages that are looked at in one step.
const AT_ONCE: i64 = 5_000;

/// What was looked at on so many nights before is not looked at again, so that a few nights may be missed.
const A_WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// How many messages were settled.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct TimedOut {
    pub temporary_failure: u64,
    pub technical_failure: u64,
}

impl Tools {
    /// Settles messages of more than three days that are with a provider, and those that are still to be sent and have no
    /// run. Harmless to repeat.
    pub(crate) async fn time_out_sending(&self) -> Result<Prepared<'_, (), TimedOut>, AttemptError> {
        let mut timed_out = TimedOut::default();
        let services = async { services::ids(&mut *self.pool.acquire().await?).await };
        for service in services.await.map_err(database)? {
            let mut place = None;
            loop {
                let mut conn = self.pool.acquire().await.map_err(database)?;
                let ages = (HOURS_72, HOURS_72 + A_WEEK);
                let overdue = notifications::overdue(&mut conn, service, ages, place, AT_ONCE)
                    .await
                    .map_err(database)?;
                drop(conn);
                self.give_up(&overdue, &mut timed_out).await?;
                place = overdue.place;
                if place.is_none() {
                    break;
                }
            }
        }
        Ok(Prepared::Done {
            plan: (),
            answer: timed_out,
        })
    }

    async fn give_up(&self, overdue: &Overdue, timed_out: &mut TimedOut) -> Result<(), AttemptError> {
        if overdue.sent.is_empty() && overdue.unsent.is_empty() {
            return Ok(());
        }
        let mut conn = self.pool.acquire().await.map_err(database)?;
        let forgotten = herald_engine::without_run(&mut conn, &overdue.unsent)
            .await
            .map_err(database)?;
        let mut transaction = conn.begin().await.map_err(database)?;
        let failed = |ids: &[Uuid], status: Status| ids.iter().map(|id| (*id, status)).collect::<Vec<_>>();
        let unsent = notifications::fail(&mut transaction, &failed(&forgotten, Status::TechnicalFailure))
            .await
            .map_err(database)?;
        let sent = notifications::fail(&mut transaction, &failed(&overdue.sent, Status::TemporaryFailure))
            .await
            .map_err(database)?;
        let events = callbacks::of_settled(&mut transaction, &self.sealer, &sent)
            .await
            .map_err(database)?;
        callbacks::tell(&mut transaction, &events).await.map_err(database)?;
        transaction.commit().await.map_err(database)?;
        measures::timed_out(&sent);
        timed_out.technical_failure += unsent.len() as u64;
        timed_out.temporary_failure += sent.len() as u64;
        Ok(())
    }
}
