//! Messages that people take back, wherever they are.

use std::{collections::HashMap, time::Duration};

use chrono::{TimeDelta, Utc};
use futures::{StreamExt, stream::FuturesUnordered};
use serde_json::{Value, json};
use sqlx::Executor;
use uuid::Uuid;

use super::{
    count, herald,
    load::{outage, send},
    oracle, providers,
    report::{Verdict, fault},
    until,
};
use crate::harness::{Admin, Client, Herald, Process, SMS_TEMPLATE, http};

const LIVE: &str = "select count(*) from engine.run";
const CALLING: &str = "select count(*) from engine.run r where state = 'running' and (
    select events -> -1 ->> 'event' = 'intent' from engine.journal j where j.run_id = r.id order by seq desc limit 1) is true";

/// Texts of each group.
const TEXTS: usize = 6;

/// What was cancelled, and how it ended.
struct Cancelling {
    herald: Herald,
    ended: HashMap<Uuid, String>,
    all: Vec<String>,
}

impl Cancelling {
    async fn begin() -> Self {
        let herald = herald().await;
        let cancelled = "create table witness.cancelled (id uuid primary key, answered_at timestamptz not null default clock_timestamp());
            insert into service_permissions (service_id, permission, created_at)
            select id, 'schedule_messages', now() from services where name = 'Herald Development'";
        herald.database.execute(cancelled).await.unwrap();
        Self {
            herald,
            ended: HashMap::new(),
            all: Vec::new(),
        }
    }

    fn client(&self) -> Client<'_> {
        Client::live(&self.herald)
    }

    async fn send(&mut self) -> Vec<String> {
        let ids = send(&self.client(), TEXTS).await;
        self.all.extend_from_slice(&ids);
        ids
    }

    /// Cancels half of them by command, and half by the internal API. Both must say that it is done.
    async fn cancel(&self, ids: &[String]) {
        let (by_command, by_api) = ids.split_at(ids.len() / 2);
        let mut command = vec!["runs", "cancel", "--reason", "wrong numbers"];
        command.extend(by_command.iter().map(String::as_str));
        let done = self.herald.command(&command);
        assert!(done.status.success(), "{done:?}");
        self.answered(by_command).await;
        for id in by_api {
            let done = cancel_by_api(&self.herald, id).await;
            assert_eq!(done, (200, json!({"changed": 1})));
            self.answered(std::slice::from_ref(id)).await;
        }
    }

    async fn answered(&self, ids: &[String]) {
        answered(&self.herald, ids).await;
    }

    /// Waits until nothing is left to do, and notes that each of them has this status and reached the phone so often.
    async fn end(&mut self, what: &str, ids: &[String], status: &str, phone: std::ops::RangeInclusive<usize>) {
        until(&self.herald, &format!("{what}: all have ended"), LIVE, |runs| runs == 0).await;
        for id in ids {
            let (got, there) = (self.client().get(id).await, self.client().phone(id).await.len());
            assert_eq!(got["status"], status, "{what}");
            assert!(phone.contains(&there), "{what}: {there} at the phone, and {status}");
            self.ended.insert(id.parse().unwrap(), status.to_owned());
        }
    }

    /// Sends some under these faults, cancels them when as many are in a state, and says which.
    async fn cancel_when(&mut self, what: &str, faults: Value, state: &'static str) -> Vec<String> {
        providers(&self.client(), faults).await;
        let ids = self.send().await;
        until(&self.herald, what, state, |runs| runs == TEXTS).await;
        self.cancel(&ids).await;
        ids
    }
}

async fn cancel_by_api(herald: &Herald, id: &str) -> (u16, Value) {
    let reason = json!({"reason": "wrong numbers"});
    Admin::new(herald)
        .post(&format!("/engine/runs/{id}/cancel"), &reason)
        .await
}

/// From now on nothing of them may leave.
async fn answered(herald: &Herald, ids: &[String]) {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.parse().unwrap()).collect();
    sqlx::query("insert into witness.cancelled (id) select unnest($1::uuid[])")
        .bind(ids)
        .execute(&*herald.database)
        .await
        .unwrap();
}

