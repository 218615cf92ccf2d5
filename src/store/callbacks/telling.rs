//! A lane as the run that tells it sees it.

use std::time::Duration;

use sqlx::PgConnection;
use uuid::Uuid;

use super::Lane;
use crate::{CallbackType, Result, sealed::Sealed};

/// Events that are given up in one statement.
const LATE_AT_ONCE: i64 = 10_000;

/// The next thing to tell.
#[derive(Clone, Debug)]
pub struct Waiting {
    pub id: Uuid,
    pub sequence: i64,
    /// Calls about it that failed.
    pub failures: usize,
    /// Seconds since its time was over; negative while it is not.
    pub overdue: f64,
    pub payload: Sealed,
    /// As it is now; none: the service does not want to be called any more.
    pub endpoint: Option<Endpoint>,
}

#[derive(Clone, Debug)]
pub struct Endpoint {
    pub url: String,
    pub bearer_token: Sealed,
    pub signing_secret: Option<Sealed>,
}

/// Gives lanes to runs, each to its own, and says which of them that changed: those that no run had. A lane of another
/// run stays locked until the transaction ends, so that this run finds what was added before it rests.
pub async fn take(conn: &mut PgConnection, lanes: &[(Lane, Uuid)]) -> Result<Vec<Lane>> {
    let services: Vec<Uuid> = lanes.iter().map(|(lane, _)| lane.service_id).collect();
    let kinds: Vec<&str> = lanes.iter().map(|(lane, _)| lane.callback_type.as_str()).collect();
    let runs: Vec<Uuid> = lanes.iter().map(|(_, run)| *run).collect();
    Ok(sqlx::query_as!(
        Lane,
        r#"
        insert into service_callback_lane (service_id, callback_type, run_id)
        select service_id, callback_type, run_id
        from unnest($1::uuid[], $2::text[], $3::uuid[]) l (service_id, callback_type, run_id)
        order by service_id, callback_type
        on conflict (service_id, callback_type) do update set run_id = excluded.run_id
        where service_callback_lane.run_id is null
        returning service_id, callback_type as "callback_type: CallbackType"
        "#,
        &services,
        &kinds as &[&str],
        &runs,
    )
    .fetch_all(conn)
    .await?)
}

/// The first event that waits, other than those that the run has `done`. None also when the lane is another run's.
pub async fn next(conn: &mut PgConnection, lane: Lane, run: Uuid, done: &[Uuid]) -> Result<Option<Waiting>> {
    let row = sqlx::query!(
        r#"
        select e.id, e.sequence, e.attempts, extract(epoch from now() - e.give_up_at)::float8 as "overdue!", e.payload as "payload: Sealed", c.url as "url?",
            c.bearer_token as "bearer_token?: Sealed", c.signing_secret as "signing_secret?: Sealed"
        from service_callback_lane l
        join service_callback_event e
            on e.service_id = l.service_id and e.callback_type = l.callback_type and e.undeliverable_at is null
        left join service_callback_api c on c.service_id = l.service_id and c.callback_type = l.callback_type
        where l.service_id = $1 and l.callback_type = $2 and l.run_id = $3 and e.id <> all($4)
        order by e.sequence
        limit 1
        "#,
        lane.service_id,
        lane.callback_type.as_str(),
        run,
        done,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Waiting {
        id: row.id,
        sequence: row.sequence,
        failures: usize::try_from(row.attempts).unwrap_or(0),
        overdue: row.overdue,
        payload: row.payload,
        endpoint: row.url.zip(row.bearer_token).map(|(url, bearer_token)| Endpoint {
            url,
            bearer_token,
            signing_secret: row.signing_secret,
        }),
    }))
}

