//! What Herald does beyond Notify: requests that may be repeated, messages that are scheduled, cancelled or expire, and
//! what is told of a message on its way.

use std::collections::HashSet;

use chrono::{TimeDelta, Utc};
use futures::future::join_all;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Client, Herald, SERVICE, SMS_TEMPLATE, eventually, words};

const SMS: &str = "/v2/notifications/sms";

fn text(more: &Value) -> Value {
    let mut text =
        json!({"phone_number": "07900900123", "template_id": SMS_TEMPLATE, "personalisation": {"name": "Ada"}});
    for (name, value) in more.as_object().unwrap() {
        text[name] = value.clone();
    }
    text
}

/// Gives the development service a permission.
async fn permit(herald: &Herald, permission: &str) {
    sqlx::query(
        "insert into service_permissions (service_id, permission, created_at)
         select id, $1, now() from services where name = 'Herald Development'",
    )
    .bind(permission)
    .execute(&*herald.database)
    .await
    .unwrap();
}

async fn sent(client: &Client<'_>, headers: &[(&'static str, &str)], more: &Value) -> String {
    let (status, answer) = client.post(SMS, headers, &text(more)).await;
    assert_eq!(status, 201, "{answer}");
    answer["id"].as_str().unwrap().to_owned()
}

async fn rows(herald: &Herald) -> i64 {
    sqlx::query_scalar("select count(*) from notifications")
        .fetch_one(&*herald.database)
        .await
        .unwrap()
}

