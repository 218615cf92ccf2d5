//! Clocks that are wrong, step, and cross the ends of months.

use std::{
    fs,
    path::{Path, PathBuf},
};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use super::{
    count, herald,
    load::{load_while, outage},
    oracle, providers,
    report::{Report, Verdict, fault},
    until,
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
fn off_by<'a>(library: &'a str, offset: &'a str) -> [(&'static str, &'a str); 4] {
    [
        ("LD_PRELOAD", library),
        ("FAKETIME", offset),
        ("DONT_FAKE_MONOTONIC", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ]
}

/// The same, by what this file says at each moment.
fn off_as_in(library: &str, file: &Path) -> Vec<(&'static str, String)> {
    let environment = off_by(library, "").map(|(name, value)| (name, value.to_owned()));
    let file = [
        ("FAKETIME_TIMESTAMP_FILE", file.display().to_string()),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
    ];
    let others = environment.into_iter().filter(|(name, _)| *name != "FAKETIME");
    others.chain(file).collect()
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
            let cluster = Cluster::start_in(empty_folder(), &[], &off_as_in(&library, &clock)).await;
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
    let client = Client::live(&herald).ahead(offset);
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

/// A night in London. Everything runs by one clock, which goes on by jumps: before each half-hour it goes as clocks do, until
/// the half-hour is past and what was sent meanwhile is delivered.
struct Night<'a> {
    herald: &'a Herald,
    clock: &'a Path,
    /// By how many seconds the clock is ahead of ours.
    ahead: i64,
}

impl Night<'_> {
    fn go_to(&mut self, instant: DateTime<Utc>) {
        self.ahead = (instant - Utc::now()).num_seconds();
        fs::write(self.clock, format!("{:+}", self.ahead)).unwrap();
    }

    async fn now(&self) -> DateTime<Utc> {
        let now = sqlx::query_scalar("select clock_timestamp()");
        now.fetch_one(&*self.herald.database).await.unwrap()
    }

    /// Sends texts from ten seconds before the instant until the beat has decided about it. What the rows say of their times
    /// is true.
    async fn live_through(&mut self, instant: DateTime<Utc>) -> Vec<String> {
        self.go_to(instant - TimeDelta::seconds(10));
        let client = Client::live(self.herald).ahead(self.ahead);
        let began = self.now().await;
        let (load, ()) = load_while(&client, 10, async {
            // A beat learns of a jump of its clock by its next look, half a minute later at most.
            let minute = instant.timestamp() / 60 % (24 * 60);
            let is_due =
                |(_, first, every): &&(&str, i64, usize)| (*first..=minute).step_by(*every).last() == Some(minute);
            let due = PLANS.iter().filter(is_due).count();
            eventually("the instant is decided upon", || async {
                let decided =
                    sqlx::query_scalar("select count(*) from engine.firing where planned_at = $1").bind(instant);
                let decided: i64 = decided.fetch_one(&*self.herald.database).await.unwrap();
                (usize::try_from(decided) == Ok(due)).then_some(())
            })
            .await;
        })
        .await;
        let open = "select count(*) from notifications where notification_status <> 'delivered'";
        until(self.herald, "its texts are delivered", open, |texts| texts == 0).await;
        let elsewhen = "select count(*) from notifications where id = any ($1)
            and not (created_at between $2 and sent_at and sent_at <= updated_at and updated_at <= clock_timestamp() at time zone 'utc')";
        let ids: Vec<uuid::Uuid> = load.ids().iter().map(|id| id.parse().unwrap()).collect();
        assert!(ids.len() > 50, "{} texts were accepted around {instant}", ids.len());
        let elsewhen = sqlx::query_scalar(elsewhen).bind(ids).bind(began.naive_utc());
        let elsewhen: i64 = elsewhen.fetch_one(&*self.herald.database).await.unwrap();
        assert_eq!(
            elsewhen, 0,
            "texts around {instant} bear times at which they were not sent"
        );
        load.ids()
    }
}

/// When each schedule fires first, in minutes from midnight on, UTC, and how often from then on. None of them is in London's
/// own time.
const PLANS: [(&str, i64, usize); 4] = [
    ("housekeeping", 0, 60),
    ("leave_a_slow_provider", 0, 1),
    ("tend_providers_back", 0, 5),
    ("timeout_sending_notifications", 5, 24 * 60),
];

