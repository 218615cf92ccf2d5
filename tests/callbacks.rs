//! Services are told, by the built program, at endpoints of the stub.

mod outcomes;
mod signature;

use std::collections::{BTreeMap, BTreeSet};

use herald_store::{
    CallbackType, NOTIFY_SERVICE_ID, NOTIFY_USER_ID,
    callbacks::{self, Lane, NewEndpoint, NewEvent},
    sealed::{Key, Sealed, Sealer, context},
};
use herald_workflows::callbacks::tell;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Admin, Client, Herald, SEALING_KEYS, SERVICE, eventually, http};

const TOKEN: &str = "a token of the service";
const SECRET: &str = "whsec_dGhlIHNpZ25pbmcgc2VjcmV0IG9mIGEgc2VydmljZSE=";

/// A service's events of one kind.
pub fn lane(service: &str) -> Lane {
    Lane {
        service_id: service.parse().unwrap(),
        callback_type: CallbackType::DeliveryStatus,
    }
}

fn of_kind(callback_type: CallbackType) -> Lane {
    Lane {
        callback_type,
        ..lane(SERVICE)
    }
}

/// The other service that every database has.
pub fn other_lane() -> Lane {
    lane(&NOTIFY_SERVICE_ID.to_string())
}

fn sealer() -> Sealer {
    Sealer::new(Key::parse(SEALING_KEYS).unwrap(), Vec::new())
}

fn seal(context: &str, text: &str) -> Sealed {
    sealer().seal(context, text)
}

/// The service wants to be called at this URL.
async fn endpoint_at(herald: &Herald, lane: Lane, url: &str) {
    let endpoint = NewEndpoint {
        lane,
        url: url.to_owned(),
        bearer_token: seal(context::CALLBACK_TOKEN, TOKEN),
        signing_secret: Some(seal(context::CALLBACK_SIGNING_SECRET, SECRET)),
        updated_by_id: NOTIFY_USER_ID,
    };
    let mut conn = herald.database.acquire().await.unwrap();
    callbacks::set(&mut conn, &endpoint).await.unwrap();
}

/// The service wants to be called at an endpoint of the stub, such as `callbacks/a`.
pub async fn endpoint(herald: &Herald, lane: Lane, name: &str) {
    endpoint_at(herald, lane, &format!("{}/{name}", herald.stub_url)).await;
}

