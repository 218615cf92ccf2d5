//! What the house needs by the clock: tables for the days ahead, and an end for what is kept no longer.

use herald_engine::{AttemptError, Prepared};
use herald_store::{idempotency, limits, unsubscribes};

use super::{Tools, database};

/// Rows that are taken away at once.
const TIDY_BATCH: i64 = 5_000;

/// For how long a request to unsubscribe waits for its service with the reader's address, as at Notify.
const UNSUBSCRIBE_REQUEST_DAYS: i32 = 90;

impl Tools {
    /// The engine's partitions for today and the days ahead. Harmless to repeat.
    pub(crate) async fn make_partitions(&self, days_ahead: u16) -> Result<Prepared<'_, (), ()>, AttemptError> {
        herald_engine::make_partitions(&self.pool, days_ahead)
            .await
            .map_err(database)?;
        Ok(Prepared::Done { plan: (), answer: () })
    }

    /// Takes away what is remembered longer than it has to be; answers with the names of the days that went.
    pub(crate) async fn tidy(&self) -> Result<Prepared<'_, (), Vec<String>>, AttemptError> {
        let tidied = herald_engine::tidy(&self.pool, self.keep_days)
            .await
            .map_err(database)?;
        let mut conn = self.pool.acquire().await.map_err(database)?;
        limits::tidy(&mut conn).await.map_err(database)?;
        while idempotency::tidy(&mut conn, TIDY_BATCH).await.map_err(database)? > 0 {}
        Ok(Prepared::Done {
            plan: (),
            answer: tidied.partitions,
        })
    }

    /// Takes the address from requests to unsubscribe that nobody has seen to for long. Harmless to repeat.
    pub(crate) async fn archive_unsubscribe_requests(&self) -> Result<Prepared<'_, (), ()>, AttemptError> {
        let mut conn = self.pool.acquire().await.map_err(database)?;
        while unsubscribes::archive(&mut conn, UNSUBSCRIBE_REQUEST_DAYS, TIDY_BATCH)
            .await
            .map_err(database)?
            > 0
        {}
        Ok(Prepared::Done { plan: (), answer: () })
    }
}
