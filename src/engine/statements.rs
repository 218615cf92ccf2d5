//! Every SQL statement of the engine, named by what it does. Times are the database's; durations go in as seconds.
//!
//! Where rows are joined to an array of their ids, `= any` says so once more: a plan that was made while the table was small
//! then still goes by the index when it is large, instead of walking all of it.

pub(crate) mod schedules;

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, value::RawValue};
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use crate::{
    journal::Event,
    submission::{NewRun, NewSignal},
};

mod claiming;
mod control;
mod look;
mod upkeep;

pub(crate) use claiming::*;
pub(crate) use control::*;
pub(crate) use look::*;
pub(crate) use upkeep::*;

/// The channel on which committers wake the workers of a queue; the payload is the queue's name.
pub(crate) const WAKE_CHANNEL: &str = "herald_engine";

pub(crate) struct JournalRow {
    pub run_id: Uuid,
    pub seq: i32,
    pub at: DateTime<Utc>,
    pub events: Json<Box<RawValue>>,
}

pub(crate) async fn journal_of(conn: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<Vec<JournalRow>> {
    sqlx::query_as!(
        JournalRow,
        // Joined, not `= any ($1)` alone: so a look-up goes to one partition instead of to all of them.
        r#"select j.run_id, j.seq, j.at, j.events as "events: Json<Box<RawValue>>"
         from unnest($1::uuid[]) as wanted (run_id) join engine.journal j using (run_id)
         where j.run_id = any ($1)
         order by j.run_id, j.seq"#,
        ids,
    )
    .fetch_all(conn)
    .await
}

pub(crate) struct SignalRow {
    pub run_id: Uuid,
    pub name: String,
    pub n: i64,
    pub payload: Value,
}

pub(crate) async fn signals_of(conn: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<Vec<SignalRow>> {
    sqlx::query_as!(
        SignalRow,
        "select s.run_id, s.name, s.n, s.payload
         from unnest($1::uuid[]) as wanted (run_id) join engine.signal s using (run_id)
         where s.run_id = any ($1)
         order by s.run_id, s.n",
        ids,
    )
    .fetch_all(conn)
    .await
}

pub(crate) struct LockedRun {
    pub id: Uuid,
    pub epoch: i64,
    pub state: String,
    pub waits_for: Option<String>,
    pub queue: String,
    pub key: Option<String>,
    pub control: Option<String>,
    pub deaths: i16,
}

/// Locks runs, always in the order of their ids, so that two batches never wait for each other in a circle.
/// Everything that a batch decides about a run it decides after this.
pub(crate) async fn lock(conn: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<Vec<LockedRun>> {
    sqlx::query_as!(
        LockedRun,
        "select id, epoch, state, waits_for, queue, key, control, deaths
         from engine.run where id = any ($1) order by id for no key update",
        ids,
    )
    .fetch_all(conn)
    .await
}

/// Until the transaction's end, no lock is waited for longer than that.
pub(crate) async fn wait_for_locks(conn: &mut PgConnection, most: Duration) -> sqlx::Result<()> {
    let most = format!("{}ms", most.as_millis());
    sqlx::query_scalar!("select set_config('lock_timeout', $1, true)", most)
        .fetch_one(conn)
        .await?;
    Ok(())
}

/// Of these checkpoints, those that are in the journal already: an earlier commit whose acknowledgement was lost.
pub(crate) async fn already_written(
    conn: &mut PgConnection,
    runs: &[Uuid],
    seqs: &[i32],
    epochs: &[i64],
) -> sqlx::Result<Vec<(Uuid, i64)>> {
    let rows = sqlx::query!(
        "select j.run_id, j.epoch
         from unnest($1::uuid[], $2::int[], $3::bigint[]) as mine (run_id, seq, epoch)
         join engine.journal j using (run_id, seq, epoch)
         where j.run_id = any ($1)",
        runs,
        seqs,
        epochs,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.run_id, row.epoch)).collect())
}

/// Of these runs, those that have a journal: a run's row goes when it ends, its journal stays.
pub(crate) async fn have_journals(conn: &mut PgConnection, runs: &[Uuid]) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        r#"select run_id as "run_id!" from unnest($1::uuid[]) as new (run_id)
           where exists (select from engine.journal j where j.run_id = new.run_id and j.run_id = any ($1))"#,
        runs,
    )
    .fetch_all(conn)
    .await
}

/// Which of these runs are there and have not failed.
pub(crate) async fn alive(conn: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        "select id from engine.run where id = any ($1) and state || '' <> 'failed'",
        ids
    )
    .fetch_all(conn)
    .await
}

