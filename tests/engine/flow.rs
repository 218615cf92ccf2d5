//! Flow control: pauses, limits, rates, keys, fair shares, priority, expiry.

use std::time::Duration;

use chrono::{DateTime, Utc};
use herald_engine::{
    ALL_QUEUES, Actor, BatchLimits, Client, NewRun, Priority, QueueChange, QueueLimits, Submission, change_queue,
};
use uuid::Uuid;

use crate::harness::eventually;

use super::toy::{Ending, Errand, QUEUE, SECOND_QUEUE, Toys};

fn us() -> Actor {
    Actor {
        name: "a test".to_owned(),
        reason: "to see what happens".to_owned(),
    }
}

async fn change(toys: &Toys, queue: &str, change: QueueChange) {
    change_queue(&toys.database, queue, change, &us()).await.unwrap();
}

fn errand() -> NewRun {
    NewRun::of(&Errand::simple()).unwrap()
}

#[tokio::test]
async fn while_all_queues_are_paused_they_open_one_by_one() {
    let toys = Toys::new().await;
    change(&toys, ALL_QUEUES, QueueChange::Pause).await;
    let _worker = toys.worker();
    let first = toys.start_as(errand()).await;
    let second = toys.start_as(errand().on(SECOND_QUEUE)).await;
    change(&toys, SECOND_QUEUE.0, QueueChange::Resume).await;
    toys.until(second, "waiting").await;
    assert_eq!(toys.row(first).await.unwrap().0, "ready");
    assert_eq!(toys.world.calls(first, "first"), 0);
    change(&toys, QUEUE.0, QueueChange::Resume).await;
    toys.until(first, "waiting").await;
}

#[tokio::test]
async fn what_is_said_of_all_queues_takes_the_place_of_what_was_said_of_each() {
    let toys = Toys::new().await;
    change(&toys, QUEUE.0, QueueChange::Pause).await;
    change(&toys, ALL_QUEUES, QueueChange::Resume).await;
    let _worker = toys.worker();
    let run = toys.start_as(errand()).await;
    toys.until(run, "waiting").await;
}

#[tokio::test]
async fn no_more_runs_of_a_queue_run_at_once_than_its_limit_says() {
    let toys = Toys::new().await;
    let limits = QueueLimits {
        max_running: Some(3),
        ..QueueLimits::default()
    };
    change(&toys, QUEUE.0, QueueChange::Limit(limits)).await;
    toys.world.when("first", 0, Ending::Hang);
    for _ in 0..30 {
        toys.start_as(errand()).await;
    }
    let (_one, _other) = (toys.worker(), toys.worker());
    toys.until_count("running", 3).await;
    toys.world.called().await;
    eventually("all have had their turn", || async {
        toys.world.let_go();
        (toys.count("waiting").await == 30).then_some(())
    })
    .await;
    assert_eq!(toys.world.most_together(), 3);
}

#[tokio::test]
async fn a_full_queue_still_recovers_the_run_of_a_dead_worker() {
    let toys = Toys::new().await;
    let limits = QueueLimits {
        max_running: Some(1),
        ..QueueLimits::default()
    };
    change(&toys, QUEUE.0, QueueChange::Limit(limits)).await;
    toys.world.when("first", 0, Ending::Hang);
    let run = toys.start_as(errand()).await;
    let worker = toys.worker();
    toys.world.called().await;
    worker.kill().await;
    let _next = toys.worker();
    toys.until(run, "waiting").await;
}

