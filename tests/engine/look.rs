//! What people are shown: where runs stand, why they do not run, and how many there are.

use chrono::{DateTime, Utc};
use herald_engine::{
    Action, Actor, NewRun, QueueChange, QueueLimits, Selection, change_queue, control,
    look::{self, Count, Standstill},
};
use sqlx::{Executor, PgPool, postgres::PgPoolOptions};
use uuid::Uuid;

use super::toy::{Errand, QUEUE, Toys};

fn us() -> Actor {
    Actor {
        name: "a test".to_owned(),
        reason: "to see what happens".to_owned(),
    }
}

fn errand() -> NewRun {
    NewRun::of(&Errand::simple()).unwrap()
}

async fn pause(toys: &Toys, runs: &[Uuid]) {
    let selection = Selection {
        ids: runs.to_vec(),
        ..Selection::default()
    };
    let paused = control(&toys.database, Action::Pause, &selection, &us(), |_| {}).await;
    assert_eq!(paused.unwrap(), runs.len());
}

/// Of each queue in which there are runs.
async fn counts(toys: &Toys) -> Vec<(String, Vec<Count>)> {
    let queues = look::queues(&toys.database).await.unwrap();
    queues.into_iter().map(|queue| (queue.name, queue.counts)).collect()
}

fn numbers(counts: &[Count]) -> Vec<(&str, i64)> {
    counts.iter().map(|count| (count.state.as_str(), count.runs)).collect()
}

#[tokio::test]
async fn every_live_run_is_counted_once_and_those_that_people_paused_apart() {
    let toys = Toys::new().await;
    let (_ready, paused) = (toys.start_as(errand()).await, toys.start_as(errand()).await);
    let waiting = toys.start_as(errand()).await;
    put(&toys, waiting, "waiting", 60.0).await;
    let mut of_key = Vec::new();
    for _ in 0..3 {
        of_key.push(toys.start_as(errand().keyed("k", 1)).await);
    }
    pause(&toys, &[paused, waiting, of_key[1]]).await;
    let shown = counts(&toys).await;
    assert_eq!(shown.len(), 1);
    assert_eq!(numbers(&shown[0].1), [("ready", 2), ("blocked", 1), ("paused", 3)]);

    sqlx::query("update engine.run set queue = 'blocked' where id = $1")
        .bind(of_key[2])
        .execute(&*toys.database)
        .await
        .unwrap();
    let shown = counts(&toys).await;
    let names: Vec<&str> = shown.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["blocked", QUEUE.0], "a queue of blocked runs alone is one too");
}

#[tokio::test]
async fn what_is_too_much_to_count_is_estimated_and_said_to_be() {
    let toys = Toys::new().await;
    sqlx::raw_sql(
        "insert into engine.run (id, workflow, queue, state, due_at, control, input)
         select gen_random_uuid(), 'errand', 'toys', case when n <= 32000 then 'ready' else 'failed' end,
             case when n <= 20000 then now() + n * interval '1 second' else 'infinity' end,
             case when n between 20001 and 32000 then 'paused' end, '{}'
         from generate_series(1, 32003) n;
         analyze engine.run",
    )
    .execute(&*toys.database)
    .await
    .unwrap();
    let shown = counts(&toys).await;
    let [ready, failed, paused] = shown[0].1.as_slice() else {
        panic!("{shown:?}");
    };
    for (count, state, runs) in [(ready, "ready", 20_000), (paused, "paused", 12_000)] {
        assert!(count.state == state && count.estimated, "{count:?}");
        assert!((count.runs - runs).abs() < runs / 5, "{count:?}");
    }
    assert!(failed.runs == 3 && !failed.estimated, "{failed:?}");
}

/// Puts a run into a state; `due` is in seconds from now.
async fn put(toys: &Toys, run: Uuid, state: &str, due: f64) {
    let sql = "update engine.run
        set state = $2, due_at = now() + $3 * interval '1 second', attempt = 0, last_error = 'a 503',
            owner = case when $2 = 'running' then gen_random_uuid() end,
            waits_for = case when $2 = 'waiting' then 'answer' end
        where id = $1";
    let put = sqlx::query(sql).bind(run).bind(state).bind(due);
    assert_eq!(put.execute(&*toys.database).await.unwrap().rows_affected(), 1);
}

async fn standstill(toys: &Toys, run: Uuid) -> Standstill {
    let run = look::run(&toys.database, run).await.unwrap().unwrap();
    run.live.unwrap().standstill
}

async fn change(toys: &Toys, change: QueueChange) {
    change_queue(&toys.database, QUEUE.0, change, &us()).await.unwrap();
}

/// Keeps a queue from giving out runs.
#[derive(Debug, Clone, Copy)]
enum Obstacle {
    Nothing,
    Pause,
    Rate,
    Full,
}

