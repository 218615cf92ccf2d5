//! One property a test.

use herald_engine::{Error, NewRun, Submission};
use uuid::Uuid;

use crate::harness::LossyProxy;

use super::toy::{Ending, Errand, LastNote, Nap, Note, Toys, TwoCalls};

#[tokio::test]
async fn a_run_plays_to_its_end_and_each_step_happens_once() {
    let toys = Toys::new().await;
    let _worker = toys.worker();
    let run = toys.start(&Errand::simple()).await;
    toys.until(run, "waiting").await;
    toys.answer(run, "a", "hello").await;
    toys.until(run, "over").await;
    assert_eq!(toys.notes(run).await, ["first yes 0", "answer hello, second yes 0"]);
    assert_eq!(
        (toys.world.calls(run, "first"), toys.world.calls(run, "second")),
        (1, 1)
    );
    assert_eq!(
        toys.events(run).await,
        [
            "intent",
            "done",
            "committed",
            "waiting",
            "received",
            "intent",
            "done",
            "committed",
            "finished"
        ]
    );
}

#[tokio::test]
async fn a_start_and_its_business_row_commit_together_or_not_at_all() {
    let toys = Toys::new().await;
    let run = Uuid::now_v7();
    let start = NewRun::of(&Errand::simple()).unwrap().with_id(run);
    let good = Uuid::now_v7();
    let bad = Submission::new().effect(Note::new(run, "bad")).start(start);
    let other = Submission::new().effect(Note::new(good, "good"));
    let (refused, accepted) = tokio::join!(toys.client.submit(bad), toys.client.submit(other));
    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
    assert!(toys.row(run).await.is_none());
    accepted.unwrap();
    assert_eq!(
        toys.notes(good).await,
        ["good"],
        "a refused submission takes nothing else down"
    );
}

#[tokio::test]
async fn effects_of_a_last_kind_come_after_all_others_in_one_go() {
    let toys = Toys::new().await;
    let id = Uuid::now_v7();
    let note = |words| Note::new(id, words);
    let submission = Submission::new()
        .effect(LastNote(note("third")))
        .effect(note("first"))
        .effect(LastNote(note("fourth")))
        .effect(note("second"));
    toys.client.submit(submission).await.unwrap();
    assert_eq!(toys.notes(id).await, ["first", "second", "third and fourth"]);
}

#[tokio::test]
async fn a_signal_before_the_wait_twice_and_after_the_end_is_kept_and_received_once() {
    let toys = Toys::new().await;
    let run = toys.start(&Errand::simple()).await;
    toys.answer(run, "a", "early").await;
    toys.answer(run, "a", "again").await;
    let _worker = toys.worker();
    toys.until(run, "over").await;
    toys.answer(run, "b", "late").await;
    assert_eq!(toys.notes(run).await, ["first yes 0", "answer early, second yes 0"]);
    let kept: i64 = sqlx::query_scalar("select count(*) from engine.signal where run_id = $1")
        .bind(run)
        .fetch_one(&*toys.database)
        .await
        .unwrap();
    assert_eq!(kept, 2);
}

#[tokio::test]
async fn a_wait_ends_when_its_patience_ends() {
    let toys = Toys::new().await;
    let _worker = toys.worker();
    let run = toys
        .start(&Errand {
            patience_ms: 100,
            ..Errand::simple()
        })
        .await;
    toys.until(run, "over").await;
    assert_eq!(toys.notes(run).await, ["first yes 0", "answer none, second yes 0"]);
    assert!(toys.events(run).await.contains(&"timed_out".to_owned()));
}

#[tokio::test]
async fn a_failed_attempt_is_persisted_with_its_number_its_reason_and_its_next_time() {
    let toys = Toys::new().await;
    toys.world.when("first", 0, Ending::Again);
    toys.world.when("first", 1, Ending::Again);
    let worker = toys.worker();
    let run = toys.start(&Errand::simple()).await;
    // The first repetition is immediate, the second an hour away.
    toys.until(run, "sleeping").await;
    crate::harness::eventually("two attempts have failed", || async {
        (toys.row(run).await? == ("sleeping".to_owned(), 2, Some("busy".to_owned()))).then_some(())
    })
    .await;
    worker.kill().await;
    let _next = toys.worker();
    let due_in_minutes: f64 =
        sqlx::query_scalar("select (extract(epoch from due_at - now()) / 60)::float8 from engine.run where id = $1")
            .bind(run)
            .fetch_one(&*toys.database)
            .await
            .unwrap();
    assert!((59.0..=60.0).contains(&due_in_minutes), "{due_in_minutes}");
    assert_eq!(toys.world.calls(run, "first"), 2);
    sqlx::query("update engine.run set due_at = now() where id = $1")
        .bind(run)
        .execute(&*toys.database)
        .await
        .unwrap();
    toys.until(run, "waiting").await;
    assert_eq!(toys.world.calls(run, "first"), 3);
}

