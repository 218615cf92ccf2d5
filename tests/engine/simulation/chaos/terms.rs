//! On which terms runs are started: with keys that let few of them run at once, and with times after which they call
//! nobody.

use std::time::Duration;

use herald_engine::NewRun;
use rand::{Rng, rngs::StdRng, seq::IndexedRandom};
use uuid::Uuid;

use super::Chaos;

/// Keys, and how many runs of each may stand ready or be on a worker at once.
const KEYS: [(&str, u16); 2] = [("one", 1), ("two", 2)];

#[derive(Debug, Clone, Copy, Default)]
pub struct Terms {
    key: Option<(&'static str, u16)>,
    /// Only of those that begin later: the others' turns would depend on the real clock.
    tenant: Option<Uuid>,
    after: Duration,
    pub start_within: Option<Duration>,
    pub expires_within: Option<Duration>,
}

/// When a row was seen for the first time.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// By the processes' clock.
    pub passed: Duration,
    /// By the database's, in microseconds.
    pub clock: i64,
}

impl Terms {
    pub(super) fn drawn(rng: &mut StdRng) -> Self {
        let mut millis = |chance, most| {
            let length = Duration::from_millis(rng.random_range(0..most));
            rng.random_bool(chance).then_some(length)
        };
        let after = millis(0.3, 20_000).unwrap_or_default();
        Self {
            after,
            start_within: millis(0.1, 40_000),
            expires_within: millis(0.2, 90_000),
            key: if rng.random_bool(0.4) {
                KEYS.choose(rng).copied()
            } else {
                None
            },
            tenant: (!after.is_zero()).then(|| Uuid::from_u128(rng.random_range(1..4))),
        }
    }

    pub(super) fn apply(self, mut new: NewRun) -> NewRun {
        new = new.after(self.after);
        if let Some((key, limit)) = self.key {
            new = new.keyed(key, limit);
        }
        if let Some(tenant) = self.tenant {
            new = new.of_tenant(tenant);
        }
        if let Some(limit) = self.start_within {
            new = new.start_within(limit);
        }
        if let Some(limit) = self.expires_within {
            new = new.expires_within(limit);
        }
        new
    }
}

impl Chaos {
    /// Notes which runs are in the database for the first time.
    pub(super) async fn see_what_is_started(&mut self) {
        let unseen = self.started.iter().filter(|started| started.seen.is_none());
        let unseen: Vec<Uuid> = unseen.map(|started| started.run).collect();
        let there: Vec<Uuid> = sqlx::query_scalar("select id from engine.run where id = any ($1)")
            .bind(unseen)
            .fetch_all(&self.pool)
            .await
            .unwrap();
        let seen = Seen {
            passed: self.passed,
            clock: self.clock(),
        };
        for started in self.started.iter_mut().filter(|started| there.contains(&started.run)) {
            started.seen = Some(seen);
        }
    }

    /// Notes keys of which more runs stand ready or are on a worker than may be.
    pub(super) async fn look_for_crowds(&mut self) {
        let (keys, limits): (Vec<&str>, Vec<i64>) =
            KEYS.map(|(key, limit)| (key, i64::from(limit))).into_iter().unzip();
        let crowds: Vec<(String, i64)> = sqlx::query_as(
            "select key, count(*) from engine.run r join unnest($1::text[], $2::bigint[]) most (key, runs) using (key)
             where r.state in ('ready', 'running') group by key, runs having count(*) > runs order by key",
        )
        .bind(keys)
        .bind(limits)
        .fetch_all(&self.pool)
        .await
        .unwrap();
        for (key, runs) in crowds {
            self.crowds.push(format!(
                "{runs} runs of key {key} at once, by operation {}",
                self.op - self.first_op
            ));
        }
    }
}