#[tokio::test]
async fn a_rate_holds_over_all_workers() {
    const RATE: f64 = 30.0;
    const BURST: f64 = 4.0;
    let toys = Toys::new().await;
    let limits = QueueLimits {
        rate: Some(RATE),
        burst: Some(BURST),
        ..QueueLimits::default()
    };
    change(&toys, QUEUE.0, QueueChange::Limit(limits)).await;
    for _ in 0..40 {
        toys.start_as(errand()).await;
    }
    let (_one, _other) = (toys.worker(), toys.worker());
    toys.until_count("waiting", 40).await;
    let claims: Vec<DateTime<Utc>> =
        sqlx::query_scalar("select claimed_at from engine.journal where seq = 1 order by 1")
            .fetch_all(&*toys.database)
            .await
            .unwrap();
    for (i, first) in claims.iter().enumerate() {
        for (j, last) in claims.iter().enumerate().skip(i) {
            let seconds = (*last - *first).as_seconds_f64();
            let starts = (j - i + 1) as f64;
            assert!(
                starts <= BURST + RATE * seconds + 1.0,
                "{starts} starts within {seconds} s"
            );
        }
    }
}

#[tokio::test]
async fn a_limit_that_is_set_again_fills_no_bucket() {
    let toys = Toys::new().await;
    let limit = async |burst| {
        let limits = QueueLimits {
            rate: Some(0.001),
            burst: Some(burst),
            ..QueueLimits::default()
        };
        change(&toys, QUEUE.0, QueueChange::Limit(limits)).await;
    };
    let tokens_after = async |tokens: f64, seconds_ago: f64| -> f64 {
        let put = "update engine.queue set tokens = $2, refilled_at = now() - $3 * interval '1 second' where name = $1";
        let put = sqlx::query(put).bind(QUEUE.0).bind(tokens).bind(seconds_ago);
        put.execute(&*toys.database).await.unwrap();
        limit(5.0).await;
        let tokens = sqlx::query_scalar("select tokens from engine.queue where name = $1").bind(QUEUE.0);
        tokens.fetch_one(&*toys.database).await.unwrap()
    };
    limit(2.0).await;
    let full = tokens_after(2.0, 10_000.0).await;
    assert_eq!(full, 2.0, "a larger bucket holds no more than was in the other");
    let used = tokens_after(0.5, 0.0).await;
    assert!((0.5..1.0).contains(&used), "{used} tokens");
    let filled = tokens_after(0.0, 1_000.0).await;
    assert!((1.0..1.5).contains(&filled), "{filled} tokens");
    let ahead = tokens_after(0.0, -1_000.0).await;
    assert_eq!(ahead, 0.0);
    let counts_from: bool = sqlx::query_scalar("select refilled_at > now() + interval '900 seconds' from engine.queue")
        .fetch_one(&*toys.database)
        .await
        .unwrap();
    assert!(counts_from, "what a claim has filled is not filled again");
}

#[tokio::test]
async fn a_rate_holds_for_runs_of_dead_workers_too() {
    let toys = Toys::new().await;
    let limits = QueueLimits {
        rate: Some(0.001),
        burst: Some(4.0),
        ..QueueLimits::default()
    };
    change(&toys, QUEUE.0, QueueChange::Limit(limits)).await;
    for _ in 0..3 {
        let left = toys.start_as(errand()).await;
        held_by_the_dead(&toys, left, 0).await;
    }
    for _ in 0..3 {
        toys.start_as(errand()).await;
    }
    assert_eq!(claim(&toys).await.len(), 4);
    assert_eq!(claim(&toys).await.len(), 0);
}

#[tokio::test]
async fn of_runs_that_two_workers_have_died_with_one_is_taken_up_at_a_time() {
    let toys = Toys::new().await;
    let mut others = Vec::new();
    for deaths in [2, 0, 3, 1, 2] {
        let run = toys.start_as(errand()).await;
        held_by_the_dead(&toys, run, deaths).await;
        if deaths < 2 {
            others.push(run);
        }
    }
    for left in [2, 0, 0] {
        let claimed = claim(&toys).await;
        assert_eq!(claimed.iter().filter(|run| others.contains(run)).count(), left);
        assert_eq!(claimed.len(), left + 1);
        assert_eq!(claim(&toys).await.len(), 0, "one is held");
        sqlx::query("delete from engine.run where id = any ($1)")
            .bind(&claimed)
            .execute(&*toys.database)
            .await
            .unwrap();
    }
}

