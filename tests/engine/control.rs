//! What people do to runs, in every state.

use herald_engine::{
    Action, Actor, Error, NewRun, QueueChange, QueueLimits, Selection, change_queue, control,
    look::{self, RunView},
};
use sqlx::{Executor, postgres::PgPoolOptions};
use uuid::Uuid;

use crate::harness::eventually;

use super::toy::{Ending, Errand, QUEUE, Toys};

fn us() -> Actor {
    Actor {
        name: "a test".to_owned(),
        reason: "to see what happens".to_owned(),
    }
}

async fn act(toys: &Toys, action: Action, run: Uuid) -> usize {
    control(&toys.database, action, &Selection::one(run), &us(), |_| {})
        .await
        .unwrap()
}

async fn shown(toys: &Toys, run: Uuid) -> RunView {
    look::run(&toys.database, run).await.unwrap().unwrap()
}

/// Why the run does not run now, in one word.
async fn why(toys: &Toys, run: Uuid) -> &'static str {
    shown(toys, run).await.live.unwrap().standstill.kind
}

#[tokio::test]
async fn a_run_that_has_not_begun_is_cancelled_without_a_call() {
    let toys = Toys::new().await;
    let ready = toys.start(&Errand::simple()).await;
    let holder = toys
        .start_as(NewRun::of(&Errand::simple()).unwrap().keyed("k", 1))
        .await;
    let blocked = toys
        .start_as(NewRun::of(&Errand::simple()).unwrap().keyed("k", 1))
        .await;
    assert_eq!((why(&toys, ready).await, why(&toys, blocked).await), ("turn", "key"));
    for run in [ready, holder, blocked] {
        assert_eq!(act(&toys, Action::Cancel, run).await, 1);
        assert_eq!(act(&toys, Action::Cancel, run).await, 0, "it was cancelled before");
    }
    let _worker = toys.worker();
    for run in [ready, holder, blocked] {
        toys.until(run, "over").await;
        assert_eq!(toys.world.calls(run, "first"), 0);
        assert_eq!(shown(&toys, run).await.state, "cancelled");
    }
}

#[tokio::test]
async fn a_waiting_a_sleeping_and_a_failed_run_can_be_cancelled() {
    let toys = Toys::new().await;
    let _worker = toys.worker();
    let waiting = toys.start(&Errand::simple()).await;
    toys.until(waiting, "waiting").await;
    assert_eq!(why(&toys, waiting).await, "wait");
    toys.world.when("first", 0, Ending::Again);
    toys.world.when("first", 1, Ending::Again);
    let sleeping = toys.start(&Errand::simple()).await;
    eventually("the long back-off", || async {
        (why(&toys, sleeping).await == "back_off" && toys.row(sleeping).await?.1 == 2).then_some(())
    })
    .await;
    toys.world.when("first", 0, Ending::Never);
    let failed = toys.start(&Errand::simple()).await;
    toys.until(failed, "failed").await;
    assert_eq!(why(&toys, failed).await, "failed");
    for run in [waiting, sleeping, failed] {
        let calls = toys.world.calls(run, "first");
        act(&toys, Action::Cancel, run).await;
        toys.until(run, "over").await;
        assert_eq!(shown(&toys, run).await.state, "cancelled");
        assert_eq!(
            (toys.world.calls(run, "first"), toys.world.calls(run, "second")),
            (calls, 0)
        );
    }
}

#[tokio::test]
async fn a_run_that_is_cancelled_in_its_call_records_what_it_did_and_goes_no_further() {
    let toys = Toys::new().await;
    toys.world.when("first", 0, Ending::Hang);
    let _worker = toys.worker();
    let run = toys.start(&Errand::simple()).await;
    toys.world.called().await;
    assert_eq!(why(&toys, run).await, "held");
    act(&toys, Action::Cancel, run).await;
    toys.world.let_go();
    toys.until(run, "over").await;
    assert_eq!(toys.notes(run).await, ["first late 0"]);
    assert_eq!(toys.events(run).await.last().map(String::as_str), Some("cancelled"));
}

#[tokio::test]
async fn a_run_that_is_cancelled_or_paused_just_before_its_call_calls_nobody() {
    let toys = Toys::new().await;
    toys.world.when("prepare", 0, Ending::Hang);
    let _worker = toys.worker();
    let cancelled = toys.start(&Errand::simple()).await;
    toys.world.called().await;
    let paused = toys.start(&Errand::simple()).await;
    toys.world.called().await;
    act(&toys, Action::Cancel, cancelled).await;
    act(&toys, Action::Pause, paused).await;
    toys.world.let_go();
    toys.until(cancelled, "over").await;
    toys.until(paused, "sleeping").await;
    assert_eq!(
        toys.events(cancelled).await,
        ["intent", "withdrawn", "called_off", "cancelled"]
    );
    assert_eq!(why(&toys, paused).await, "paused");
    assert!(toys.world.order().is_empty());
    act(&toys, Action::Resume, paused).await;
    eventually("it goes on", || async {
        toys.world.let_go();
        (toys.row(paused).await?.0 == "waiting").then_some(())
    })
    .await;
    assert_eq!(
        toys.events(paused).await[..4],
        ["intent", "withdrawn", "intent", "done"]
    );
    assert_eq!(toys.world.calls(paused, "first"), 1);
}

