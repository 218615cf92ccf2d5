//! Schedules: once an instant, by the database's clock, through changes of the clocks, and after a time without beats.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::{Europe::London, Tz, UTC};
use herald_engine::{Beat, Calendar, CatchUp, Error, NewRun, Schedule};
use sqlx::{AssertSqlSafe, PgPool, postgres::PgPoolOptions};

use super::toy::Nap;
use crate::harness::{Database, database, eventually};

/// A database whose `now()` is set by hand, and which knows one schedule.
struct Clock {
    database: Database,
    schedule: Schedule,
}

impl Clock {
    async fn at(now: &str, schedule: Schedule) -> Self {
        let database = database().await;
        let (_, name) = database.url.split_once("/test_").unwrap();
        let name = name.split('?').next().unwrap();
        let hand = "create schema clock;
            create table clock.hand (at timestamptz);
            insert into clock.hand values (null);
            create function clock.now() returns timestamptz language sql stable as 'select at from clock.hand';";
        sqlx::raw_sql(hand).execute(&*database).await.unwrap();
        let path = format!("alter database test_{name} set search_path = clock, pg_catalog, public");
        sqlx::raw_sql(AssertSqlSafe(path)).execute(&*database).await.unwrap();
        let clock = Self { database, schedule };
        clock.set(now).await;
        clock.look().await;
        clock
    }

    async fn set(&self, now: &str) {
        sqlx::query("update clock.hand set at = $1")
            .bind(instant(now))
            .execute(&*self.database)
            .await
            .unwrap();
    }

    /// A beat of its own, as in another process.
    async fn beat(&self) -> Beat {
        Beat::new(self.pool().await, vec![self.schedule.clone()]).unwrap()
    }

    async fn pool(&self) -> PgPool {
        PgPoolOptions::new()
            .max_connections(2)
            .connect(&self.database.url)
            .await
            .unwrap()
    }

    async fn look(&self) {
        self.beat().await.look().await.unwrap();
    }

    async fn fired(&self) -> Vec<DateTime<Utc>> {
        self.decided("fired").await
    }

    async fn skipped(&self) -> Vec<DateTime<Utc>> {
        self.decided("skipped").await
    }

    /// Each with its run, and no run without one.
    async fn decided(&self, outcome: &str) -> Vec<DateTime<Utc>> {
        let unequal: i64 = sqlx::query_scalar(
            "select count(*) from engine.run r full join engine.firing f on f.run_id = r.id
             where r.id is null and f.outcome = 'fired' or f.run_id is null and r.id is not null",
        )
        .fetch_one(&*self.database)
        .await
        .unwrap();
        assert_eq!(unequal, 0, "firings and runs differ");
        sqlx::query_scalar("select planned_at from engine.firing where outcome = $1 order by planned_at")
            .bind(outcome)
            .fetch_all(&*self.database)
            .await
            .unwrap()
    }
}