/// The night of a change at 01:00 UTC, from midnight to 02:00 UTC.
async fn night(change: &str, report: &Report, library: &str, accepted: &mut usize) {
    let midnight = change.parse::<DateTime<Utc>>().unwrap() - TimeDelta::hours(1);
    let folder = empty_folder();
    let clock = folder.join("clock");
    let ahead = (midnight - TimeDelta::seconds(60) - Utc::now()).num_seconds();
    fs::write(&clock, format!("{ahead:+}")).unwrap();
    let mut owned = off_as_in(library, &clock);
    owned.push(("TZ", "Europe/London".to_owned()));
    let environment: Vec<(&str, &str)> = owned.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let cluster = Cluster::start_in(empty_folder(), &["timezone=Europe/London"], &owned).await;
    let herald = Herald::start_without_api(Database::in_cluster(&cluster.url).await).await;
    oracle::watch(&herald.database).await;
    let _api = herald.api_with(&environment).await;
    let (_worker, _beat) = (
        herald.worker_with("all", &environment),
        herald.role_with(&["beat"], &environment),
    );
    until(
        &herald,
        "the beat has begun",
        "select count(*) from engine.schedule",
        |all| all == PLANS.len(),
    )
    .await;
    let mut night = Night {
        herald: &herald,
        clock: &clock,
        ahead,
    };
    let half_hours = (0..=4).map(|half| midnight + TimeDelta::minutes(30 * half));
    let mut ids = Vec::new();
    for instant in half_hours.clone() {
        ids.extend(night.live_through(instant).await);
    }
    *accepted += ids.len();
    oracle::check(report, &herald, &ids).await;

    let decided: Vec<(String, DateTime<Utc>, bool)> = sqlx::query_as(
        "select schedule, planned_at, outcome = 'fired' from engine.firing order by schedule, planned_at",
    )
    .fetch_all(&*herald.database)
    .await
    .unwrap();
    let planned = |(name, first, every): (&str, i64, usize)| {
        let name = name.to_owned();
        let minutes = (first..=120).step_by(every);
        minutes.map(move |minute| (name.clone(), midnight + TimeDelta::minutes(minute)))
    };
    let planned: Vec<(String, DateTime<Utc>)> = PLANS.into_iter().flat_map(planned).collect();
    let instants: Vec<(String, DateTime<Utc>)> = decided.iter().map(|(name, at, _)| (name.clone(), *at)).collect();
    assert_eq!(instants, planned, "an instant was left out, or made up (I7)");
    for instant in half_hours {
        let skipped = decided.iter().find(|(_, at, fired)| *at == instant && !fired);
        assert_eq!(
            skipped, None,
            "an instant that nothing was in the way of was skipped (I7)"
        );
    }
    let not_once = "select count(*) from engine.firing f where outcome = 'fired' and 1 <> (
        select count(*) from engine.journal j, jsonb_array_elements(j.events) e where j.run_id = f.run_id and e ->> 'event' = 'finished')";
    assert_eq!(
        count(&herald, not_once).await,
        0,
        "a fired instant was not played once (I7)"
    );
    let fired = decided.iter().filter(|(.., fired)| *fired).count();
    report.note(format!(
        "{}: {fired} of {} instants fired, the others were skipped on record while the clock jumped",
        change.split('T').next().unwrap(),
        decided.len()
    ));
    fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn nights_in_which_londons_clocks_change_fire_each_instant_once() {
    let done = "everything, with clocks and time zone of London, lives through the nights of 29 March and 25 October 2026, around each \
                half-hour from midnight to 02:00 UTC (counts are the last one's)";
    fault("28", done, async |report| {
        let Some(library) = faketime() else {
            return Verdict::Skipped(NOT_INSTALLED.to_owned());
        };
        let mut accepted = 0;
        for change in ["2026-03-29T01:00:00Z", "2026-10-25T01:00:00Z"] {
            night(change, report, &library, &mut accepted).await;
        }
        report.note(format!("{accepted} texts in all"));
        Verdict::Passed
    })
    .await;
}
