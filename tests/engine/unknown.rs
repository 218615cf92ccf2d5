//! Attempts of unknown outcome: awaited, proved, repeated on record, presumed done, or given up.

use uuid::Uuid;

use crate::harness::eventually;

use super::toy::{Ending, Errand, Toys, Unknown};

/// Starts a run whose first call hangs, and kills the worker in the middle of it.
async fn killed_in_the_call(errand: &Errand) -> (Toys, Uuid) {
    let toys = Toys::new().await;
    toys.world.when("first", 0, Ending::Hang);
    let worker = toys.worker();
    let run = toys.start(errand).await;
    toys.world.called().await;
    worker.kill().await;
    (toys, run)
}

#[tokio::test]
async fn an_attempt_cut_off_by_death_is_repeated_only_on_record() {
    let (toys, run) = killed_in_the_call(&Errand::awaiting(300)).await;
    let _next = toys.worker();
    eventually("the call was repeated", || async {
        (toys.world.calls(run, "first") == 2).then_some(())
    })
    .await;
    toys.until(run, "waiting").await;
    let events = toys.events(run).await;
    assert_eq!(events[..5], ["intent", "failed", "waiting", "resent", "intent"]);
    toys.answer(run, "a", "hello").await;
    toys.until(run, "over").await;
    assert_eq!(toys.notes(run).await, ["first yes 1", "answer hello, second yes 0"]);
}

#[tokio::test]
async fn each_attempt_of_unknown_outcome_is_waited_for_anew_and_longer() {
    let toys = Toys::new().await;
    toys.world.when("first", 0, Ending::Unknown);
    toys.world.when("first", 1, Ending::Unknown);
    let _worker = toys.worker();
    let run = toys.start(&Errand::awaiting(300)).await;
    eventually("it was called twice, and waited for again", || async {
        (toys.events(run).await.len() == 7).then_some(())
    })
    .await;
    let once = ["intent", "failed", "waiting", "resent"];
    assert_eq!(toys.events(run).await, [&once[..], &once[..3]].concat());
    let waited: Vec<i64> = sqlx::query_scalar(
        "select (e ->> 'patience_ms')::bigint from engine.journal j, jsonb_array_elements(j.events) e
         where run_id = $1 and e ->> 'event' = 'waiting' order by seq",
    )
    .bind(run)
    .fetch_all(&*toys.database)
    .await
    .unwrap();
    assert_eq!(waited, [300, 600]);
}

#[tokio::test]
async fn an_attempt_of_unknown_outcome_that_may_not_be_repeated_is_presumed_done() {
    let toys = Toys::new().await;
    toys.world.when("first", 0, Ending::Unknown);
    let _worker = toys.worker();
    let run = toys.start(&Errand::awaiting(300)).await;
    toys.until(run, "waiting").await;
    expire(&toys, run).await;
    eventually("its patience is over", || async {
        toys.events(run).await.contains(&"presumed".to_owned()).then_some(())
    })
    .await;
    toys.answer(run, "a", "hello").await;
    toys.until(run, "failed").await;
    assert_eq!(toys.world.calls(run, "first"), 1);
    assert_eq!(toys.notes(run).await, ["first unseen"], "the story went on");
}

#[tokio::test]
async fn a_run_that_expires_after_an_attempt_of_unknown_outcome_is_not_said_to_be_expired() {
    let toys = Toys::new().await;
    toys.world.when("first", 0, Ending::Unknown);
    toys.world.when("first", 1, Ending::Again);
    let _worker = toys.worker();
    let run = toys.start(&Errand::awaiting(300)).await;
    let attempts = ["intent", "failed", "waiting", "resent", "intent", "failed"];
    eventually("the second attempt is refused", || async {
        (toys.events(run).await == attempts).then_some(())
    })
    .await;
    expire(&toys, run).await;
    toys.hurry_until(run, "waiting").await;
    assert_eq!(toys.events(run).await[6..], ["presumed", "committed", "waiting"]);
    assert_eq!(toys.notes(run).await, ["first unseen"]);
}

/// Lets the run's time be over.
async fn expire(toys: &Toys, run: Uuid) {
    sqlx::query("update engine.run set expires_at = now() where id = $1")
        .bind(run)
        .execute(&*toys.database)
        .await
        .unwrap();
}