fn instant(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn schedule(cron: &'static str, zone: Tz, catch_up: CatchUp) -> Schedule {
    Schedule {
        name: "naps",
        cron,
        zone,
        catch_up,
        start: |_| NewRun::of(&Nap { ms: 0, more: 0 }),
    }
}

const EACH: CatchUp = CatchUp::All { at_most: u32::MAX };

#[tokio::test]
async fn three_beats_at_once_fire_each_instant_once() {
    let clock = Clock::at("2031-05-01T12:00:00Z", schedule("* * * * *", UTC, EACH)).await;
    let beats = [clock.beat().await, clock.beat().await, clock.beat().await];
    for now in ["2031-05-01T12:07:00Z", "2031-05-01T12:08:30Z", "2031-05-02T12:00:00Z"] {
        clock.set(now).await;
        let looks = futures::future::join_all(beats.iter().map(Beat::look)).await;
        assert!(looks.iter().all(Result::is_ok), "{looks:?}");
    }
    let fired = clock.fired().await;
    assert_eq!(fired.len(), 24 * 60);
    assert!(fired.windows(2).all(|two| two[1] - two[0] == TimeDelta::minutes(1)));
    assert!(clock.skipped().await.is_empty());
}

#[tokio::test]
async fn beats_look_by_themselves_when_an_instant_has_come() {
    let database = database().await;
    let each_second = schedule("* * * * * *", UTC, EACH);
    let beats: Vec<_> = (0..3)
        .map(|_| Beat::new(database.clone(), vec![each_second.clone()]).unwrap())
        .map(|beat| tokio::spawn(beat.run(std::future::pending())))
        .collect();
    let late: f64 = eventually("three seconds have fired", || async {
        sqlx::query_scalar(
            "select max(extract(epoch from at - planned_at))::float8 from engine.firing
             having count(*) filter (where outcome = 'fired') >= 3",
        )
        .fetch_optional(&*database)
        .await
        .unwrap()
    })
    .await;
    assert!((0.0..5.0).contains(&late), "{late} seconds late");
    assert!(beats.iter().all(|beat| !beat.is_finished()));
    for beat in beats {
        beat.abort();
    }
}

#[tokio::test]
async fn the_time_of_the_database_decides_whatever_this_machine_s_clock_says() {
    let clock = Clock::at("1999-12-31T23:59:59Z", schedule("0 0 * * *", UTC, EACH)).await;
    clock.look().await;
    assert!(
        clock.fired().await.is_empty(),
        "a new schedule has nothing to catch up with"
    );
    clock.set("2000-01-01T00:00:00Z").await;
    clock.look().await;
    assert_eq!(clock.fired().await, [instant("2000-01-01T00:00:00Z")]);
    clock.set("1999-06-01T00:00:00Z").await;
    clock.look().await;
    clock.set("2000-01-01T12:00:00Z").await;
    clock.look().await;
    assert_eq!(
        clock.fired().await.len(),
        1,
        "what is decided stays decided when time goes back"
    );
}

#[tokio::test]
async fn runs_of_a_key_that_a_schedule_starts_wait_for_each_other() {
    let mut keyed = schedule("* * * * *", UTC, EACH);
    keyed.start = |_| Ok(NewRun::of(&Nap { ms: 0, more: 0 })?.keyed("nap", 1));
    let clock = Clock::at("2031-05-01T12:00:00Z", keyed).await;
    clock.set("2031-05-01T12:03:00Z").await;
    clock.look().await;
    let states: Vec<String> = sqlx::query_scalar("select state from engine.run order by state")
        .fetch_all(&*clock.database)
        .await
        .unwrap();
    assert_eq!(states, ["blocked", "blocked", "ready"]);
}

/// What fires and what is skipped after five hours without a beat.
async fn after_five_hours(catch_up: CatchUp) -> (Vec<u32>, Vec<u32>) {
    let clock = Clock::at("2031-05-01T12:00:00Z", schedule("0 * * * *", UTC, catch_up)).await;
    clock.set("2031-05-01T17:01:00Z").await;
    clock.look().await;
    clock.look().await;
    let reasons: Vec<String> = sqlx::query_scalar("select reason from engine.firing where outcome = 'skipped'")
        .fetch_all(&*clock.database)
        .await
        .unwrap();
    assert!(
        reasons
            .iter()
            .all(|reason| reason.contains("missed") || reason.contains("late"))
    );
    let hours = |instants: Vec<DateTime<Utc>>| instants.iter().map(chrono::Timelike::hour).collect();
    (hours(clock.fired().await), hours(clock.skipped().await))
}

#[tokio::test]
async fn missed_instants_follow_the_policy_and_those_skipped_are_recorded() {
    let all = after_five_hours(CatchUp::All { at_most: 3 }).await;
    assert_eq!(all, (vec![15, 16, 17], vec![13, 14]));
    let latest = after_five_hours(CatchUp::Latest).await;
    assert_eq!(latest, (vec![17], vec![13, 14, 15, 16]));
    let grace = Duration::from_secs(5 * 60);
    assert_eq!(
        after_five_hours(CatchUp::Skip { grace }).await,
        (vec![17], vec![13, 14, 15, 16])
    );
    let grace = Duration::from_secs(30);
    assert_eq!(
        after_five_hours(CatchUp::Skip { grace }).await,
        (vec![], vec![13, 14, 15, 16, 17])
    );
}

#[tokio::test]
async fn a_long_time_without_beats_is_caught_up_with_whole() {
    let catch_up = CatchUp::All { at_most: 1_500 };
    let clock = Clock::at("2031-05-01T00:00:00Z", schedule("* * * * *", UTC, catch_up)).await;
    clock.set("2031-05-03T12:00:00Z").await;
    clock.look().await;
    let (fired, skipped) = (clock.fired().await, clock.skipped().await);
    assert_eq!((fired.len(), skipped.len()), (1_500, 60 * 60 - 1_500));
    assert!(skipped.last() < fired.first());
}

#[tokio::test]
async fn a_time_that_the_clocks_jump_over_fires_once_right_after_the_jump() {
    let clock = Clock::at("2026-03-29T00:59:59Z", schedule("30 1 * * *", London, CatchUp::Latest)).await;
    for now in ["2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z", "2026-03-30T00:00:00Z"] {
        clock.set(now).await;
        clock.look().await;
    }
    assert_eq!(clock.fired().await, [instant("2026-03-29T01:00:00Z")]);
    clock.set("2026-03-30T00:30:00Z").await;
    clock.look().await;
    assert_eq!(clock.fired().await[1..], [instant("2026-03-30T00:30:00Z")]);
}

#[tokio::test]
async fn a_time_that_comes_twice_fires_the_first_time_only() {
    let clock = Clock::at("2026-10-25T00:00:00Z", schedule("30 1 * * *", London, CatchUp::Latest)).await;
    for now in ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-26T00:00:00Z"] {
        clock.set(now).await;
        clock.look().await;
    }
    assert_eq!(clock.fired().await, [instant("2026-10-25T00:30:00Z")]);
    clock.set("2026-10-26T01:30:00Z").await;
    clock.look().await;
    assert_eq!(clock.fired().await[1..], [instant("2026-10-26T01:30:00Z")]);
}

