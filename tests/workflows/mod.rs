//! Deliveries from the first request to the last receipt, at the built program.

mod lives;
mod payloads;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    callbacks::{calls, endpoint, lane},
    harness::{Client, Herald, SERVICE, eventually},
};

#[tokio::test]
async fn a_text_reaches_the_phone_once_and_is_delivered() {
    let herald = Herald::start_all().await;
    sqlx::query("update services set prefix_sms = true")
        .execute(&*herald.database)
        .await
        .unwrap();
    let client = Client::live(&herald);
    let id = client.send_text("07700900123").await;
    let text = client.until(&id, "delivered").await;
    assert_eq!(text["body"], "Hello Ada, this is a text from Herald.");
    assert!(text["sent_at"].is_string() && text["completed_at"].is_string());
    assert_eq!(text["cost_details"]["billable_sms_fragments"], 1);
    let got = client.phone(&id).await;
    assert_eq!(got.len(), 1, "{got:?}");
    assert_eq!(got[0]["to"], "447700900123");
    assert_eq!(
        got[0]["content"],
        "Herald Development: Hello Ada, this is a text from Herald."
    );
}

#[tokio::test]
async fn an_email_reaches_the_inbox_once_and_is_delivered() {
    let herald = Herald::start_all().await;
    let client = Client::live(&herald);
    let id = client.send_email("Ada@example.com").await;
    client.until(&id, "delivered").await;
    let got = client.phone(&id).await;
    assert_eq!(got.len(), 1, "{got:?}");
    assert_eq!(got[0]["to"], "ada@example.com", "as Notify writes it");
    assert!(got[0]["content"].as_str().unwrap().contains("Hello Ada,"), "{got:?}");
}

#[tokio::test]
async fn receipts_decide_how_a_text_ends() {
    let herald = Herald::start_all().await;
    let client = Client::live(&herald);
    let (temporary, permanent) = (
        client.send_text("07700900003").await,
        client.send_text("07700900002").await,
    );
    client.until(&temporary, "temporary-failure").await;
    client.until(&permanent, "permanent-failure").await;
}

#[tokio::test]
async fn a_test_key_is_answered_without_a_provider() {
    let herald = Herald::start_all().await;
    let client = Client::test(&herald);
    for (to, status) in [
        ("07700900123", "delivered"),
        ("07700900003", "temporary-failure"),
        ("07700900002", "permanent-failure"),
    ] {
        let id = client.send_text(to).await;
        client.until(&id, status).await;
        assert!(client.phone(&id).await.is_empty());
    }
    for (to, status) in [
        ("a@example.com", "delivered"),
        ("perm-fail@simulator.notify", "permanent-failure"),
        ("temp-fail@simulator.notify", "temporary-failure"),
    ] {
        let id = client.send_email(to).await;
        client.until(&id, status).await;
        assert!(client.phone(&id).await.is_empty());
    }
}

#[tokio::test]
async fn a_refusal_moves_the_next_attempt_to_the_other_firm_at_once() {
    let herald = Herald::start_all().await;
    let client = Client::live(&herald);
    client.faults("mmg", &json!({"status": 500})).await;
    client.faults("firetext", &json!({})).await;
    for _ in 0..10 {
        let id = client.send_text("07700900123").await;
        client.until(&id, "delivered").await;
        let got = client.phone(&id).await;
        assert_eq!(got.len(), 1, "{got:?}");
        assert_eq!(got[0]["provider"], "firetext");
    }
}

#[tokio::test]
async fn a_firm_that_takes_a_text_and_hangs_up_does_not_make_it_two() {
    let herald = Herald::start_all().await;
    let client = Client::live(&herald);
    for firm in ["mmg", "firetext"] {
        client.faults(firm, &json!({"reset_after_accept": true})).await;
    }
    let id = client.send_text("07700900123").await;
    client.until(&id, "delivered").await;
    assert_eq!(client.phone(&id).await.len(), 1);
}

#[tokio::test]
async fn receipts_that_come_twice_or_before_our_commit_count_once() {
    let herald = Herald::start_all().await;
    let client = Client::live(&herald);
    for firm in ["mmg", "firetext"] {
        client
            .faults(firm, &json!({"duplicate_receipts": 20, "receipt_before_answer": true}))
            .await;
    }
    let ids = futures::future::join_all((0..20).map(|_| client.send_text("07700900123"))).await;
    for id in &ids {
        client.until(id, "delivered").await;
        assert_eq!(client.phone(id).await.len(), 1);
    }
    eventually("no run is left over", || async {
        let left: i64 = sqlx::query_scalar("select count(*) from engine.run")
            .fetch_one(&*herald.database)
            .await
            .unwrap();
        (left == 0).then_some(())
    })
    .await;
}