#[tokio::test]
async fn attempts_are_bounded_and_exhaustion_is_a_state_with_a_reason() {
    let toys = Toys::new().await;
    for n in 0..3 {
        toys.world.when("first", n, Ending::Again);
    }
    let _worker = toys.worker();
    let run = toys.start(&Errand::simple()).await;
    toys.hurry_until(run, "failed").await;
    let (_, _, why) = toys.row(run).await.unwrap();
    assert_eq!(why.as_deref(), Some("first: gave up after 3 attempts: busy"));
    assert_eq!(toys.world.calls(run, "first"), 3);
}

#[tokio::test]
async fn a_permanent_refusal_is_not_repeated() {
    let toys = Toys::new().await;
    toys.world.when("first", 0, Ending::Never);
    let _worker = toys.worker();
    let run = toys.start(&Errand::simple()).await;
    toys.until(run, "failed").await;
    assert_eq!(
        toys.row(run).await.unwrap().2.as_deref(),
        Some("first: refused for ever")
    );
    assert_eq!(toys.world.calls(run, "first"), 1);
}

#[tokio::test]
async fn a_worker_that_lost_its_lease_changes_nothing() {
    let toys = Toys::new().await;
    toys.world.when("first", 0, Ending::Hang);
    let _zombie = toys.worker();
    let run = toys.start(&Errand::simple()).await;
    toys.world.called().await;
    // Somebody else holds the run from here on.
    sqlx::query("update engine.run set epoch = epoch + 1, due_at = now() + interval '1 hour' where id = $1")
        .bind(run)
        .execute(&*toys.database)
        .await
        .unwrap();
    toys.world.let_go();
    sqlx::query("update engine.run set due_at = now() where id = $1")
        .bind(run)
        .execute(&*toys.database)
        .await
        .unwrap();
    toys.until(run, "waiting").await;
    toys.answer(run, "a", "hello").await;
    toys.until(run, "over").await;
    assert_eq!(toys.notes(run).await, ["first yes 1", "answer hello, second yes 0"]);
    let by_the_zombie: Vec<String> = sqlx::query_scalar(
        "select e ->> 'event' from engine.journal, jsonb_array_elements(events) e where run_id = $1 and epoch = 1",
    )
    .bind(run)
    .fetch_all(&*toys.database)
    .await
    .unwrap();
    assert_eq!(by_the_zombie, ["intent"]);
}

#[tokio::test]
async fn a_run_whose_worker_dies_again_and_again_is_set_aside() {
    let toys = Toys::new().await;
    for n in 0..9 {
        toys.world.when("first", n, Ending::Panic);
    }
    let _worker = toys.worker();
    let run = toys.start(&Errand::simple()).await;
    toys.hurry_until(run, "failed").await;
    assert_eq!(
        toys.row(run).await.unwrap().2.as_deref(),
        Some("its worker died 3 times in a row")
    );
}

#[tokio::test]
async fn a_run_that_gets_further_is_not_set_aside_however_many_workers_die() {
    let toys = Toys::new().await;
    for (step, n) in [("first", 0), ("first", 1), ("second", 0), ("second", 1)] {
        toys.world.when(step, n, Ending::Panic);
    }
    let _worker = toys.worker();
    let run = toys.start(&TwoCalls {}).await;
    toys.hurry_until(run, "over").await;
    assert_eq!(toys.world.calls(run, "second"), 3);
}