fn between(cron: &str, zone: Tz, after: &str, until: &str) -> Vec<String> {
    let calendar = Calendar::new(cron, zone).unwrap();
    let instants = calendar.between(instant(after), instant(until));
    instants
        .map(|instant| instant.format("%m-%d %H:%M").to_string())
        .collect()
}

#[test]
fn schedules_in_utc_know_nothing_of_summer_time() {
    for day in ["2026-03-29", "2026-10-25"] {
        let (after, until) = (format!("{day}T00:00:00Z"), format!("{day}T23:59:59Z"));
        let fired = between("30 1 * * *", UTC, &after, &until);
        assert_eq!(fired, [format!("{} 01:30", &day[5..])]);
    }
}

#[test]
fn every_so_many_minutes_or_hours_is_even_in_real_time_over_both_changes() {
    let spring = ("2026-03-29T00:00:00Z", "2026-03-29T04:00:00Z");
    let autumn = ("2026-10-25T00:00:00Z", "2026-10-25T04:00:00Z");
    for (after, until) in [spring, autumn] {
        assert_eq!(between("*/20 * * * *", London, after, until).len(), 12);
        assert_eq!(between("0 * * * *", London, after, until).len(), 4);
        let day = &after[5..10];
        let even = [format!("{day} 02:00"), format!("{day} 04:00")];
        assert_eq!(between("0 */2 * * *", London, after, until), even);
    }
}

#[test]
fn leap_days_and_ends_of_months_are_found() {
    let leap = between("0 12 29 2 *", London, "2026-01-01T00:00:00Z", "2033-01-01T00:00:00Z");
    assert_eq!(leap, ["02-29 12:00", "02-29 12:00"]);
    let last = between("0 0 L * *", UTC, "2028-01-01T00:00:00Z", "2028-05-01T00:00:00Z");
    assert_eq!(last, ["01-31 00:00", "02-29 00:00", "03-31 00:00", "04-30 00:00"]);
    let long = between("59 23 31 * *", London, "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z");
    let long: Vec<_> = long.iter().map(|day| &day[..5]).collect();
    assert_eq!(long, ["01-31", "03-31", "05-31", "07-31", "08-31", "10-31", "12-31"]);
    let mondays = between("0 9 * * 1", UTC, "2026-06-01T00:00:00Z", "2026-06-15T00:00:00Z");
    assert_eq!(mondays, ["06-01 09:00", "06-08 09:00"]);
}

