//! What people are shown: where runs stand, why they do not run, and how many there are.

use herald_engine::{
    Action, Actor, NewRun, Selection, control,
    look::{self, Count},
};
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
