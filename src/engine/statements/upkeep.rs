//! Partitions for the days ahead, and an end for what is old.

use std::time::Duration;

use sqlx::PgConnection;
use uuid::Uuid;

pub(crate) async fn make_partitions(conn: &mut PgConnection, days_ahead: i32) -> sqlx::Result<()> {
    sqlx::query!("select engine.make_partitions($1)", days_ahead)
        .execute(conn)
        .await?;
    Ok(())
}

/// Drops the oldest day that is not needed any more; returns the partition's name.
pub(crate) async fn drop_partition(conn: &mut PgConnection, keep_days: i32) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!("select engine.drop_partition($1)", keep_days)
        .fetch_one(conn)
        .await
}

/// Deletes old rows of runs that have ended from the default partitions, where they are when nobody made their day's: a
/// bounded number of each.
pub(crate) async fn delete_strays(conn: &mut PgConnection, keep_days: i32, limit: i64) -> sqlx::Result<u64> {
    let journal = sqlx::query!(
        "delete from engine.journal_default
         where ctid = any (array(
             select j.ctid from engine.journal_default j
             where run_id < engine.first_id_of((now() at time zone 'utc')::date - $1::int)
                 and not exists (select from engine.run r where r.id = j.run_id)
             limit $2))",
        keep_days,
        limit,
    )
    .execute(&mut *conn)
    .await?;
    let signals = sqlx::query!(
        "delete from engine.signal_default
         where ctid = any (array(
             select s.ctid from engine.signal_default s
             where run_id < engine.first_id_of((now() at time zone 'utc')::date - $1::int)
                 and not exists (select from engine.run r where r.id = s.run_id)
             limit $2))",
        keep_days,
        limit,
    )
    .execute(conn)
    .await?;
    Ok(journal.rows_affected() + signals.rows_affected())
}

/// Forgets keys of starts that are older than this, a bounded number.
pub(crate) async fn delete_keys(conn: &mut PgConnection, age: Duration, limit: i64) -> sqlx::Result<u64> {
    let deleted = sqlx::query!(
        "delete from engine.run_key
         where ctid = any (array(
             select ctid from engine.run_key where created_at < now() - $1::float8 * interval '1 second' limit $2))",
        age.as_secs_f64(),
        limit,
    )
    .execute(conn)
    .await?;
    Ok(deleted.rows_affected())
}

/// Those of these ids that no row has.
pub(crate) async fn without_run(conn: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        r#"
        select i.id as "id!" from unnest($1::uuid[]) i (id)
        where not exists (select from engine.run r where r.id = i.id)
        "#,
        ids,
    )
    .fetch_all(conn)
    .await
}
