//! Clocks that are wrong, step, and cross the ends of months.

use std::{fs, path::PathBuf};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use super::{
    count, herald,
    load::{load_while, outage},
    oracle, providers,
    report::{Report, Verdict, fault},
};
use crate::harness::{Client, Cluster, Database, Herald, eventually};

/// The library that tells a process another time, where it is installed.
fn faketime() -> Option<String> {
    let folders = fs::read_dir("/usr/lib").ok()?.flatten();
    let libraries = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    let found = libraries.filter(|library| library.exists()).last()?;
    Some(found.to_str()?.to_owned())
}

const NOT_INSTALLED: &str = "libfaketime is not installed";

/// The clock of the wall is off by so much; the time that passes is not.
fn off_by<'a>(library: &'a str, offset: &'a str) -> [(&'a str, &'a str); 4] {
    [
        ("LD_PRELOAD", library),
        ("FAKETIME", offset),
        ("DONT_FAKE_MONOTONIC", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ]
}

fn empty_folder() -> PathBuf {
    let dir = std::env::temp_dir().join(format!("herald-clock-{}", uuid::Uuid::new_v4().simple()));
    fs::create_dir(&dir).unwrap();
    dir
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn workers_whose_clocks_are_off_by_ten_minutes_are_like_any_other() {
    fault(
        "26",
        "one worker's clock is 10 min ahead, the other's 10 min behind; each is killed once",
        async |report| {
            let Some(library) = faketime() else {
                return Verdict::Skipped(NOT_INSTALLED.to_owned());
            };
            let herald = herald().await;
            let client = Client::live(&herald);
            providers(&client, json!({"latency_ms": 300})).await;
            let worker = |offset| herald.worker_with("all", &off_by(&library, offset));
            let (mut ahead, mut behind) = (worker("+600s"), worker("-600s"));
            let (load, ()) = load_while(&client, 60, async {
                outage(5.0).await;
                std::mem::replace(&mut ahead, worker("+600s")).kill();
                outage(5.0).await;
                std::mem::replace(&mut behind, worker("-600s")).kill();
                outage(3.0).await;
            })
            .await;
            let early = "select count(*) from engine.run where attempt > 0 and due_at < created_at";
            assert_eq!(count(&herald, early).await, 0);
            oracle::check(report, &herald, &load.ids()).await;
            Verdict::Passed
        },
    )
    .await;
}

/// By how many seconds the database's clock is ahead of ours.
async fn ahead(database: &Database) -> i64 {
    let now: DateTime<Utc> = sqlx::query_scalar("select clock_timestamp()")
        .fetch_one(&**database)
        .await
        .unwrap();
    (now - Utc::now()).num_seconds()
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn a_database_whose_clock_steps_back_and_forward_loses_and_repeats_nothing_off_the_record() {
    fault(
        "27",
        "the database's clock steps back 5 s, then forward 1 h, under load",
        async |report| {
            let Some(library) = faketime() else {
                return Verdict::Skipped(NOT_INSTALLED.to_owned());
            };
            let clock = empty_folder().join("clock");
            fs::write(&clock, "+0").unwrap();
            let mut environment = off_by(&library, "")
                .map(|(name, value)| (name, value.to_owned()))
                .to_vec();
            environment.retain(|(name, _)| *name != "FAKETIME");
            environment.push(("FAKETIME_TIMESTAMP_FILE", clock.display().to_string()));
            environment.push(("FAKETIME_NO_CACHE", "1".to_owned()));
            let cluster = Cluster::start_in(empty_folder(), &[], &environment).await;
            let herald = Herald::start_on(Database::in_cluster(&cluster.url).await).await;
            oracle::watch(&herald.database).await;
            let client = Client::live(&herald);
            providers(&client, json!({"latency_ms": 300})).await;
            let _worker = herald.worker();
            let (load, steps) = load_while(&client, 40, async {
                let mut steps = Vec::new();
                for step in ["-5", "+3600"] {
                    outage(5.0).await;
                    fs::write(&clock, step).unwrap();
                    steps.push(ahead(&herald.database).await);
                }
                outage(8.0).await;
                steps
            })
            .await;
            report.note(format!("the clock was ahead by {steps:?} s"));
            if steps[0] > -3 || steps[1] < 3_500 {
                return Verdict::Skipped("Postgres does not take the steps of libfaketime".to_owned());
            }
            oracle::check(report, &herald, &load.ids()).await;
            fs::remove_dir_all(clock.parent().unwrap()).unwrap();
            Verdict::Passed
        },
    )
    .await;
}

/// Everything runs under a clock that is half a minute before `midnight`, and works across it.
async fn across(midnight: &str, report: &Report, library: &str, accepted: &mut usize) -> Vec<String> {
    let midnight: DateTime<Utc> = midnight.parse().unwrap();
    let offset = (midnight - TimeDelta::seconds(30) - Utc::now()).num_seconds();
    let clock = format!("+{offset}s");
    let environment = off_by(library, &clock);
    let owned = environment.map(|(name, value)| (name, value.to_owned()));
    let cluster = Cluster::start_in(empty_folder(), &[], &owned).await;
    let herald = Herald::start_without_api(Database::in_cluster(&cluster.url).await).await;
    oracle::watch(&herald.database).await;
    let _api = herald.api_with(&environment).await;
    let (_worker, _beat) = (
        herald.worker_with("all", &environment),
        herald.role_with(&["beat"], &environment),
    );
    let client = Client::live(&herald).ahead(u64::try_from(offset).unwrap());
    let (load, ()) = load_while(&client, 40, async {
        eventually("midnight has passed", || async {
            let now = Utc::now() + TimeDelta::seconds(ahead(&herald.database).await);
            (now > midnight + TimeDelta::seconds(6)).then_some(())
        })
        .await;
    })
    .await;
    *accepted += load.accepted.len();
    oracle::check(report, &herald, &load.ids()).await;
    let strays = count(&herald, "select count(*) from engine.journal_default").await;
    assert_eq!(strays, 0, "rows without a partition around {midnight}");
    sqlx::query_scalar(
        "select distinct replace(tableoid::regclass::text, 'engine.journal_', '') from engine.journal order by 1",
    )
    .fetch_all(&*herald.database)
    .await
    .unwrap()
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn the_ends_of_months_years_and_a_leap_day_are_days_like_others() {
    let done = "everything works across midnight before New Year, 1 March, a leap day and the day after (counts are the last one's)";
    fault("29", done, async |report| {
        let Some(library) = faketime() else {
            return Verdict::Skipped(NOT_INSTALLED.to_owned());
        };
        let mut accepted = 0;
        for midnight in [
            "2027-01-01T00:00:00Z",
            "2027-03-01T00:00:00Z",
            "2028-02-29T00:00:00Z",
            "2028-03-01T00:00:00Z",
        ] {
            let days = across(midnight, report, &library, &mut accepted).await;
            assert_eq!(days.len(), 2, "{days:?}");
            report.note(format!("runs on {}", days.join(" and ")));
        }
        report.note(format!("{accepted} texts in all"));
        Verdict::Passed
    })
    .await;
}
