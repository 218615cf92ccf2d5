//! Receipts and complaints as they arrive: forged, in floods, about messages that are archived or abroad.

use futures::StreamExt;
use herald_message::status::Status;
use serde_json::{Value, json};
use sqlx::Row;
use uuid::Uuid;

use crate::{
    callbacks::{calls, endpoint, lane},
    harness::{Client, Database, Herald, Process, SERVICE, eventually, http},
};

/// A message in the history, as retention leaves it: nothing personal.
async fn archived(database: &Database, kind: &str, status: Status, reference: Option<&str>) -> Uuid {
    let id = Uuid::now_v7();
    sqlx::query(
        "insert into notification_history (id, service_id, template_id, template_version, key_type, notification_type,
             created_at, billable_units, notification_status, reference, sent_by, international, phone_prefix)
         select $1, service_id, id, version, 'normal', template_type::text::notification_type,
             now() at time zone 'utc' - interval '8 days', 1, $3, $4, 'mmg', true, '33'
         from templates where template_type::text = $2",
    )
    .bind(id)
    .bind(kind)
    .bind(status.as_str())
    .bind(reference)
    .execute(&**database)
    .await
    .unwrap();
    id
}

async fn in_history(database: &Database, id: Uuid) -> (String, Option<String>) {
    let row = sqlx::query("select notification_status, detailed_status from notification_history where id = $1")
        .bind(id)
        .fetch_one(&**database)
        .await
        .unwrap();
    (row.get(0), row.get(1))
}

async fn count(database: &Database, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(&**database).await.unwrap()
}

async fn until_no_run_is_left(database: &Database) {
    eventually("no run is left", || async {
        (count(database, "select count(*) from engine.run").await == 0).then_some(())
    })
    .await;
}

async fn post_mmg(herald: &Herald, id: &str, status: &str, substatus: &str) {
    let url = format!("{}/notifications/sms/mmg", herald.base_url);
    let receipt = json!({"CID": id, "status": status, "substatus": substatus});
    assert_eq!(http().post(url).json(&receipt).send().await.unwrap().status(), 200);
}

async fn post_firetext(herald: &Herald, id: &str, status: &str, code: &str) {
    let url = format!("{}/notifications/sms/firetext", herald.base_url);
    let receipt = [("reference", id), ("status", status), ("code", code)];
    assert_eq!(http().post(url).form(&receipt).send().await.unwrap().status(), 200);
}

/// Who has it, and what became of it.
async fn sent_by(herald: &Herald, id: &str) -> (String, String) {
    sqlx::query_as("select sent_by, notification_status from notifications where id = $1::uuid")
        .bind(id)
        .fetch_one(&*herald.database)
        .await
        .unwrap()
}

fn delivery(reference: &str) -> Value {
    json!({"notificationType": "Delivery", "mail": {"messageId": reference}, "delivery": {}})
}

pub fn complaint(reference: &str, feedback: &str) -> Value {
    json!({
        "notificationType": "Complaint",
        "mail": {"messageId": reference, "destination": ["ada@example.com"]},
        "complaint": {"feedbackId": feedback, "complaintFeedbackType": "abuse", "timestamp": "2026-11-20T10:00:03Z"},
    })
}

