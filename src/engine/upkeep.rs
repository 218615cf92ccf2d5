//! Housekeeping of the engine's tables.

use sqlx::PgPool;

use crate::statements;

/// Makes the journal's and the signals' partitions for today and the days ahead. Harmless to repeat.
///
/// # Errors
/// Any error of the database.
pub async fn make_partitions(pool: &PgPool, days_ahead: u16) -> sqlx::Result<()> {
    statements::make_partitions(&mut *pool.acquire().await?, days_ahead.into()).await
}
