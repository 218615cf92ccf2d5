//! Housekeeping of the engine's tables. All of it may be repeated, and none of it stops work.

use std::time::Duration;

use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::statements;

/// Makes the journal's and the signals' partitions for today and the days ahead. Harmless to repeat.
///
/// # Errors
/// Any error of the database.
pub async fn make_partitions(pool: &PgPool, days_ahead: u16) -> sqlx::Result<()> {
    statements::make_partitions(&mut *pool.acquire().await?, days_ahead.into()).await
}

/// Those of these ids that no live run has.
///
/// # Errors
/// Any error of the database.
pub async fn without_run(conn: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<Vec<Uuid>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    statements::without_run(conn, ids).await
}

/// What [`tidy`] took away.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Tidied {
    /// Names of partitions, each a day of the journal or of signals.
    pub partitions: Vec<String>,
    /// Rows that stood in no day's partition.
    pub strays: u64,
    pub keys: u64,
    pub firings: u64,
}

/// Rows in one transaction.
const BATCH: i64 = 5_000;

/// Forgets what began more than `keep_days` days ago and has ended: whole days of the journal and of signals, keys of
/// starts, and firings of schedules. A day in which a run began that still lives is kept.
///
/// # Errors
/// Any error of the database.
pub async fn tidy(pool: &PgPool, keep_days: u16) -> sqlx::Result<Tidied> {
    let mut tidied = Tidied::default();
    let conn = &mut *pool.acquire().await?;
    while let Some(partition) = statements::drop_partition(conn, keep_days.into()).await? {
        tidied.partitions.push(partition);
    }
    let age = Duration::from_secs(u64::from(keep_days) * 24 * 60 * 60);
    tidied.firings = statements::schedules::delete_firings(conn, age).await?;
    while let deleted @ 1.. = statements::delete_strays(conn, keep_days.into(), BATCH).await? {
        tidied.strays += deleted;
    }
    while let deleted @ 1.. = statements::delete_keys(conn, age, BATCH).await? {
        tidied.keys += deleted;
    }
    Ok(tidied)
}