#[tokio::test]
async fn a_forged_message_of_sns_is_turned_away_and_leaves_nothing() {
    let herald = Herald::start_without_workers().await;
    let genuine = herald.signed(json!({"Type": "Notification", "Message": delivery("r").to_string()}));
    let mut forgeries = vec![json!({"Type": "Notification", "Message": delivery("r").to_string()})];
    for (field, value) in [
        ("Message", json!(complaint("r", "f").to_string())),
        ("TopicArn", json!("arn:aws:sns:eu-west-1:999999999999:mine")),
        (
            "SigningCertURL",
            json!("https://evil.example/SimpleNotificationService-1.pem"),
        ),
        ("SignatureVersion", json!("1")),
    ] {
        let mut forgery = genuine.clone();
        forgery[field] = value;
        forgeries.push(forgery);
    }
    let of_another_topic =
        json!({"Type": "Notification", "TopicArn": "arn:mine", "Message": delivery("r").to_string()});
    forgeries.push(herald.signed(of_another_topic));
    forgeries.push(herald.signed(json!({
        "Type": "SubscriptionConfirmation", "Token": "t", "SubscribeURL": "https://evil.example/",
    })));
    for forgery in &forgeries {
        assert_eq!(herald.post_sns(forgery).await, 403, "{forgery}");
    }
    let left = "select (select count(*) from engine.run) + (select count(*) from engine.run_key)
        + (select count(*) from engine.signal) + (select count(*) from complaints)";
    assert_eq!(count(&herald.database, left).await, 0);
    assert_eq!(herald.post_sns(&genuine).await, 200);
    assert_eq!(count(&herald.database, left).await, 2, "a run and its key");
}

#[tokio::test]
async fn a_subscription_is_confirmed_where_sns_says_and_its_end_is_not_undone() {
    let herald = Herald::start_without_workers().await;
    let link = |token: &str| {
        format!(
            "{}/sns/confirm?Action=ConfirmSubscription&Token={token}",
            herald.stub_url
        )
    };
    for (kind, token) in [
        ("SubscriptionConfirmation", "first"),
        ("UnsubscribeConfirmation", "second"),
    ] {
        let envelope = herald.signed(json!({"Type": kind, "Token": token, "SubscribeURL": link(token)}));
        assert_eq!(herald.post_sns(&envelope).await, 200);
    }
    let confirmed = http().get(format!("{}/sns/confirmed", herald.stub_url)).send().await;
    let confirmed: Value = confirmed.unwrap().json().await.unwrap();
    assert_eq!(confirmed, json!({"tokens": ["first"]}));
}

#[tokio::test]
async fn a_complaint_is_recorded_once_and_changes_no_status() {
    let herald = Herald::start_all().await;
    let client = Client::live(&herald);
    let live = client.send_email("ada@example.com").await;
    client.until(&live, "delivered").await;
    let reference: String = sqlx::query_scalar("select reference from notifications where id = $1::uuid")
        .bind(&live)
        .fetch_one(&*herald.database)
        .await
        .unwrap();
    let old = archived(&herald.database, "email", Status::Delivered, Some("old one")).await;
    let about_both = [
        complaint(&reference, "f-1"),
        complaint("old one", "f-1"),
        complaint(&reference, "f-2"),
    ];
    let posts = (0..30).map(|i| herald.post_ses(&about_both[i % 3]));
    assert!(
        futures::future::join_all(posts)
            .await
            .iter()
            .all(|status| *status == 200)
    );
    until_no_run_is_left(&herald.database).await;
    let mut complaints: Vec<(String, String, String)> = sqlx::query_as(
        "select notification_id::text, ses_feedback_id,
             format('%s %s %s', complaint_type, complaint_date, service_id = 'c1f0a1f6-6a57-4a4a-9d0e-6f3d9c1d7a11')
         from complaints",
    )
    .fetch_all(&*herald.database)
    .await
    .unwrap();
    complaints.sort();
    let mut expected = [(live.clone(), "f-1"), (live.clone(), "f-2"), (old.to_string(), "f-1")]
        .map(|(id, feedback)| (id, feedback.to_owned(), "abuse 2026-11-20 10:00:03 t".to_owned()));
    expected.sort();
    assert_eq!(complaints, expected);
    assert_eq!(client.get(&live).await["status"], "delivered");
    assert_eq!(in_history(&herald.database, old).await.0, "delivered");
}