/// So many events happen, each in a transaction of its own.
pub async fn happen(herald: &Herald, lane: Lane, events: usize) {
    for _ in 0..events {
        let mut transaction = herald.database.begin().await.unwrap();
        let payload = seal(context::CALLBACK_PAYLOAD, r#"{"some": "thing"}"#);
        tell(&mut transaction, &[NewEvent { lane, payload }]).await.unwrap();
        transaction.commit().await.unwrap();
    }
}

/// What an endpoint was called with, in order.
pub async fn calls(herald: &Herald, name: &str) -> Vec<Value> {
    let url = format!("{}/callbacks?endpoint={name}", herald.stub_url);
    let answer: Value = http().get(url).send().await.unwrap().json().await.unwrap();
    answer["calls"].as_array().unwrap().clone()
}

pub fn sequence(call: &Value) -> usize {
    call["headers"]["herald-sequence"].as_str().unwrap().parse().unwrap()
}

/// The numbers of the calls that the endpoint took, in order.
pub fn taken(calls: &[Value]) -> Vec<usize> {
    calls
        .iter()
        .filter(|call| call["status"] == 204)
        .map(sequence)
        .collect()
}

/// Waits until the endpoint has taken so many calls; whoever sleeps meanwhile wakes at once.
async fn until_taken(herald: &Herald, name: &str, enough: usize) -> Vec<Value> {
    eventually(&format!("{name} has taken {enough} calls"), || async {
        hurry(herald).await;
        let calls = calls(herald, name).await;
        (taken(&calls).len() >= enough).then_some(calls)
    })
    .await
}

/// Ends every back-off of those who tell.
async fn hurry(herald: &Herald) {
    let sql = "update engine.run set due_at = now() where workflow = 'call_service' and state = 'sleeping'";
    sqlx::query(sql).execute(&*herald.database).await.unwrap();
}

/// Waits until nobody tells anything any more.
pub async fn until_idle(herald: &Herald) {
    eventually("all that happened is told, or undeliverable", || async {
        hurry(herald).await;
        let idle: bool = sqlx::query_scalar(
            "select not exists (select from engine.run where workflow = 'call_service')
                and not exists (select from service_callback_lane where run_id is not null)
                and not exists (select from service_callback_event where undeliverable_at is null)",
        )
        .fetch_one(&*herald.database)
        .await
        .unwrap();
        idle.then_some(())
    })
    .await;
}

/// The numbers of what is undeliverable, and why.
pub async fn undeliverable(herald: &Herald) -> Vec<(i64, String)> {
    let sql = "select sequence, last_error from service_callback_event where undeliverable_at is not null order by 1";
    sqlx::query_as(sql).fetch_all(&*herald.database).await.unwrap()
}

/// A service is told of three events: one is called about twice, one is refused.
pub async fn tell_with_trouble(herald: &Herald) {
    endpoint(herald, other_lane(), "callbacks").await;
    let trouble = json!([{"times": 1, "status": 500}, {"times": 1, "status": 410}]);
    Client::live(herald).faults("callbacks", &trouble).await;
    happen(herald, other_lane(), 3).await;
    until_idle(herald).await;
    Client::live(herald)
        .faults("callbacks", &json!([{"times": 6, "status": 500}]))
        .await;
    happen(herald, other_lane(), 2).await;
    until_idle(herald).await;
}

#[tokio::test]
async fn a_service_is_told_in_the_words_of_notify_and_can_check_who_calls() {
    let herald = Herald::start_all().await;
    endpoint(&herald, lane(SERVICE), "callbacks").await;
    let client = Client::live(&herald);
    let id = client.send_text("07700900123").await;
    let text = client.until(&id, "delivered").await;
    let calls = until_taken(&herald, "callbacks", 1).await;
    let call = &calls[0];
    let at = |name: &str| text[name].as_str().unwrap().to_owned();
    let template = &text["template"];
    assert_eq!(
        call["body"],
        format!(
            r#"{{"id": "{id}", "reference": null, "to": "07700900123", "status": "delivered", "created_at": "{}", "completed_at": "{}", "sent_at": "{}", "notification_type": "sms", "template_id": "{}", "template_version": {}}}"#,
            at("created_at"),
            at("completed_at"),
            at("sent_at"),
            template["id"].as_str().unwrap(),
            template["version"]
        )
    );
    let header = |name: &str| call["headers"][name].as_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "application/json");
    assert_eq!(header("authorization"), format!("Bearer {TOKEN}"));
    assert_eq!(header("herald-sequence"), "1");
    assert!(header("webhook-id").parse::<Uuid>().is_ok());
    let signed = format!(
        "{}.{}.{}",
        header("webhook-id"),
        header("webhook-timestamp"),
        call["body"].as_str().unwrap()
    );
    assert_eq!(header("webhook-signature"), signature::of(SECRET, &signed));
    until_idle(&herald).await;
    let left: i64 = sqlx::query_scalar("select count(*) from service_callback_event")
        .fetch_one(&*herald.database)
        .await
        .unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn the_document_says_what_services_receive() {
    let herald = Herald::start_all().await;
    endpoint(&herald, lane(SERVICE), "callbacks").await;
    let client = Client::live(&herald);
    client.send_email("ada@example.com").await;
    let calls = until_taken(&herald, "callbacks", 1).await;
    let told: Value = serde_json::from_str(calls[0]["body"].as_str().unwrap()).unwrap();
    let printed = herald.command(&["openapi", "callbacks"]);
    let document: Value = serde_json::from_slice(&printed.stdout).unwrap();
    let schema = &document["components"]["schemas"]["DeliveryStatus"];
    let names = |object: &Value| object.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&told), names(&schema["properties"]));
    for (name, value) in told.as_object().unwrap() {
        let kind = match value {
            Value::Null => "null",
            Value::Number(_) => "integer",
            _ => "string",
        };
        let said = &schema["properties"][name]["type"];
        let fits = *said == kind || said.as_array().is_some_and(|kinds| kinds.contains(&json!(kind)));
        assert!(fits, "{name} is {kind}, not {said}");
    }
    let parameters = document["webhooks"]["delivery_status"]["post"]["parameters"]
        .as_array()
        .unwrap();
    for parameter in parameters {
        let name = parameter["name"].as_str().unwrap().to_lowercase();
        assert!(calls[0]["headers"][&name].is_string(), "{name}");
    }
}