/// A text as another system left it, so old.
async fn left_behind(herald: &Herald, status: &str, kind: &str, hours: i32) -> Uuid {
    let id = Uuid::new_v4();
    sqlx::query(
        r#"insert into notifications (id, "to", service_id, template_id, template_version, created_at, key_type,
               notification_type, notification_status, billable_units, sent_by)
           select $1, '07411000001', service_id, id, version, now() at time zone 'utc' - $2 * interval '1 hour', 'normal',
               $3::notification_type, $4, 1, 'mmg'
           from templates where template_type::text = 'sms'"#,
    )
    .bind(id)
    .bind(hours)
    .bind(kind)
    .bind(status)
    .execute(&*herald.database)
    .await
    .unwrap();
    id
}

async fn status(herald: &Herald, id: Uuid) -> String {
    sqlx::query_scalar("select notification_status from notifications where id = $1")
        .bind(id)
        .fetch_one(&*herald.database)
        .await
        .unwrap()
}

#[tokio::test]
async fn what_nobody_follows_after_three_days_is_settled_at_night_and_its_service_is_told() {
    let herald = Herald::start_all().await;
    endpoint(&herald, lane(SERVICE), "callbacks").await;
    let mut cases = Vec::new();
    for (was, kind, hours, becomes) in [
        ("sending", "sms", 73, "temporary-failure"),
        ("pending", "sms", 120, "temporary-failure"),
        ("sending", "email", 73, "temporary-failure"),
        ("created", "sms", 73, "technical-failure"),
        ("sending", "sms", 71, "sending"),
        ("created", "sms", 71, "created"),
        ("delivered", "sms", 73, "delivered"),
        ("sent", "sms", 73, "sent"),
        ("sending", "letter", 73, "sending"),
    ] {
        cases.push((left_behind(&herald, was, kind, hours).await, becomes));
    }
    // More than are looked at in one step, at one instant, in which the first and the last are open.
    let many = r#"insert into notifications (id, "to", service_id, template_id, template_version, created_at, key_type,
            notification_type, notification_status, billable_units, sent_by)
        select lpad(to_hex(i), 32, '0')::uuid, n."to", n.service_id, n.template_id, n.template_version, n.created_at - interval '1 day',
            n.key_type, n.notification_type, case when i in (1, 12000) then 'pending' else 'delivered' end, 1, 'mmg'
        from notifications n, generate_series(1, 12000) i where n.id = $1"#;
    sqlx::query(many)
        .bind(cases[0].0)
        .execute(&*herald.database)
        .await
        .unwrap();
    cases.extend([1, 12_000].map(|i| (Uuid::from_u128(i), "temporary-failure")));
    // It is to be sent in an hour, by a run of its own.
    let mine = left_behind(&herald, "created", "sms", 73).await;
    let run = "insert into engine.run (id, workflow, queue, state, due_at, input)
        values ($1, 'deliver_sms', 'retry', 'sleeping', now() + interval '1 hour', jsonb_build_object('id', $1::uuid))";
    sqlx::query(run).bind(mine).execute(&*herald.database).await.unwrap();
    cases.push((mine, "created"));

    let missed = "insert into engine.schedule values ('timeout_sending_notifications', now() - interval '25 hours')";
    sqlx::query(missed).execute(&*herald.database).await.unwrap();
    let _beat = herald.beat();
    let told = eventually("services are told of five", || async {
        let calls = calls(&herald, "callbacks").await;
        (calls.len() >= 5).then_some(calls)
    })
    .await;
    for (id, becomes) in &cases {
        assert_eq!(status(&herald, *id).await, *becomes, "{id}");
    }
    let mut told: Vec<String> = told.iter().map(told_of).collect();
    told.sort();
    let mut failed: Vec<String> = cases
        .iter()
        .filter(|(_, becomes)| *becomes == "temporary-failure")
        .map(|(id, becomes)| format!("{id} {becomes}"))
        .collect();
    failed.sort();
    assert_eq!(told, failed);
}

fn told_of(call: &Value) -> String {
    let body: Value = serde_json::from_str(call["body"].as_str().unwrap()).unwrap();
    format!("{} {}", body["id"].as_str().unwrap(), body["status"].as_str().unwrap())
}

#[tokio::test]
async fn the_beat_starts_the_housekeeping_that_was_missed_and_a_worker_does_it() {
    let herald = Herald::start_all().await;
    let missed = "insert into engine.schedule values ('housekeeping', now() - interval '3 hours')";
    sqlx::query(missed).execute(&*herald.database).await.unwrap();
    let _beats = [herald.beat(), herald.beat()];
    let done =
        "select count(*) from engine.firing f join engine.journal j using (run_id), jsonb_array_elements(events) e
         where f.schedule = 'housekeeping' and f.outcome = 'fired' and e ->> 'event' = 'finished'";
    eventually("the house is kept", || async {
        let done: i64 = sqlx::query_scalar(done).fetch_one(&*herald.database).await.unwrap();
        (done == 1).then_some(())
    })
    .await;
}
