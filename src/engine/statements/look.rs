//! What people look at. Every statement goes by an index, and reads a bounded number of rows.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    control::{Applicable, Selection},
    look::AuditEntry,
};

/// A live run, as it is shown.
pub(crate) struct LiveRow {
    pub id: Uuid,
    pub workflow: String,
    pub queue: String,
    pub state: String,
    pub due_at: Option<DateTime<Utc>>,
    pub owner: Option<Uuid>,
    pub attempt: i32,
    pub deaths: i16,
    pub waits_for: Option<String>,
    pub last_error: Option<String>,
    pub created_at: DateTime<Utc>,
    pub tenant: Option<Uuid>,
    pub key: Option<String>,
    pub key_limit: Option<i32>,
    pub start_by: Option<DateTime<Utc>>,
    pub expires_at: Option<DateTime<Utc>>,
    pub control: Option<String>,
    pub control_reason: Option<String>,
}

/// The next selected live runs after the id `after`, in the order of their ids.
pub(crate) async fn live(
    conn: &mut PgConnection,
    selection: &Selection,
    after: Uuid,
    limit: i64,
) -> sqlx::Result<Vec<LiveRow>> {
    let ids = (!selection.ids.is_empty()).then_some(selection.ids.as_slice());
    sqlx::query_as!(
        LiveRow,
        r#"select id, workflow, queue, state, nullif(due_at, 'infinity') as due_at, owner, attempt,
               deaths, waits_for, last_error, created_at, tenant, key, key_limit, start_by, expires_at, control,
               control_reason
           from engine.run
           where id > $1 and ($2::uuid[] is null or id = any ($2))
             and ($3::text is null or workflow = $3) and ($4::text is null or queue = $4)
             and ($5::text is null or state = $5) and ($6::uuid is null or tenant = $6)
             and ($7::text is null or strpos(last_error, $7) > 0)
             and ($8::timestamptz is null or created_at >= $8) and ($9::timestamptz is null or created_at < $9)
             and (epoch = 0 or not $11)
           order by id limit $10"#,
        after,
        ids,
        selection.workflow,
        selection.queue,
        selection.state,
        selection.tenant,
        selection.error,
        selection.created_after,
        selection.created_before,
        limit,
        selection.unbegun,
    )
    .fetch_all(conn)
    .await
}

/// A row of the journal with the claim that wrote it.
pub(crate) struct WrittenRow {
    pub epoch: i64,
    pub at: DateTime<Utc>,
    pub owner: Option<Uuid>,
    pub claimed_at: Option<DateTime<Utc>>,
    pub events: Value,
}

pub(crate) async fn written(conn: &mut PgConnection, run: Uuid, limit: i64) -> sqlx::Result<Vec<WrittenRow>> {
    sqlx::query_as!(
        WrittenRow,
        "select epoch, at, owner, claimed_at, events from engine.journal where run_id = $1 order by seq limit $2",
        run,
        limit,
    )
    .fetch_all(conn)
    .await
}

/// A signal that has come for a run.
pub(crate) struct ArrivedRow {
    pub name: String,
    pub key: String,
    pub at: DateTime<Utc>,
}

pub(crate) async fn arrived(conn: &mut PgConnection, run: Uuid, limit: i64) -> sqlx::Result<Vec<ArrivedRow>> {
    sqlx::query_as!(
        ArrivedRow,
        "select name, key, at from engine.signal where run_id = $1 order by n limit $2",
        run,
        limit,
    )
    .fetch_all(conn)
    .await
}

/// What was decided about a queue.
pub(crate) struct QueueRow {
    pub name: String,
    pub paused: Option<bool>,
    pub max_running: Option<i32>,
    pub rate: Option<f64>,
    pub burst: Option<f64>,
    pub tokens: f64,
}

pub(crate) async fn queues(conn: &mut PgConnection) -> sqlx::Result<Vec<QueueRow>> {
    sqlx::query_as!(
        QueueRow,
        r#"select name, paused, max_running, rate, burst,
               coalesce(least(burst, tokens + rate * greatest(0, extract(epoch from now() - refilled_at)::float8)), 0)
                   as "tokens!"
           from engine.queue order by name"#
    )
    .fetch_all(conn)
    .await
}

/// How many runs of a queue are in a state, up to `most`, and when the first of them is or was due.
pub(crate) struct CountRow {
    pub state: String,
    pub count: i64,
    pub first_due: Option<DateTime<Utc>>,
}

/// Counts by walking at most `most` entries of each state's own index. What people paused, and no worker holds, is due
/// at infinity in each of them, and is counted as `paused` alone.
pub(crate) async fn counts(conn: &mut PgConnection, queue: &str, most: i64) -> sqlx::Result<Vec<CountRow>> {
    sqlx::query_as!(
        CountRow,
        r#"select 'ready' as "state!", count(*) as "count!", min(due_at) as first_due
           from (select due_at from engine.run where queue = $1 and state = 'ready' and due_at < 'infinity'
                 order by due_at limit $2) r
           union all
           select 'blocked', count(*), null
           from (select from engine.run where queue = $1 and state = 'blocked' and due_at < 'infinity'
                 order by due_at limit $2) r
           union all
           select 'running', count(*), min(due_at)
           from (select due_at from engine.run where queue = $1 and state = 'running' order by due_at limit $2) r
           union all
           select coalesce(state, 'waiting'), count(*), min(due_at)
           from (select state, due_at from engine.run where queue = $1 and state in ('waiting', 'sleeping', 'parked')
                 and due_at < 'infinity' order by due_at limit $2) r
           group by state
           union all
           select 'failed', count(*), null
           from (select from engine.run where queue = $1 and state = 'failed' order by id limit $2) r
           union all
           select 'paused', count(*), null
           from (select from engine.run where queue = $1 and state = 'ready' and due_at = 'infinity'
                 union all
                 select from engine.run where queue = $1 and state = 'blocked' and due_at = 'infinity'
                 union all
                 select from engine.run where queue = $1 and state in ('waiting', 'sleeping', 'parked')
                     and due_at = 'infinity'
                 limit $2) r"#,
        queue,
        most,
    )
    .fetch_all(conn)
    .await
}

