//! Fair shares of a queue. Each new run gets a turn, an instant by which the ready are ordered. A tenant that starts
//! runs faster than its share gets turns further and further ahead of the present, so whoever starts a few comes before
//! them; where nobody else has anything to do, nobody waits for a turn. As time passes every turn comes, so nothing
//! starves, and what this process does not remember (a restart, other processes) costs order, never a run.
//!
//! The present of a queue is the turn that its workers have come to. Where they are slower than turns come, that is behind
//! the clock, and whoever starts a few still comes next, not after all whose turns have come meanwhile.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sqlx::PgPool;
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    statements as sql,
    submission::{NewRun, Priority},
};

/// The share that is never made to wait behind others': 20 runs a second, a tenant, a queue and a process.
const COST: Duration = Duration::from_millis(50);
const FURTHEST: Duration = Duration::from_secs(24 * 60 * 60);
const ADVANCE: f64 = 24.0 * 60.0 * 60.0;
/// Tenants that are remembered before those whose last turn has passed are forgotten.
const REMEMBERED: usize = 10_000;
/// How often the database is asked how far behind the queues are...
const LOOKS: Duration = Duration::from_secs(1);
/// ...but not before this many times as long as the last look took: where an old transaction keeps Postgres from cleaning, it
/// walks over all that has ended since.
const SPARING: u32 = 100;

/// The last turns taken. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    last: HashMap<(&'static str, Uuid), Instant>,
    /// How far behind the clock the queues are that turns were taken of.
    behind: HashMap<&'static str, Duration>,
}

impl Turns {
    /// Learns how far behind the queues are, until the last clone is dropped.
    pub fn learn(&self, pool: PgPool) {
        let known = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            let mut took = Duration::ZERO;
            loop {
                tokio::time::sleep(LOOKS.max(took * SPARING)).await;
                let Some(turns) = known.upgrade().map(Self) else { return };
                let queues: Vec<&'static str> = turns.known().behind.keys().copied().collect();
                if queues.is_empty() {
                    continue;
                }
                let began = Instant::now();
                let looked = async { sql::turns_behind(&mut *pool.acquire().await?, &queues).await };
                match looked.await {
                    Ok(behind) => turns.known().behind.extend(queues.into_iter().zip(behind)),
                    Err(error) => tracing::debug!(%error, "could not look how far behind the queues are"),
                }
                took = began.elapsed();
            }
        });
    }

    /// The run's turn, in seconds from now; one that is not to start now has none.
    pub fn take(&self, run: &NewRun) -> f64 {
        let ahead = match run.tenant {
            Some(tenant) if run.after.is_zero() => self.next(run.queue.0, tenant),
            _ => 0.0,
        };
        let advance = match run.priority {
            Priority::Urgent => -ADVANCE,
            Priority::Normal => 0.0,
            Priority::Bulk => ADVANCE,
        };
        ahead + advance
    }

    fn next(&self, queue: &'static str, tenant: Uuid) -> f64 {
        let now = Instant::now();
        let mut known = self.known();
        if known.last.len() > REMEMBERED {
            let behind = known.behind.values().max().copied().unwrap_or_default();
            known.last.retain(|_, turn| *turn + behind > now);
        }
        let behind = *known.behind.entry(queue).or_default();
        let present = now.checked_sub(behind).unwrap_or(now);
        let turn = known.last.entry((queue, tenant)).or_insert(present);
        let mine = (*turn).clamp(present, now + FURTHEST);
        *turn = mine + COST;
        (mine - present).as_secs_f64() - (now - present).as_secs_f64()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_few_of_one_come_before_the_many_of_another() {
        let (turns, many, few) = (Turns::default(), Uuid::from_u128(1), Uuid::from_u128(2));
        let mut last = 0.0;
        for _ in 0..1_000_000 {
            last = turns.next("q", many);
        }
        assert_eq!(last, COST.saturating_mul(999_999).min(FURTHEST).as_secs_f64());
        tokio::time::advance(Duration::from_secs(60)).await;
        let of_few = [(); 3].map(|()| turns.next("q", few));
        assert_eq!(of_few, [0.0, 0.05, 0.1]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_share_that_is_not_exceeded_is_never_behind() {
        let (turns, tenant) = (Turns::default(), Uuid::from_u128(1));
        for _ in 0..100 {
            assert_eq!(turns.next("q", tenant), 0.0);
            tokio::time::advance(COST).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn where_workers_are_slow_a_few_come_next_and_not_after_all_whose_turns_have_come() {
        let (turns, many, few) = (Turns::default(), Uuid::from_u128(1), Uuid::from_u128(2));
        tokio::time::advance(Duration::from_secs(7200)).await;
        turns.next("q", many);
        turns.known().behind.insert("q", Duration::from_secs(3600));
        assert_eq!(turns.next("q", few), -3600.0);
        assert_eq!(turns.next("q", few), -3599.95);
        assert!(turns.next("q", many) > -0.1, "that one has had its share");
    }
}