#[tokio::test]
async fn a_receipt_that_comes_after_archiving_settles_the_history() {
    let herald = Herald::start_all().await;
    let database = &herald.database;
    let text = archived(database, "sms", Status::Sent, None).await;
    let email = archived(database, "email", Status::Sending, Some("old one")).await;
    let given_up = archived(database, "sms", Status::TemporaryFailure, None).await;
    for id in [text, given_up] {
        post_mmg(&herald, &id.to_string(), "3", "5").await;
    }
    assert_eq!(herald.post_ses(&delivery("old one")).await, 200);
    until_no_run_is_left(database).await;
    let words = Some("5 Delivered to handset".to_owned());
    assert_eq!(in_history(database, text).await, ("delivered".to_owned(), words));
    assert_eq!(in_history(database, email).await, ("delivered".to_owned(), None));
    assert_eq!(
        in_history(database, given_up).await,
        ("temporary-failure".to_owned(), None)
    );
}

#[tokio::test]
async fn the_failure_of_a_provider_that_was_given_up_is_not_the_end_of_what_the_other_one_has() {
    let herald = Herald::start_all().await;
    let client = Client::live(&herald);
    client
        .faults("firetext", &json!({"status": 500, "missing_receipts": true}))
        .await;
    client.faults("mmg", &json!({"missing_receipts": true})).await;
    let text = client.send_text("07700900123").await;
    client.until(&text, "sending").await;
    post_firetext(&herald, &text, "1", "101").await;
    eventually("the receipt was looked at", || async {
        let looked_at =
            "select count(*) from engine.journal, jsonb_array_elements(events) e where e ->> 'event' = 'received'";
        (count(&herald.database, looked_at).await == 1).then_some(())
    })
    .await;
    assert_eq!(sent_by(&herald, &text).await, ("mmg".to_owned(), "sending".to_owned()));
    post_mmg(&herald, &text, "3", "5").await;
    client.until(&text, "delivered").await;
    until_no_run_is_left(&herald.database).await;
}

#[tokio::test]
async fn a_receipt_tells_which_of_two_calls_of_unknown_outcome_was_taken() {
    let (herald, text, calls, _worker) = two_calls_without_an_answer().await;
    arrived(&herald, &text, &calls[0]).await;
    Client::live(&herald).until(&text, "delivered").await;
    assert_eq!(sent_by(&herald, &text).await.0, calls[0]);
}

#[tokio::test]
async fn of_two_calls_of_unknown_outcome_the_failure_of_the_first_does_not_end_what_the_second_delivers() {
    let (herald, text, calls, _worker) = two_calls_without_an_answer().await;
    match &*calls[0] {
        "mmg" => post_mmg(&herald, &text, "4", "13").await,
        _ => post_firetext(&herald, &text, "1", "201").await,
    }
    eventually("the failure was looked at, and the run waits on", || async {
        let waits = "select state = 'waiting' and epoch > (select max(epoch) from engine.journal where run_id = r.id)
            from engine.run r where id = $1::uuid";
        let waits: Option<bool> = sqlx::query_scalar(waits)
            .bind(&text)
            .fetch_optional(&*herald.database)
            .await
            .unwrap();
        waits?.then_some(())
    })
    .await;
    arrived(&herald, &text, &calls[1]).await;
    Client::live(&herald).until(&text, "delivered").await;
    assert_eq!(sent_by(&herald, &text).await.0, calls[1]);
}

async fn arrived(herald: &Herald, text: &str, provider: &str) {
    match provider {
        "mmg" => post_mmg(herald, text, "3", "5").await,
        _ => post_firetext(herald, text, "0", "000").await,
    }
}

/// A text of which both providers were told, neither of which has answered; with them, in order.
async fn two_calls_without_an_answer() -> (Herald, String, Vec<String>, Process) {
    let herald = Herald::start_without_workers().await;
    let client = Client::live(&herald);
    for provider in ["firetext", "mmg"] {
        let no_answer = json!({"reset_after_accept": true, "missing_receipts": true});
        client.faults(provider, &no_answer).await;
    }
    let worker = herald.worker_with("all", &[("UNKNOWN_OUTCOME_PATIENCE_SECONDS", "5")]);
    let text = client.send_text("07700900123").await;
    let calls = eventually("two calls have been made", || async {
        let calls: Vec<String> = sqlx::query_scalar(
            "select e -> 'plan' -> 'send' ->> 'sent_by' from engine.journal, jsonb_array_elements(events) e
             where e ->> 'event' = 'intent' order by seq",
        )
        .fetch_all(&*herald.database)
        .await
        .unwrap();
        (calls.len() == 2).then_some(calls)
    })
    .await;
    assert_ne!(calls[0], calls[1]);
    (herald, text, calls, worker)
}

