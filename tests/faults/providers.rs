//! Providers that fail, flap or are slow: what moves, how soon, and how often.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::Executor;

use super::{
    count, herald,
    load::{load_while, outage, send},
    oracle, providers,
    report::{Verdict, fault},
    until,
};
use crate::harness::{Client, Herald, SMS_TEMPLATE, eventually_within, http};

/// Instants at which weights were moved by a rule.
const MOVES: &str = "select count(distinct updated_at) from provider_details_history where numbers ? 'rule'";
const RAISED: &str = "select count(*) from provider_alerts where raised and name = 'sms_failing'";
const LATE: &str = "select count(*) from engine.run where state = 'sleeping' and due_at <= now()";
const BACK_OFFS_OF_AN_HOUR: usize = 12;
const LEFT_FIRETEXT: &str = "select count(*) from provider_details where identifier = 'firetext' and priority = 0";

async fn now(herald: &Herald) -> DateTime<Utc> {
    let now = sqlx::query_scalar("select clock_timestamp()");
    now.fetch_one(&*herald.database).await.unwrap()
}

/// The provider of each first attempt since then, and how many seconds after it.
async fn first_choices(herald: &Herald, since: DateTime<Utc>) -> Vec<(String, f64)> {
    sqlx::query_as(
        "select e -> 'plan' -> 'send' ->> 'sent_by', extract(epoch from j.at - $1)::float8
         from engine.journal j, jsonb_array_elements(j.events) e
         where e ->> 'event' = 'intent' and e ->> 'attempt' = '1' and j.at > $1
         order by j.at",
    )
    .bind(since)
    .fetch_all(&*herald.database)
    .await
    .unwrap()
}

/// Makes due what waits for its next attempt, once nothing is on its way there any more.
async fn hurry(herald: &Herald) {
    outage(2.0).await;
    let hurry = "update engine.run set due_at = now() where state = 'sleeping'";
    herald.database.execute(hurry).await.unwrap();
}

