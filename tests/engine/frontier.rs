//! Claims that begin where the last one has seen everything.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use herald_engine::{NewRun, Priority};
use tokio::sync::Mutex;
use uuid::Uuid;

use super::toy::{Errand, QUEUE, Toys};
use crate::harness::eventually;

fn errand() -> NewRun {
    NewRun::of(&Errand::simple()).unwrap()
}

/// A claimer that never walks the whole way again once it need not.
struct Walker<'a> {
    toys: &'a Toys,
    seen: [Option<DateTime<Utc>>; 3],
}

#[derive(sqlx::FromRow)]
struct Claimed {
    id: Option<Uuid>,
    seen: Option<DateTime<Utc>>,
    turns_seen: Option<DateTime<Utc>>,
    ahead_seen: Option<DateTime<Utc>>,
}

impl Walker<'_> {
    async fn claim(&mut self, room: i64, lease: f64) -> HashSet<Uuid> {
        let rows: Vec<Claimed> = sqlx::query_as(
            "select id, seen, turns_seen, ahead_seen from engine.claim($1, gen_random_uuid(), $2, $3, $4, $5, $6)",
        )
        .bind(QUEUE.0)
        .bind(lease)
        .bind(room)
        .bind(self.seen[0])
        .bind(self.seen[1])
        .bind(self.seen[2])
        .fetch_all(&*self.toys.database)
        .await
        .unwrap();
        if let Some(row) = rows.first() {
            self.seen = [row.seen, row.turns_seen, row.ahead_seen];
            assert!(
                self.seen.iter().flatten().count() == 3,
                "the next walk has to go the whole way"
            );
        }
        rows.into_iter().filter_map(|row| row.id).collect()
    }
}

const LONG: f64 = 60.0;

#[tokio::test]
async fn whatever_becomes_due_is_found_from_where_the_last_walk_has_come() {
    let toys = Toys::new().await;
    let mut walker = Walker {
        toys: &toys,
        seen: [None; 3],
    };
    let mortal = toys.start_as(errand()).await;
    assert_eq!(walker.claim(10, LONG).await, [mortal].into());

    let tenant = Uuid::now_v7();
    let mut ready = HashSet::new();
    for _ in 0..30 {
        // Their turns lie further and further ahead.
        ready.insert(toys.start_as(errand().of_tenant(tenant)).await);
    }
    assert_eq!(walker.claim(100, LONG).await, ready);
    let kinds = [Priority::Urgent, Priority::Normal, Priority::Bulk];
    for priority in kinds {
        ready = [toys.start_as(errand().priority(priority)).await].into();
        assert_eq!(walker.claim(100, LONG).await, ready);
    }

    // More than there is room for: those that are left are found next.
    let mut left = HashSet::new();
    for priority in [kinds, kinds].concat() {
        left.insert(toys.start_as(errand().priority(priority)).await);
    }
    while !left.is_empty() {
        let found = walker.claim(2, LONG).await;
        assert!(found.len() == 2 && found.is_subset(&left), "{found:?} of {left:?}");
        left.retain(|run| !found.contains(run));
    }

    let end_lease = "update engine.run set due_at = clock_timestamp() where id = $1";
    sqlx::query(end_lease)
        .bind(mortal)
        .execute(&*toys.database)
        .await
        .unwrap();
    let mut later: HashSet<Uuid> = [mortal].into();
    for _ in 0..5 {
        later.insert(toys.start_as(errand().after(Duration::from_millis(200))).await);
    }
    let going_on = Mutex::new((walker, later));
    eventually("leases and timers that end are found", || async {
        let (walker, later) = &mut *going_on.lock().await;
        let found = walker.claim(2, LONG).await;
        later.retain(|run| !found.contains(run));
        later.is_empty().then_some(())
    })
    .await;
}