/// Takes the keys of runs that are to be started once; returns the runs that got theirs, or had it before.
pub(crate) async fn take_keys(
    conn: &mut PgConnection,
    workflows: &[String],
    keys: &[String],
    runs: &[Uuid],
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query!(
        "insert into engine.run_key (workflow, key, run_id)
         select distinct on (workflow, key) * from unnest($1::text[], $2::text[], $3::uuid[]) as new (workflow, key, run_id)
         order by workflow, key
         on conflict do nothing",
        workflows,
        keys,
        runs,
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query_scalar!(
        r#"select run_id as "run_id!" from unnest($1::text[], $2::text[], $3::uuid[]) as new (workflow, key, run_id)
           join engine.run_key using (workflow, key, run_id)"#,
        workflows,
        keys,
        runs,
    )
    .fetch_all(conn)
    .await
}

pub(crate) async fn insert_runs(conn: &mut PgConnection, runs: &[&NewRun]) -> sqlx::Result<()> {
    let ids: Vec<Uuid> = runs.iter().map(|run| run.id).collect();
    let workflows: Vec<String> = runs.iter().map(|run| run.workflow.to_owned()).collect();
    let queues: Vec<String> = runs.iter().map(|run| run.queue.0.to_owned()).collect();
    let states: Vec<String> = runs.iter().map(|run| run.first_state().to_owned()).collect();
    let delays: Vec<f64> = runs.iter().map(|run| run.first_due()).collect();
    let inputs: Vec<Json<&RawValue>> = runs.iter().map(|run| Json(&*run.input)).collect();
    let tenants: Vec<Option<Uuid>> = runs.iter().map(|run| run.tenant).collect();
    let keys: Vec<Option<String>> = runs
        .iter()
        .map(|run| run.key.as_ref().map(|key| key.name.clone()))
        .collect();
    let key_limits: Vec<Option<i32>> = runs.iter().map(|run| run.key.as_ref().map(|key| key.limit)).collect();
    let start_by: Vec<Option<f64>> = runs
        .iter()
        .map(|run| run.start_within.map(|d| d.as_secs_f64()))
        .collect();
    let expiries: Vec<Option<f64>> = runs
        .iter()
        .map(|run| run.expires_within.map(|d| d.as_secs_f64()))
        .collect();
    sqlx::query!(
        "insert into engine.run (id, workflow, queue, state, due_at, input, tenant, key, key_limit, start_by, expires_at, created_at)
         select id, workflow, queue, state, now() + delay * interval '1 second', input, tenant, key, key_limit,
             now() + start_within * interval '1 second', now() + expires_within * interval '1 second', now()
         from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::float8[], $6::jsonb[], $7::uuid[], $8::text[],
                     $9::int[], $10::float8[], $11::float8[])
              as new (id, workflow, queue, state, delay, input, tenant, key, key_limit, start_within, expires_within)
         on conflict (id) do nothing",
        &ids,
        &workflows,
        &queues,
        &states,
        &delays,
        &inputs as &[Json<&RawValue>],
        &tenants as &[Option<Uuid>],
        &keys as &[Option<String>],
        &key_limits as &[Option<i32>],
        &start_by as &[Option<f64>],
        &expiries as &[Option<f64>],
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Lets the next blocked runs of these keys become ready; returns their queues.
pub(crate) async fn promote(conn: &mut PgConnection, keys: &[String]) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(r#"select engine.promote($1) as "queue!""#, keys)
        .fetch_all(conn)
        .await
}

pub(crate) async fn insert_signals(conn: &mut PgConnection, signals: &[&NewSignal]) -> sqlx::Result<()> {
    let runs: Vec<Uuid> = signals.iter().map(|signal| signal.run).collect();
    let names: Vec<String> = signals.iter().map(|signal| signal.name.to_owned()).collect();
    let keys: Vec<String> = signals.iter().map(|signal| signal.key.clone()).collect();
    let payloads: Vec<Value> = signals.iter().map(|signal| signal.payload.clone()).collect();
    sqlx::query!(
        "insert into engine.signal (run_id, name, key, payload, at)
         select *, now() from unnest($1::uuid[], $2::text[], $3::text[], $4::jsonb[])
         on conflict do nothing",
        &runs,
        &names,
        &keys,
        &payloads,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Rows of the journal, as parallel columns.
#[derive(Debug, Default)]
pub(crate) struct JournalRows<'a> {
    pub runs: Vec<Uuid>,
    pub seqs: Vec<i32>,
    pub epochs: Vec<i64>,
    pub owners: Vec<Uuid>,
    pub claimed_at: Vec<DateTime<Utc>>,
    pub events: Vec<Json<&'a [Event]>>,
}

pub(crate) async fn insert_journal(conn: &mut PgConnection, rows: &JournalRows<'_>) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into engine.journal (run_id, seq, epoch, owner, claimed_at, events, at)
         select *, now() from unnest($1::uuid[], $2::int[], $3::bigint[], $4::uuid[], $5::timestamptz[], $6::jsonb[])",
        &rows.runs,
        &rows.seqs,
        &rows.epochs,
        &rows.owners,
        &rows.claimed_at,
        &rows.events as &[Json<&[Event]>],
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// For runs that want to wait: the first signal of that name after the last one they received, where there is one.
pub(crate) async fn waiting_signals(
    conn: &mut PgConnection,
    runs: &[Uuid],
    names: &[String],
    after: &[i64],
) -> sqlx::Result<Vec<SignalRow>> {
    sqlx::query_as!(
        SignalRow,
        r#"select distinct on (s.run_id) s.run_id, s.name, s.n, s.payload
           from unnest($1::uuid[], $2::text[], $3::bigint[]) as w (run_id, name, after)
           join engine.signal s on s.run_id = w.run_id and s.name = w.name and s.n > w.after
           where s.run_id = any ($1)
           order by s.run_id, s.n"#,
        runs,
        names,
        after,
    )
    .fetch_all(conn)
    .await
}

/// Runs that let go of their lease to be looked at again later, as parallel columns.
#[derive(Debug, Default)]
pub(crate) struct Parked {
    pub ids: Vec<Uuid>,
    pub states: Vec<String>,
    pub queues: Vec<String>,
    /// In seconds; infinite for a failed run, which is due no more.
    pub delays: Vec<f64>,
    pub signals: Vec<Option<String>>,
    pub attempts: Vec<i32>,
    pub errors: Vec<Option<String>>,
    pub died: Vec<bool>,
}

pub(crate) async fn park(conn: &mut PgConnection, parked: &Parked) -> sqlx::Result<()> {
    sqlx::query!(
        "update engine.run r
         set state = p.state, queue = p.queue, owner = null, waits_for = p.signal, attempt = p.attempt,
             last_error = coalesce(p.error, r.last_error), deaths = case when p.died then r.deaths + 1 else 0 end,
             due_at = case when p.delay = 'infinity' or (r.control = 'paused' and p.state <> 'failed') then 'infinity'
                           else clock_timestamp() + p.delay * interval '1 second' end,
             was_due = case when r.control = 'paused' and p.delay <> 'infinity'
                            then clock_timestamp() + p.delay * interval '1 second' end
         from unnest($1::uuid[], $2::text[], $3::text[], $4::float8[], $5::text[], $6::int[], $7::text[], $8::bool[])
              as p (id, state, queue, delay, signal, attempt, error, died)
         where r.id = p.id and r.id = any ($1)",
        &parked.ids,
        &parked.states,
        &parked.queues,
        &parked.delays,
        &parked.signals as &[Option<String>],
        &parked.attempts,
        &parked.errors as &[Option<String>],
        &parked.died,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Makes waiting runs ready: those that have a key as soon as that allows, those that are paused when that ends.
pub(crate) async fn wake_waiting(conn: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<()> {
    sqlx::query!(
        "update engine.run
         set state = case when key is null then 'ready' else 'blocked' end, waits_for = null,
             due_at = case when control = 'paused' then 'infinity' else now() end,
             was_due = case when control = 'paused' then now() end
         where id = any ($1) and waits_for is not null",
        ids,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What got further is no poison.
pub(crate) async fn forget_deaths(conn: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<()> {
    sqlx::query!("update engine.run set deaths = 0 where id = any ($1)", ids)
        .execute(conn)
        .await?;
    Ok(())
}

pub(crate) async fn finish(conn: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<()> {
    sqlx::query!("delete from engine.run where id = any ($1)", ids)
        .execute(conn)
        .await?;
    Ok(())
}

pub(crate) async fn notify(conn: &mut PgConnection, queues: &[String]) -> sqlx::Result<()> {
    sqlx::query!(
        "select pg_notify($1, queue) from unnest($2::text[]) as q (queue)",
        WAKE_CHANNEL,
        queues
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Live runs that have not failed, after the id `after`, in the order of their ids.
pub(crate) async fn open_runs(conn: &mut PgConnection, after: Uuid, limit: i64) -> sqlx::Result<Vec<ClaimedRow>> {
    sqlx::query_as!(
        ClaimedRow,
        r#"select id, workflow, input as "input: Json<Box<RawValue>>", epoch, attempt, deaths, created_at, now() as "claimed_at!", start_by, expires_at,
               control, control_reason
           from engine.run where id > $1 and state <> 'failed' order by id limit $2"#,
        after,
        limit,
    )
    .fetch_all(conn)
    .await
}