#[tokio::test]
async fn every_final_status_is_told_with_the_next_number_whoever_settles_it() {
    let herald = Herald::start_without_workers().await;
    endpoint(&herald, lane(SERVICE), "callbacks").await;
    let _workers = [herald.worker(), herald.worker()];
    let (live, test) = (Client::live(&herald), Client::test(&herald));
    for firm in ["mmg", "firetext"] {
        live.faults(firm, &json!({"duplicate_receipts": 3})).await;
    }
    let mut expected = BTreeMap::new();
    let numbers = [
        ("07700900123", "delivered"),
        ("07700900003", "temporary-failure"),
        ("07700900002", "permanent-failure"),
    ];
    let (live, test) = (&live, &test);
    let texts = (0..60).map(|i| async move {
        let (number, status) = numbers[i % 3];
        let client = if i % 2 == 0 { live } else { test };
        (client.send_text(number).await, status)
    });
    expected.extend(futures::future::join_all(texts).await);
    expected.insert(test.send_email("perm-fail@simulator.notify").await, "permanent-failure");
    let calls = until_taken(&herald, "callbacks", expected.len()).await;
    assert_eq!(taken(&calls), (1..=expected.len()).collect::<Vec<_>>());
    let mut told = BTreeMap::new();
    for call in &calls {
        let body: Value = serde_json::from_str(call["body"].as_str().unwrap()).unwrap();
        told.insert(
            body["id"].as_str().unwrap().to_owned(),
            body["status"].as_str().unwrap().to_owned(),
        );
    }
    let expected: BTreeMap<String, String> = expected
        .into_iter()
        .map(|(id, status)| (id, status.to_owned()))
        .collect();
    assert_eq!(told, expected);
    let ids: BTreeSet<&str> = calls
        .iter()
        .filter_map(|call| call["headers"]["webhook-id"].as_str())
        .collect();
    assert_eq!(ids.len(), calls.len());
}

/// Gives the service a number of its own.
async fn receives_texts(herald: &Herald, number: &str) {
    let give = "
        with permitted as (
            insert into service_permissions (service_id, permission, created_at) values ($1, 'inbound_sms', now()))
        insert into inbound_numbers (id, number, provider, service_id, active, created_at)
        values (gen_random_uuid(), $2, 'mmg', $1, true, now())";
    let give = sqlx::query(give).bind(lane(SERVICE).service_id).bind(number);
    give.execute(&*herald.database).await.unwrap();
}

async fn receive_text(herald: &Herald, id: &str, number: &str) {
    let text = json!({
        "MSISDN": "447411000201", "Number": number, "Message": r"Gr%C3%BC%C3%9Fe+%22\ud83d\ude00%22", "ID": id,
        "DateRecieved": "2026-11-20+11%3A56%3A11",
    });
    let url = format!("{}/notifications/sms/receive/mmg", herald.base_url);
    let posted = http().post(url).basic_auth("username", Some("testkey")).json(&text);
    assert_eq!(posted.send().await.unwrap().status(), 200);
}

