//! Fair shares of a queue. Each new run gets a turn, an instant by which the ready are ordered. A tenant that starts
//! runs faster than its share gets turns further and further ahead of the present, so whoever starts a few comes before
//! them; where nobody else has anything to do, nobody waits for a turn. As time passes every turn comes, so nothing
//! starves, and what this process does not remember (a restart, other processes) costs order, never a run.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use uuid::Uuid;

use crate::submission::{NewRun, Priority};

/// The share that is never made to wait behind others': 20 runs a second, a tenant, a queue and a process.
const COST: Duration = Duration::from_millis(50);
const FURTHEST: Duration = Duration::from_secs(24 * 60 * 60);
const ADVANCE: f64 = 24.0 * 60.0 * 60.0;
/// Tenants that are remembered before those whose last turn has passed are forgotten.
const REMEMBERED: usize = 10_000;

/// The last turns taken. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns(Arc<Mutex<HashMap<(&'static str, Uuid), Instant>>>);

impl Turns {
    /// The run's turn, in seconds from now. One that is to start later takes none.
    pub fn take(&self, run: &NewRun) -> f64 {
        let tenant = run.tenant.filter(|_| run.after.is_zero());
        let ahead = tenant.map_or(Duration::ZERO, |tenant| self.next(run.queue.0, tenant));
        let advance = match run.priority {
            Priority::Urgent => -ADVANCE,
            Priority::Normal => 0.0,
            Priority::Bulk => ADVANCE,
        };
        ahead.as_secs_f64() + advance
    }

    fn next(&self, queue: &'static str, tenant: Uuid) -> Duration {
        let now = Instant::now();
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() > REMEMBERED {
            last.retain(|_, turn| *turn > now);
        }
        let turn = last.entry((queue, tenant)).or_insert(now);
        let mine = (*turn).clamp(now, now + FURTHEST);
        *turn = mine + COST;
        mine - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_few_of_one_come_before_the_many_of_another() {
        let (turns, many, few) = (Turns::default(), Uuid::from_u128(1), Uuid::from_u128(2));
        let mut last = Duration::ZERO;
        for _ in 0..1_000_000 {
            last = turns.next("q", many);
        }
        assert_eq!(last, COST.saturating_mul(999_999).min(FURTHEST));
        tokio::time::advance(Duration::from_secs(60)).await;
        let of_few: Vec<Duration> = (0..3).map(|_| turns.next("q", few)).collect();
        assert_eq!(of_few, [Duration::ZERO, COST, COST * 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_share_that_is_not_exceeded_is_never_behind() {
        let (turns, tenant) = (Turns::default(), Uuid::from_u128(1));
        for _ in 0..100 {
            assert_eq!(turns.next("q", tenant), Duration::ZERO);
            tokio::time::advance(COST).await;
        }
    }
}
