//! A network that cuts, delays and loses between the program and its database.

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use uuid::Uuid;

use super::{
    count, herald,
    load::{load_while, outage, send},
    oracle, providers,
    report::{Report, Verdict, fault},
    until_at_the_phone,
};
use crate::harness::{Client, Gate, Herald};

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn a_worker_cut_from_the_database_stops_sending_before_its_leases_end() {
    fault("30", "the worker is cut from the database, but not from the providers, in the middle of 2,000 texts", async |report| {
        let herald = herald().await;
        let client = Client::live(&herald);
        let ids = send(&client, 2_000).await;
        let gate = Gate::before(&herald.database.url).await;
        let _cut = herald.worker_with("all", &[("DATABASE_URL", &gate.url)]);
        until_at_the_phone(&client, 300).await;
        gate.shut();
        outage(5.0).await;
        let ends: Vec<(Uuid, DateTime<Utc>)> = sqlx::query_as("select id, due_at from engine.run where state = 'running'")
            .fetch_all(&*herald.database)
            .await
            .unwrap();
        let ends: HashMap<Uuid, DateTime<Utc>> = ends.into_iter().collect();
        let arrived = client.whole_phone().await;
        let late = arrived.iter().filter_map(|message| {
            let at: DateTime<Utc> = message["at"].as_str()?.parse().ok()?;
            Some(at - *ends.get(&message["reference"].as_str()?.parse().ok()?)?)
        });
        let latest = late.max();
        report.note(format!(
            "{} runs held at the cut, {} texts at the phone 5 s later; the last of the held ones arrived {} ms before its lease ended",
            ends.len(),
            arrived.len(),
            latest.map_or(0, |latest| -latest.num_milliseconds())
        ));
        let _other = herald.worker();
        outage(3.0).await;
        gate.open();
        oracle::check(report, &herald, &ids).await;
        assert!(latest.is_none_or(|latest| latest < TimeDelta::zero()), "a text left after its lease had ended");
        Verdict::Passed
    })
    .await;
}

/// Texts at a slow and lossy way to the database, and how many were delivered while it was slow.
async fn while_slow(report: &Report, round_trip: Duration, length: f64) -> usize {
    let herald = Herald::start_without_api(crate::harness::database().await).await;
    oracle::watch(&herald.database).await;
    let gate = Gate::before(&herald.database.url).await;
    let _api = herald.api_with(&[("DATABASE_URL", &gate.url)]).await;
    let _worker = herald.worker_with("all", &[("DATABASE_URL", &gate.url), ("WORKER_LEASE_SECONDS", "10")]);
    let client = Client::live(&herald);
    let delivered = "select count(*) from notifications where notification_status = 'delivered'";
    let (load, meanwhile) = load_while(&client, 5, async {
        outage(3.0).await;
        gate.slow_down(round_trip / 2, 0.05);
        let before = count(&herald, delivered).await;
        outage(length).await;
        let meanwhile = count(&herald, delivered).await - before;
        gate.slow_down(Duration::ZERO, 0.0);
        meanwhile
    })
    .await;
    report.note(format!(
        "{meanwhile} delivered meanwhile; {} texts not answered with 201",
        load.unanswered
    ));
    oracle::check(report, &herald, &load.ids()).await;
    meanwhile
}

/// A batch, which is some ten round trips, then takes longer than a lease and than its own limit: everything waits, and
/// goes on by itself.
#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn a_way_to_the_database_that_takes_seconds_loses_nothing() {
    let done = "2 s for each round trip to the database, 5 % sent again, for 60 s, with the default lease of 10 s";
    fault("32a", done, async |report| {
        while_slow(report, Duration::from_secs(2), 60.0).await;
        Verdict::Passed
    })
    .await;
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn a_slow_and_lossy_way_to_the_database_slows_down_only() {
    let done = "200 ms for each round trip to the database, 5 % sent again, for 30 s, with the default lease of 10 s";
    fault("32c", done, async |report| {
        let meanwhile = while_slow(report, Duration::from_millis(200), 30.0).await;
        assert!(meanwhile > 0, "nothing was delivered while the way was slow");
        Verdict::Passed
    })
    .await;
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn a_slow_and_lossy_way_to_the_providers_slows_down_only() {
    let done = "Firetext takes 2 s to answer, and MMG's connection is reset for one text in 20, for 20 s";
    fault("32b", done, async |report| {
        let herald = herald().await;
        let client = Client::live(&herald);
        let _worker = herald.worker_with("all", &[("PROVIDER_TIMEOUT_SECONDS", "10")]);
        client.faults("firetext", &json!({"latency_ms": 2_000})).await;
        client
            .faults("mmg", &json!({"share": 0.05, "reset_before": true}))
            .await;
        let (load, ()) = load_while(&client, 40, outage(20.0)).await;
        providers(&client, json!({})).await;
        report.note(format!("{} texts not answered with 201", load.unanswered));
        oracle::check(report, &herald, &load.ids()).await;
        Verdict::Passed
    })
    .await;
}