fn body(call: &Value) -> Value {
    serde_json::from_str(call["body"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn complaints_and_received_texts_are_told_once_to_the_endpoints_that_want_them() {
    const NUMBER: &str = "07860000001";
    const COMPLAINER: &str = "complaint@simulator.notify";
    let herald = Herald::start_all().await;
    let client = Client::live(&herald);
    receives_texts(&herald, NUMBER).await;
    endpoint(&herald, of_kind(CallbackType::Complaint), "callbacks/complaints").await;
    receive_text(&herald, "1", NUMBER).await;
    let email = client.send_email(COMPLAINER).await;
    let complaints = until_taken(&herald, "callbacks/complaints", 1).await;
    let told = body(&complaints[0]);
    let kept: (Uuid, String) =
        sqlx::query_as("select id, to_char(complaint_date, 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') from complaints")
            .fetch_one(&*herald.database)
            .await
            .unwrap();
    assert_eq!(
        told,
        json!({
            "notification_id": email, "complaint_id": kept.0, "reference": null, "to": COMPLAINER, "complaint_date": kept.1,
        })
    );
    until_idle(&herald).await;
    let numbers = "select last from service_callback_sequence";
    let last: i64 = sqlx::query_scalar(numbers).fetch_one(&*herald.database).await.unwrap();
    assert_eq!(last, 1, "what nobody wants to hear has no number");

    endpoint(&herald, of_kind(CallbackType::InboundSms), "callbacks/texts").await;
    receive_text(&herald, "2", NUMBER).await;
    receive_text(&herald, "2", NUMBER).await;
    receive_text(&herald, "3", NUMBER).await;
    let texts = until_taken(&herald, "callbacks/texts", 2).await;
    until_idle(&herald).await;
    assert_eq!(texts.len(), calls(&herald, "callbacks/texts").await.len());
    assert_eq!(
        texts.iter().map(sequence).collect::<Vec<_>>(),
        [2, 3],
        "kinds share the numbers of their service"
    );
    let told = body(&texts[0]);
    assert_eq!(
        [&told["source_number"], &told["destination_number"], &told["message"]],
        ["447411000201", NUMBER, "Grüße \"😀\""]
    );
}

#[tokio::test]
async fn a_message_without_a_receipt_is_told_to_have_failed_and_what_we_gave_up_is_not_told() {
    let herald = Herald::start_all().await;
    endpoint(&herald, lane(SERVICE), "callbacks").await;
    let (client, admin) = (Client::live(&herald), Admin::new(&herald));
    for firm in ["mmg", "firetext"] {
        client.faults(firm, &json!({"missing_receipts": true})).await;
    }
    let reason = json!({"reason": "a test"});
    admin.post("/engine/queues/send-email/pause", &reason).await;
    let cancelled = client.send_email("ada@example.com").await;
    admin.post(&format!("/engine/runs/{cancelled}/cancel"), &reason).await;
    admin.post("/engine/queues/send-email/resume", &reason).await;
    client.until(&cancelled, "cancelled").await;
    let late = client.send_text("07700900123").await;
    eventually("three days have passed", || async {
        let aged = sqlx::query(
            "with late as (
                 update engine.run set due_at = now() where id = $1::uuid and state = 'waiting' returning id)
             update engine.journal set at = at - interval '73 hours' from late where run_id = late.id",
        );
        let aged = aged.bind(&late).execute(&*herald.database).await.unwrap();
        (aged.rows_affected() > 0).then_some(())
    })
    .await;
    client.until(&late, "temporary-failure").await;
    let calls = until_taken(&herald, "callbacks", 1).await;
    until_idle(&herald).await;
    let body: Value = serde_json::from_str(calls[0]["body"].as_str().unwrap()).unwrap();
    assert_eq!(
        (body["id"].as_str(), &body["status"]),
        (Some(&*late), &json!("temporary-failure"))
    );
    assert_eq!(calls.len(), 1, "{calls:?}");
}

#[tokio::test]
async fn nothing_is_kept_for_a_service_that_does_not_want_to_be_called() {
    let herald = Herald::start_all().await;
    let client = Client::live(&herald);
    let id = client.send_text("07700900123").await;
    client.until(&id, "delivered").await;
    let kept: i64 = sqlx::query_scalar(
        "select (select count(*) from service_callback_event) + (select count(*) from service_callback_sequence)
            + (select count(*) from service_callback_lane)",
    )
    .fetch_one(&*herald.database)
    .await
    .unwrap();
    assert_eq!(kept, 0);
}

#[tokio::test]
async fn events_come_in_order_over_every_kind_of_trouble() {
    let herald = Herald::start_without_workers().await;
    endpoint(&herald, lane(SERVICE), "callbacks").await;
    let _workers = [herald.worker(), herald.worker()];
    let trouble = json!([
        {"times": 2, "status": 500}, {"times": 3}, {"times": 1, "reset_before": true}, {"times": 1, "latency_ms": 20},
        {"times": 1, "reset_after_accept": true}, {"times": 1, "status": 429, "retry_after": 1},
        {"times": 2, "status": 503}, {"times": 1, "status": 200, "body": "no", "truncate": true},
    ]);
    Client::live(&herald).faults("callbacks", &trouble).await;
    happen(&herald, lane(SERVICE), 150).await;
    let calls = until_taken(&herald, "callbacks", 149).await;
    let numbers: Vec<usize> = calls.iter().map(sequence).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
    until_idle(&herald).await;
    let calls = self::calls(&herald, "callbacks").await;
    let mut by_number: BTreeMap<usize, BTreeSet<&str>> = BTreeMap::new();
    for call in &calls {
        let id = call["headers"]["webhook-id"].as_str().unwrap();
        by_number.entry(sequence(call)).or_default().insert(id);
    }
    assert!(by_number.keys().copied().eq(1..=150), "{by_number:?}");
    assert!(by_number.values().all(|ids| ids.len() == 1), "{by_number:?}");
    assert!(calls.len() > 150);
    assert!(undeliverable(&herald).await.is_empty());
}

#[tokio::test]
async fn a_dead_endpoint_delays_nobody_else_and_is_called_now_and_then_only() {
    let herald = Herald::start_without_workers().await;
    endpoint(&herald, lane(SERVICE), "callbacks/dead").await;
    endpoint(&herald, other_lane(), "callbacks/well").await;
    Client::live(&herald)
        .faults("callbacks/dead", &json!({"hang": true}))
        .await;
    happen(&herald, lane(SERVICE), 50).await;
    let _worker = herald.worker_with("all", &[("WORKER_CONCURRENCY", "2")]);
    eventually("the dead one is called", || async {
        (!calls(&herald, "callbacks/dead").await.is_empty()).then_some(())
    })
    .await;
    happen(&herald, other_lane(), 50).await;
    eventually("the other one is told everything", || async {
        (taken(&calls(&herald, "callbacks/well").await).len() == 50).then_some(())
    })
    .await;
    // Nobody hurries it: whatever has happened to it since costs one sleeping run.
    eventually("it is left alone", || async {
        let sleeping: Vec<(String, bool)> = sqlx::query_as(
            "select queue, due_at > now() + interval '3 seconds' from engine.run
             where workflow = 'call_service' and state = 'sleeping'",
        )
        .fetch_all(&*herald.database)
        .await
        .unwrap();
        (sleeping == [("service-callbacks-retry".to_owned(), true)]).then_some(())
    })
    .await;
    let dead: BTreeSet<usize> = calls(&herald, "callbacks/dead").await.iter().map(sequence).collect();
    assert_eq!(dead, BTreeSet::from([1]));
}

#[tokio::test]
async fn killed_workers_repeat_one_call_each_at_most_under_its_id() {
    let herald = Herald::start_without_workers().await;
    endpoint(&herald, lane(SERVICE), "callbacks").await;
    Client::live(&herald)
        .faults("callbacks", &json!({"latency_ms": 10}))
        .await;
    happen(&herald, lane(SERVICE), 120).await;
    for killed_after in [15, 60, 110] {
        let worker = herald.worker();
        until_taken(&herald, "callbacks", killed_after).await;
        worker.kill();
    }
    let _worker = herald.worker();
    until_idle(&herald).await;
    let calls = calls(&herald, "callbacks").await;
    let numbers = taken(&calls);
    assert!(numbers.is_sorted(), "{numbers:?}");
    let distinct: BTreeSet<usize> = numbers.iter().copied().collect();
    assert!(distinct.iter().copied().eq(1..=120), "{distinct:?}");
    assert!(numbers.len() <= 123, "{numbers:?}");
    let ids: BTreeSet<&str> = calls
        .iter()
        .filter_map(|call| call["headers"]["webhook-id"].as_str())
        .collect();
    assert_eq!(ids.len(), 120);
}
