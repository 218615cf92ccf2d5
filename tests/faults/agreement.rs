//! Several processes of which one at a time may do a thing: beats, and holders of a lane or of a key.

use std::time::Instant;

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::{AssertSqlSafe, Executor};
use uuid::Uuid;

use super::{
    count, herald,
    load::send,
    oracle, providers,
    report::{Report, Verdict, fault},
    until,
};
use crate::{
    callbacks::{calls, endpoint, lane, sequence, until_idle},
    harness::{Client, Herald, Process, SERVICE, database, eventually, eventually_within},
};

const MINUTELY: &str = "select count(*) from engine.firing where schedule = 'leave_a_slow_provider'";
const WAITING_FOR_LOCKS: &str = "select count(*) from pg_stat_activity
    where datname = current_database() and wait_event_type = 'Lock' and application_name = 'herald'";

/// A database whose `now()` stands still a fifth of a second before a minute is over, until the test lets the next one
/// pass. Beats reckon with it, so each of them looks five times a second. What else they ask for is the real time.
struct Minutes {
    herald: Herald,
    name: String,
}

impl Minutes {
    async fn begin() -> Self {
        let database = database().await;
        let clock = "create schema clock;
            create table clock.hand as select date_trunc('minute', now()) + interval '59.8 s' as at;
            create function clock.now() returns timestamptz language sql stable as 'select at from clock.hand'";
        database.execute(clock).await.unwrap();
        let name: String = sqlx::query_scalar("select current_database()")
            .fetch_one(&*database)
            .await
            .unwrap();
        let herald = Herald::start_without_api(database).await;
        oracle::watch(&herald.database).await;
        let minutes = Self { herald, name };
        minutes.search("set search_path = clock, pg_catalog, public").await;
        minutes
    }

    /// Of connections that are made from here on.
    async fn search(&self, path: &str) {
        let path = format!("alter database {} {path}", self.name);
        self.herald.database.execute(AssertSqlSafe(path)).await.unwrap();
    }

    /// A beat that has looked, and so looks again and again.
    async fn beat(&self) -> Process {
        let beat = self.herald.beat();
        let looked = "select count(*) from engine.schedule";
        let all = herald_workflows::schedule::all().len();
        until(&self.herald, "a beat knows all schedules", looked, |known| known == all).await;
        beat
    }

    async fn pass(&self) {
        let step = "update clock.hand set at = at + interval '1 minute'";
        self.herald.database.execute(step).await.unwrap();
    }

    /// Lets a minute pass, and waits until somebody has decided about it.
    async fn pass_one(&self) {
        let before = count(&self.herald, MINUTELY).await;
        self.pass().await;
        until(&self.herald, "the minute is decided", MINUTELY, |fired| fired > before).await;
    }

    /// Lets a minute pass while the schedule's row is locked, until so many beats stand before it at once; what `then`
    /// does happens before any of them may go on.
    async fn race(&self, beats: usize, then: impl AsyncFnOnce()) {
        let before = count(&self.herald, MINUTELY).await;
        let mut gate = self.herald.database.begin().await.unwrap();
        gate.execute("select from engine.schedule where name = 'leave_a_slow_provider' for update")
            .await
            .unwrap();
        self.pass().await;
        let all = |waiting| waiting >= beats;
        until(&self.herald, "every beat wants to decide", WAITING_FOR_LOCKS, all).await;
        then().await;
        gate.rollback().await.unwrap();
        until(&self.herald, "the minute is decided", MINUTELY, |fired| fired > before).await;
    }