#[tokio::test]
async fn an_expression_that_says_no_instant_is_refused_before_anything_starts() {
    let pool = PgPool::connect_lazy("postgres://nowhere").unwrap();
    for wrong in [
        "",
        "often",
        "@hourly",
        "* * * *",
        "61 * * * *",
        "0 0 30 2 *",
        "* * * * * * 2030",
        "5 4 * * MOON",
    ] {
        let refused = Beat::new(pool.clone(), vec![schedule(wrong, UTC, EACH)]);
        assert!(
            matches!(refused, Err(Error::Schedule { name: "naps", .. })),
            "{wrong:?}"
        );
    }
    let never = CatchUp::All { at_most: 0 };
    assert!(Beat::new(pool.clone(), vec![schedule("0 * * * *", UTC, never)]).is_err());
    let twice = vec![schedule("0 * * * *", UTC, EACH), schedule("1 * * * *", UTC, EACH)];
    assert!(Beat::new(pool, twice).is_err());
}

#[tokio::test]
async fn a_beat_paused_or_killed_in_the_middle_fires_nothing_twice() {
    let clock = Clock::at("2031-05-01T12:00:00Z", schedule("0 * * * *", UTC, EACH)).await;
    // Whoever records a firing waits for the test, with its transaction open and its lock held.
    let pause = "create function clock.pause() returns trigger language plpgsql as
            'begin perform pg_advisory_xact_lock(7); return new; end';
        create trigger pause before insert on engine.firing for each row execute function clock.pause();";
    sqlx::raw_sql(pause).execute(&*clock.database).await.unwrap();
    let waiting = |how_many: i64| {
        let database = &clock.database;
        eventually("beats wait in mid-transaction", move || async move {
            let waiting: i64 = sqlx::query_scalar(
                "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
            )
            .fetch_one(&**database)
            .await
            .unwrap();
            (waiting == how_many).then_some(())
        })
    };
    let look = |beat: Beat| tokio::spawn(async move { beat.look().await });
    clock.set("2031-05-01T14:00:00Z").await;
    let mut hold = clock.database.begin().await.unwrap();
    sqlx::query("select pg_advisory_xact_lock(7)")
        .execute(&mut *hold)
        .await
        .unwrap();
    let killed = look(clock.beat().await);
    waiting(1).await;
    let second = look(clock.beat().await);
    waiting(2).await;
    let kill = "select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and wait_event = 'advisory'";
    sqlx::query(kill).execute(&*clock.database).await.unwrap();
    assert!(killed.await.unwrap().is_err());
    // The second has the lock now, and is paused in its turn.
    waiting(1).await;
    let third = look(clock.beat().await);
    waiting(2).await;
    hold.commit().await.unwrap();
    second.await.unwrap().unwrap();
    third.await.unwrap().unwrap();
    assert_eq!(
        clock.fired().await,
        [instant("2031-05-01T13:00:00Z"), instant("2031-05-01T14:00:00Z")]
    );
}

#[tokio::test]
async fn a_beat_outlives_the_errors_of_its_database() {
    let clock = Clock::at("2031-05-01T12:00:00Z", schedule("* * * * * *", UTC, EACH)).await;
    let hide = "alter table engine.firing rename to hidden";
    sqlx::query(hide).execute(&*clock.database).await.unwrap();
    clock.set("2031-05-01T12:00:05Z").await;
    let beat = clock.beat().await;
    assert!(beat.look().await.is_err());
    let beating = tokio::spawn(beat.run(std::future::pending()));
    let show = "alter table engine.hidden rename to firing";
    sqlx::query(show).execute(&*clock.database).await.unwrap();
    eventually("the missed instants have fired", || async {
        (clock.fired().await.len() == 5).then_some(())
    })
    .await;
    beating.abort();
}
