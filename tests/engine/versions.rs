//! Two versions of the program: what one cannot read is left to the other.

use herald_engine::{
    Action, Actor, AttemptError, Attempted, Failure, Queue, Registry, Run, Selection, Workflow, check_upgrade, control,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::toy::{Answer, Ending, Errand, Nap, QUEUE, Toys, World};

/// The errand as another version tells it: its first step has another name.
#[derive(Debug, Serialize, Deserialize)]
struct RenamedStep {
    patience_ms: u64,
}

impl Workflow for RenamedStep {
    type Tools = World;
    const NAME: &'static str = "errand";
    const QUEUE: Queue = QUEUE;

    async fn run(self, run: &mut Run, world: &World) -> Result<(), Failure> {
        let id = run.id();
        let policy = Errand::simple().policy();
        let _: Attempted<String, String> = run
            .attempt("premier", &policy, |past| world.prepare("premier", id, past.len()))
            .await?;
        run.wait_for::<Answer>(std::time::Duration::from_millis(self.patience_ms))
            .await?;
        Ok(())
    }
}

/// The errand as another version tells it: it plans its first step in another form.
#[derive(Debug, Serialize, Deserialize)]
struct OtherPlan {}

impl Workflow for OtherPlan {
    type Tools = World;
    const NAME: &'static str = "errand";
    const QUEUE: Queue = QUEUE;

    async fn run(self, run: &mut Run, _: &World) -> Result<(), Failure> {
        let never = || std::future::ready(Err(AttemptError::again("it is not told any further")));
        let _: Attempted<u64, String> = run
            .attempt("first", &Errand::awaiting(60_000).policy(), |_| never())
            .await?;
        Ok(())
    }
}

#[tokio::test]
async fn a_story_whose_steps_were_renamed_does_them_not_again_but_is_parked_until_a_version_knows_it() {
    let toys = Toys::new().await;
    let old = toys.worker();
    let run = toys.start(&Errand::simple()).await;
    toys.until(run, "waiting").await;
    old.kill().await;
    let renamed = Registry::new(toys.world.clone()).add::<RenamedStep>();
    let new = toys.worker_of(&toys.database.url, renamed);
    toys.answer(run, "a", "hello").await;
    toys.until(run, "parked").await;
    assert_eq!(
        toys.row(run).await.unwrap().2.as_deref(),
        Some("the story comes to the new step \"premier\" without the recorded step \"first\"")
    );
    assert_eq!(toys.world.calls(run, "premier"), 0);
    new.kill().await;
    let _old = toys.worker();
    crate::harness::eventually("the old version goes on", || async {
        let hurry = "update engine.run set due_at = now() where id = $1 and state = 'parked'";
        sqlx::query(hurry).bind(run).execute(&*toys.database).await.unwrap();
        toys.row(run).await.is_none().then_some(())
    })
    .await;
    assert_eq!(toys.notes(run).await, ["first yes 0", "answer hello, second yes 0"]);
}

#[tokio::test]
async fn a_redriven_run_does_not_do_again_what_another_version_has_renamed() {
    let toys = Toys::new().await;
    toys.world.when("second", 0, Ending::Never);
    let old = toys.worker();
    let run = toys.start(&Errand::simple()).await;
    toys.answer(run, "a", "hello").await;
    toys.until(run, "failed").await;
    old.kill().await;
    let us = Actor {
        name: "a test".to_owned(),
        reason: "to see what happens".to_owned(),
    };
    control(&toys.database, Action::Redrive, &Selection::one(run), &us, |_| {})
        .await
        .unwrap();
    let renamed = Registry::new(toys.world.clone()).add::<RenamedStep>();
    let _new = toys.worker_of(&toys.database.url, renamed);
    toys.until(run, "parked").await;
    assert_eq!(toys.world.calls(run, "premier"), 0);
}

#[tokio::test]
async fn a_parked_run_that_is_paused_is_looked_at_by_nobody_until_it_is_resumed() {
    let toys = Toys::new().await;
    let ignorant = toys.worker_of(&toys.database.url, Registry::new(toys.world.clone()).add::<Nap>());
    let run = toys.start(&Errand::simple()).await;
    toys.until(run, "parked").await;
    ignorant.kill().await;
    let act = async |action| {
        let us = Actor {
            name: "a test".to_owned(),
            reason: "to see what happens".to_owned(),
        };
        control(&toys.database, action, &Selection::one(run), &us, |_| {})
            .await
            .unwrap()
    };
    assert_eq!(act(Action::Pause).await, 1);
    let _worker = toys.worker();
    // Whoever comes after it is served meanwhile.
    let next = toys.start(&Errand::simple()).await;
    toys.until(next, "waiting").await;
    assert_eq!(toys.world.calls(run, "first"), 0);
    assert_eq!(act(Action::Resume).await, 1);
    crate::harness::eventually("a worker looks at it again", || async {
        let hurry = "update engine.run set due_at = now() where id = $1 and state = 'parked' and due_at < 'infinity'";
        sqlx::query(hurry).bind(run).execute(&*toys.database).await.unwrap();
        (toys.world.calls(run, "first") == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_upgrade_is_checked_by_playing_every_live_run_through_its_past_without_touching_it() {
    let toys = Toys::new().await;
    let worker = toys.worker();
    let begun = toys.start(&Errand::simple()).await;
    toys.until(begun, "waiting").await;
    worker.kill().await;
    let fresh = toys.start(&Errand::simple()).await;
    let unknown = toys.start(&Nap { ms: 0, more: 0 }).await;
    let before = everything(&toys).await;

    let renamed = || Registry::new(toys.world.clone()).add::<RenamedStep>();
    let mut parked = Vec::new();
    let played = check_upgrade(&toys.database, renamed(), |run| parked.push(run), |_| {}).await;
    assert_eq!(played.unwrap(), 3);
    let why: Vec<(Uuid, &str)> = parked.iter().map(|run| (run.run, run.why.as_str())).collect();
    assert_eq!(
        why,
        [
            (
                begun,
                "the story comes to the new step \"premier\" without the recorded step \"first\""
            ),
            (unknown, "no workflow of this name is known here"),
        ]
    );
    let same = Registry::new(toys.world.clone()).add::<Errand>().add::<Nap>();
    let mut parked = Vec::new();
    check_upgrade(&toys.database, same, |run| parked.push(run), |_| {})
        .await
        .unwrap();
    assert_eq!(parked, []);
    assert_eq!(everything(&toys).await, before);
    assert_eq!(toys.world.calls(fresh, "first"), 0);
}

#[tokio::test]
async fn an_upgrade_is_told_of_calls_in_doubt_that_were_planned_in_another_form() {
    let toys = Toys::new().await;
    toys.world.when("first", 0, Ending::Hang);
    let worker = toys.worker();
    let run = toys.start(&Errand::awaiting(60_000)).await;
    toys.world.called().await;
    worker.kill().await;
    let parked = async |registry| {
        let mut parked = Vec::new();
        check_upgrade(&toys.database, registry, |run| parked.push(run), |_| {})
            .await
            .unwrap();
        parked
    };
    assert_eq!(parked(Registry::new(toys.world.clone()).add::<Errand>()).await, []);
    let would_park = parked(Registry::new(toys.world.clone()).add::<OtherPlan>()).await;
    assert_eq!(would_park.len(), 1);
    assert_eq!(would_park[0].run, run);
    assert!(would_park[0].why.contains("invalid type: string"), "{would_park:?}");
}

/// All that the engine keeps, as text.
async fn everything(toys: &Toys) -> String {
    sqlx::query_scalar(
        "select (select jsonb_agg(r order by id) from engine.run r)::text
             || (select jsonb_agg(j order by run_id, seq) from engine.journal j)::text",
    )
    .fetch_one(&*toys.database)
    .await
    .unwrap()
}