async fn held_by_the_dead(toys: &Toys, run: Uuid, deaths: i16) {
    sqlx::query(
        "update engine.run set state = 'running', owner = gen_random_uuid(), epoch = 1, deaths = $2, due_at = clock_timestamp()
         where id = $1",
    )
    .bind(run)
    .bind(deaths)
    .execute(&*toys.database)
    .await
    .unwrap();
}

/// What a worker with room for ten gets; in order.
async fn claim(toys: &Toys) -> Vec<Uuid> {
    claim_up_to(toys, 10).await
}

async fn claim_up_to(toys: &Toys, room: i64) -> Vec<Uuid> {
    sqlx::query_scalar(
        "select id from engine.claim($1, gen_random_uuid(), 60, $2, null, null, null)
         where id is not null order by id",
    )
    .bind(QUEUE.0)
    .bind(room)
    .fetch_all(&*toys.database)
    .await
    .unwrap()
}

#[tokio::test]
async fn of_a_key_no_more_run_at_once_than_its_limit_says_and_waiting_ones_let_others_through() {
    let toys = Toys::new().await;
    toys.world.when("first", 0, Ending::Hang);
    for _ in 0..20 {
        toys.start_as(errand().keyed("printer", 2)).await;
    }
    let (_one, _other) = (toys.worker(), toys.worker());
    let free = toys.start_as(errand()).await;
    eventually("three are called", || async {
        (toys.world.order().len() == 3).then_some(())
    })
    .await;
    assert_eq!(toys.world.calls(free, "first"), 1);
    assert_eq!(toys.count("blocked").await, 18);
    eventually("all have had their turn", || async {
        toys.world.let_go();
        (toys.count("waiting").await == 21).then_some(())
    })
    .await;
    // Two of the key, and the one without.
    assert_eq!(toys.world.most_together(), 3);
}