#[tokio::test]
async fn a_text_to_a_country_without_receipts_stays_sent() {
    let herald = Herald::start_all().await;
    let client = Client::live(&herald);
    let (china, france) = (
        client.send_text("+8613812345678").await,
        client.send_text("+33612345678").await,
    );
    until_no_run_is_left(&herald.database).await;
    // Both had their receipts: no run waits any more.
    assert_eq!(client.get(&china).await["status"], "sent");
    assert_eq!(client.get(&france).await["status"], "delivered");
}

#[tokio::test]
async fn the_reason_of_a_failure_is_kept_in_the_provider_s_words() {
    let herald = Herald::start_all().await;
    let client = Client::live(&herald);
    for (provider, status, code, expected) in [
        ("mmg", "4", "13", "13 SMS Not Supported"),
        ("firetext", "1", "201", "201 Invalid Number"),
    ] {
        let other = if provider == "mmg" { "firetext" } else { "mmg" };
        client.faults(other, &json!({"status": 500})).await;
        client
            .faults(provider, &json!({"receipt_status": status, "receipt_code": code}))
            .await;
        let id = client.send_text("07700900123").await;
        let kept = eventually("the text has failed", || async {
            sqlx::query_scalar::<_, String>(
                "select detailed_status from notifications where id = $1::uuid and detailed_status is not null",
            )
            .bind(&id)
            .fetch_optional(&*herald.database)
            .await
            .unwrap()
        })
        .await;
        assert_eq!(kept, expected);
        let timeline = client.look_at(&format!("/v2/notifications/{id}/timeline")).await;
        let name = if provider == "mmg" { "MMG" } else { "Firetext" };
        let said = format!("{name} reports: failed ({expected}).");
        assert!(timeline.to_string().contains(&said), "{timeline}");
        client.faults(other, &json!({})).await;
        client.faults(provider, &json!({})).await;
    }
    client
        .faults(
            "ses",
            &json!({"receipt_status": "Permanent", "receipt_code": "NoEmail"}),
        )
        .await;
    let id = client.send_email("ada@example.com").await;
    client.until(&id, "permanent-failure").await;
    let kept: String = sqlx::query_scalar("select detailed_status from notifications where id = $1::uuid")
        .bind(&id)
        .fetch_one(&*herald.database)
        .await
        .unwrap();
    assert_eq!(kept, "Permanent/NoEmail");
    let timeline = client.look_at(&format!("/v2/notifications/{id}/timeline")).await;
    let said = "SES reports: failed (Permanent/NoEmail).";
    assert!(timeline.to_string().contains(said), "{timeline}");
}

/// The same receipt a hundred times at once: the message was delivered.
async fn post_copies(herald: &Herald, provider: &str, id: &str) {
    const COPIES: usize = 100;
    let event =
        json!({"eventType": "Delivery", "mail": {"messageId": "r", "tags": {"notification_id": [id]}}, "delivery": {}});
    let envelope = herald.signed(json!({"Type": "Notification", "Message": event.to_string()}));
    let copies = (0..COPIES).map(async |_| match provider {
        "firetext" => post_firetext(herald, id, "0", "000").await,
        "mmg" => post_mmg(herald, id, "3", "5").await,
        _ => assert_eq!(herald.post_sns(&envelope).await, 200),
    });
    futures::future::join_all(copies).await;
}

