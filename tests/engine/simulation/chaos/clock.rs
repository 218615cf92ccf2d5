//! Virtual time: what passes for the processes, and what the database's clock shows.

use std::time::Duration;

use chrono::DateTime;
use herald_engine::simulation;
use rand::Rng;

use super::{Chaos, DAWN};

impl Chaos {
    /// The database's clock steps: back a little, or forward an hour.
    pub(super) fn set_clock(&mut self) {
        let step = if self.back > 0 && self.rng.random_bool(0.7) {
            -self.rng.random_range(1..=self.back)
        } else {
            self.rng.random_range(1..3_600_000_000)
        };
        self.went_back += (-step).max(0);
        self.astray += step;
        self.tell(format!("the clock steps by {step} us"));
    }

    pub(super) fn pass(&mut self, length: Duration) {
        self.passed += length;
    }

    /// The database's clock, in microseconds.
    pub(super) fn clock(&self) -> i64 {
        DAWN + i64::try_from(self.passed.as_micros()).unwrap() + self.astray
    }

    /// Nothing happens at the same moment as something else.
    pub(super) fn note_moment(&mut self) {
        self.op += 1;
        self.pass(Duration::from_micros(1));
        let clock = self.clock();
        let mut inside = self.outside.lock();
        inside.op = self.op;
        inside.latest = inside.latest.max(clock);
        simulation::set_id_time((DAWN.unsigned_abs() + u64::try_from(self.passed.as_micros()).unwrap()) / 1_000);
    }

    /// The next operation on the database happens now.
    pub(super) async fn tick(&mut self) {
        self.note_moment();
        let clock = DateTime::from_timestamp_micros(self.clock()).unwrap();
        sqlx::query("select set_config('sim.now', $1, false), set_config('sim.op', $2, false)")
            .bind(clock.to_rfc3339())
            .bind(self.op.to_string())
            .execute(&self.pool)
            .await
            .unwrap();
    }
}