    /// Every instant so far was decided once; what fired has one run, no run has fired for nothing, and each ends well.
    /// Of the schedule by the minute none was missed.
    async fn each_was_decided_once(&self, report: &Report, passed: usize) {
        // The other schedules are looked at twice a minute.
        let behind = "select count(*) from engine.schedule, clock.hand where decided_until < at";
        until(&self.herald, "all instants are decided", behind, |behind| behind == 0).await;
        let missing: Vec<DateTime<Utc>> = sqlx::query_scalar(
            "select minute from clock.hand, generate_series(
                 (select min(planned_at) from engine.firing where schedule = 'leave_a_slow_provider'), at, '1 minute') minute
             where not exists (select from engine.firing f
                 where f.schedule = 'leave_a_slow_provider' and f.planned_at = minute and f.outcome = 'fired')",
        )
        .fetch_all(&*self.herald.database)
        .await
        .unwrap();
        assert!(missing.is_empty(), "instants that did not fire (I7): {missing:?}");
        assert_eq!(count(&self.herald, MINUTELY).await, passed);
        let unequal = "select count(*) from engine.run r
            full join (select * from engine.firing where outcome = 'fired') f on f.run_id = r.id
            where r.id is null or f.run_id is null";
        assert_eq!(
            count(&self.herald, unequal).await,
            0,
            "firings and runs differ: an instant fired twice, or for nothing (I7)"
        );
        let fired = "select count(*) from engine.firing where outcome = 'fired'";
        let fired = count(&self.herald, fired).await;
        let skipped = "select count(*) from engine.firing where outcome = 'skipped' and reason is not null";
        let skipped = count(&self.herald, skipped).await;
        report.note(format!(
            "{passed} minutes passed; with the other schedules {fired} instants fired and {skipped} were skipped on record"
        ));
        self.search("reset search_path").await;
        let _worker = self.herald.worker();
        oracle::check(report, &self.herald, &[]).await;
        let finished = "select count(distinct run_id) from engine.journal, jsonb_array_elements(events) e
            where e ->> 'event' = 'finished' and run_id in (select run_id from engine.firing)";
        assert_eq!(count(&self.herald, finished).await, fired, "each run ended once");
    }
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn three_beats_that_decide_at_once_fire_each_instant_once() {
    let done =
        "three beats stand before each of 40 minutes at once; every fifth time one of them is killed -9 as it decides";
    fault("53", done, async |report| {
        let minutes = Minutes::begin().await;
        let mut beats = vec![minutes.beat().await, minutes.beat().await, minutes.beat().await];
        for minute in 0..40 {
            minutes
                .race(3, async || {
                    if minute % 5 == 4 {
                        beats.remove(0).kill();
                        beats.push(minutes.herald.beat());
                        // The dead one's session waits on, and ends when it is let in.
                        let all = |waiting| waiting >= 4;
                        until(&minutes.herald, "the new beat is there as well", WAITING_FOR_LOCKS, all).await;
                    }
                })
                .await;
        }
        drop(beats);
        let _one = minutes.beat().await;
        minutes.each_was_decided_once(report, 40).await;
        Verdict::Passed
    })
    .await;
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn a_beat_that_stands_still_holds_up_nothing_for_long_and_repeats_nothing_when_it_goes_on() {
    let done = "a beat is stopped past five minutes while it has nothing to do, and again in the middle of a decision, which it holds";
    fault("54", done, async |report| {
        let minutes = Minutes::begin().await;
        let leader = minutes.beat().await;
        minutes.pass_one().await;
        leader.signal("-STOP");
        let others = [minutes.beat().await, minutes.beat().await];
        for _ in 0..5 {
            minutes.pass_one().await;
        }
        leader.signal("-CONT");
        minutes.race(3, async || {}).await;
        drop(others);

        let mut held = minutes.herald.database.begin().await.unwrap();
        held.execute("lock table engine.firing in share mode").await.unwrap();
        let before = count(&minutes.herald, MINUTELY).await;
        minutes.pass().await;
        let decides = |waiting| waiting == 1;
        until(&minutes.herald, "it decides", WAITING_FOR_LOCKS, decides).await;
        leader.signal("-STOP");
        let others = [minutes.beat().await, minutes.beat().await];
        held.rollback().await.unwrap();
        let since = Instant::now();
        let patience = std::time::Duration::from_secs(150);
        eventually_within(patience, "another beat fires in its place", || async {
            (count(&minutes.herald, MINUTELY).await > before).then_some(())
        })
        .await;
        report.note(format!(
            "the decision that it held was free again after {} s",
            since.elapsed().as_secs()
        ));
        for _ in 0..5 {
            minutes.pass_one().await;
        }
        leader.signal("-CONT");
        // It finds its decision gone, and goes on with the next one.
        minutes.pass_one().await;
        drop(others);
        minutes.pass_one().await;
        minutes.each_was_decided_once(report, 15).await;
        drop(leader);
        Verdict::Passed
    })
    .await;
}

const TELLER: &str = "from engine.run where workflow = 'call_service'";

/// The one run that tells: its epoch, the end of its lease, and whether a call of it is under way.
async fn teller(herald: &Herald) -> Option<(i64, DateTime<Utc>, bool)> {
    let sql = format!(
        "select epoch, least(due_at, now() + interval '1 day'), state = 'running' and (
             select events -> -1 ->> 'event' = 'intent' from engine.journal j where j.run_id = run.id
             order by seq desc limit 1) is true {TELLER}"
    );
    sqlx::query_as(AssertSqlSafe(sql))
        .fetch_optional(&*herald.database)
        .await
        .unwrap()
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn a_lane_whose_teller_died_in_a_call_is_told_by_the_next_in_order() {
    let done = "kill -9 of the worker that tells a service, in the middle of a call, four times; another one stands by";
    fault("58a", done, async |report| {
        let herald = herald().await;
        endpoint(&herald, lane(SERVICE), "callbacks").await;
        let client = Client::live(&herald);
        client.faults("callbacks", &json!({"latency_ms": 150})).await;
        let _delivering = herald.worker_with("send-sms,retry,receipts", &[]);
        let ids = send(&client, 60).await;
        let events = "select count(*) from service_callback_event";
        until(&herald, "all is to be told", events, |events| events == 60).await;
        let telling = || herald.worker_with("service-callbacks,service-callbacks-retry", &[]);
        let mut holder = telling();
        let mut early = 0;
        for kill in 1..=4 {
            eventually("a call is under way", || async {
                let told = calls(&herald, "callbacks").await.len();
                let (epoch, _, is_calling) = teller(&herald).await?;
                (epoch == kill && told >= 4 * usize::try_from(kill).unwrap() && is_calling).then_some(())
            })
            .await;
            let next = telling();
            std::mem::replace(&mut holder, next).kill();
            let (epoch, end, is_calling) = teller(&herald).await.unwrap();
            assert_eq!((epoch, is_calling), (kill, true), "it was not killed in a call");
            eventually("the next one takes over", || async {
                (teller(&herald).await?.0 == kill + 1).then_some(())
            })
            .await;
            let now: DateTime<Utc> = sqlx::query_scalar("select clock_timestamp()")
                .fetch_one(&*herald.database)
                .await
                .unwrap();
            early += usize::from(now < end);
        }
        assert_eq!(early, 0, "a lane was taken over before its teller's lease had ended");
        client.faults("callbacks", &json!({})).await;
        until_idle(&herald).await;
        oracle::check(report, &herald, &ids).await;
        let calls = calls(&herald, "callbacks").await;
        let told = oracle::services_were_told(&herald, &calls).await;
        let mut numbers: Vec<usize> = calls.iter().map(sequence).collect();
        numbers.dedup();
        assert!(numbers.into_iter().eq(1..=60), "not everything was told, in order");
        report.note(format!("{told} calls for 60 events"));
        assert!(told <= 64, "more was told twice than calls were cut off");
        Verdict::Passed
    })
    .await;
}

/// Has it noted when more runs of a key are ready or running than may be.
const WATCH_KEYS: &str = "create function witness.too_many_of_a_key() returns trigger language plpgsql as $$
    begin
        insert into witness.offence (what)
        select format('%s runs of the key %s at once', count(*), key) from engine.run
        where key is not null and state in ('ready', 'running') group by key, key_limit having count(*) > key_limit;
        return null;
    end $$;
    create trigger too_many_of_a_key after insert or update on engine.run
        for each statement execute function witness.too_many_of_a_key()";

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn a_key_for_one_at_a_time_is_freed_when_its_holder_dies_and_the_order_is_kept() {
    let done = "20 texts under one key for one at a time; kill -9 of the worker that holds it, in the middle of a call, five times";
    fault("58b", done, async |report| {
        let herald = herald().await;
        herald.database.execute(WATCH_KEYS).await.unwrap();
        let client = Client::live(&herald);
        providers(&client, json!({"latency_ms": 250})).await;
        let ids = send(&client, 20).await;
        let keyed = "update engine.run set key = 'a phone', key_limit = 1, state = 'blocked';
            select engine.promote('{a phone}')";
        herald.database.execute(keyed).await.unwrap();
        let order: Vec<Uuid> = sqlx::query_scalar("select id from engine.run order by due_at")
            .fetch_all(&*herald.database)
            .await
            .unwrap();
        let calling = "select count(*) from engine.run r where state = 'running' and (
            select events -> -1 ->> 'event' = 'intent' from engine.journal j where j.run_id = r.id
            order by seq desc limit 1) is true";
        let begun = "select count(distinct run_id) from engine.journal";
        let mut holder = herald.worker();
        for kill in 1..=5 {
            until(&herald, "more have had their turn", begun, |begun| begun >= 3 * kill).await;
            until(&herald, "a call is under way", calling, |calling| calling == 1).await;
            let next = herald.worker();
            std::mem::replace(&mut holder, next).kill();
            assert_eq!(count(&herald, calling).await, 1, "it was not killed in a call");
        }
        providers(&client, json!({})).await;
        oracle::check(report, &herald, &ids).await;
        let begun: Vec<Uuid> = sqlx::query_scalar(
            "select run_id from engine.journal, jsonb_array_elements(events) e
             where e ->> 'event' = 'intent' and e ->> 'attempt' = '1' order by at",
        )
        .fetch_all(&*herald.database)
        .await
        .unwrap();
        assert_eq!(begun, order, "the order was not kept");
        let unknown = "select count(*) from engine.journal, jsonb_array_elements(events) e
            where e ->> 'event' = 'failed' and e ->> 'outcome' = 'unknown'";
        report.note(format!("{} calls were cut off", count(&herald, unknown).await));
        Verdict::Passed
    })
    .await;
}