/// Nothing was called for a run after its cancelling was answered (I9): an intent that was written then was withdrawn.
/// A run that was cancelled has ended as such, once.
async fn nothing_left_afterwards(herald: &Herald) {
    let left = "select count(*) from witness.cancelled c
        join engine.journal j on j.run_id = c.id and j.at > c.answered_at, jsonb_array_elements(j.events) e
        where e ->> 'event' = 'intent' and not exists (
            select from engine.journal w, jsonb_array_elements(w.events) v
            where w.run_id = c.id and v ->> 'event' = 'withdrawn' and v ->> 'attempt' = e ->> 'attempt')";
    assert_eq!(count(herald, left).await, 0, "calls of cancelled runs (I9)");
    let ends = "select count(*) from witness.cancelled c where 1 <> (
        select count(*) from engine.journal j, jsonb_array_elements(j.events) e
        where j.run_id = c.id and e ->> 'event' in ('finished', 'cancelled'))";
    assert_eq!(count(herald, ends).await, 0, "runs without one end");
}

/// Both firms say of each that it was delivered.
async fn post_receipts(herald: &Herald, ids: &[String]) {
    for id in ids {
        let mmg = http().post(format!("{}/notifications/sms/mmg", herald.base_url));
        let mmg = mmg.json(&json!({"CID": id, "status": "3", "substatus": "5"}));
        let firetext = http().post(format!("{}/notifications/sms/firetext", herald.base_url));
        let firetext = firetext
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("status=0&reference={id}&code=000"));
        for receipt in [mmg, firetext] {
            assert_eq!(receipt.send().await.unwrap().status(), 200);
        }
    }
}

/// Whatever nobody works on yet: due, paused, and planned for later.
async fn before_they_begin(herald: &mut Cancelling) {
    let due = herald.send().await;
    let paused = herald.send().await;
    let mut pause = vec!["runs", "pause", "--reason", "a look first"];
    pause.extend(paused.iter().map(String::as_str));
    assert!(herald.herald.command(&pause).status.success());
    let mut planned = Vec::new();
    for _ in 0..TEXTS {
        let at = (Utc::now() + TimeDelta::hours(1)).to_rfc3339();
        let text = json!({"phone_number": "07700900123", "template_id": SMS_TEMPLATE, "personalisation": {"name": "Ada"},
            "scheduled_for": at});
        let (status, answer) = herald.client().post("/v2/notifications/sms", &[], &text).await;
        assert_eq!((status, answer["scheduled_for"].is_string()), (201, true), "{answer}");
        planned.push(answer["id"].as_str().unwrap().to_owned());
    }
    herald.all.extend_from_slice(&planned);
    let later = "select count(*) from engine.run where due_at > now() + interval '50 min' and due_at < 'infinity'";
    assert_eq!(count(&herald.herald, later).await, TEXTS);
    let all = [due, paused, planned].concat();
    herald.cancel(&all).await;
    let _worker = herald.herald.worker();
    herald.end("before they begin", &all, "cancelled", 0..=0).await;
}

/// Held by a worker that has not come to the call.
async fn before_the_call(herald: &mut Cancelling) {
    providers(&herald.client(), json!({})).await;
    let ids = herald.send().await;
    let mut lock = herald.herald.database.begin().await.unwrap();
    lock.execute("lock table notifications in access exclusive mode")
        .await
        .unwrap();
    let _worker = herald.herald.worker();
    let held = "select count(*) from engine.run where state = 'running'";
    until(&herald.herald, "they are held", held, |runs| runs == TEXTS).await;
    herald.cancel(&ids).await;
    lock.rollback().await.unwrap();
    herald.end("before the call", &ids, "cancelled", 0..=0).await;
}

/// The call is under way: what becomes of it decides what is true of the message.
async fn in_the_call(herald: &mut Cancelling) {
    const MS: u64 = 1_500;
    let _worker = herald.herald.worker();
    let calls = [
        ("refused", json!({"latency_ms": MS, "status": 503}), "cancelled", 0),
        (
            "taken",
            json!({"latency_ms": MS, "missing_receipts": true}),
            "temporary-failure",
            1,
        ),
        (
            "taken, with a receipt before the answer",
            json!({"latency_ms": MS, "receipt_before_answer": true}),
            "delivered",
            1,
        ),
        (
            "taken, and the answer lost",
            json!({"latency_ms": MS, "reset_after_accept": true, "missing_receipts": true}),
            "technical-failure",
            1,
        ),
        (
            "lost",
            json!({"latency_ms": MS, "reset_before": true}),
            "technical-failure",
            0,
        ),
    ];
    for (what, faults, status, phone) in calls {
        let ids = herald.cancel_when(what, faults, CALLING).await;
        herald.end(what, &ids, status, phone..=phone).await;
    }
}

