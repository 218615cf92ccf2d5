//! Receipts that come while their runs are held, tried again or taken over: whoever waits is woken.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use serde_json::{Value, json};
use sqlx::Executor;

use super::{
    count, herald,
    load::{load_while, outage},
    oracle, providers,
    report::{Verdict, fault},
    until,
};
use crate::harness::{Client, Herald, eventually};

/// So long that a test fails before it ends: who is not woken is seen.
const PATIENCE: (&str, &str) = ("UNKNOWN_OUTCOME_PATIENCE_SECONDS", "3600");

/// Receipts long before, with and long after the answer, one or more, and answers that never come. The stub posts each
/// until it is taken, also when whoever called it is gone.
fn at_any_moment() -> Value {
    let kinds = [
        json!({"times": 1, "hang": true, "receipt_delay_ms": 0}),
        json!({"times": 1, "receipt_delay_ms": 0}),
        json!({"times": 1, "latency_ms": 100, "reset_after_accept": true, "receipt_delay_ms": 0}),
        json!({"times": 1, "receipt_delay_ms": 2, "duplicate_receipts": 1}),
        json!({"times": 1, "reset_after_accept": true, "receipt_delay_ms": 300}),
        json!({"times": 1, "latency_ms": 100, "receipts_out_of_order": true, "receipt_delay_ms": 20}),
        json!({"times": 1, "latency_ms": 30, "status": 502, "accept": true, "receipt_delay_ms": 0}),
        json!({"times": 1, "hang": true, "receipt_delay_ms": 1_000}),
        json!({"times": 1, "hang": true, "receipt_delay_ms": 1_990}),
        json!({"times": 1, "latency_ms": 200, "receipt_delay_ms": 2_000}),
    ];
    let many: Vec<&Value> = kinds.iter().cycle().take(3_000).collect();
    json!(many)
}

/// Texts that the phone has, and that are not settled.
async fn arrived_and_open(herald: &Herald) -> Vec<String> {
    let open: Vec<String> = sqlx::query_scalar(
        "select id::text from notifications where notification_status in ('created', 'sending', 'pending')",
    )
    .fetch_all(&*herald.database)
    .await
    .unwrap();
    let arrived = Client::live(herald).whole_phone().await;
    let arrived: std::collections::HashSet<&str> = arrived
        .iter()
        .filter_map(|message| message["reference"].as_str())
        .collect();
    open.into_iter().filter(|id| arrived.contains(id.as_str())).collect()
}

/// Where a run stands and what happened to it, for reports of failures.
async fn story(herald: &Herald, id: &str) -> String {
    let story: Option<String> = sqlx::query_scalar(
        "select format('%s in %s, due %s: %s; signals: %s', state, queue, due_at,
             (select string_agg(format('%s %s', at, events), ', ' order by seq) from engine.journal where run_id = r.id),
             (select string_agg(format('%s %s', at, payload), ', ') from engine.signal where run_id = r.id))
         from engine.run r where id::text = $1",
    )
    .bind(id)
    .fetch_optional(&*herald.database)
    .await
    .unwrap();
    story.unwrap_or_else(|| format!("{id}, which has no run"))
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn nobody_waits_for_its_time_out_whose_receipt_has_come() {
    let done = "receipts before, with and after each answer, and for answers that never come, under a patience of an hour; \
                workers are killed eight times and stopped past their leases four times meanwhile";
    fault("57", done, async |report| {
        let herald = herald().await;
        let client = Client::live(&herald);
        providers(&client, at_any_moment()).await;
        let worker = || herald.worker_with("all", &[PATIENCE]);
        let (mut one, other) = (worker(), worker());
        let (load, ()) = load_while(&client, 50, async {
            for round in 0..4_u8 {
                for moment in [0.9, 1.3] {
                    outage(moment + f64::from(round) / 10.0).await;
                    std::mem::replace(&mut one, worker()).kill();
                }
                // Past its lease: its runs are taken over, and it comes back while receipts for them come in.
                other.signal("-STOP");
                outage(3.0).await;
                other.signal("-CONT");
            }
        })
        .await;
        let woken = eventually("every text that has arrived is settled by its receipt", || async {
            arrived_and_open(&herald).await.is_empty().then_some(())
        });
        if AssertUnwindSafe(woken).catch_unwind().await.is_err() {
            let open = arrived_and_open(&herald).await;
            panic!("{} wait although they have arrived, such as {}", open.len(), story(&herald, &open[0]).await);
        }
        let left = "select count(*) from engine.run where state <> 'waiting'";
        until(&herald, "the rest waits", left, |busy| busy == 0).await;
        // What a dead worker had not yet got out has no receipt: its patience may end.
        let unsent = count(&herald, "select count(*) from engine.run").await;
        providers(&client, json!({})).await;
        let over = "update engine.journal set at = at - interval '2 hours' where run_id in (select id from engine.run);
            update engine.run set due_at = now()";
        herald.database.execute(over).await.unwrap();
        oracle::check(report, &herald, &load.ids()).await;
        let over = "select count(*) from engine.journal, jsonb_array_elements(events) e
            where e ->> 'event' in ('resent', 'timed_out')";
        assert_eq!(count(&herald, over).await, unsent, "time-outs are for what never left");
        let proved = "select count(*) from engine.journal, jsonb_array_elements(events) e where e ->> 'event' = 'confirmed'";
        let proved = count(&herald, proved).await;
        let handed_over = "select count(*) from (select run_id from engine.journal group by run_id having count(distinct owner) > 1) r";
        report.note(format!(
            "{proved} calls of unknown outcome were proved by their receipts, {} texts had more than one worker, {unsent} had not left",
            count(&herald, handed_over).await
        ));
        assert!(proved > 100, "hardly any outcome was unknown");
        Verdict::Passed
    })
    .await;
}