/// A call failed and will be repeated.
pub async fn failed_once(conn: &mut PgConnection, id: Uuid, why: &str) -> Result<()> {
    sqlx::query!(
        "update service_callback_event set attempts = attempts + 1, last_error = $2 where id = $1",
        id,
        why,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Gives up on all whose time has been over for so long, and says how many events that were. Outside of a transaction, so
/// that those in the middle of it hold up nobody.
pub async fn give_up_late(conn: &mut PgConnection, lane: Lane, overdue: Duration) -> Result<u64> {
    let mut late = 0;
    loop {
        let given_up = give_up_some(conn, lane, overdue).await?;
        late += given_up;
        if given_up < LATE_AT_ONCE.unsigned_abs() {
            return Ok(late);
        }
    }
}

async fn give_up_some(conn: &mut PgConnection, lane: Lane, overdue: Duration) -> Result<u64> {
    let done = sqlx::query!(
        "
        update service_callback_event
        set undeliverable_at = now(), last_error = coalesce(last_error, 'the endpoint took no call in time')
        where undeliverable_at is null and id = any (array(
            select id from service_callback_event
            where service_id = $1 and callback_type = $2 and undeliverable_at is null
                and give_up_at <= now() - $4::float8 * interval '1 second'
            order by sequence limit $3 for update))
        ",
        lane.service_id,
        lane.callback_type.as_str(),
        LATE_AT_ONCE,
        overdue.as_secs_f64(),
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// The services have been told of these events.
pub async fn delivered(conn: &mut PgConnection, ids: &[Uuid]) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "
        delete from service_callback_event
        where id = any (array(select id from service_callback_event where id = any($1) order by id for update))
        ",
        ids,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The services refused these events for good, and why.
pub async fn undeliverable(conn: &mut PgConnection, refused: &[(Uuid, &str)]) -> Result<()> {
    if refused.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = refused.iter().map(|(id, _)| *id).collect();
    let reasons: Vec<&str> = refused.iter().map(|(_, why)| *why).collect();
    sqlx::query!(
        "
        with locked as (
            select id from service_callback_event
            where id = any($1) and undeliverable_at is null
            order by id
            for update
        )
        update service_callback_event e
        set undeliverable_at = now(), attempts = attempts + 1, last_error = r.why
        from unnest($1::uuid[], $2::text[]) r (id, why)
        join locked using (id)
        where e.id = r.id and e.id = any($1)
        ",
        &ids,
        &reasons as &[&str],
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What became of a lane that a run let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// It was not this run's any more.
    Lost,
    /// Nothing waits.
    Empty,
    /// Something waits, and is the successor's, which is to be started in the same transaction.
    HandedOn,
}

/// Takes a lane from a run, and gives it to its successor if anything waits. The transaction must be open.
pub async fn rest(conn: &mut PgConnection, lane: Lane, run: Uuid, successor: Uuid) -> Result<Rest> {
    let held = sqlx::query_scalar!(
        "select run_id from service_callback_lane where service_id = $1 and callback_type = $2 and run_id = $3 for update",
        lane.service_id,
        lane.callback_type.as_str(),
        run,
    )
    .fetch_optional(&mut *conn)
    .await?;
    if held.is_none() {
        return Ok(Rest::Lost);
    }
    // A statement of its own: it sees what was added before the lane was locked.
    let waits = sqlx::query_scalar!(
        r#"select exists (
            select from service_callback_event
            where service_id = $1 and callback_type = $2 and undeliverable_at is null) as "waits!""#,
        lane.service_id,
        lane.callback_type.as_str(),
    )
    .fetch_one(&mut *conn)
    .await?;
    sqlx::query!(
        "update service_callback_lane set run_id = $3 where service_id = $1 and callback_type = $2",
        lane.service_id,
        lane.callback_type.as_str(),
        waits.then_some(successor),
    )
    .execute(conn)
    .await?;
    Ok(if waits { Rest::HandedOn } else { Rest::Empty })
}

/// Takes a lane from a run that people cancelled, and gives up on what waits in it: on so many events as a batch that others
/// wait for can bear. What is left is told by the next run, see [`stranded`].
pub async fn abandon(conn: &mut PgConnection, lane: Lane, run: Uuid) -> Result<()> {
    let let_go = sqlx::query!(
        "update service_callback_lane set run_id = null where service_id = $1 and callback_type = $2 and run_id = $3",
        lane.service_id,
        lane.callback_type.as_str(),
        run,
    )
    .execute(&mut *conn)
    .await?;
    if let_go.rows_affected() == 0 {
        return Ok(());
    }
    // A statement of its own: it sees what was added before the lane was locked.
    sqlx::query!(
        "
        update service_callback_event
        set undeliverable_at = now(), last_error = 'cancelled'
        where undeliverable_at is null and id = any (array(
            select id from service_callback_event
            where service_id = $1 and callback_type = $2 and undeliverable_at is null
            order by sequence limit $3 for update))
        ",
        lane.service_id,
        lane.callback_type.as_str(),
        ABANDONED_AT_ONCE,
    )
    .execute(conn)
    .await?;
    Ok(())
}

const ABANDONED_AT_ONCE: i64 = 50_000;

/// Lanes in which something waits, and that no run has.
pub async fn stranded(conn: &mut PgConnection) -> Result<Vec<Lane>> {
    Ok(sqlx::query_as!(
        Lane,
        r#"
        select service_id, callback_type as "callback_type: CallbackType"
        from service_callback_lane l
        where run_id is null and exists (
            select from service_callback_event e
            where e.service_id = l.service_id and e.callback_type = l.callback_type and e.undeliverable_at is null)
        "#
    )
    .fetch_all(conn)
    .await?)
}

/// The lanes that runs have, and these runs.
pub async fn held(conn: &mut PgConnection) -> Result<Vec<(Lane, Uuid)>> {
    let rows = sqlx::query!(
        r#"
        select service_id, callback_type as "callback_type: CallbackType", run_id as "run_id!"
        from service_callback_lane where run_id is not null
        "#
    )
    .fetch_all(conn)
    .await?;
    let lane = |service_id, callback_type| Lane {
        service_id,
        callback_type,
    };
    Ok(rows
        .into_iter()
        .map(|row| (lane(row.service_id, row.callback_type), row.run_id))
        .collect())
}