/// The worker dies in the call. Whether the text has left nobody knows.
async fn in_the_call_of_a_worker_that_dies(herald: &mut Cancelling) {
    let worker = herald.herald.worker();
    let slow = json!({"latency_ms": 1_900, "missing_receipts": true});
    let ids = herald.cancel_when("calls are under way", slow, CALLING).await;
    worker.kill();
    let _next = herald.herald.worker();
    herald.end("the worker died", &ids, "technical-failure", 0..=1).await;
}

/// No worker holds them, and something is still to come.
async fn between_steps(herald: &mut Cancelling, worker: Process) {
    let asleep = "select count(*) from engine.run where state = 'sleeping' and due_at > now() + interval '3 min'";
    let refused = herald
        .cancel_when("they back off", json!({"status": 503}), asleep)
        .await;
    herald.end("in back-off", &refused, "cancelled", 0..=0).await;

    let waiting = "select count(*) from engine.run where state = 'waiting'";
    let silent = json!({"missing_receipts": true});
    let sent = herald.cancel_when("they wait for receipts", silent, waiting).await;
    herald
        .end("waiting for a receipt", &sent, "temporary-failure", 1..=1)
        .await;

    let unknown = json!({"reset_after_accept": true, "missing_receipts": true});
    let unknown = herald.cancel_when("they wait for a proof", unknown, waiting).await;
    herald
        .end("waiting for a proof", &unknown, "technical-failure", 1..=1)
        .await;

    // What is known by then counts, whoever reads it.
    let unknown = json!({"reset_after_accept": true, "missing_receipts": true});
    providers(&herald.client(), unknown).await;
    let proved = herald.send().await;
    until(&herald.herald, "they wait for a proof", waiting, |runs| runs == TEXTS).await;
    worker.kill();
    post_receipts(&herald.herald, &proved).await;
    herald.cancel(&proved).await;
    let _worker = herald.herald.worker();
    herald.end("the proof came first", &proved, "delivered", 1..=1).await;
}

/// Their story has been told to its end.
async fn after_the_end(herald: &mut Cancelling, _worker: Process) {
    providers(&herald.client(), json!({})).await;
    let ids = herald.send().await;
    until(&herald.herald, "all are delivered", LIVE, |runs| runs == 0).await;
    for id in &ids {
        let (status, answer) = cancel_by_api(&herald.herald, id).await;
        assert_eq!(status, 409, "{answer}");
        let done = herald.herald.command(&["runs", "cancel", id, "--reason", "too late"]);
        assert!(!done.status.success(), "{done:?}");
    }
    herald.end("after the end", &ids, "delivered", 1..=1).await;
}