#[tokio::test]
async fn a_key_whose_holder_died_is_freed() {
    let toys = Toys::new().await;
    toys.world.when("first", 0, Ending::Hang);
    let holder = toys.start_as(errand().keyed("one", 1)).await;
    let worker = toys.worker();
    toys.world.called().await;
    let next = toys.start_as(errand().keyed("one", 1)).await;
    worker.kill().await;
    let _worker = toys.worker();
    toys.until(holder, "waiting").await;
    eventually("the next one is called", || async {
        toys.world.let_go();
        (toys.row(next).await?.0 == "waiting").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_run_of_a_key_that_is_woken_waits_for_its_key() {
    let toys = Toys::new().await;
    let worker = toys.worker();
    let woken = toys.start_as(errand().keyed("one", 1)).await;
    toys.until(woken, "waiting").await;
    toys.world.when("first", 0, Ending::Hang);
    let holder = toys.start_as(errand().keyed("one", 1)).await;
    toys.world.called().await;
    toys.until(holder, "running").await;
    toys.answer(woken, "a", "hello").await;
    assert_eq!(toys.row(woken).await.unwrap().0, "blocked");
    eventually("the woken one ends", || async {
        toys.world.let_go();
        toys.row(woken).await.is_none().then_some(())
    })
    .await;
    drop(worker);
}

#[tokio::test]
async fn a_thousand_runs_of_one_tenant_do_not_delay_the_one_of_another() {
    let toys = Toys::new().await;
    let (many, one) = (Uuid::from_u128(1), Uuid::from_u128(2));
    futures::future::join_all((0..1000).map(|_| toys.start_as(errand().of_tenant(many)))).await;
    let run = toys.start_as(errand().of_tenant(one)).await;
    let _worker = toys.worker();
    toys.until(run, "waiting").await;
    let before = toys.world.order().iter().position(|called| *called == run).unwrap();
    assert!(before < 100, "{before} were called before it");
}

#[tokio::test]
async fn nor_do_they_when_the_workers_were_away_until_all_their_turns_had_come() {
    let toys = Toys::new().await;
    let (many, few) = (Uuid::from_u128(1), Uuid::from_u128(2));
    futures::future::join_all((0..1000).map(|_| toys.start_as(errand().of_tenant(many)))).await;
    sqlx::query("update engine.run set due_at = due_at - interval '1 hour'")
        .execute(&*toys.database)
        .await
        .unwrap();
    let another_process = Client::new(toys.database.clone(), BatchLimits::default());
    let runs: Vec<Uuid> = futures::future::join_all((0..3).map(|_| async {
        let run = errand().of_tenant(few);
        let id = run.id();
        another_process.submit(Submission::new().start(run)).await.unwrap();
        id
    }))
    .await;
    let _worker = toys.worker();
    for run in runs {
        toys.until(run, "waiting").await;
        let before = toys.world.order().iter().position(|called| *called == run).unwrap();
        assert!(before < 100, "{before} were called before it");
    }
}

/// Runs that sleep, due so many seconds ago.
async fn asleep(toys: &Toys, tenant: u128, seconds_ago: f64, runs: i32) -> Vec<Uuid> {
    let asleep = "insert into engine.run (id, workflow, queue, tenant, input, state, due_at, attempt)
        select gen_random_uuid(), 'errand', $1, $2, '{}', 'sleeping', now() - $3 * interval '1 second', 1
        from generate_series(1, $4) returning id";
    let asleep = sqlx::query_scalar(asleep).bind(QUEUE.0).bind(Uuid::from_u128(tenant));
    let asleep = asleep.bind(seconds_ago).bind(runs);
    asleep.fetch_all(&*toys.database).await.unwrap()
}

#[tokio::test]
async fn thousands_of_sleeping_runs_of_one_tenant_do_not_delay_those_of_others() {
    let toys = Toys::new().await;
    let of_many = asleep(&toys, 1, 60.0, 5_000).await;
    let mut of_few = Vec::new();
    for tenant in 2..22 {
        of_few.extend(asleep(&toys, tenant, 1.0, 3).await);
    }
    for tenant in 10..50 {
        asleep(&toys, tenant, -3_600.0, 3).await;
    }
    sqlx::query("analyze engine.run")
        .execute(&*toys.database)
        .await
        .unwrap();
    let mut claimed = Vec::new();
    while !of_few.iter().all(|run| claimed.contains(run)) {
        let more = claim_up_to(&toys, 100).await;
        assert_eq!(more.len(), 50, "half of the room is for timers");
        let oldest = more.iter().filter(|run| of_many.contains(run)).count();
        assert!(oldest >= 25, "age counts as well: {oldest} of the oldest");
        claimed.extend(more);
    }
    // By age alone it would be all of them.
    assert!(claimed.len() <= 2_000, "{} claimed for sixty runs", claimed.len());
    loop {
        let more = claim_up_to(&toys, 1_000).await;
        if more.is_empty() {
            break;
        }
        claimed.extend(more);
    }
    assert_eq!(claimed.len(), 5_060, "each once, and none before its time");
    claimed.sort();
    claimed.dedup();
    assert_eq!(claimed.len(), 5_060);
}

#[tokio::test]
async fn where_one_can_begin_at_a_time_neither_timers_nor_new_runs_take_every_place() {
    let toys = Toys::new().await;
    let asleep = asleep(&toys, 1, 1.0, 80).await;
    for _ in 0..80 {
        toys.start_as(errand()).await;
    }
    let mut timers = 0;
    for _ in 0..80 {
        let claimed = claim_up_to(&toys, 1).await;
        assert_eq!(claimed.len(), 1);
        timers += usize::from(asleep.contains(&claimed[0]));
    }
    assert!((15..65).contains(&timers), "{timers} of 80 places went to timers");
    for left in (0..80).rev() {
        assert_eq!(claim_up_to(&toys, 1).await.len(), 1, "{left} are left");
    }
}

#[tokio::test]
async fn a_queue_whose_rate_lets_nothing_begin_says_until_when() {
    let toys = Toys::new().await;
    let limits = QueueLimits {
        rate: Some(0.01),
        burst: Some(1.0),
        ..QueueLimits::default()
    };
    change(&toys, QUEUE.0, QueueChange::Limit(limits)).await;
    let rest = async || -> Option<f64> {
        let rest = "select rest from engine.claim($1, gen_random_uuid(), 60, 10, null, null, null)";
        let rest = sqlx::query_scalar(rest).bind(QUEUE.0);
        rest.fetch_one(&*toys.database).await.unwrap()
    };
    assert_eq!(rest().await, None, "nothing is due, and one could begin");
    toys.start_as(errand()).await;
    toys.start_as(errand()).await;
    assert_eq!(claim(&toys).await.len(), 1);
    let left = rest().await.unwrap();
    assert!((90.0..=100.0).contains(&left), "{left} s until the next");
    let set_back = "update engine.queue set refilled_at = now() + interval '1 hour'";
    sqlx::query(set_back).execute(&*toys.database).await.unwrap();
    rest().await;
    let counts_on: bool = sqlx::query_scalar("select refilled_at <= clock_timestamp() from engine.queue")
        .fetch_one(&*toys.database)
        .await
        .unwrap();
    assert!(counts_on, "after the clock was set back nothing fills the bucket");
}

#[tokio::test]
async fn an_urgent_run_goes_before_those_that_came_first() {
    let toys = Toys::new().await;
    for _ in 0..100 {
        toys.start_as(errand()).await;
    }
    let run = toys.start_as(errand().priority(Priority::Urgent)).await;
    let _worker = toys.worker();
    toys.until(run, "waiting").await;
    let before: i64 = sqlx::query_scalar(
        "select count(distinct run_id) from engine.journal
         where claimed_at < (select min(claimed_at) from engine.journal where run_id = $1)",
    )
    .bind(run)
    .fetch_one(&*toys.database)
    .await
    .unwrap();
    assert!(before < 8, "{before} were claimed before it, and eight are at once");
}

#[tokio::test]
async fn a_run_that_has_expired_or_could_not_begin_in_time_makes_no_attempt() {
    let toys = Toys::new().await;
    let expired = toys.start_as(errand().expires_within(Duration::ZERO)).await;
    let late = toys.start_as(errand().start_within(Duration::ZERO)).await;
    let _worker = toys.worker();
    for run in [expired, late] {
        toys.until(run, "failed").await;
        assert_eq!(toys.row(run).await.unwrap().2.as_deref(), Some("first: expired"));
        assert_eq!(toys.world.calls(run, "first"), 0);
    }
}

#[tokio::test]
async fn a_run_that_expires_in_its_back_off_ends_then() {
    let toys = Toys::new().await;
    for n in 0..3 {
        toys.world.when("first", n, Ending::Again);
    }
    let _worker = toys.worker();
    // The second repetition would be an hour away.
    let run = toys.start_as(errand().expires_within(Duration::from_secs(2))).await;
    toys.until(run, "failed").await;
    assert_eq!(toys.world.calls(run, "first"), 2);
    assert!(toys.events(run).await.contains(&"expired".to_owned()));
}

#[tokio::test]
async fn a_run_that_has_begun_in_time_goes_on_however_late() {
    let toys = Toys::new().await;
    let _worker = toys.worker();
    let run = toys.start_as(errand().start_within(Duration::from_secs(2))).await;
    toys.until(run, "waiting").await;
    eventually("its time to begin is over", || async {
        let over: bool = sqlx::query_scalar("select start_by < now() from engine.run where id = $1")
            .bind(run)
            .fetch_one(&*toys.database)
            .await
            .unwrap();
        over.then_some(())
    })
    .await;
    toys.answer(run, "a", "hello").await;
    toys.until(run, "over").await;
    assert_eq!(toys.world.calls(run, "second"), 1);
}
