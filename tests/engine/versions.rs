//! Two versions of the program: what one cannot read is left to the other.

use herald_engine::{Attempted, Failure, Queue, Registry, Run, Workflow};
use serde::{Deserialize, Serialize};

use super::toy::{Answer, Errand, QUEUE, Toys, World};

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

#[tokio::test]
async fn a_story_whose_steps_were_renamed_does_them_not_again_but_is_parked_until_a_version_knows_it() {
    let toys = Toys::new().await;
    let old = toys.worker();
    let run = toys.start(&Errand::simple()).await;
    toys.until(run, "waiting").await;
    old.abort();
    let _ = old.await;
    let renamed = Registry::new(toys.world.clone()).add::<RenamedStep>();
    let new = toys.worker_of(&toys.database.url, renamed);
    toys.answer(run, "a", "hello").await;
    toys.until(run, "parked").await;
    assert_eq!(
        toys.row(run).await.unwrap().2.as_deref(),
        Some("the story comes to the new step \"premier\" without the recorded step \"first\"")
    );
    assert_eq!(toys.world.calls(run, "premier"), 0);
    new.abort();
    let _ = new.await;
    let _old = toys.worker();
    crate::harness::eventually("the old version goes on", || async {
        let hurry = "update engine.run set due_at = now() where id = $1 and state = 'parked'";
        sqlx::query(hurry).bind(run).execute(&*toys.database).await.unwrap();
        toys.row(run).await.is_none().then_some(())
    })
    .await;
    assert_eq!(toys.notes(run).await, ["first yes 0", "answer hello, second yes 0"]);
}