/// Nobody can read them, so nobody can write their last word: the run is put away, and after three days the night writes it.
async fn what_nobody_can_read(herald: &mut Cancelling) {
    let offences = "select count(*) from witness.offence";
    assert_eq!(count(&herald.herald, offences).await, 0);
    let ids = herald.send().await;
    let strange = "update engine.run set workflow = 'from_the_future'";
    herald.herald.database.execute(strange).await.unwrap();
    let _worker = herald.herald.worker();
    let parked = "select count(*) from engine.run where state = 'parked'";
    until(&herald.herald, "they are parked", parked, |runs| runs == TEXTS).await;
    herald.cancel(&ids).await;
    assert_eq!(count(&herald.herald, LIVE).await, 0, "parked runs are put away at once");
    let unsent = "select count(*) from notifications where notification_status = 'created'";
    assert_eq!(count(&herald.herald, unsent).await, TEXTS);
    let later =
        "update notifications set created_at = created_at - interval '73 hours' where notification_status = 'created';
        insert into engine.schedule values ('timeout_sending_notifications', now() - interval '25 hours')";
    herald.herald.database.execute(later).await.unwrap();
    let _beat = herald.herald.beat();
    until(&herald.herald, "they are given up", unsent, |unsent| unsent == 0).await;
    until(&herald.herald, "the night is over", LIVE, |runs| runs == 0).await;
    herald
        .end("nobody can read them", &ids, "technical-failure", 0..=0)
        .await;
    // People wrote the last line of their journals, while no worker held them: that is what the witness saw.
    let seen = herald
        .herald
        .database
        .execute("delete from witness.offence")
        .await
        .unwrap();
    assert_eq!(seen.rows_affected(), TEXTS as u64);
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn what_is_cancelled_in_any_state_ends_once_truly_and_stays_so() {
    let done = "texts are cancelled in every state, half by command and half by the internal API; receipts come for all of them afterwards";
    fault("56a", done, async |report| {
        let mut herald = Cancelling::begin().await;
        before_they_begin(&mut herald).await;
        before_the_call(&mut herald).await;
        in_the_call(&mut herald).await;
        in_the_call_of_a_worker_that_dies(&mut herald).await;
        let worker = herald.herald.worker();
        between_steps(&mut herald, worker).await;
        let worker = herald.herald.worker();
        after_the_end(&mut herald, worker).await;
        what_nobody_can_read(&mut herald).await;

        let Cancelling { herald, ended, all } = herald;
        post_receipts(&herald, &all).await;
        let _worker = herald.worker();
        oracle::check_ended(report, &herald, &all, &ended).await;
        nothing_left_afterwards(&herald).await;
        Verdict::Passed
    })
    .await;
}

/// How each message ended, by what is true of it.
async fn endings(herald: &Herald) -> HashMap<Uuid, String> {
    let rows: Vec<(Uuid, String)> = sqlx::query_as(
        "select id, notification_status::text from notifications where notification_status <> 'delivered'",
    )
    .fetch_all(&*herald.database)
    .await
    .unwrap();
    rows.into_iter().collect()
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn what_is_cancelled_at_any_moment_is_not_said_to_be_cancelled_if_it_has_left() {
    let done = "600 texts at 40 a second are cancelled 0 to 400 ms after they were accepted, while answers are slow, refused or lost; a worker is killed three times";
    fault("56b", done, async |report| {
        let herald = Cancelling::begin().await.herald;
        let client = Client::live(&herald);
        let kinds = [
            json!({"times": 1, "latency_ms": 100}),
            json!({"times": 1, "latency_ms": 200, "status": 503}),
            json!({"times": 1, "latency_ms": 100, "reset_after_accept": true}),
            json!({"times": 1}),
            json!({"times": 1, "reset_before": true}),
        ];
        let faults: Vec<&Value> = kinds.iter().cycle().take(1_500).collect();
        providers(&client, json!(faults)).await;
        let mut worker = herald.worker();
        let (mut under_way, mut ids, mut cancelled) = (FuturesUnordered::new(), Vec::new(), Vec::new());
        for n in 0..600_u64 {
            let id = client.send_text("07700900123").await;
            ids.push(id.clone());
            let herald = &herald;
            under_way.push(async move {
                // Spread without chance: 89 and 401 share no factor.
                tokio::time::sleep(Duration::from_millis(n * 89 % 401)).await;
                let (status, _) = cancel_by_api(herald, &id).await;
                if status == 200 {
                    answered(herald, std::slice::from_ref(&id)).await;
                }
                (status == 200).then_some(id)
            });
            let until_the_next = std::pin::pin!(outage(0.025));
            let mut gathered = (&mut under_way).take_until(until_the_next);
            while let Some(done) = gathered.next().await {
                cancelled.extend(done);
            }
            if n % 150 == 149 && n < 599 {
                std::mem::replace(&mut worker, herald.worker()).kill();
            }
        }
        while let Some(done) = under_way.next().await {
            cancelled.extend(done);
        }
        providers(&client, json!({})).await;
        until(&herald, "all have ended", LIVE, |runs| runs == 0).await;
        post_receipts(&herald, &ids).await;
        until(&herald, "all receipts are settled", LIVE, |runs| runs == 0).await;

        let ended = endings(&herald).await;
        for (id, status) in &ended {
            let there = client.phone(&id.to_string()).await.len();
            match status.as_str() {
                "cancelled" => assert_eq!(there, 0, "{id} is said to be cancelled, and has left (I9)"),
                "temporary-failure" => assert_eq!(there, 1, "{id} was sent, it is said"),
                "technical-failure" => {}
                other => panic!("{id} is {other}"),
            }
            assert!(
                cancelled.contains(&id.to_string()),
                "{id} is {status}, and nobody cancelled it"
            );
        }
        let of = |status: &str| ended.values().filter(|ended| *ended == status).count();
        report.note(format!(
            "{} answered as cancelled: {} cancelled, {} left with an unknown outcome, {} sent and not followed further",
            cancelled.len(),
            of("cancelled"),
            of("technical-failure"),
            of("temporary-failure")
        ));
        assert!(
            of("cancelled") > 50 && ids.len() - ended.len() > 50,
            "the moments were not spread"
        );
        oracle::check_ended(report, &herald, &ids, &ended).await;
        nothing_left_afterwards(&herald).await;
        Verdict::Passed
    })
    .await;
}
