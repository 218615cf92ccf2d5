//! What runs live through, so that everything that stories write is written.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    callbacks::{happen, other_lane, tell_with_trouble, until_idle},
    harness::{Admin, Client, Herald, SMS_TEMPLATE, eventually, http},
};

/// No answer, and nothing that would prove that it was taken.
fn silence() -> Value {
    json!({"reset_after_accept": true, "missing_receipts": true})
}

/// Deliveries and callbacks of every kind, with every kind of trouble.
pub async fn live_through_everything(herald: &Herald) {
    tell_with_trouble(herald).await;
    let client = Client::live(herald);
    let delivered = client.send_text("07700900123").await;
    client.until(&delivered, "delivered").await;
    let late = format!("status=1&reference={delivered}&mobile=447700900123");
    let url = format!("{}/notifications/sms/firetext", herald.base_url);
    let form = "application/x-www-form-urlencoded";
    let answer = http()
        .post(url)
        .header("content-type", form)
        .body(late)
        .send()
        .await
        .unwrap();
    assert!(answer.status().is_success());

    let email = client.send_email("ada@example.com").await;
    client.until(&email, "delivered").await;
    let unknown = json!({"eventType": "Delivery", "notificationType": "Delivery", "mail": {"messageId": "nobody's", "destination": ["a@example.com"]}});
    assert_eq!(herald.post_ses(&unknown).await, 200);
    let complaint = json!({
        "eventType": "Complaint",
        "mail": {"messageId": "told by its tag", "tags": {"notification_id": [email]}},
        "complaint": {"feedbackId": "f-1", "complaintFeedbackType": "abuse", "timestamp": "2026-11-20T10:00:03.000Z"},
    });
    assert_eq!(herald.post_ses(&complaint).await, 200);

    // The clock starts them once a day.
    for workflow in ["keep_house", "time_out_sending"] {
        let run: String = sqlx::query_scalar(
            "insert into engine.run (id, workflow, queue, state, due_at, input)
             values ($1, $2, 'periodic', 'ready', now(), '{}') returning id::text",
        )
        .bind(Uuid::now_v7())
        .bind(workflow)
        .fetch_one(&*herald.database)
        .await
        .unwrap();
        until_over(herald, &run).await;
    }

    let tested = Client::test(herald);
    let text = tested.send_text("07700900003").await;
    tested.until(&text, "temporary-failure").await;
    let email = tested.send_email("perm-fail@simulator.notify").await;
    tested.until(&email, "permanent-failure").await;

    people_interfere(herald, &client).await;
    time_passes(herald, &client).await;

    for fault in [
        json!({"status": 500}),
        json!({"hang": true, "accept": true, "missing_receipts": true, "times": 1}),
        json!({"reset_after_accept": true}),
    ] {
        for provider in ["firetext", "mmg"] {
            client.faults(provider, &fault).await;
        }
        let troubled = client.send_text("07700900123").await;
        eventually("trouble is recorded", || async {
            let failed: bool = sqlx::query_scalar(
                "select exists (select from engine.journal where run_id = $1::uuid and events::text like '%\"failed\"%')",
            )
            .bind(&troubled)
            .fetch_one(&*herald.database)
            .await
            .unwrap();
            failed.then_some(())
        })
        .await;
        for provider in ["firetext", "mmg"] {
            client.faults(provider, &json!([])).await;
        }
        let hurry = "update engine.run set due_at = now() where id = $1::uuid and state = 'sleeping'";
        eventually("it is delivered all the same", || async {
            sqlx::query(hurry)
                .bind(&troubled)
                .execute(&*herald.database)
                .await
                .unwrap();
            (client.get(&troubled).await["status"] == "delivered").then_some(())
        })
        .await;
    }
}

