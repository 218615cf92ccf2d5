//! Processes that die, stop and come back.

use std::ops::Range;

use futures::future::join_all;
use serde_json::{Value, json};
use sqlx::{Executor, Postgres, Transaction};

use super::{
    count, herald,
    load::{load_while, outage, send},
    oracle, providers,
    report::{Verdict, fault},
    until, until_at_the_phone,
};
use crate::harness::{Client, Herald, SMS_TEMPLATE, database, http, live_token};

const SENT: &str = "select count(*) from notifications where notification_status <> 'created'";
const HELD: &str = "select count(*) from engine.run where state = 'running'";
const INTENTS: &str =
    "select count(*) from engine.journal, jsonb_array_elements(events) e where e ->> 'event' = 'intent'";
const BLOCKED: &str = "select count(*) from pg_stat_activity
    where datname = current_database() and wait_event_type = 'Lock' and application_name = 'herald'";

/// Takes a lock that lasts until the transaction is dropped.
async fn locked(herald: &Herald, statement: &'static str) -> Transaction<'static, Postgres> {
    let mut transaction = herald.database.begin().await.unwrap();
    transaction.execute(statement).await.unwrap();
    transaction
}

#[tokio::test]
async fn a_killed_worker_loses_no_text_and_sends_none_twice_off_the_record() {
    fault(
        "1a",
        "kill -9 of the worker in the middle of 2,000 texts",
        async |report| {
            let herald = herald().await;
            let client = Client::live(&herald);
            let ids = send(&client, 2_000).await;
            let worker = herald.worker();
            until(&herald, "the work is well under way", SENT, |sent| sent > 200).await;
            worker.kill();
            let at_the_kill = count(&herald, SENT).await;
            assert!(
                at_the_kill < ids.len(),
                "the worker was too fast to be killed in the middle"
            );
            report.note(format!("{at_the_kill} sent at the kill"));
            let _next = herald.worker();
            oracle::check(report, &herald, &ids).await;
            Verdict::Passed
        },
    )
    .await;
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn a_worker_killed_after_its_claims_has_sent_nothing() {
    fault(
        "1b",
        "kill -9 after the claims, before the intents are written",
        async |report| {
            let herald = herald().await;
            let client = Client::live(&herald);
            let ids = send(&client, 200).await;
            let lock = locked(&herald, "lock table engine.journal in share mode").await;
            let worker = herald.worker();
            until(&herald, "the intents wait for the lock", BLOCKED, |blocked| blocked > 0).await;
            worker.kill();
            let held = count(&herald, HELD).await;
            lock.rollback().await.unwrap();
            report.note(format!("{held} held at the kill"));
            assert!(
                client.whole_phone().await.is_empty(),
                "a text left before its intent was written"
            );
            let _next = herald.worker();
            oracle::check(report, &herald, &ids).await;
            Verdict::Passed
        },
    )
    .await;
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn a_worker_killed_before_the_provider_took_the_texts_sends_them_again_on_record() {
    fault(
        "1c",
        "kill -9 after the intents, before the provider takes the texts",
        async |report| {
            let herald = herald().await;
            let client = Client::live(&herald);
            let ids = send(&client, 200).await;
            providers(&client, json!({"hang": true, "accept": false})).await;
            let worker = herald.worker();
            until(&herald, "every intent is written", INTENTS, |intents| intents == 200).await;
            worker.kill();
            providers(&client, json!({})).await;
            assert!(client.whole_phone().await.is_empty());
            let _next = herald.worker();
            oracle::check(report, &herald, &ids).await;
            Verdict::Passed
        },
    )
    .await;
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn a_worker_killed_between_the_providers_yes_and_its_own_commit_sends_again_only_without_a_receipt() {
    fault(
        "1d",
        "kill -9 after the provider's yes, before our commit; half of the receipts never come; with the default lease of 10 s",
        async |report| {
            let herald = herald().await;
            let client = Client::live(&herald);
            let ids = send(&client, 200).await;
            client.faults("mmg", &json!({"missing_receipts": true})).await;
            // Intents pass, and what is written after the provider's answer does not. With the default lease: one as short as the
            // wait for a lock ends while its run's batch waits, and whoever loses leases so claims nothing for a while.
            let lock = locked(&herald, "lock table notifications in exclusive mode").await;
            let worker = herald.worker_with("all", &[("WORKER_LEASE_SECONDS", "10")]);
            until_at_the_phone(&client, 200).await;
            worker.kill();
            lock.rollback().await.unwrap();
            client.faults("mmg", &json!({})).await;
            assert_eq!(count(&herald, SENT).await, 0);
            let _next = herald.worker();
            oracle::check(report, &herald, &ids).await;
            Verdict::Passed
        },
    )
    .await;
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn a_worker_killed_after_its_commit_leaves_the_rest_to_the_next() {
    fault(
        "1e",
        "kill -9 after the commit of the sends, while receipts come in",
        async |report| {
            let herald = herald().await;
            let client = Client::live(&herald);
            providers(&client, json!({"receipt_delay_ms": 2_000})).await;
            let ids = send(&client, 200).await;
            let worker = herald.worker();
            until(&herald, "all are sent", SENT, |sent| sent == 200).await;
            worker.kill();
            let _next = herald.worker();
            oracle::check(report, &herald, &ids).await;
            Verdict::Passed
        },
    )
    .await;
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn a_worker_killed_in_the_middle_of_a_batched_write_has_written_all_of_it_or_nothing() {
    fault(
        "1f",
        "kill -9 in the middle of batched writes, six times",
        async |report| {
            let herald = herald().await;
            let client = Client::live(&herald);
            let ids = send(&client, 1_000).await;
            for round in 1..=6 {
                let worker = herald.worker();
                until_at_the_phone(&client, round * 100).await;
                let lock = locked(&herald, "lock table engine.journal in share mode").await;
                until(&herald, "a batch waits for the lock", BLOCKED, |blocked| blocked > 0).await;
                worker.kill();
                lock.rollback().await.unwrap();
            }
            let _next = herald.worker();
            oracle::check(report, &herald, &ids).await;
            Verdict::Passed
        },
    )
    .await;
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn a_worker_stopped_past_its_lease_is_refused_when_it_goes_on() {
    fault(
        "2",
        "SIGSTOP of a worker past its lease, SIGCONT once another has its runs, three times",
        async |report| {
            let herald = herald().await;
            let client = Client::live(&herald);
            // So that there are always calls under way.
            providers(&client, json!({"latency_ms": 300})).await;
            let _other = herald.worker();
            let zombie = herald.worker();
            let (load, taken) = load_while(&client, 80, async {
                let mut taken = 0;
                for _ in 0..3 {
                    outage(2.0).await;
                    zombie.signal("-STOP");
                    // Two leases: what it held is held by the other from here on.
                    outage(5.0).await;
                    taken += count(
                        &herald,
                        "select count(*) from engine.journal where epoch > 1 and at > now() - interval '5 s'",
                    )
                    .await;
                    zombie.signal("-CONT");
                }
                taken
            })
            .await;
            report.note(format!("{taken} checkpoints by later claims"));
            oracle::check(report, &herald, &load.ids()).await;
            Verdict::Passed
        },
    )
    .await;
}

/// Asks for a text under a key of its own; its id, if that is answered.
async fn ask_under_key(herald: &Herald, key: usize) -> Option<String> {
    let text = json!({"phone_number": "07700900123", "template_id": SMS_TEMPLATE, "personalisation": {"name": "Ada"}});
    let request = http()
        .post(format!("{}/v2/notifications/sms", herald.base_url))
        .header("idempotency-key", format!("key {key}"));
    let answer = request.bearer_auth(live_token()).json(&text).send().await.ok()?;
    let answer: Value = (answer.status() == 201).then_some(answer)?.json().await.ok()?;
    Some(answer["id"].as_str()?.to_owned())
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn a_request_that_comes_again_after_the_api_was_killed_makes_one_message() {
    let done = "kill -9 of the API, as for want of memory, between parse and commit of 20 requests; they and 20 that were answered come again with the same idempotency keys";
    fault("9", done, async |report| {
        let herald = Herald::start_without_api(database().await).await;
        oracle::watch(&herald.database).await;
        let api = herald.api_with(&[]).await;
        let ask = |keys: Range<usize>| join_all(keys.map(|key| ask_under_key(&herald, key)));
        let answered = ask(0..20).await;
        let lock = locked(&herald, "lock table notifications in share mode").await;
        let (cut_off, ()) = tokio::join!(ask(20..40), async {
            until(&herald, "requests wait for the lock", BLOCKED, |blocked| blocked > 0).await;
            api.kill();
            lock.rollback().await.unwrap();
        });
        assert!(
            cut_off.iter().all(Option::is_none),
            "some were answered before the kill"
        );
        let _api = herald.api_with(&[]).await;
        let _worker = herald.worker();
        let again = ask(0..40).await;
        assert_eq!(again[..20], answered);
        let ids: Vec<String> = again.into_iter().map(Option::unwrap).collect();
        oracle::check(report, &herald, &ids).await;
        assert_eq!(count(&herald, "select count(*) from notifications").await, 40);
        Verdict::Passed
    })
    .await;
}