async fn put_in_the_way(toys: &Toys, obstacle: Obstacle) {
    let free = QueueLimits::default();
    let limits = match obstacle {
        Obstacle::Nothing | Obstacle::Pause => free,
        Obstacle::Rate => QueueLimits {
            rate: Some(0.001),
            ..free
        },
        Obstacle::Full => QueueLimits {
            max_running: Some(1),
            ..free
        },
    };
    let pause = if matches!(obstacle, Obstacle::Pause) {
        QueueChange::Pause
    } else {
        QueueChange::Resume
    };
    change(toys, pause).await;
    change(toys, QueueChange::Limit(limits)).await;
    sqlx::query("update engine.queue set tokens = 0")
        .execute(&*toys.database)
        .await
        .unwrap();
}

#[tokio::test]
async fn what_is_overdue_is_told_what_holds_it_up_and_no_time_that_is_over() {
    let toys = Toys::new().await;
    let held = toys.start_as(errand()).await;
    put(&toys, held, "running", 3600.0).await;
    let run = toys.start_as(errand()).await;
    for (obstacle, timer, of_dead_worker, unread) in [
        (Obstacle::Nothing, "turn", "turn", "unreadable"),
        (Obstacle::Pause, "queue_paused", "queue_paused", "queue_paused"),
        (Obstacle::Rate, "rate", "rate", "rate"),
        // A dead worker's run has its place in the queue already.
        (Obstacle::Full, "queue_full", "turn", "queue_full"),
    ] {
        put_in_the_way(&toys, obstacle).await;
        for (state, kind) in [
            ("ready", timer),
            ("sleeping", timer),
            ("waiting", timer),
            ("running", of_dead_worker),
            ("parked", unread),
        ] {
            put(&toys, run, state, -60.0).await;
            let told = standstill(&toys, run).await;
            assert_eq!((told.kind, told.until), (kind, None), "{obstacle:?} {state}: {told:?}");
        }
    }
}

#[tokio::test]
async fn what_has_its_time_ahead_is_told_until_when_and_who_holds_it() {
    let toys = Toys::new().await;
    let run = toys.start_as(errand()).await;
    for (state, kind, words) in [
        ("running", "held", "the worker "),
        ("sleeping", "sleep", "it sleeps"),
        ("waiting", "wait", "the signal answer"),
        ("parked", "unreadable", "a 503"),
    ] {
        put(&toys, run, state, 60.0).await;
        let told = standstill(&toys, run).await;
        let (owner, due): (Option<Uuid>, DateTime<Utc>) =
            sqlx::query_as("select owner, due_at from engine.run where id = $1")
                .bind(run)
                .fetch_one(&*toys.database)
                .await
                .unwrap();
        assert_eq!((told.kind, told.until), (kind, Some(due)), "{told:?}");
        let owner = owner.map(|owner| owner.to_string()).unwrap_or_default();
        assert!(told.why.contains(words) && told.why.contains(&owner), "{told:?}");
    }
    sqlx::query("update engine.run set state = 'sleeping', owner = null, attempt = 2")
        .execute(&*toys.database)
        .await
        .unwrap();
    let told = standstill(&toys, run).await;
    assert!(told.kind == "back_off" && told.until.is_some(), "{told:?}");
}

const MANY: i64 = 40_000;

/// The id of the `n`th of the many.
fn nth(n: i64) -> Uuid {
    Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + u128::try_from(n).unwrap())
}

/// Rows and index entries of live runs that the connection came by so far.
async fn read(pool: &PgPool) -> i64 {
    let conn = &mut *pool.acquire().await.unwrap();
    conn.execute("select pg_stat_force_next_flush()").await.unwrap();
    let sql =
        "select (seq_tup_read + (select sum(idx_tup_read) from pg_stat_user_indexes i where i.relid = t.relid))::bigint
        from pg_stat_user_tables t where relid = 'engine.run'::regclass";
    sqlx::query_scalar(sql).fetch_one(conn).await.unwrap()
}