/// Runs are paused, cancelled and tried again, wherever they stand.
async fn people_interfere(herald: &Herald, client: &Client<'_>) {
    let queue = async |queue: &str, deed: &str| admin_post(herald, &format!("/engine/queues/{queue}/{deed}")).await;
    queue("service-callbacks", "pause").await;
    happen(herald, other_lane(), 1).await;
    let teller = "select run_id::text from service_callback_lane where run_id is not null";
    let teller: String = sqlx::query_scalar(teller).fetch_one(&*herald.database).await.unwrap();
    wish(herald, &teller, "cancel").await;
    queue("service-callbacks", "resume").await;
    until_idle(herald).await;

    let never = json!({"status": 400, "code": "InvalidParameterValue", "times": 1});
    client.faults("ses", &never).await;
    let refused = client.send_email("ada@example.com").await;
    client.until(&refused, "technical-failure").await;
    until_run(herald, &refused, "failed").await;
    wish(herald, &refused, "redrive").await;
    until_over(herald, &refused).await;

    queue("send-sms", "pause").await;
    let unsent = client.send_text("07700900123").await;
    wish(herald, &unsent, "cancel").await;
    queue("send-sms", "resume").await;
    client.until(&unsent, "cancelled").await;

    both(client, json!({"missing_receipts": true})).await;
    let unanswered = client.send_text("07700900123").await;
    until_run(herald, &unanswered, "waiting").await;
    wish(herald, &unanswered, "cancel").await;
    client.until(&unanswered, "temporary-failure").await;

    both(client, silence()).await;
    let doubtful = client.send_text("07700900123").await;
    until_run(herald, &doubtful, "waiting").await;
    wish(herald, &doubtful, "cancel").await;
    client.until(&doubtful, "technical-failure").await;
    both(client, json!({})).await;

    // Paused between its claim and its call: it cannot be read until then.
    queue("send-sms", "pause").await;
    let held = client.send_text("07700900123").await;
    let mut lock = herald.database.begin().await.unwrap();
    let unread = "lock table notifications in access exclusive mode";
    sqlx::query(unread).execute(&mut *lock).await.unwrap();
    queue("send-sms", "resume").await;
    until_run(herald, &held, "running").await;
    wish(herald, &held, "pause").await;
    lock.rollback().await.unwrap();
    until_written(herald, &held, "withdrawn").await;
    wish(herald, &held, "resume").await;
    client.until(&held, "delivered").await;
}

/// Messages are not wanted any more, or nobody ever hears of them; receipts come before their references are known.
async fn time_passes(herald: &Herald, client: &Client<'_>) {
    both(client, json!({"status": 500})).await;
    let stale = send_within_seconds(client, 1).await;
    client.until(&stale, "temporary-failure").await;

    both(client, silence()).await;
    let presumed = send_within_seconds(client, 1).await;
    until_written(herald, &presumed, "presumed").await;
    until_run(herald, &presumed, "waiting").await;
    let days = "with past as (update engine.journal set at = at - interval '73 hours' where run_id = $1::uuid)
        update engine.run set created_at = created_at - interval '73 hours', due_at = now() where id = $1::uuid";
    let late = sqlx::query(days).bind(&presumed).execute(&*herald.database);
    assert_eq!(late.await.unwrap().rows_affected(), 1);
    client.until(&presumed, "temporary-failure").await;
    both(client, json!({})).await;

    let early = json!({"untagged_receipts": true, "receipt_before_answer": true});
    client.faults("ses", &early).await;
    let email = client.send_email("ada@example.com").await;
    client.until(&email, "delivered").await;
    client.faults("ses", &json!({})).await;
}

async fn both(client: &Client<'_>, faults: Value) {
    for provider in ["firetext", "mmg"] {
        client.faults(provider, &faults).await;
    }
}

async fn send_within_seconds(client: &Client<'_>, seconds: u32) -> String {
    let text = json!({
        "phone_number": "07700900123", "template_id": SMS_TEMPLATE, "personalisation": {"name": "Ada"},
        "expires_in": seconds,
    });
    let (status, answer) = client.post("/v2/notifications/sms", &[], &text).await;
    assert_eq!(status, 201, "{answer}");
    answer["id"].as_str().unwrap().to_owned()
}

/// What people wish of a run: `cancel`, `pause`, `resume` or `redrive`.
async fn wish(herald: &Herald, run: &str, deed: &str) {
    admin_post(herald, &format!("/engine/runs/{run}/{deed}")).await;
}

async fn admin_post(herald: &Herald, path: &str) {
    let (status, answer) = Admin::new(herald).post(path, &json!({"reason": "a test"})).await;
    assert_eq!(status, 200, "{path}: {answer}");
}

async fn until_run(herald: &Herald, run: &str, state: &str) {
    let is = "select exists (select from engine.run where id = $1::uuid and state = $2)";
    eventually(&format!("the run is {state}"), || async {
        let is: bool = sqlx::query_scalar(is)
            .bind(run)
            .bind(state)
            .fetch_one(&*herald.database)
            .await
            .unwrap();
        is.then_some(())
    })
    .await;
}

async fn until_over(herald: &Herald, run: &str) {
    eventually("the run is over", || async {
        let lives: bool = sqlx::query_scalar("select exists (select from engine.run where id = $1::uuid)")
            .bind(run)
            .fetch_one(&*herald.database)
            .await
            .unwrap();
        (!lives).then_some(())
    })
    .await;
}

async fn until_written(herald: &Herald, run: &str, event: &str) {
    let is = "select exists (select from engine.journal, jsonb_array_elements(events) e
        where run_id = $1::uuid and e ->> 'event' = $2)";
    eventually(&format!("{event} is written"), || async {
        let is: bool = sqlx::query_scalar(is)
            .bind(run)
            .bind(event)
            .fetch_one(&*herald.database)
            .await
            .unwrap();
        is.then_some(())
    })
    .await;
}
