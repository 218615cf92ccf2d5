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
    /// Whether that is over.
    pub overdue: bool,
    /// How often it was claimed.
    pub epoch: i64,
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
    pub seen_at: DateTime<Utc>,
}

/// The ids of the next live runs after the id `after`.
pub(crate) async fn next_runs(conn: &mut PgConnection, after: Uuid, most: i64) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        r#"select array(select id from engine.run where id > $1 order by id limit $2) as "ids!""#,
        after,
        most,
    )
    .fetch_one(conn)
    .await
}

/// As [`next_runs`], of those that are failed, parked, or either, in these queues. Each queue's are read in the order of the
/// index, and no more of them than are wanted.
pub(crate) async fn next_dead(
    conn: &mut PgConnection,
    queues: &[String],
    states: &[&str],
    after: Uuid,
    most: i64,
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        "select dead.id
         from unnest($1::text[]) of (queue)
         cross join unnest($2::text[]) being (state)
         cross join lateral (
             select id from engine.run r
             where r.queue = of.queue and r.state in ('failed', 'parked') and r.state = being.state and r.id > $3
             order by r.id limit $4) dead
         order by dead.id limit $4",
        queues,
        states as &[&str],
        after,
        most,
    )
    .fetch_all(conn)
    .await
}

/// Those of these runs that are selected, in the order of their ids. As wherever selected runs are picked out, states
/// are compared as expressions: without that, the index of a queue's ready runs is walked instead, all of it.
pub(crate) async fn live(
    conn: &mut PgConnection,
    runs: &[Uuid],
    selection: &Selection,
    limit: i64,
) -> sqlx::Result<Vec<LiveRow>> {
    sqlx::query_as!(
        LiveRow,
        r#"select id, workflow, queue, state, nullif(due_at, 'infinity') as due_at, due_at <= now() as "overdue!",
               epoch, owner, attempt, deaths, waits_for, last_error, created_at, tenant, key, key_limit, start_by,
               expires_at, control, control_reason, now() as "seen_at!"
           from engine.run
           where id = any ($1)
             and ($2::text is null or workflow = $2) and ($3::text is null or queue = $3)
             and ($4::text is null or state || '' = $4) and ($5::uuid is null or tenant = $5)
             and ($6::text is null or strpos(last_error, $6) > 0)
             and ($7::timestamptz is null or created_at >= $7) and ($8::timestamptz is null or created_at < $8)
             and (epoch = 0 or not $9)
           order by id limit $10"#,
        runs,
        selection.workflow,
        selection.queue,
        selection.state,
        selection.tenant,
        selection.error,
        selection.created_after,
        selection.created_before,
        selection.unbegun,
        limit,
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

/// How many runs of a queue workers hold, up to `most`; those of dead ones too, until somebody takes them over.
pub(crate) async fn count_held(conn: &mut PgConnection, queue: &str, most: i64) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"select count(*) as "count!"
           from (select from engine.run where queue = $1 and state = 'running' order by due_at limit $2) held"#,
        queue,
        most,
    )
    .fetch_one(conn)
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

/// How many runs of a queue are ready and have their turn before this one, up to `most`.
pub(crate) async fn before_in_turn(
    conn: &mut PgConnection,
    queue: &str,
    turn: DateTime<Utc>,
    most: i64,
) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"select count(*) as "count!"
           from (select from engine.run where queue = $1 and state = 'ready' and due_at < $2
                 order by due_at limit $3) ahead"#,
        queue,
        turn,
        most,
    )
    .fetch_one(conn)
    .await
}

/// How many of these runs are selected, in these states and under these controls. As the choice of those to which
/// something is done, without its locks.
pub(crate) async fn count_chosen(
    conn: &mut PgConnection,
    runs: &[Uuid],
    selection: &Selection,
    applicable: Applicable,
) -> sqlx::Result<i64> {
    let [states, controls, cancelled] = applicable.words();
    sqlx::query_scalar!(
        r#"select count(*) as "count!" from engine.run
           where id = any ($1) and state || '' = any ($2)
             and (coalesce(control, '') = any ($3) or (control = 'cancelled' and state || '' = any ($4)))
             and ($5::text is null or workflow = $5) and ($6::text is null or queue = $6)
             and ($7::text is null or state || '' = $7) and ($8::uuid is null or tenant = $8)
             and ($9::text is null or strpos(last_error, $9) > 0)
             and ($10::timestamptz is null or created_at >= $10) and ($11::timestamptz is null or created_at < $11)
             and (epoch = 0 or not $12)"#,
        runs,
        &states,
        &controls,
        &cancelled,
        selection.workflow,
        selection.queue,
        selection.state,
        selection.tenant,
        selection.error,
        selection.created_after,
        selection.created_before,
        selection.unbegun,
    )
    .fetch_one(conn)
    .await
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