/// From when on nine of ten first attempts of each second go to MMG.
fn mostly_with_mmg(choices: &[(String, f64)]) -> f64 {
    let last = choices.last().map_or(0.0, |(_, at)| *at);
    let of_second = |second: f64| {
        let within = choices.iter().filter(|(_, at)| (second..second + 1.0).contains(at));
        let (all, mmg) = within.fold((0, 0), |(all, mmg), (by, _)| (all + 1, mmg + u32::from(by == "mmg")));
        mmg * 10 >= all * 9
    };
    let steps = (0u32..)
        .map(|step| f64::from(step) * 0.1)
        .take_while(|second| second + 1.0 < last);
    let bad = steps.filter(|second| !of_second(*second)).last();
    bad.map_or(0.0, |second| second + 0.1)
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn texts_leave_a_provider_that_fails_within_seconds() {
    let done = "Firetext answers 500 from one moment on, two workers, 60 texts/s";
    fault("35", done, async |report| {
        let herald = herald().await;
        let client = Client::live(&herald);
        let _workers = [herald.worker(), herald.worker()];
        let (load, since) = load_while(&client, 60, async {
            outage(3.0).await;
            let since = now(&herald).await;
            client.faults("firetext", &json!({"status": 500})).await;
            until(&herald, "the weights have fallen", LEFT_FIRETEXT, |left| left == 1).await;
            outage(4.0).await;
            since
        })
        .await;
        let choices = first_choices(&herald, since).await;
        let after = mostly_with_mmg(&choices);
        let fell = (falls(&herald).await[0].1 - since).as_seconds_f64();
        report.note(format!(
            "Firetext lost its weight after {fell:.1} s, and nine of ten of {} first attempts were MMG's after {after:.1} s",
            choices.len()
        ));
        hurry(&herald).await;
        oracle::check(report, &herald, &load.ids()).await;
        let history: Vec<(String, i32, String, Value)> = sqlx::query_as(
            "select identifier, priority, reason, numbers from provider_details_history where version > 1 order by identifier",
        )
        .fetch_all(&*herald.database)
        .await
        .unwrap();
        let [firetext, mmg] = history.as_slice() else {
            panic!("one move, and a row a provider: {history:?}")
        };
        assert_eq!((firetext.1, &*firetext.2), (0, "Reduced due to reduced reliability"));
        assert_eq!((mmg.1, &*mmg.2), (100, "Increased due to reduced reliability in other provider"));
        let numbers = &firetext.3;
        assert_eq!((&numbers["rule"], &numbers["fell"]), (&json!("outage"), &json!("firetext")));
        assert!(numbers["firetext"]["last_seconds"]["faults"].as_i64() >= Some(10), "{numbers}");
        assert!(after < 5.0, "it took {after:.1} s");
        Verdict::Passed
    })
    .await;
}

async fn status(herald: &Herald) -> Value {
    let answer = http().get(format!("{}/_status", herald.base_url)).send().await.unwrap();
    assert_eq!(answer.status(), 200, "the API is well");
    answer.json().await.unwrap()
}

/// Whether a code that expires while both providers are down stays away once they are back and others arrive.
async fn nothing_late_arrives(herald: &Herald, client: &Client<'_>) -> bool {
    providers(client, json!({"status": 500})).await;
    let code = json!({
        "phone_number": "07700900123", "template_id": SMS_TEMPLATE, "personalisation": {"name": "Ada"}, "expires_in": 10,
    });
    let (answer, code) = client.post("/v2/notifications/sms", &[], &code).await;
    assert_eq!(answer, 201, "{code}");
    let other = client.send_text("07700900123").await;
    let refused = "select count(*) from engine.run where state = 'sleeping' and attempt = 2";
    until(herald, "both have been refused twice", refused, |runs| runs == 2).await;
    let over = "select count(*) from engine.run where expires_at <= now()";
    until(herald, "the code is over", over, |runs| runs == 1).await;
    providers(client, json!({})).await;
    hurry(herald).await;
    client.until(&other, "delivered").await;
    until(
        herald,
        "nothing is on its way",
        "select count(*) from engine.run where state <> 'failed'",
        |runs| runs == 0,
    )
    .await;
    client.phone(code["id"].as_str().unwrap()).await.is_empty()
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn while_both_providers_are_down_nothing_moves_and_one_alert_tells_it() {
    let done = "both providers of texts answer 500 for an hour, whose twelve back-offs of five minutes are cut to seconds; then again";
    fault("39", done, async |report| {
        let herald = herald().await;
        let client = Client::live(&herald);
        let logs = [(); 2].map(|()| std::env::temp_dir().join(format!("herald-log-{}", uuid::Uuid::new_v4())));
        let _workers = logs
            .each_ref()
            .map(|log| herald.worker_logging(log, &[("HERALD_LOG", "warn")]));
        providers(&client, json!({"status": 500})).await;
        let (mut load, raised) = load_while(&client, 40, async {
            until(&herald, "the alert is raised", RAISED, |raised| raised == 1).await;
            outage(20.0).await;
            for _ in 0..BACK_OFFS_OF_AN_HOUR {
                hurry(&herald).await;
                until(&herald, "all are tried again", LATE, |late| late == 0).await;
            }
            count(&herald, RAISED).await
        })
        .await;
        assert_eq!(raised, 1);
        assert_eq!(status(&herald).await["alerts"], json!(["sms_failing"]));
        let alerts = count(&herald, "select count(*) from provider_alerts where strikes > 0").await;
        let attempts = count(&herald, "select coalesce(max(attempt), 0)::bigint from engine.run").await;
        report.note(format!(
            "{alerts} alert, {} moves, {attempts} attempts at most",
            count(&herald, MOVES).await
        ));
        assert!(attempts > BACK_OFFS_OF_AN_HOUR, "{attempts}");
        assert_eq!((alerts, count(&herald, MOVES).await), (1, 0));
        providers(&client, json!({})).await;
        hurry(&herald).await;
        // A minute's share of faults has to fall first.
        let (more, ()) = load_while(&client, 5, async {
            let lowered = || async { (count(&herald, RAISED).await == 0).then_some(()) };
            eventually_within(Duration::from_secs(120), "the alert is lowered", lowered).await;
        })
        .await;
        assert_eq!(status(&herald).await["alerts"], Value::Null);
        load.accepted.extend(more.accepted);
        oracle::check(report, &herald, &load.ids()).await;
        assert!(
            nothing_late_arrives(&herald, &client).await,
            "a code arrived that nobody waits for any more"
        );
        let lines: String = logs.iter().map(|log| std::fs::read_to_string(log).unwrap()).collect();
        let at = |level: &str| {
            lines
                .lines()
                .filter(|line| line.contains(&format!(r#""level":"{level}""#)))
                .count()
        };
        let (warnings, errors) = (at("WARN"), at("ERROR"));
        report.note(format!(
            "{warnings} warnings and {errors} errors in the logs of two workers"
        ));
        assert_eq!(errors, 1, "one clear alert, not a thousand lines: {lines}");
        assert!(warnings <= 40, "a line a minute of each firm and worker: {lines}");
        Verdict::Passed
    })
    .await;
}

/// When a rule took weight from a provider, and from which.
async fn falls(herald: &Herald) -> Vec<(String, DateTime<Utc>)> {
    sqlx::query_as(
        "select identifier, updated_at at time zone 'utc' from provider_details_history
         where numbers ->> 'fell' = identifier order by updated_at",
    )
    .fetch_all(&*herald.database)
    .await
    .unwrap()
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn providers_that_flap_cannot_make_the_weights_flap() {
    let done = "the providers of texts answer 500 by turns, changing every 30 s for 150 s, 40 texts/s";
    fault("40", done, async |report| {
        let herald = herald().await;
        let client = Client::live(&herald);
        let _workers = [herald.worker(), herald.worker()];
        let (load, ()) = load_while(&client, 40, async {
            for (down, up) in [("firetext", "mmg"), ("mmg", "firetext")].into_iter().cycle().take(5) {
                client.faults(up, &json!({})).await;
                client.faults(down, &json!({"status": 500})).await;
                outage(30.0).await;
            }
        })
        .await;
        providers(&client, json!({})).await;
        let falls = falls(&herald).await;
        let turns: Vec<_> = falls.windows(2).filter(|pair| pair[0].0 != pair[1].0).collect();
        let pauses: Vec<i64> = turns.iter().map(|pair| (pair[1].1 - pair[0].1).num_seconds()).collect();
        report.note(format!(
            "{} falls in five turns, turned after {pauses:?} s",
            falls.len()
        ));
        hurry(&herald).await;
        oracle::check(report, &herald, &load.ids()).await;
        // The first fall costs a minute until weights may turn, and the second one two minutes, which end after the load.
        assert_eq!(falls.first().map(|(whose, _)| whose.as_str()), Some("firetext"));
        assert!(turns.len() <= 1 && pauses.iter().all(|pause| *pause >= 60), "{falls:?}");
        // A provider may lose a step before everything.
        assert!(falls.len() <= 2 * (1 + turns.len()), "{falls:?}");
        Verdict::Passed
    })
    .await;
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn texts_leave_a_provider_whose_receipts_are_slow_step_by_step() {
    let done = "MMG's receipts come after 40 s, where 2 s count as slow";
    fault("41", done, async |report| {
        let herald = herald().await;
        let client = Client::live(&herald);
        client.faults("mmg", &json!({"receipt_delay_ms": 40_000})).await;
        let ids = send(&client, 200).await;
        let _worker = herald.worker_with("all", &[("SLOW_DELIVERY_SECONDS", "2")]);
        until(
            &herald,
            "all are sent",
            "select count(*) from notifications where sent_at is not null",
            |sent| sent == 200,
        )
        .await;
        outage(3.0).await;
        let missed = "insert into engine.schedule values ('leave_a_slow_provider', now() - interval '2 minutes')";
        herald.database.execute(missed).await.unwrap();
        let _beat = herald.beat();
        let stepped = "select count(*) from provider_details where identifier = 'mmg' and priority = 41";
        until(&herald, "a step is taken", stepped, |stepped| stepped == 1).await;
        report.note("a step of 10 was taken from MMG");
        oracle::check(report, &herald, &ids).await;
        Verdict::Passed
    })
    .await;
}