#[tokio::test]
async fn a_hundred_copies_of_a_receipt_at_once_count_once_whether_a_run_waits_for_it_or_has_ended() {
    let herald = Herald::start_all().await;
    endpoint(&herald, lane(SERVICE), "callbacks").await;
    let client = Client::live(&herald);
    for provider in ["firetext", "mmg", "ses"] {
        client.faults(provider, &json!({"missing_receipts": true})).await;
    }
    let mut messages = Vec::new();
    while ["firetext", "mmg", "ses"]
        .iter()
        .any(|by| messages.iter().all(|(sent_by, _)| sent_by != by))
    {
        for id in [
            client.send_text("07700900123").await,
            client.send_email("ada@example.com").await,
        ] {
            client.until(&id, "sending").await;
            messages.push((sent_by(&herald, &id).await.0, id));
        }
    }
    let changes = "select array_agg(updated_at order by id) from notifications";
    let mut changed = Vec::new();
    for _ in ["it waits", "it has ended"] {
        for (provider, id) in &messages {
            post_copies(&herald, provider, id).await;
            client.until(id, "delivered").await;
        }
        until_no_run_is_left(&herald.database).await;
        let at: Vec<chrono::NaiveDateTime> = sqlx::query_scalar(changes).fetch_one(&*herald.database).await.unwrap();
        changed.push(at);
    }
    assert_eq!(changed[0], changed[1], "what was settled was changed again");
    let told = calls(&herald, "callbacks").await;
    let told_of = |id: &str| told.iter().filter(|call| call.to_string().contains(id)).count();
    assert!(messages.iter().all(|(_, id)| told_of(id) == 1), "{told:?}");
}

/// On a disk that takes its time, so that however slowly this machine posts, more arrive while a batch is written.
#[tokio::test]
async fn many_receipts_at_once_are_few_commits() {
    const RECEIPTS: usize = 1_000;
    let herald = Herald::start_without_workers().await;
    let slow_disk = "
        create function slow_disk() returns trigger language plpgsql as
            $$ begin perform pg_sleep(0.1); return null; end $$;
        create trigger slow_disk after insert on engine.run for each statement execute function slow_disk()";
    sqlx::raw_sql(slow_disk).execute(&*herald.database).await.unwrap();
    let http = http();
    let url = format!("{}/notifications/sms/mmg", herald.base_url);
    let posts = futures::stream::iter(0..RECEIPTS).map(|_| {
        let receipt = json!({"CID": Uuid::now_v7(), "status": "3"});
        http.post(&url).json(&receipt).send()
    });
    let answers: Vec<u16> = posts
        .buffer_unordered(200)
        .map(|answer| answer.unwrap().status().as_u16())
        .collect()
        .await;
    assert!(answers.iter().all(|status| *status == 200));
    // Rows of one commit bear its number.
    let row = "select count(*), count(distinct xmin::text) from engine.run where workflow = 'settle_receipt'";
    let (runs, commits): (i64, i64) = sqlx::query_as(row).fetch_one(&*herald.database).await.unwrap();
    println!("{runs} receipts in {commits} commits");
    assert_eq!(runs, i64::try_from(RECEIPTS).unwrap());
    assert!(commits * 10 <= runs, "{runs} receipts took {commits} commits");
}

#[tokio::test]
async fn what_the_database_cannot_hold_is_no_reason_to_lose_a_receipt() {
    let herald = Herald::start_all().await;
    let client = Client::live(&herald);
    for provider in ["mmg", "firetext"] {
        client.faults(provider, &json!({"missing_receipts": true})).await;
    }
    let id = client.send_text("07700900123").await;
    eventually("it is sent", || async {
        (client.get(&id).await["status"] == "sending").then_some(())
    })
    .await;
    let url = format!("{}/notifications/sms/firetext", herald.base_url);
    let body = format!("status=0&reference={id}&code=1%00&mobile=%00");
    let form = "application/x-www-form-urlencoded";
    let answer = http().post(url).header("content-type", form).body(body).send().await;
    assert_eq!(answer.unwrap().status(), 200);
    client.until(&id, "delivered").await;
}