#[tokio::test]
async fn a_look_reads_a_bounded_number_and_says_where_to_go_on_whatever_there_is() {
    let toys = Toys::new().await;
    let options = (*toys.database.connect_options()).clone();
    // As the program's connections are.
    let options = options.options([("enable_seqscan", "off")]);
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .connect_with(options)
        .await
        .unwrap();
    let last = Selection {
        tenant: Some(Uuid::from_u128(7)),
        ..Selection::default()
    };
    let nothing = || Some("there is none".to_owned());
    let selections = [
        last.clone(),
        Selection {
            workflow: nothing(),
            ..Selection::default()
        },
        Selection {
            queue: nothing(),
            error: nothing(),
            ..Selection::default()
        },
        Selection {
            queue: Some(QUEUE.0.to_owned()),
            state: Some("ready".to_owned()),
            created_before: Some(DateTime::UNIX_EPOCH),
            ..Selection::default()
        },
    ];
    // Plans are made while the table is small.
    for selection in selections.iter().chain(&selections) {
        assert_eq!(look::runs(&pool, selection, None, 50).await.unwrap().runs.len(), 0);
        assert_eq!(look::would_change(&pool, Action::Pause, selection).await.unwrap(), 0);
    }
    sqlx::query(
        "insert into engine.run (id, workflow, queue, state, due_at, tenant, input)
         select ('01900000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'errand', 'toys', 'ready', now() - n * interval '1 ms',
             case when n = $1 then $2 end, '{}'
         from generate_series(1, $1) n",
    )
    .bind(MANY)
    .bind(last.tenant)
    .execute(&pool)
    .await
    .unwrap();

    for analyzed in [false, true] {
        if analyzed {
            pool.execute("analyze engine.run").await.unwrap();
        }
        for selection in &selections {
            let before = read(&pool).await;
            let page = look::runs(&pool, selection, None, 50).await.unwrap();
            let read = read(&pool).await - before;
            assert!(
                read <= MANY * 6 / 10,
                "{selection:?}, analyzed: {analyzed}: {read} read"
            );
            assert!(page.runs.is_empty(), "{selection:?}");
            assert_eq!(page.next, Some(nth(10_000)), "{selection:?}");
        }
    }
    // Neither a page that is full, nor the few that failed among them, nor the counts walk over what there is.
    sqlx::query("update engine.run set state = 'failed', due_at = 'infinity' where id = $1")
        .bind(nth(30_000))
        .execute(&pool)
        .await
        .unwrap();
    let failed = Selection {
        state: Some("failed".to_owned()),
        ..Selection::default()
    };
    for (selection, expected) in [(Selection::default(), 50), (failed, 1)] {
        let before = read(&pool).await;
        let page = look::runs(&pool, &selection, None, 50).await.unwrap();
        let read = read(&pool).await - before;
        assert_eq!(page.runs.len(), expected, "{selection:?}");
        assert!(read <= MANY / 2, "{selection:?}: {read} read");
    }
    let before = read(&pool).await;
    look::queues(&pool).await.unwrap();
    let read_for_counts = read(&pool).await - before;
    assert!(read_for_counts <= MANY / 2, "{read_for_counts} read");
    sqlx::query("update engine.run set state = 'ready', due_at = now() where id = $1")
        .bind(nth(30_000))
        .execute(&pool)
        .await
        .unwrap();

    let before_last = look::runs(&pool, &last, Some(nth(MANY - 1)), 50).await.unwrap();
    assert_eq!((before_last.runs[0].id, before_last.next), (nth(MANY), None));

    // Whoever counts or changes a selection goes on to its end.
    let all_of = |queue: &str| Selection {
        queue: Some(queue.to_owned()),
        ..Selection::default()
    };
    let every = look::would_change(&pool, Action::Pause, &all_of(QUEUE.0)).await;
    assert_eq!(every.unwrap(), MANY);
    let before = read(&pool).await;
    let changed = control(&pool, Action::Pause, &last, &us(), |_| {}).await.unwrap();
    let read = read(&pool).await - before;
    assert!(changed == 1 && read <= MANY * 3, "{changed} changed, {read} read");
}

#[tokio::test]
async fn claims_that_left_nothing_in_the_journal_are_in_the_timeline_all_the_same() {
    let toys = Toys::new().await;
    let run = toys.start_as(errand()).await;
    let timeline = async || {
        let view = look::run(&toys.database, run).await.unwrap().unwrap();
        assert!(view.timeline.is_sorted_by_key(|entry| entry.at));
        let of = |kind| move |entry: &look::Entry| (entry.kind == kind).then(|| entry.clone());
        let claimed: Vec<_> = view.timeline.iter().filter_map(of("claimed")).collect();
        let lost: Vec<_> = view.timeline.iter().filter_map(of("unrecorded")).collect();
        (
            claimed
                .into_iter()
                .map(|entry| entry.epoch.unwrap())
                .collect::<Vec<_>>(),
            lost.into_iter().map(|entry| entry.details).collect::<Vec<_>>(),
        )
    };
    assert_eq!(timeline().await, (vec![], vec![]));
    // Two workers died with it, and a third one has it.
    sqlx::query("update engine.run set state = 'running', epoch = 3, owner = gen_random_uuid(), due_at = now() + interval '1 hour'")
        .execute(&*toys.database)
        .await
        .unwrap();
    let lost = |first: i64, last: i64| serde_json::json!({ "first_epoch": first, "last_epoch": last });
    assert_eq!(timeline().await, (vec![], vec![lost(1, 2)]));
    // It dies too.
    sqlx::query("update engine.run set due_at = now()")
        .execute(&*toys.database)
        .await
        .unwrap();
    let _worker = toys.worker();
    toys.until(run, "waiting").await;
    let (claims, unrecorded) = timeline().await;
    assert!(claims[0] >= 4, "{claims:?}");
    assert_eq!(unrecorded[0], lost(1, claims[0] - 1));
}