#[tokio::test]
async fn what_no_worker_can_read_is_kept_with_a_reason() {
    let toys = Toys::new().await;
    let (unknown, unreadable) = (Uuid::now_v7(), Uuid::now_v7());
    for (run, workflow) in [(unknown, "from_the_future"), (unreadable, "errand")] {
        sqlx::query(
            "insert into engine.run (id, workflow, queue, state, due_at, input)
             values ($1, $2, 'toys', 'ready', now(), '[7]')",
        )
        .bind(run)
        .bind(workflow)
        .execute(&*toys.database)
        .await
        .unwrap();
    }
    let of_the_future = Uuid::now_v7();
    for sql in [
        "insert into engine.run (id, workflow, queue, state, due_at, input, epoch, deaths)
         values ($1, 'errand', 'toys', 'ready', now(), '{}', 9, 9)",
        r#"insert into engine.journal (run_id, seq, epoch, events) values ($1, 1, 9, '[{"event": "foreseen"}]')"#,
    ] {
        let inserted = sqlx::query(sql).bind(of_the_future);
        inserted.execute(&*toys.database).await.unwrap();
    }
    let _worker = toys.worker();
    toys.until(unknown, "parked").await;
    toys.until(unreadable, "parked").await;
    // Though its workers have died often enough for it to be put away: that could not be written down.
    toys.until(of_the_future, "parked").await;
    let why = toys.row(unknown).await.unwrap().2;
    assert_eq!(why.as_deref(), Some("no workflow of this name is known here"));
    let good = toys.start(&Errand::simple()).await;
    toys.until(good, "waiting").await;
}

#[tokio::test]
async fn what_postgres_machine_fails_at_keeps_nobody_else_waiting() {
    let toys = Toys::new().await;
    let ill: Vec<Uuid> = (0..3).map(|_| Uuid::now_v7()).collect();
    for sql in [
        "create table ill (run uuid)",
        "create function fail() returns trigger language plpgsql as $$ begin
             if exists (select from ill where run = new.run_id) then
                 raise exception 'a block cannot be read' using errcode = '58030';
             end if;
             return new;
         end $$",
        "create trigger fail before insert on engine.journal for each row execute function fail()",
    ] {
        sqlx::query(sql).execute(&*toys.database).await.unwrap();
    }
    let put = sqlx::query("insert into ill select * from unnest($1::uuid[])").bind(&ill);
    put.execute(&*toys.database).await.unwrap();
    let _worker = toys.worker();
    let errand = || NewRun::of(&Errand::simple()).unwrap();
    for run in &ill {
        let start = Submission::new().start(errand().with_id(*run));
        toys.client.submit(start).await.unwrap();
        for _ in 0..5 {
            toys.start_as(errand()).await;
        }
    }
    toys.until_count("waiting", 15).await;
    sqlx::query("delete from ill").execute(&*toys.database).await.unwrap();
    toys.until_count("waiting", 18).await;
}

#[tokio::test]
async fn a_key_starts_one_run_however_often_it_is_used() {
    let toys = Toys::new().await;
    let start = || Submission::new().start(NewRun::of(&Errand::simple()).unwrap().once("only"));
    let starts = futures::future::join_all((0..20).map(|_| toys.client.submit(start()))).await;
    let new = starts
        .into_iter()
        .filter(|submitted| submitted.as_ref().unwrap().duplicates.is_empty())
        .count();
    assert_eq!(new, 1);
    let runs: i64 = sqlx::query_scalar("select count(*) from engine.run")
        .fetch_one(&*toys.database)
        .await
        .unwrap();
    assert_eq!(runs, 1);
}

#[tokio::test]
async fn a_sleep_outlives_its_worker_and_happens_once() {
    let toys = Toys::new().await;
    let worker = toys.worker();
    let run = toys.start(&Nap { ms: 1_000, more: 0 }).await;
    toys.until(run, "sleeping").await;
    worker.kill().await;
    assert_eq!(toys.notes(run).await, ["asleep"]);
    let _next = toys.worker();
    toys.until(run, "over").await;
    assert_eq!(toys.notes(run).await, ["asleep", "awake"]);
    assert_eq!(
        toys.events(run).await,
        ["committed", "waiting", "timed_out", "committed", "finished"]
    );
}

