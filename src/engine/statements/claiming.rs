//! Runs change hands: claims, the renewal of leases, and what is given back.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use crate::frontier::{Bounds, Walk};

/// A run as its new owner gets it.
#[derive(Debug, Clone)]
pub(crate) struct ClaimedRow {
    pub id: Uuid,
    pub workflow: String,
    pub input: Json<Box<RawValue>>,
    pub epoch: i64,
    pub attempt: i32,
    pub deaths: i16,
    pub created_at: DateTime<Utc>,
    pub claimed_at: DateTime<Utc>,
    pub start_by: Option<DateTime<Utc>>,
    pub expires_at: Option<DateTime<Utc>>,
    pub control: Option<String>,
    pub control_reason: Option<String>,
}

/// Takes up to `limit` due runs of a queue under a new lease, as far as the queue's limits allow. A running run is due
/// when its lease has ended, so this is also how the runs of a dead worker come back. How it is done, and what was tried,
/// stands with the function, in the migrations. Nothing is told of a queue that is paused.
pub(crate) async fn claim(
    conn: &mut PgConnection,
    queue: &str,
    owner: Uuid,
    lease: Duration,
    limit: i64,
    bounds: Option<Bounds>,
) -> sqlx::Result<(Vec<ClaimedRow>, Option<Walk>)> {
    let rows = sqlx::query!(
        r#"select id, workflow, input as "input: Json<Box<RawValue>>", epoch, attempt, deaths, created_at, claimed_at,
               start_by, expires_at, control, control_reason, walked as "walked!", seen, turns_seen, ahead_seen, rest
           from engine.claim($1, $2, $3, $4, $5, $6, $7)"#,
        queue,
        owner,
        lease.as_secs_f64(),
        limit,
        bounds.map(|bounds| bounds.since),
        bounds.map(|bounds| bounds.turn),
        bounds.map(|bounds| bounds.ahead),
    )
    .fetch_all(conn)
    .await?;
    let walk = rows.first().map(|row| Walk {
        since: row.seen,
        turn: row.turns_seen,
        ahead: row.ahead_seen,
        took: Duration::from_secs_f64(row.walked.max(0.0)),
        rest: row.rest.and_then(|rest| Duration::try_from_secs_f64(rest).ok()),
    });
    let claimed = rows.into_iter().filter_map(|row| {
        Some(ClaimedRow {
            id: row.id?,
            workflow: row.workflow?,
            input: row.input?,
            epoch: row.epoch?,
            attempt: row.attempt?,
            deaths: row.deaths?,
            created_at: row.created_at?,
            claimed_at: row.claimed_at?,
            start_by: row.start_by,
            expires_at: row.expires_at,
            control: row.control,
            control_reason: row.control_reason,
        })
    });
    Ok((claimed.collect(), walk))
}

/// Where the workers of a queue are with the turns of one priority.
pub(crate) struct Front {
    /// Seconds from the earliest turn that is not taken to the present of that priority. None where that is less than one.
    pub behind: Option<f64>,
    /// No turn before it is left.
    pub seen: DateTime<Utc>,
}

/// Looks for turns that are due and not taken: from `since` on where what came before was seen, or from so long before the
/// present. `advance` is where the turns of the priority lie, in seconds from now.
pub(crate) async fn front(
    conn: &mut PgConnection,
    queue: &str,
    advance: f64,
    since: Option<DateTime<Utc>>,
    reach: Duration,
) -> sqlx::Result<Front> {
    sqlx::query_as!(
        Front,
        r#"with edge as (select now() + $2 * interval '1 second' as present)
           select extract(epoch from present - front)::float8 as behind,
               coalesce(front, present - interval '1 second') as "seen!"
           from edge, engine.front($1, coalesce($3, present - $4::float8 * interval '1 second'), present - interval '1 second') as front"#,
        queue,
        advance,
        since,
        reach.as_secs_f64(),
    )
    .fetch_one(conn)
    .await
}

/// A lease that is still held.
pub(crate) struct Kept {
    pub run: Uuid,
    /// Whether its end was moved. A row that somebody has locked, such as a batch that waits for another lock, is left for
    /// the next time: one such row must not cost the other leases.
    pub renewed: bool,
}

/// Moves the ends of leases. Those that are not told of are lost.
pub(crate) async fn renew(
    conn: &mut PgConnection,
    ids: &[Uuid],
    epochs: &[i64],
    lease: Duration,
) -> sqlx::Result<Vec<Kept>> {
    sqlx::query_as!(
        Kept,
        r#"with held as (
               select r.id from unnest($1::uuid[], $2::bigint[]) as held (id, epoch) join engine.run r using (id, epoch)
               where r.id = any ($1) and r.owner is not null
               for no key update of r skip locked),
           renewed as (
               update engine.run r set due_at = clock_timestamp() + $3::float8 * interval '1 second'
               from held where r.id = held.id and r.id = any ($1)
               returning r.id)
           select r.id as run, exists (select from renewed where renewed.id = r.id) as "renewed!"
           from unnest($1::uuid[], $2::bigint[]) as held (id, epoch) join engine.run r using (id, epoch)
           where r.id = any ($1) and r.owner is not null"#,
        ids,
        epochs,
        lease.as_secs_f64(),
    )
    .fetch_all(conn)
    .await
}

/// Gives back runs that were claimed but not begun. They were the next in their queue, and are again, also where the turns of
/// all that wait there have come long ago.
pub(crate) async fn release(conn: &mut PgConnection, ids: &[Uuid], epochs: &[i64]) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        "with queues as materialized (
             select queue, coalesce(engine.front(queue, now() - interval '12 hours', now()), now()) as front
             from (select distinct queue from engine.run where id = any ($1)) q)
         update engine.run r
         set state = 'ready', owner = null, due_at = case when r.control = 'paused' then 'infinity' else queues.front end,
             was_due = case when r.control = 'paused' then queues.front end
         from unnest($1::uuid[], $2::bigint[]) as held (id, epoch), queues
         where r.id = held.id and r.id = any ($1) and r.epoch = held.epoch and r.owner is not null
             and queues.queue = r.queue",
        ids,
        epochs,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