#[tokio::test]
async fn however_often_a_request_is_repeated_it_makes_one_message() {
    let herald = Herald::start_all().await;
    let client = Client::live(&herald);
    let key = [("Idempotency-Key", "order 17")];
    let order = text(&json!({"reference": "r"}));
    let answers = join_all((0..40).map(|_| client.post(SMS, &key, &order))).await;
    let same: HashSet<String> = answers.iter().map(|answer| format!("{answer:?}")).collect();
    assert_eq!(same.len(), 1, "racing requests got different answers: {same:?}");
    let (status, answer) = &answers[0];
    assert_eq!(*status, 201);
    let id = answer["id"].as_str().unwrap();

    client.until(id, "delivered").await;
    let (_, again) = client.post(SMS, &key, &text(&json!({"reference": "r"}))).await;
    assert_eq!(again, *answer, "long after, the answer is the same");
    assert_eq!(rows(&herald).await, 1);
    assert_eq!(client.phone_count().await, 1);

    let (status, refused) = client.post(SMS, &key, &text(&json!({"reference": "other"}))).await;
    assert_eq!(
        (status, &refused["errors"][0]["error"]),
        (422, &json!("IdempotencyKeyError"))
    );
    assert_ne!(
        sent(&client, &[("Idempotency-Key", "order 18")], &json!({"reference": "r"})).await,
        id
    );
    assert_ne!(
        sent(&Client::test(&herald), &key, &json!({"reference": "r"})).await,
        id,
        "each sort of key has its own"
    );
    assert_ne!(sent(&client, &[], &json!({"reference": "r"})).await, id);
    let (status, _) = client.post(SMS, &[("Idempotency-Key", "")], &text(&json!({}))).await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn a_request_that_was_refused_may_be_mended_and_sent_with_the_same_key() {
    let herald = Herald::start_without_workers().await;
    let client = Client::live(&herald);
    let key = [("Idempotency-Key", "k")];
    let (status, _) = client
        .post(SMS, &key, &text(&json!({"template_id": Uuid::nil()})))
        .await;
    assert_eq!(status, 400);
    sent(&client, &key, &json!({})).await;
    assert_eq!(rows(&herald).await, 1);
}

#[tokio::test]
async fn an_email_is_repeated_with_the_same_answer() {
    let herald = Herald::start_without_workers().await;
    let client = Client::live(&herald);
    let email = json!({
        "email_address": "ada@example.com", "template_id": "5b8f5f5e-1c43-4b8e-9b56-7d1e2a9c4f31",
        "personalisation": {"name": "see www.evil.example"}, "sanitise_content_for": ["name"],
        "one_click_unsubscribe_url": "https://example.com/u",
    });
    let key = [("Idempotency-Key", "e")];
    let (status, first) = client.post("/v2/notifications/email", &key, &email).await;
    assert_eq!(status, 201, "{first}");
    assert_eq!(client.post("/v2/notifications/email", &key, &email).await, (201, first));
    assert_eq!(rows(&herald).await, 1);
}

#[tokio::test]
async fn references_are_keys_for_services_that_ask_for_it() {
    let herald = Herald::start_without_workers().await;
    let client = Client::live(&herald);
    let reference = json!({"reference": "invoice 9"});
    assert_ne!(
        sent(&client, &[], &reference).await,
        sent(&client, &[], &reference).await
    );
    permit(&herald, "idempotent_references").await;
    eventually("the API knows of the permission", || async {
        (sent(&client, &[], &reference).await == sent(&client, &[], &reference).await).then_some(())
    })
    .await;
    let (status, _) = client
        .post(
            SMS,
            &[],
            &text(&json!({"reference": "invoice 9", "phone_number": "07900900124"})),
        )
        .await;
    assert_eq!(status, 422);
    assert_ne!(
        sent(&client, &[], &json!({})).await,
        sent(&client, &[], &json!({})).await
    );
}

#[tokio::test]
async fn a_scheduled_text_is_sent_in_time_and_can_be_cancelled_until_then() {
    let herald = Herald::start_all().await;
    let client = Client::live(&herald);
    let at = |seconds| json!({"scheduled_for": (Utc::now() + TimeDelta::seconds(seconds)).to_rfc3339()});

    // Without the permission it is as in Notify.
    let id = sent(&client, &[], &at(3600)).await;
    let told = client.until(&id, "delivered").await;
    assert_eq!(told["scheduled_for"], Value::Null);

    permit(&herald, "schedule_messages").await;
    let late = eventually("the API knows of the permission", || async {
        let id = sent(&client, &[], &at(3600)).await;
        (client.get(&id).await["scheduled_for"] != Value::Null).then_some(id)
    })
    .await;
    let soon = sent(&client, &[], &at(3)).await;
    let told = client.until(&soon, "delivered").await;
    assert!(
        told["sent_at"].as_str() >= told["scheduled_for"].as_str(),
        "it was sent before its time: {told}"
    );
    assert_eq!(client.get(&late).await["status"], "created");
    let timeline = client.look_at(&format!("/v2/notifications/{late}/timeline")).await;
    assert_eq!(timeline["waits_for"]["reason"], "time");

    let cancel = async |id: &str| {
        client
            .post(&format!("/v2/notifications/{id}/cancel"), &[], &json!({}))
            .await
    };
    let before = client.phone_count().await;
    for _ in 0..2 {
        assert_eq!(cancel(&late).await, (200, json!({"id": late, "status": "cancelled"})));
    }
    client.until(&late, "cancelled").await;
    assert_eq!(cancel(&late).await.0, 200);
    assert_eq!(client.phone_count().await, before);
    assert_eq!(cancel(&soon).await.0, 409);
    assert_eq!(cancel(&Uuid::now_v7().to_string()).await.0, 404);
}

#[tokio::test]
async fn a_message_that_is_not_wanted_any_more_is_not_sent() {
    let herald = Herald::start_without_workers().await;
    let client = Client::live(&herald);
    let id = sent(&client, &[], &json!({"expires_in": 1})).await;
    let other = sent(&client, &[], &json!({"expires_in": 3600})).await;
    eventually("it expires", || async {
        let over: bool = sqlx::query_scalar("select now() > expires_at from engine.run where id = $1::text::uuid")
            .bind(&id)
            .fetch_one(&*herald.database)
            .await
            .unwrap();
        over.then_some(())
    })
    .await;
    let _worker = herald.worker();
    client.until(&id, "temporary-failure").await;
    client.until(&other, "delivered").await;
    assert_eq!(client.phone(&id).await.len(), 0);
    let told = kinds(&client.look_at(&format!("/v2/notifications/{id}/timeline")).await);
    assert!(told.contains(&"expired".to_owned()), "{told:?}");
    for wrong in [json!(0), json!(259_201), json!("1"), json!(1.5), json!(-1)] {
        let (status, answer) = client.post(SMS, &[], &text(&json!({"expires_in": wrong}))).await;
        assert_eq!(status, 400, "{wrong}");
        assert_eq!(
            answer["errors"][0]["message"],
            "expires_in must be a whole number of seconds from 1 to 259200"
        );
    }
}

#[tokio::test]
async fn a_template_says_how_long_its_messages_are_wanted_where_a_request_does_not() {
    let herald = Herald::start_without_workers().await;
    let client = Client::live(&herald);
    let change = async |command: &[&str]| {
        let deed = ["--reason", "codes hold for a while"];
        let changed = herald.command(&[&["templates"], command, &deed].concat());
        assert!(changed.status.success(), "{}", words(&changed));
    };
    let wanted_for = async |more: &Value| {
        let id = sent(&client, &[], more).await;
        let seconds =
            "select extract(epoch from expires_at - created_at)::float8 from engine.run where id = $1::text::uuid";
        let seconds: Option<f64> = sqlx::query_scalar(seconds)
            .bind(id)
            .fetch_one(&*herald.database)
            .await
            .unwrap();
        seconds
    };
    assert_eq!(wanted_for(&json!({})).await, None);
    change(&["set-expiry", SMS_TEMPLATE, "600"]).await;
    eventually("the API has heard of it", || async {
        (wanted_for(&json!({})).await == Some(600.0)).then_some(())
    })
    .await;
    assert_eq!(wanted_for(&json!({"expires_in": 3600})).await, Some(3600.0));
    let listed = words(&herald.command(&["templates", "list", "--json"]));
    assert!(listed.contains(SMS_TEMPLATE) && listed.contains("600"), "{listed}");
    change(&["clear-expiry", SMS_TEMPLATE]).await;
    eventually("the API has heard of that", || async {
        wanted_for(&json!({})).await.is_none().then_some(())
    })
    .await;
    for (command, why) in [
        (["set-expiry", SMS_TEMPLATE, "259201"], "1..=259200"),
        (["set-expiry", SERVICE, "600"], "there is no template"),
    ] {
        let refused = herald.command(&[&["templates"], &command[..], &["--reason", "a try"]].concat());
        assert!(!refused.status.success());
        assert!(words(&refused).contains(why), "{}", words(&refused));
    }
    let deeds = "select count(*) from engine.audit where action = 'set_expiry'";
    let deeds: i64 = sqlx::query_scalar(deeds).fetch_one(&*herald.database).await.unwrap();
    assert_eq!(deeds, 2);
}

fn kinds(timeline: &Value) -> Vec<String> {
    let events = timeline["events"].as_array().unwrap().iter();
    events
        .map(|event| event["event"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn the_timeline_tells_what_happened_and_what_is_waited_for() {
    let herald = Herald::start_all().await;
    let client = Client::live(&herald);
    let id = client.send_text("07900900123").await;
    client.until(&id, "delivered").await;
    let path = format!("/v2/notifications/{id}/timeline");
    let timeline = eventually("the run ends", || async {
        let timeline = client.look_at(&path).await;
        timeline["waits_for"].is_null().then_some(timeline)
    })
    .await;
    let steps: Vec<String> = kinds(&timeline)
        .into_iter()
        .filter(|kind| kind != "picked_up")
        .collect();
    assert_eq!(
        steps,
        ["accepted", "attempt", "taken", "receipt", "settled"],
        "{timeline}"
    );
    assert!(!timeline.to_string().contains("7900900123"), "{timeline}");

    for provider in ["firetext", "mmg"] {
        client.faults(provider, &json!({"status": 500})).await;
    }
    let id = client.send_text("07900900123").await;
    let path = format!("/v2/notifications/{id}/timeline");
    let timeline = eventually("it waits to be tried again", || async {
        let timeline = client.look_at(&path).await;
        (timeline["waits_for"]["reason"] == "retry").then_some(timeline)
    })
    .await;
    assert!(kinds(&timeline).contains(&"refused".to_owned()), "{timeline}");
    assert!(timeline["waits_for"]["until"].is_string(), "{timeline}");
}

#[tokio::test]
async fn the_timeline_tells_of_trouble_with_our_database_and_not_what_it_said() {
    let herald = Herald::start_without_workers().await;
    let client = Client::live(&herald);
    let id = client.send_text("07900900123").await;
    sqlx::query("alter table provider_details rename to of_a_name_that_is_ours_alone")
        .execute(&*herald.database)
        .await
        .unwrap();
    let _worker = herald.worker();
    let path = format!("/v2/notifications/{id}/timeline");
    let timeline = eventually("it waits to be tried again", || async {
        let timeline = client.look_at(&path).await;
        (timeline["waits_for"]["reason"] == "retry").then_some(timeline)
    })
    .await;
    let told = timeline.to_string();
    assert!(told.contains("our database failed"), "{told}");
    assert!(!told.contains("provider_details"), "{told}");

    // The attempts that a message has must last for hours.
    eventually("it is tried at long intervals", || async {
        let hurry = "update engine.run set due_at = now() where id = $1::uuid and state = 'sleeping' and attempt < 9";
        sqlx::query(hurry).bind(&id).execute(&*herald.database).await.unwrap();
        let is_patient = "select attempt >= 9 and state = 'sleeping' and due_at > now() + interval '4 minutes'
            from engine.run where id = $1::uuid";
        let is_patient: bool = sqlx::query_scalar(is_patient)
            .bind(&id)
            .fetch_one(&*herald.database)
            .await
            .unwrap();
        is_patient.then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_change_counts_at_once() {
    let herald = Herald::start_without_workers().await;
    let client = Client::live(&herald);
    let since = std::time::Instant::now();
    for round in 0..20 {
        let content = format!("Round {round}, ((name))");
        client.post(SMS, &[], &text(&json!({}))).await;
        sqlx::query("update templates set content = $1 where id = $2::text::uuid")
            .bind(&content)
            .bind(SMS_TEMPLATE)
            .execute(&*herald.database)
            .await
            .unwrap();
        eventually("the change is seen", || async {
            let (_, answer) = client.post(SMS, &[], &text(&json!({}))).await;
            (answer["content"]["body"] == format!("Round {round}, Ada")).then_some(())
        })
        .await;
    }
    // Left to itself an entry lives for 1.5 seconds: twenty rounds would take half a minute.
    assert!(since.elapsed().as_secs() < 15, "changes wait until entries are too old");
}