#[tokio::test]
async fn what_was_refused_is_not_repeated_once_a_signal_proves_that_it_was_done() {
    let toys = Toys::new().await;
    toys.world.when("first", 0, Ending::Again);
    toys.world.when("first", 1, Ending::Again);
    let _worker = toys.worker();
    let run = toys.start(&Errand::awaiting(600_000)).await;
    eventually("it was called twice, and sleeps", || async {
        let sleeps = toys
            .row(run)
            .await
            .is_some_and(|(state, attempt, _)| state == "sleeping" && attempt == 2);
        sleeps.then_some(())
    })
    .await;
    toys.answer(run, "a", "it came").await;
    toys.hurry_until(run, "over").await;
    assert_eq!(toys.world.calls(run, "first"), 2);
    assert_eq!(toys.notes(run).await, ["first unseen", "answer it came, second yes 0"]);
}

#[tokio::test]
async fn an_attempt_cut_off_by_death_is_not_repeated_when_a_signal_proves_it() {
    let (toys, run) = killed_in_the_call(&Errand::awaiting(600_000)).await;
    toys.answer(run, "a", "it came").await;
    let _next = toys.worker();
    toys.until(run, "over").await;
    assert_eq!(toys.world.calls(run, "first"), 1);
    assert_eq!(toys.notes(run).await, ["first unseen", "answer it came, second yes 0"]);
    assert!(toys.events(run).await.contains(&"confirmed".to_owned()));
}

#[tokio::test]
async fn a_signal_that_is_about_no_attempt_proves_nothing_and_takes_no_patience() {
    let toys = Toys::new().await;
    toys.world.when("first", 0, Ending::Later);
    toys.world.when("first", 1, Ending::Unknown);
    let _worker = toys.worker();
    let run = toys.start(&Errand::awaiting(600_000)).await;
    toys.until(run, "sleeping").await;
    toys.answer(run, "a", "stray").await;
    toys.hurry_until(run, "waiting").await;
    assert_eq!(toys.world.calls(run, "first"), 2, "the refused attempt was repeated");
    let woken = "select state = 'waiting' and epoch > $2 from engine.run where id = $1";
    let epoch: i64 = sqlx::query_scalar("select epoch from engine.run where id = $1")
        .bind(run)
        .fetch_one(&*toys.database)
        .await
        .unwrap();
    toys.answer(run, "b", "stray").await;
    eventually("it has looked at it, and waits on", || async {
        let waits: bool = sqlx::query_scalar(woken)
            .bind(run)
            .bind(epoch)
            .fetch_one(&*toys.database)
            .await
            .unwrap();
        waits.then_some(())
    })
    .await;
    assert_eq!(
        toys.events(run).await,
        ["intent", "failed", "intent", "failed", "waiting"]
    );
    toys.answer(run, "c", "it came").await;
    toys.until(run, "over").await;
    assert_eq!(toys.world.calls(run, "first"), 2);
    assert_eq!(toys.notes(run).await, ["first unseen", "answer stray, second yes 0"]);
}

#[tokio::test]
async fn an_attempt_of_unknown_outcome_is_given_up_where_the_policy_says_so() {
    let (toys, run) = killed_in_the_call(&Errand {
        on_unknown: Unknown::GiveUp,
        ..Errand::simple()
    })
    .await;
    let _next = toys.worker();
    toys.until(run, "failed").await;
    assert_eq!(toys.world.calls(run, "first"), 1);
}

#[tokio::test]
async fn a_call_without_an_answer_waits_for_its_proof_before_it_is_repeated() {
    let toys = Toys::new().await;
    toys.world.when("first", 0, Ending::Unknown);
    let _worker = toys.worker();
    let run = toys.start(&Errand::awaiting(600_000)).await;
    toys.until(run, "waiting").await;
    toys.answer(run, "a", "it came").await;
    toys.until(run, "over").await;
    assert_eq!(toys.world.calls(run, "first"), 1);
}

#[tokio::test]
async fn an_attempt_that_fails_before_its_call_counts_even_after_a_repetition_on_record() {
    let (toys, run) = killed_in_the_call(&Errand::simple()).await;
    toys.world.when("prepare", 1, Ending::Again);
    let _next = toys.worker();
    toys.until(run, "sleeping").await;
    assert_eq!(toys.events(run).await, ["intent", "failed", "resent", "failed"]);
    assert_eq!(toys.row(run).await.unwrap().1, 2);
}