#[tokio::test]
async fn a_call_longer_than_the_lease_keeps_its_run() {
    let toys = Toys::new().await;
    toys.world.when("first", 0, Ending::Hang);
    let (_worker, _rival) = (toys.worker(), toys.worker());
    let run = toys.start(&Errand::simple()).await;
    toys.world.called().await;
    let since_start = "select (extract(epoch from now() - created_at) > 2.5) from engine.run where id = $1";
    crate::harness::eventually("two leases have passed", || async {
        let passed: bool = sqlx::query_scalar(since_start)
            .bind(run)
            .fetch_one(&*toys.database)
            .await
            .unwrap();
        passed.then_some(())
    })
    .await;
    toys.world.let_go();
    toys.until(run, "waiting").await;
    let epoch: i64 = sqlx::query_scalar("select epoch from engine.run where id = $1")
        .bind(run)
        .fetch_one(&*toys.database)
        .await
        .unwrap();
    assert_eq!((epoch, toys.world.calls(run, "first")), (1, 1));
}

#[tokio::test]
async fn a_commit_whose_acknowledgement_is_lost_is_not_written_twice() {
    let toys = Toys::new().await;
    let proxy = LossyProxy::before(&toys.database.url).await;
    let _worker = toys.worker_by(&proxy.url);
    for _ in 0..5 {
        let run = toys.start(&Errand::simple()).await;
        toys.answer(run, "a", "hello").await;
        toys.until(run, "over").await;
        assert_eq!(toys.notes(run).await, ["first yes 0", "answer hello, second yes 0"]);
        assert_eq!(
            (toys.world.calls(run, "first"), toys.world.calls(run, "second")),
            (1, 1)
        );
    }
    assert!(proxy.lost() >= 5, "{}", proxy.lost());
}

#[tokio::test]
async fn a_run_starts_another_once() {
    let toys = Toys::new().await;
    let _worker = toys.worker();
    toys.start(&Nap { ms: 10, more: 2 }).await;
    let counts = "select (select count(*) from engine.run), (select count(*) from note)";
    let notes: i64 = crate::harness::eventually("nothing is left to do", || async {
        let (runs, notes): (i64, i64) = sqlx::query_as(counts).fetch_one(&*toys.database).await.unwrap();
        (runs == 0).then_some(notes)
    })
    .await;
    assert_eq!(notes, 6);
}

#[tokio::test]
async fn runs_whose_journals_cannot_be_read_for_a_while_are_not_taken_for_poison() {
    let toys = Toys::new().await;
    let worker = toys.worker();
    let run = toys.start(&Errand::simple()).await;
    toys.until(run, "waiting").await;
    worker.kill().await;
    let mut lock = toys.database.begin().await.unwrap();
    sqlx::query("lock table engine.journal in access exclusive mode")
        .execute(&mut *lock)
        .await
        .unwrap();
    toys.answer(run, "a", "hello").await;
    let _next = toys.worker();
    crate::harness::eventually("more workers have tried than may die", || async {
        let epoch: i64 = sqlx::query_scalar("select epoch from engine.run where id = $1")
            .bind(run)
            .fetch_one(&*toys.database)
            .await
            .unwrap();
        (epoch > 5).then_some(())
    })
    .await;
    lock.rollback().await.unwrap();
    toys.until(run, "over").await;
}

#[tokio::test]
async fn a_row_that_somebody_keeps_locked_stops_nobody_else() {
    let toys = Toys::new().await;
    let mut lock = toys.database.begin().await.unwrap();
    sqlx::query("lock table note in access exclusive mode")
        .execute(&mut *lock)
        .await
        .unwrap();
    let url = format!("{}&options=-c%20lock_timeout%3D200", toys.database.url);
    let _worker = toys.worker_by(&url);
    // As many as there are lanes.
    let mut stuck = Vec::new();
    for _ in 0..2 {
        stuck.push(toys.start(&Errand::simple()).await);
        toys.world.called().await;
    }
    let free = toys.start(&TwoCalls {}).await;
    toys.until(free, "over").await;
    let three_leases = "select bool_and(extract(epoch from now() - created_at) > 3) from engine.run";
    crate::harness::eventually("three leases have passed", || async {
        let passed: bool = sqlx::query_scalar(three_leases)
            .fetch_one(&*toys.database)
            .await
            .unwrap();
        passed.then_some(())
    })
    .await;
    lock.rollback().await.unwrap();
    for run in stuck {
        toys.until(run, "waiting").await;
        assert_eq!(toys.world.calls(run, "first"), 1, "its lease was kept");
    }
}