#[tokio::test]
async fn a_signal_to_a_paused_run_is_kept_until_it_is_resumed() {
    let toys = Toys::new().await;
    let _worker = toys.worker();
    let run = toys.start(&Errand::simple()).await;
    toys.until(run, "waiting").await;
    act(&toys, Action::Pause, run).await;
    toys.answer(run, "a", "hello").await;
    assert_eq!(why(&toys, run).await, "paused");
    let other = toys.start(&Errand::simple()).await;
    toys.until(other, "waiting").await;
    assert_eq!(toys.world.calls(run, "second"), 0);
    act(&toys, Action::Resume, run).await;
    toys.until(run, "over").await;
    assert_eq!(toys.notes(run).await, ["first yes 0", "answer hello, second yes 0"]);
}

#[tokio::test]
async fn a_pause_does_not_shorten_a_back_off() {
    let toys = Toys::new().await;
    toys.world.when("first", 0, Ending::Again);
    toys.world.when("first", 1, Ending::Again);
    let _worker = toys.worker();
    let run = toys.start(&Errand::simple()).await;
    eventually("the long back-off", || async {
        (toys.row(run).await?.1 == 2).then_some(())
    })
    .await;
    toys.until(run, "sleeping").await;
    let due = shown(&toys, run).await.live.unwrap().due_at;
    act(&toys, Action::Pause, run).await;
    assert_eq!(shown(&toys, run).await.live.unwrap().due_at, None);
    act(&toys, Action::Resume, run).await;
    assert_eq!(shown(&toys, run).await.live.unwrap().due_at, due);
}

#[tokio::test]
async fn a_run_that_had_used_up_its_attempts_is_redriven_with_new_ones() {
    let toys = Toys::new().await;
    for n in 0..4 {
        toys.world.when("first", n, Ending::Again);
    }
    let _worker = toys.worker();
    let run = toys.start(&Errand::simple()).await;
    toys.hurry_until(run, "failed").await;
    assert_eq!(toys.world.calls(run, "first"), 3);
    assert_eq!(act(&toys, Action::Redrive, run).await, 1);
    toys.hurry_until(run, "waiting").await;
    assert_eq!(toys.world.calls(run, "first"), 5);
    toys.answer(run, "a", "hello").await;
    toys.until(run, "over").await;
    let kinds: Vec<String> = shown(&toys, run)
        .await
        .timeline
        .into_iter()
        .map(|entry| entry.kind)
        .collect();
    assert!(kinds.contains(&"redriven".to_owned()), "{kinds:?}");
    assert_eq!(shown(&toys, run).await.workflow.as_deref(), Some("errand"));
}

#[tokio::test]
async fn a_selection_is_all_that_fits_and_every_deed_is_audited() {
    let toys = Toys::new().await;
    let tenant = Uuid::from_u128(7);
    for _ in 0..600 {
        toys.start_as(NewRun::of(&Errand::simple()).unwrap().of_tenant(tenant))
            .await;
    }
    let other = toys.start(&Errand::simple()).await;
    let selection = Selection {
        tenant: Some(tenant),
        ..Selection::default()
    };
    let mut progress = Vec::new();
    let changed = control(&toys.database, Action::Pause, &selection, &us(), |n| progress.push(n)).await;
    assert_eq!(changed.unwrap(), 600);
    assert_eq!(progress, [500, 600]);
    let _worker = toys.worker();
    toys.until(other, "waiting").await;
    assert_eq!(toys.world.order(), [other]);
    let audit: Vec<(String, String, String, i32)> =
        sqlx::query_as("select actor, action, reason, changed from engine.audit order by id")
            .fetch_all(&*toys.database)
            .await
            .unwrap();
    let row = |changed| {
        (
            "a test".to_owned(),
            "pause".to_owned(),
            "to see what happens".to_owned(),
            changed,
        )
    };
    assert_eq!(audit, [row(500), row(100)]);
}

#[tokio::test]
async fn a_queue_shows_its_limits_and_how_many_runs_are_in_each_state() {
    let toys = Toys::new().await;
    let refused = QueueLimits {
        rate: Some(-1.0),
        ..QueueLimits::default()
    };
    let refused = change_queue(&toys.database, QUEUE.0, QueueChange::Limit(refused), &us()).await;
    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
    let limits = QueueLimits {
        rate: Some(0.001),
        burst: Some(3.0),
        ..QueueLimits::default()
    };
    change_queue(&toys.database, QUEUE.0, QueueChange::Limit(limits), &us())
        .await
        .unwrap();
    let runs = [(); 5].map(|()| toys.start_as(NewRun::of(&Errand::simple()).unwrap()));
    let runs = futures::future::join_all(runs).await;
    let _worker = toys.worker();
    toys.until_count("waiting", 3).await;
    let mut kinds = Vec::new();
    for run in runs {
        kinds.push(why(&toys, run).await);
    }
    kinds.sort_unstable();
    assert_eq!(kinds, ["rate", "rate", "wait", "wait", "wait"]);
    let queues = look::queues(&toys.database).await.unwrap();
    let shown: Vec<(&str, Vec<(&str, i64)>)> = queues
        .iter()
        .map(|queue| {
            let counts = queue.counts.iter().map(|count| (count.state.as_str(), count.runs));
            (queue.name.as_str(), counts.collect())
        })
        .collect();
    assert_eq!(shown, [("answers", vec![("waiting", 3)]), ("toys", vec![("ready", 2)])]);
}

