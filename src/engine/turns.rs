//! Fair shares of a queue. Each new run gets a turn, an instant by which the ready are ordered. A tenant that starts
//! runs faster than its share gets turns further and further ahead of where the workers are, so whoever starts a few comes
//! before them; where nobody else has anything to do, nobody waits for a turn. Turns are instants, and are given half a day
//! back at most, so that nothing starves; and what this process does not remember (a restart, other processes) costs order,
//! never a run.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sqlx::PgPool;
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    fronts::{Class, Fronts, REACH},
    submission::NewRun,
};

/// The share that is never made to wait behind others': 20 runs a second, a tenant, a queue and a process.
const COST: Duration = Duration::from_millis(50);

/// Less than half of what lies between the priorities, so that the turns of each stay apart, those that workers are behind
/// with included.
const FURTHEST: Duration = Duration::from_secs(11 * 60 * 60);

/// Shares that are remembered before those whose last turn has been taken are forgotten.
const REMEMBERED: usize = 10_000;

/// Whose turns are counted together.
type Share = (Class, Uuid);

/// Gives turns. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Turns {
    /// None: it is not looked where the workers are.
    fronts: Option<Fronts>,
    taken: Arc<Mutex<Taken>>,
}

/// The turn after the last one of each share.
#[derive(Debug)]
struct Taken {
    next: HashMap<Share, Instant>,
    /// When there are more, some are forgotten.
    most: usize,
}

impl Default for Taken {
    fn default() -> Self {
        Self {
            next: HashMap::new(),
            most: REMEMBERED,
        }
    }
}

impl Turns {
    pub fn new(pool: PgPool) -> Self {
        Self {
            fronts: Some(Fronts::new(pool)),
            taken: Arc::default(),
        }
    }

    /// Turns that count from the present, wherever the workers are.
    pub fn by_the_clock() -> Self {
        Self {
            fronts: None,
            taken: Arc::default(),
        }
    }

    /// The run's turn, in seconds from now. One that is to start later takes none.
    pub async fn take(&self, run: &NewRun) -> f64 {
        let advance = run.priority.advance();
        let Some(tenant) = run.tenant.filter(|_| run.after.is_zero()) else {
            return advance;
        };
        let class = (run.queue.0, run.priority);
        let front = match &self.fronts {
            Some(fronts) => fronts.of(class).await,
            None => None,
        };
        advance + self.next((class, tenant), front)
    }

    /// In seconds from now.
    fn next(&self, share: Share, front: Option<Instant>) -> f64 {
        let now = Instant::now();
        let front = front.map_or(now, |front| front.min(now));
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.forget(share.0, front, now);
        let turn = taken.next.entry(share).or_insert(front);
        let mine = (*turn).clamp(front, now + FURTHEST);
        *turn = mine + COST;
        (mine - front).as_secs_f64() - (now - front).as_secs_f64()
    }
}

impl Taken {
    /// Forgets, now and then, what makes no difference any more.
    fn forget(&mut self, class: Class, front: Instant, now: Instant) {
        if self.next.len() <= self.most {
            return;
        }
        self.next.retain(|(of, _), turn| {
            let passed = if *of == class {
                Some(front)
            } else {
                now.checked_sub(REACH)
            };
            passed.is_none_or(|passed| *turn > passed)
        });
        // Where they were all needed, they are looked through again when there are twice as many.
        self.most = (self.next.len() * 2).max(REMEMBERED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::submission::Priority;

    fn share(tenant: u128) -> Share {
        (("q", Priority::Normal), Uuid::from_u128(tenant))
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_of_one_come_before_the_many_of_another_wherever_the_workers_are() {
        let turns = Turns::by_the_clock();
        let began = Instant::now();
        let mut last = 0.0;
        for _ in 0..1_000_000 {
            last = turns.next(share(1), None);
        }
        assert_eq!(last, COST.saturating_mul(999_999).min(FURTHEST).as_secs_f64());
        tokio::time::advance(Duration::from_secs(60)).await;
        let step = COST.as_secs_f64();
        let of_few: Vec<f64> = (0..3).map(|_| turns.next(share(2), None)).collect();
        assert_eq!(of_few, [0.0, step, step * 2.0]);
        let front = Some(began + Duration::from_secs(10));
        let of_new: Vec<f64> = (0..3).map(|_| turns.next(share(3), front)).collect();
        assert_eq!(of_new, [-50.0, step - 50.0, step * 2.0 - 50.0]);
        assert!(turns.next(share(1), front) > FURTHEST.as_secs_f64() - 61.0);
    }

    #[tokio::test(start_paused = true)]
    async fn however_many_there_are_nobody_is_forgotten_whose_turns_are_ahead_of_the_workers() {
        let turns = Turns::by_the_clock();
        tokio::time::advance(Duration::from_secs(60 * 60)).await;
        let an_hour_ago = Some(Instant::now() - Duration::from_secs(60 * 60));
        let mut last = 0.0;
        for _ in 0..100 {
            last = turns.next(share(1), an_hour_ago);
        }
        let elsewhere = ("another", Priority::Normal);
        for tenant in 2..50_000 {
            // Each has its turn, and then the workers have taken it.
            tokio::time::advance(COST).await;
            turns.next((elsewhere, Uuid::from_u128(tenant)), None);
        }
        assert!(turns.taken.lock().unwrap().next.len() <= 2 * REMEMBERED);
        let passed = COST.as_secs_f64() * 49_998.0;
        let next = turns.next(share(1), an_hour_ago);
        assert!(
            (next - (last + COST.as_secs_f64() - passed)).abs() < 0.001,
            "{next} after {last}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_share_that_is_not_exceeded_is_never_behind() {
        let turns = Turns::by_the_clock();
        for _ in 0..100 {
            assert_eq!(turns.next(share(1), None), 0.0);
            tokio::time::advance(COST).await;
        }
    }
}
