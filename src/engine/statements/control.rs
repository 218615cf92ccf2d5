//! What people do to runs and queues.

use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::control::{Actor, Applicable, QueueLimits, Selection};

/// A run that somebody chose to do something to. It is locked.
pub(crate) struct ChosenRun {
    pub id: Uuid,
    pub key: Option<String>,
}

/// The first of these runs that are selected, in the order of their ids.
pub(crate) async fn choose(
    conn: &mut PgConnection,
    runs: &[Uuid],
    selection: &Selection,
    applicable: Applicable,
    limit: i64,
) -> sqlx::Result<Vec<ChosenRun>> {
    let [states, controls, cancelled] = applicable.words();
    sqlx::query_as!(
        ChosenRun,
        "select id, key from engine.run
         where id = any ($1) and state || '' = any ($2)
           and (coalesce(control, '') = any ($3) or (control = 'cancelled' and state || '' = any ($4)))
           and ($5::text is null or workflow = $5) and ($6::text is null or queue = $6)
           and ($7::text is null or state || '' = $7) and ($8::uuid is null or tenant = $8)
           and ($9::text is null or strpos(last_error, $9) > 0)
           and ($10::timestamptz is null or created_at >= $10) and ($11::timestamptz is null or created_at < $11)
           and (epoch = 0 or not $12)
         order by id limit $13 for update",
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
        limit,
    )
    .fetch_all(conn)
    .await
}

/// Adds a row to the journals of those of the runs that are in one of these states; nobody else writes there then.
pub(crate) async fn append_event(
    conn: &mut PgConnection,
    runs: &[Uuid],
    states: &[&str],
    events: &Value,
) -> sqlx::Result<()> {
    let states: Vec<String> = states.iter().map(|&state| state.to_owned()).collect();
    sqlx::query!(
        "insert into engine.journal (run_id, seq, epoch, events, at)
         select r.id, coalesce(last.seq, 0) + 1, r.epoch, $3, now()
         from engine.run r
         left join lateral (select seq from engine.journal j where j.run_id = r.id order by seq desc limit 1) last on true
         where r.id = any ($1) and r.state = any ($2)",
        runs,
        &states,
        events,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes runs that have failed, or that nobody can read, off the table.
pub(crate) async fn put_away(conn: &mut PgConnection, runs: &[Uuid]) -> sqlx::Result<()> {
    sqlx::query!(
        "delete from engine.run where id = any ($1) and state || '' in ('failed', 'parked')",
        runs
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Marks runs as cancelled. What does not run at the moment becomes ready, to learn it, as soon as its key allows.
pub(crate) async fn cancel(conn: &mut PgConnection, runs: &[Uuid], reason: &str) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "update engine.run
         set control = 'cancelled', control_reason = $2, waits_for = null, was_due = null,
             state = case when owner is not null then state when key is null then 'ready' else 'blocked' end,
             due_at = case when owner is null then now() else due_at end
         where id = any ($1)
         returning queue",
        runs,
        reason,
    )
    .fetch_all(conn)
    .await
}

/// Marks runs as paused. One that runs stops at its next checkpoint; one that holds its key lets go of it.
pub(crate) async fn pause(conn: &mut PgConnection, runs: &[Uuid], reason: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "update engine.run
         set control = 'paused', control_reason = $2,
             was_due = case when owner is null then due_at end,
             due_at = case when owner is null then 'infinity' else due_at end,
             state = case when state || '' = 'ready' and key is not null then 'blocked' else state end
         where id = any ($1) and control is null",
        runs,
        reason,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends the pauses of runs.
pub(crate) async fn resume(conn: &mut PgConnection, runs: &[Uuid]) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "update engine.run
         set control = null, control_reason = null, was_due = null,
             due_at = case when owner is null then coalesce(was_due, now()) else due_at end
         where id = any ($1) and control = 'paused'
         returning queue",
        runs,
    )
    .fetch_all(conn)
    .await
}

/// Makes failed and parked runs ready. One that was cancelled stays so: its story is to learn it.
pub(crate) async fn redrive(conn: &mut PgConnection, runs: &[Uuid]) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "update engine.run
         set state = case when key is null then 'ready' else 'blocked' end, due_at = now(), deaths = 0, attempt = 0,
             control = nullif(control, 'paused'), control_reason = case when control = 'cancelled' then control_reason end,
             was_due = null
         where id = any ($1) and state || '' in ('failed', 'parked')
         returning queue",
        runs,
    )
    .fetch_all(conn)
    .await
}

pub(crate) async fn audit(
    conn: &mut PgConnection,
    actor: &Actor,
    action: &str,
    target: &Value,
    changed: usize,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into engine.audit (actor, action, target, reason, changed) values ($1, $2, $3, $4, $5)",
        actor.name,
        action,
        target,
        actor.reason,
        i32::try_from(changed).unwrap_or(i32::MAX),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Pauses or opens a queue. What is said of all queues is said of each: it takes the place of what was said before.
pub(crate) async fn pause_queue(conn: &mut PgConnection, queue: &str, paused: bool) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into engine.queue (name, paused) values ($1, $2) on conflict (name) do update set paused = excluded.paused",
        queue,
        paused,
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "update engine.queue set paused = null where $1 = '*' and name <> '*'",
        queue
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Sets all limits of a queue. The bucket of a queue that had no rate begins full; of another one what was in it stays in
/// it. A claim may have filled it a moment later than this transaction's beginning.
pub(crate) async fn limit_queue(conn: &mut PgConnection, queue: &str, limits: &QueueLimits) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into engine.queue (name, max_running, rate, burst, tokens, refilled_at)
         values ($1, $2, $3, $4::float8, coalesce($4::float8, 0), now())
         on conflict (name) do update
         set max_running = excluded.max_running, rate = excluded.rate, burst = excluded.burst,
             tokens = case when queue.rate is null then excluded.tokens
                 else least(excluded.tokens, queue.burst, queue.tokens
                     + queue.rate * greatest(0, extract(epoch from now() - queue.refilled_at))) end,
             refilled_at = greatest(queue.refilled_at, excluded.refilled_at)",
        queue,
        limits.max_running.map(|max| i32::try_from(max).unwrap_or(i32::MAX)),
        limits.rate,
        limits.burst,
    )
    .execute(conn)
    .await?;
    Ok(())
}
