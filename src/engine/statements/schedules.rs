//! What is decided about the instants of schedules.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::schedule::Decision;

/// Locks the schedule's row until the transaction ends; returns up to when it is decided, and the database's now.
/// That is when the transaction began: while it waited for the lock, instants may have come that the next look finds.
pub(crate) async fn lock(conn: &mut PgConnection, name: &str) -> sqlx::Result<Option<(DateTime<Utc>, DateTime<Utc>)>> {
    let row = sqlx::query!(
        r#"select decided_until, now() as "now!" from engine.schedule where name = $1 for update"#,
        name,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| (row.decided_until, row.now)))
}

/// A schedule that is new begins now: there is nothing to catch up with.
pub(crate) async fn begin(conn: &mut PgConnection, name: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into engine.schedule (name, decided_until) values ($1, now()) on conflict do nothing",
        name,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Records decisions, each with the run that it starts; returns the instants that were not decided before.
pub(crate) async fn decide(
    conn: &mut PgConnection,
    name: &str,
    decisions: &[Decision],
    runs: &[Option<Uuid>],
) -> sqlx::Result<Vec<DateTime<Utc>>> {
    let planned: Vec<_> = decisions.iter().map(|decision| decision.planned_at).collect();
    let reasons: Vec<_> = decisions.iter().map(|decision| decision.skipped.clone()).collect();
    sqlx::query_scalar!(
        "insert into engine.firing (schedule, planned_at, outcome, reason, run_id)
         select $1, planned_at, case when reason is null then 'fired' else 'skipped' end, reason, run_id
         from unnest($2::timestamptz[], $3::text[], $4::uuid[]) as new (planned_at, reason, run_id)
         on conflict do nothing
         returning planned_at",
        name,
        &planned,
        &reasons as &[Option<String>],
        runs as &[Option<Uuid>],
    )
    .fetch_all(conn)
    .await
}

/// Never back: what is decided stays so.
pub(crate) async fn decided(conn: &mut PgConnection, name: &str, until: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query!(
        "update engine.schedule set decided_until = $2 where name = $1 and decided_until < $2",
        name,
        until,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Forgets firings that were planned longer ago than this; what was decided stays decided.
pub(crate) async fn delete_firings(conn: &mut PgConnection, age: Duration) -> sqlx::Result<u64> {
    let deleted = sqlx::query!(
        "delete from engine.firing where planned_at < now() - $1::float8 * interval '1 second'",
        age.as_secs_f64(),
    )
    .execute(conn)
    .await?;
    Ok(deleted.rows_affected())
}