/// As the planner believes; for what is too much to count.
pub(crate) async fn estimate(conn: &mut PgConnection, queue: &str, state: &str) -> sqlx::Result<i64> {
    sqlx::query_scalar!(r#"select engine.estimate($1, $2) as "estimate!""#, queue, state)
        .fetch_one(conn)
        .await
}

/// Which queues there are: those that anything was decided about, and those of live runs, found by skipping through the
/// indexes from one name to the next.
pub(crate) async fn queue_names(conn: &mut PgConnection) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        r#"with recursive
           ready as (
               (select queue from engine.run where state = 'ready' order by queue limit 1)
               union all
               select (select queue from engine.run where state = 'ready' and queue > ready.queue order by queue limit 1)
               from ready where ready.queue is not null),
           blocked as (
               (select queue from engine.run where state = 'blocked' order by queue limit 1)
               union all
               select (select queue from engine.run
                       where state = 'blocked' and queue > blocked.queue order by queue limit 1)
               from blocked where blocked.queue is not null),
           held as (
               (select queue from engine.run where state = 'running' order by queue limit 1)
               union all
               select (select queue from engine.run where state = 'running' and queue > held.queue order by queue limit 1)
               from held where held.queue is not null),
           timers as (
               (select queue from engine.run where state in ('waiting', 'sleeping', 'parked') order by queue limit 1)
               union all
               select (select queue from engine.run
                       where state in ('waiting', 'sleeping', 'parked') and queue > timers.queue order by queue limit 1)
               from timers where timers.queue is not null),
           failed as (
               (select queue from engine.run where state = 'failed' order by queue limit 1)
               union all
               select (select queue from engine.run where state = 'failed' and queue > failed.queue order by queue limit 1)
               from failed where failed.queue is not null)
           select name as "name!" from (
               select queue as name from ready union select queue from blocked union select queue from held
               union select queue from timers union select queue from failed union select name from engine.queue) names
           where name is not null and name <> '*' order by name"#
    )
    .fetch_all(conn)
    .await
}

/// For a run that is ready: how many have their turn before it, up to `most`.
pub(crate) async fn before_in_turn(conn: &mut PgConnection, run: Uuid, most: i64) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"select count(*) as "count!" from (
               select from engine.run r
               join engine.run mine on mine.id = $1 and r.queue = mine.queue and r.due_at < mine.due_at
               where r.state = 'ready' limit $2) ahead"#,
        run,
        most,
    )
    .fetch_one(conn)
    .await
}

/// How many of the next selected live runs after the id `after` are in these states and under these controls, and the
/// last of them. As the choice of those to which something is done, without its locks.
pub(crate) async fn count_chosen(
    conn: &mut PgConnection,
    selection: &Selection,
    applicable: Applicable,
    after: Uuid,
    limit: i64,
) -> sqlx::Result<ChosenRows> {
    let ids = (!selection.ids.is_empty()).then_some(selection.ids.as_slice());
    let [states, controls, cancelled] = applicable.words();
    sqlx::query_as!(
        ChosenRows,
        r#"select count(*) as "count!", (array_agg(id order by id desc))[1] as last
           from (select id from engine.run
                 where id > $1 and ($2::uuid[] is null or id = any ($2)) and state = any ($3)
                   and (coalesce(control, '') = any ($12) or (control = 'cancelled' and state = any ($14)))
                   and ($4::text is null or workflow = $4) and ($5::text is null or queue = $5)
                   and ($6::text is null or state = $6) and ($7::uuid is null or tenant = $7)
                   and ($8::text is null or strpos(last_error, $8) > 0)
                   and ($9::timestamptz is null or created_at >= $9) and ($10::timestamptz is null or created_at < $10)
                   and (epoch = 0 or not $13)
                 order by id limit $11) chosen"#,
        after,
        ids,
        &states,
        selection.workflow,
        selection.queue,
        selection.state,
        selection.tenant,
        selection.error,
        selection.created_after,
        selection.created_before,
        limit,
        &controls,
        selection.unbegun,
        &cancelled,
    )
    .fetch_one(conn)
    .await
}

pub(crate) struct ChosenRows {
    pub count: i64,
    pub last: Option<Uuid>,
}

/// What people did, from before the entry `before` backwards.
pub(crate) async fn audited(conn: &mut PgConnection, before: i64, limit: i64) -> sqlx::Result<Vec<AuditEntry>> {
    sqlx::query_as!(
        AuditEntry,
        "select id, at, actor, action, target, reason, changed from engine.audit where id < $1 order by id desc limit $2",
        before,
        limit,
    )
    .fetch_all(conn)
    .await
}
