//! What becomes of an event by what its endpoint answers, and what people do about it.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    calls, endpoint, endpoint_at, happen, hurry, lane, other_lane, sequence, taken, undeliverable, until_idle,
    until_taken,
};
use crate::harness::{Admin, Authority, Client, Herald, SERVICE, TlsFront, eventually, http};

#[tokio::test]
async fn refusals_are_final_and_redirects_are_not_followed() {
    let herald = Herald::start_all().await;
    endpoint(&herald, lane(SERVICE), "callbacks").await;
    let elsewhere = format!("{}/callbacks/elsewhere", herald.stub_url);
    let refusals = json!([
        {"times": 1, "status": 410}, {"times": 1, "status": 302, "location": elsewhere},
        {"times": 1, "status": 308, "location": elsewhere}, {"times": 1, "status": 404},
    ]);
    Client::live(&herald).faults("callbacks", &refusals).await;
    happen(&herald, lane(SERVICE), 6).await;
    until_idle(&herald).await;
    let all = calls(&herald, "callbacks").await;
    assert_eq!(all.iter().map(sequence).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(taken(&all), [5, 6]);
    assert!(calls(&herald, "callbacks/elsewhere").await.is_empty());
    let why = |number, why: &str| (number, why.to_owned());
    assert_eq!(
        undeliverable(&herald).await,
        [
            why(1, "answered 410"),
            why(2, "answered 302: redirects are not followed"),
            why(3, "answered 308: redirects are not followed"),
            why(4, "answered 404"),
        ]
    );
}

#[tokio::test]
async fn private_addresses_are_not_called_unless_that_is_allowed() {
    let herald = Herald::start_without_workers().await;
    let port = herald.stub_url.rsplit(':').next().unwrap();
    let _worker = herald.worker_with("all", &[("SERVICE_CALLBACKS_ALLOW_PRIVATE", "0")]);
    for (n, (url, why)) in (1..).zip([
        (
            format!("https://127.0.0.1:{port}/callbacks"),
            "the address is not a public one",
        ),
        (
            format!("https://[::ffff:127.0.0.1]:{port}/callbacks"),
            "the address is not a public one",
        ),
        (
            format!("http://localhost:{port}/callbacks"),
            "the address does not begin with https://",
        ),
    ]) {
        endpoint_at(&herald, lane(SERVICE), &url).await;
        happen(&herald, lane(SERVICE), 1).await;
        until_idle(&herald).await;
        assert_eq!(undeliverable(&herald).await.pop(), Some((n, why.to_owned())), "{url}");
    }
    assert!(calls(&herald, "callbacks").await.is_empty());
}

#[tokio::test]
async fn services_are_told_over_tls_and_nothing_while_their_certificate_is_not_to_be_trusted() {
    let herald = Herald::start_without_workers().await;
    let authority = Authority::new();
    let front = TlsFront::before(&herald.stub_url, &authority).await;
    endpoint_at(&herald, lane(SERVICE), &format!("{}/callbacks", front.url)).await;
    let _worker = herald.worker_with("all", &[("SSL_CERT_FILE", authority.file.to_str().unwrap())]);
    happen(&herald, lane(SERVICE), 2).await;
    until_taken(&herald, "callbacks", 2).await;
    let arrived = front.arrived();
    assert!(arrived > 0, "they go this way");

    front.show(&authority, false);
    happen(&herald, lane(SERVICE), 1).await;
    let why = "select last_error from engine.run where workflow = 'call_service' and state = 'sleeping'";
    let why = eventually("the event waits", || async {
        let why: Option<Option<String>> = sqlx::query_scalar(why).fetch_optional(&*herald.database).await.unwrap();
        why.flatten()
    })
    .await;
    assert!(why.contains("its certificate has expired"), "{why}");
    assert_eq!(
        front.arrived(),
        arrived,
        "not a byte of an event reaches whom we do not trust"
    );

    front.show(&authority, true);
    let all = until_taken(&herald, "callbacks", 3).await;
    assert_eq!(taken(&all), [1, 2, 3]);
}

/// The back-offs of the run that tells, in seconds: from the record of a failure to the next call.
async fn back_off(herald: &Herald, failures: usize) -> f64 {
    eventually(&format!("{failures} failures are recorded"), || async {
        let waits: Option<f64> = sqlx::query_scalar(
            "select extract(epoch from r.due_at - max(j.at))::float8
             from engine.run r join engine.journal j on j.run_id = r.id, jsonb_array_elements(j.events) e
             where r.workflow = 'call_service' and r.state = 'sleeping' and e ->> 'event' = 'failed'
             group by r.id having count(*) = $1",
        )
        .bind(i64::try_from(failures).unwrap())
        .fetch_optional(&*herald.database)
        .await
        .unwrap();
        waits
    })
    .await
}

#[tokio::test]
async fn back_offs_grow_and_honour_what_the_endpoint_asks_for_within_bounds() {
    let herald = Herald::start_all().await;
    endpoint(&herald, lane(SERVICE), "callbacks").await;
    let answers = json!([
        {"times": 3, "status": 500}, {"times": 1, "status": 429, "retry_after": 1_000},
        {"times": 1, "status": 503, "retry_after": 1}, {"times": 1, "status": 503, "retry_after": 1_000_000_000},
        {"times": 2, "status": 500},
    ]);
    Client::live(&herald).faults("callbacks", &answers).await;
    happen(&herald, lane(SERVICE), 1).await;
    let expected = [
        5.0..=6.0,
        15.0..=18.0,
        45.0..=54.0,
        1_000.0..=1_000.0,
        405.0..=486.0,
        3_600.0..=3_600.0,
        1_800.0..=2_160.0,
        1_800.0..=2_160.0,
    ];
    for (failures, expected) in (1..).zip(expected) {
        let waits = back_off(&herald, failures).await;
        // It is counted from the end of the transaction whose beginning is on record.
        let fits = (*expected.start()..=expected.end() + 2.0).contains(&waits);
        assert!(fits, "{waits} s after {failures} failures, not {expected:?}");
        hurry(&herald).await;
    }
    let calls = until_taken(&herald, "callbacks", 1).await;
    assert_eq!(calls.len(), 9);
}

#[tokio::test]
async fn what_has_waited_for_a_day_is_given_up_once_its_endpoint_has_failed_for_half_an_hour() {
    let herald = Herald::start_without_workers().await;
    endpoint(&herald, lane(SERVICE), "callbacks").await;
    happen(&herald, lane(SERVICE), 40).await;
    let age = "update service_callback_event
        set give_up_at = now() - case when sequence <= 7 then interval '0' else interval '20 hours' end where sequence <= 30";
    sqlx::query(age).execute(&*herald.database).await.unwrap();
    // The endpoint is well for seven, although they are late, since the fault was ours; and stumbles only once. What is
    // called about for the first time after its bad half hour is no event that it cannot bear.
    let faults = json!([{"times": 5}, {"times": 1, "status": 500}, {"times": 2}, {"times": 7, "status": 500}]);
    Client::live(&herald).faults("callbacks", &faults).await;
    let _worker = herald.worker();
    until_idle(&herald).await;
    let all = calls(&herald, "callbacks").await;
    let numbers: Vec<usize> = taken(&all);
    assert_eq!(
        numbers,
        (1..=40)
            .filter(|n| !(1..=30).contains(n) || *n <= 7)
            .collect::<Vec<_>>()
    );
    assert_eq!(all.len(), numbers.len() + 8);
    let given_up: Vec<i64> = undeliverable(&herald)
        .await
        .into_iter()
        .map(|(number, _)| number)
        .collect();
    assert_eq!(given_up, (8..=30).collect::<Vec<_>>());
}

#[tokio::test]
async fn however_many_are_late_all_are_given_up_and_forgotten_after_some_days() {
    let herald = Herald::start_api_only(&json!({})).await;
    let (lane, late) = (other_lane(), 20_001_i64);
    happen(&herald, lane, 2).await;
    let many = "insert into service_callback_event (id, service_id, callback_type, sequence, payload, give_up_at)
        select gen_random_uuid(), service_id, callback_type, 1 + n, payload, now()
        from service_callback_event, generate_series(2, $1) n where sequence = 1";
    sqlx::query(many).bind(late).execute(&*herald.database).await.unwrap();
    sqlx::query("update service_callback_event set give_up_at = now() where sequence = 1")
        .execute(&*herald.database)
        .await
        .unwrap();
    let mut conn = herald.database.acquire().await.unwrap();
    let mut give_up = async |overdue| {
        let given_up = herald_store::callbacks::give_up_late(&mut conn, lane, overdue).await;
        given_up.unwrap()
    };
    assert_eq!(give_up(Duration::from_secs(60 * 60)).await, 0);
    assert_eq!(give_up(Duration::ZERO).await, late.unsigned_abs());
    let waiting = "select sequence from service_callback_event where undeliverable_at is null";
    let waiting: Vec<i64> = sqlx::query_scalar(waiting).fetch_all(&mut *conn).await.unwrap();
    assert_eq!(waiting, [2], "it has time");

    let age = "update service_callback_event set undeliverable_at = now() - interval '8 days' where sequence <> 3";
    sqlx::query(age).execute(&mut *conn).await.unwrap();
    sqlx::query("update service_callback_event set undeliverable_at = null where sequence = 2")
        .execute(&mut *conn)
        .await
        .unwrap();
    let forgotten = herald_store::callbacks::tidy(&mut conn, 7).await.unwrap();
    assert_eq!(forgotten, late.unsigned_abs() - 1);
    let left: Vec<i64> = sqlx::query_scalar("select sequence from service_callback_event order by 1")
        .fetch_all(&mut *conn)
        .await
        .unwrap();
    assert_eq!(left, [2, 3], "one waits, and one was given up just now");
}

#[tokio::test]
async fn an_event_that_its_endpoint_cannot_bear_makes_way_but_only_if_the_next_is_taken_and_it_fails_again() {
    let herald = Herald::start_all().await;
    endpoint(&herald, lane(SERVICE), "callbacks").await;
    let client = Client::live(&herald);
    let mut told = 0;
    let mut told_after = async |faults: Value| {
        client.faults("callbacks", &faults).await;
        happen(&herald, lane(SERVICE), 3).await;
        until_idle(&herald).await;
        let calls = calls(&herald, "callbacks").await.split_off(told);
        told += calls.len();
        calls.iter().map(sequence).collect::<Vec<_>>()
    };
    // Away altogether: from the seventh failure on the second event is tried, and fails as well.
    let failures = |times: usize| json!([{"times": times, "status": 500}]);
    assert_eq!(told_after(failures(10)).await, [1, 1, 1, 1, 1, 1, 1, 2, 1, 2, 1, 2, 3]);
    // Well again by then, whenever that was.
    assert_eq!(told_after(failures(6)).await, [4, 4, 4, 4, 4, 4, 4, 5, 6]);
    // Well again just then: the second, that it took meanwhile, comes once more, after the first.
    assert_eq!(told_after(failures(7)).await, [7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 9]);
    assert!(undeliverable(&herald).await.is_empty());

    let ill = json!([{"times": 7, "status": 500}, {"times": 1}, {"times": 1, "status": 500}]);
    assert_eq!(told_after(ill).await, [10, 10, 10, 10, 10, 10, 10, 11, 10, 12]);
    let why = "the endpoint took the event after it, but not this one".to_owned();
    assert_eq!(undeliverable(&herald).await, [(10, why)]);
}

#[tokio::test]
async fn an_endpoint_that_asks_to_be_left_alone_is_not_tried_with_another_event() {
    let herald = Herald::start_all().await;
    endpoint(&herald, lane(SERVICE), "callbacks").await;
    let busy = json!([{"times": 6, "status": 500}, {"times": 1, "status": 503, "retry_after": 60}]);
    Client::live(&herald).faults("callbacks", &busy).await;
    happen(&herald, lane(SERVICE), 2).await;
    until_idle(&herald).await;
    let numbers: Vec<usize> = calls(&herald, "callbacks").await.iter().map(sequence).collect();
    assert_eq!(numbers, [1, 1, 1, 1, 1, 1, 1, 1, 2]);
    assert!(undeliverable(&herald).await.is_empty());
}

#[tokio::test]
async fn what_was_undeliverable_is_listed_and_replayed_in_order() {
    let herald = Herald::start_all().await;
    endpoint(&herald, lane(SERVICE), "callbacks/a").await;
    endpoint(&herald, other_lane(), "callbacks/b").await;
    let client = Client::live(&herald);
    for name in ["callbacks/a", "callbacks/b"] {
        client.faults(name, &json!({"status": 410})).await;
    }
    happen(&herald, lane(SERVICE), 5).await;
    happen(&herald, other_lane(), 3).await;
    until_idle(&herald).await;
    let refused = calls(&herald, "callbacks/a").await;
    for name in ["callbacks/a", "callbacks/b"] {
        client.faults(name, &json!({})).await;
    }

    let listed = herald.command(&["callbacks", "list", "--json", "--service", SERVICE, "--limit", "3"]);
    let listed: Vec<Value> = String::from_utf8(listed.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(listed.len(), 3);
    assert_eq!(
        (&listed[0]["sequence"], &listed[0]["last_error"]),
        (&json!(1), &json!("answered 410"))
    );
    assert_eq!(listed[0]["id"], refused[0]["headers"]["webhook-id"]);
    let admin = Admin::new(&herald);
    let (_, page) = admin
        .get(&format!(
            "/callbacks?service_id={SERVICE}&after={}",
            listed[2]["id"].as_str().unwrap()
        ))
        .await;
    let numbers: Vec<&Value> = page["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| &event["sequence"])
        .collect();
    assert_eq!((numbers, &page["next"]), (vec![&json!(4), &json!(5)], &Value::Null));

    let (status, _) = admin.get(&format!("/callbacks?after={}", uuid::Uuid::nil())).await;
    assert_eq!(status, 400, "a page after what has gone is no empty page");

    let nobody = Admin::nobody(&herald);
    let everything = json!({"reason": "it is well again"});
    assert_eq!(nobody.get("/callbacks").await.0, 401);
    assert_eq!(nobody.post("/callbacks/replay", &everything).await.0, 401);
    assert_eq!(admin.get("/callbacks?callback_type=letters").await.0, 400);
    assert_eq!(
        admin.post("/callbacks/replay", &everything).await.0,
        400,
        "everything must be asked for"
    );
    let all = herald.command(&["callbacks", "replay", "--reason", "it is well again"]);
    assert!(!all.status.success(), "everything must be asked for");
    let selection = json!({"service_id": SERVICE});
    let replay = json!({"reason": "it is well again", "selection": selection});
    assert_eq!(
        admin.post("/callbacks/replay", &replay).await,
        (200, json!({"changed": 5}))
    );
    let replayed = until_taken(&herald, "callbacks/a", 5).await;
    let told = |calls: &[Value]| {
        calls
            .iter()
            .map(|call| call["headers"]["webhook-id"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(told(&replayed[5..]), told(&refused));
    assert!(taken(&calls(&herald, "callbacks/b").await).is_empty());

    let all = herald.command(&["callbacks", "replay", "--all", "--reason", "it is well again"]);
    assert_eq!(String::from_utf8(all.stdout).unwrap(), "3 events replayed\n");
    assert_eq!(taken(&until_taken(&herald, "callbacks/b", 3).await), [1, 2, 3]);
    until_idle(&herald).await;
    let (_, audit) = admin.get("/engine/audit?limit=2").await;
    assert_eq!(
        (&audit["entries"][0]["actor"], &audit["entries"][0]["changed"]),
        (&json!("ada"), &json!(3))
    );
    assert_eq!(audit["entries"][1]["action"], "replay_callbacks");
    assert_eq!(audit["entries"][1]["target"], selection);
}

#[tokio::test]
async fn a_cancelled_teller_gives_up_what_waits_and_a_lost_one_is_replaced() {
    let herald = Herald::start_all().await;
    endpoint(&herald, lane(SERVICE), "callbacks").await;
    let admin = Admin::new(&herald);
    let reason = json!({"reason": "a test"});
    admin.post("/engine/queues/service-callbacks/pause", &reason).await;
    happen(&herald, lane(SERVICE), 3).await;
    let teller: String = sqlx::query_scalar("select run_id::text from service_callback_lane")
        .fetch_one(&*herald.database)
        .await
        .unwrap();
    assert_eq!(
        admin.post(&format!("/engine/runs/{teller}/cancel"), &reason).await.0,
        200
    );
    admin.post("/engine/queues/service-callbacks/resume", &reason).await;
    until_idle(&herald).await;
    let given_up = undeliverable(&herald).await;
    assert_eq!(given_up, [1, 2, 3].map(|number| (number, "cancelled".to_owned())));
    assert!(calls(&herald, "callbacks").await.is_empty());

    admin.post("/engine/queues/service-callbacks/pause", &reason).await;
    happen(&herald, lane(SERVICE), 2).await;
    endpoint(&herald, other_lane(), "callbacks/b").await;
    happen(&herald, other_lane(), 2).await;
    let lost = sqlx::query("delete from engine.run where workflow = 'call_service'");
    assert_eq!(lost.execute(&*herald.database).await.unwrap().rows_affected(), 2);
    let stranded = "update service_callback_lane set run_id = null where service_id = $1 and callback_type = $2";
    let stranded = sqlx::query(stranded).bind(other_lane().service_id);
    let stranded = stranded.bind(other_lane().callback_type.as_str());
    assert_eq!(stranded.execute(&*herald.database).await.unwrap().rows_affected(), 1);
    admin.post("/engine/queues/service-callbacks/resume", &reason).await;
    let hour = "insert into engine.schedule values ('housekeeping', now() - interval '3 hours')";
    sqlx::query(hour).execute(&*herald.database).await.unwrap();
    let _beat = herald.beat();
    assert_eq!(taken(&until_taken(&herald, "callbacks", 2).await), [4, 5]);
    assert_eq!(taken(&until_taken(&herald, "callbacks/b", 2).await), [1, 2]);
}

#[tokio::test]
async fn a_message_that_is_settled_in_the_archive_is_told_without_its_recipient() {
    let herald = Herald::start_all().await;
    endpoint(&herald, lane(SERVICE), "callbacks").await;
    let client = Client::live(&herald);
    for provider in ["firetext", "mmg"] {
        client.faults(provider, &json!({"missing_receipts": true})).await;
    }
    let id = client.send_text("+33612345678").await;
    client.until(&id, "sent").await;
    let archive = "
        insert into notification_history (id, service_id, template_id, template_version, key_type, notification_type,
            created_at, sent_at, sent_by, billable_units, international, phone_prefix, notification_status)
        select id, service_id, template_id, template_version, key_type, notification_type, created_at, sent_at, sent_by,
            billable_units, international, phone_prefix, notification_status from notifications;
        delete from notifications";
    sqlx::raw_sql(archive).execute(&*herald.database).await.unwrap();
    let receipt = json!({"CID": id, "status": "3", "substatus": "5"});
    let url = format!("{}/notifications/sms/mmg", herald.base_url);
    assert_eq!(http().post(url).json(&receipt).send().await.unwrap().status(), 200);
    let told = until_taken(&herald, "callbacks", 1).await.pop().unwrap();
    let told: Value = serde_json::from_str(told["body"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&told["id"], &told["status"], &told["to"]),
        (&json!(id), &json!("delivered"), &json!("")),
        "{told}"
    );
}
