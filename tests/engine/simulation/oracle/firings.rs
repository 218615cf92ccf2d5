//! What beats decided, held against the instants that there were.

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Complaint, Oracle, Promise};
use crate::engine::simulation::chaos::{Chaos, EVERY, MOST};

/// What is on record about an instant.
pub struct Firing {
    planned_at: DateTime<Utc>,
    pub run: Option<Uuid>,
    op: i64,
}

pub async fn read(chaos: &Chaos) -> Vec<Firing> {
    let rows: Vec<(DateTime<Utc>, Option<Uuid>, i64)> =
        sqlx::query_as("select planned_at, run_id, op from engine.firing order by planned_at")
            .fetch_all(&chaos.pool)
            .await
            .unwrap();
    rows.into_iter()
        .map(|(planned_at, run, op)| Firing { planned_at, run, op })
        .collect()
}

impl Oracle<'_> {
    /// All instants between the first look and the latest moment at which there was one, by the database's clock; of those
    /// that one look found, the newest fire.
    pub(super) fn instants_are_decided_once(&mut self) {
        let seconds = |at: &DateTime<Utc>| at.timestamp();
        let looks = &self.chaos.looks;
        let (first, latest) = (seconds(&looks[0]), seconds(looks.iter().max().unwrap()));
        let there: Vec<i64> = (first + 1..=latest).filter(|at| at % EVERY == 0).collect();
        let decided: Vec<i64> = self.firings.iter().map(|firing| seconds(&firing.planned_at)).collect();
        if there != decided {
            self.complain_of_schedule(format!(
                "{} instants, of which {} were decided",
                there.len(),
                decided.len()
            ));
        }
        let mut looks: BTreeMap<i64, Vec<bool>> = BTreeMap::new();
        for firing in &self.firings {
            looks.entry(firing.op).or_default().push(firing.run.is_some());
        }
        for (op, fired) in looks {
            let skipped = fired.len().saturating_sub(usize::try_from(MOST).unwrap());
            let expected = (0..fired.len()).map(|i| i >= skipped);
            if !expected.eq(fired.iter().copied()) {
                self.complain_of_schedule(format!("the look of {op} fired {fired:?}"));
            }
        }
        let runs: Vec<Uuid> = self.firings.iter().filter_map(|firing| firing.run).collect();
        if runs.iter().collect::<HashSet<_>>().len() != runs.len() {
            self.complain_of_schedule("two instants have one run".to_owned());
        }
    }

    fn complain_of_schedule(&mut self, of: String) {
        let promise = Promise::Schedule;
        self.complaints.push(Complaint { promise, of });
    }
}