#[tokio::test]
async fn a_run_that_was_cancelled_and_failed_before_it_learnt_it_never_calls_again() {
    let toys = Toys::new().await;
    toys.world.when("first", 0, Ending::Never);
    let worker = toys.worker();
    let (tried_again, put_away) = (toys.start(&Errand::simple()).await, toys.start(&Errand::simple()).await);
    for run in [tried_again, put_away] {
        toys.until(run, "failed").await;
    }
    worker.kill().await;
    sqlx::query("update engine.run set control = 'cancelled'")
        .execute(&*toys.database)
        .await
        .unwrap();
    assert_eq!(act(&toys, Action::Redrive, tried_again).await, 1);
    assert_eq!(act(&toys, Action::Cancel, put_away).await, 1);
    let _worker = toys.worker();
    for run in [tried_again, put_away] {
        toys.until(run, "over").await;
        assert_eq!(toys.world.calls(run, "first"), 1);
        assert_eq!(shown(&toys, run).await.state, "cancelled");
    }
}

#[tokio::test]
async fn cancelled_runs_of_a_key_learn_it_no_more_at_once_than_its_limit_says() {
    let toys = Toys::new().await;
    let mut runs = Vec::new();
    for _ in 0..5 {
        let keyed = NewRun::of(&Errand::simple()).unwrap().keyed("k", 2);
        runs.push(toys.start_as(keyed).await);
    }
    for run in &runs {
        act(&toys, Action::Cancel, *run).await;
    }
    assert_eq!((toys.count("ready").await, toys.count("blocked").await), (2, 3));
    let _worker = toys.worker();
    for run in runs {
        toys.until(run, "over").await;
    }
}

/// Until so many connections wait for a lock.
async fn until_waiting(toys: &Toys, connections: i64) {
    let waiting =
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    eventually("somebody waits for a lock", || async {
        let waiting: i64 = sqlx::query_scalar(waiting).fetch_one(&*toys.database).await.unwrap();
        (waiting == connections).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_deed_that_is_broken_off_in_a_deadlock_with_a_batch_is_done_all_the_same_and_audited_once() {
    let toys = Toys::new().await;
    let mut runs = Vec::new();
    for _ in 0..3 {
        let keyed = NewRun::of(&Errand::simple()).unwrap().keyed("k", 1);
        runs.push(toys.start_as(keyed).await);
    }
    let blocked = runs.split_off(1);
    // The deed has the one blocked run, and cannot get the other yet.
    let mut elsewhere = toys.database.begin().await.unwrap();
    let lock = sqlx::query("select from engine.run where id = $1 for update").bind(blocked[1]);
    elsewhere.execute(lock).await.unwrap();
    // Of two that wait for each other, whoever looks first is broken off: the deed.
    let looks_soon = (*toys.database.connect_options()).clone();
    let looks_soon = looks_soon.options([("deadlock_timeout", "20ms")]);
    let pool = PgPoolOptions::new().connect_with(looks_soon).await.unwrap();
    let selection = Selection {
        ids: blocked.clone(),
        ..Selection::default()
    };
    let deed = tokio::spawn(async move { control(&pool, Action::Cancel, &selection, &us(), |_| {}).await });
    until_waiting(&toys, 1).await;
    // A batch that ends the key's run has the key, and waits for its next run.
    let mut batch = toys.database.begin().await.unwrap();
    batch.execute("set local deadlock_timeout = '1h'").await.unwrap();
    let finish = sqlx::query("delete from engine.run where id = $1").bind(runs[0]);
    batch.execute(finish).await.unwrap();
    let batch = tokio::spawn(async move {
        batch.execute("select engine.promote(array['k'])").await.unwrap();
        batch.commit().await.unwrap();
    });
    until_waiting(&toys, 2).await;
    elsewhere.rollback().await.unwrap();

    assert_eq!(deed.await.unwrap().unwrap(), 2);
    batch.await.unwrap();
    for run in blocked {
        assert_eq!(
            shown(&toys, run).await.live.unwrap().control.as_deref(),
            Some("cancelled")
        );
    }
    let audit: Vec<i32> = sqlx::query_scalar("select changed from engine.audit")
        .fetch_all(&*toys.database)
        .await
        .unwrap();
    assert_eq!(audit, [2]);
}
