//! What the terms on which a run was started say, held against what it did.

use std::time::Duration;

use uuid::Uuid;

use super::{Complaint, Oracle, Promise, Recorded};
use crate::engine::simulation::chaos::Started;

impl Oracle<'_> {
    pub(super) fn keys_are_not_crowded(&mut self) {
        for of in self.chaos.crowds.clone() {
            let promise = Promise::Room;
            self.complaints.push(Complaint { promise, of });
        }
    }

    /// Whether the run may expire.
    pub(super) fn is_perishable(&self, run: Uuid) -> bool {
        let terms = self.started(run).map(|started| started.terms);
        terms.is_some_and(|terms| terms.start_within.or(terms.expires_within).is_some())
    }

    /// Processes look at the time of their claim and count on from there by their own clock, which stands still here. So
    /// claims are what can come too late, by what the database's clock was not set back meanwhile; and a call must be of a
    /// claim that came in time.
    pub(super) fn nothing_expires_early_or_late(&mut self, run: Uuid, journal: &[Recorded]) {
        let Some(Started {
            terms,
            seen: Some(seen),
            ..
        }) = self.started(run)
        else {
            return;
        };
        let (terms, seen) = (*terms, *seen);
        let soonest = [terms.start_within, terms.expires_within].into_iter().flatten().min();
        let slack = Duration::from_micros(self.chaos.went_back.unsigned_abs());
        let first_epoch = journal.first().map(|r| r.epoch);
        for recorded in journal {
            if recorded.is("expired") {
                let until = soonest.map(|limit| seen.clock + i64::try_from(limit.as_micros()).unwrap());
                if until.is_none_or(|until| recorded.at + self.chaos.went_back < until) {
                    self.complain(Promise::Expiry, run, &format!("{} expired early", recorded.step()));
                }
            }
            if recorded.is("intent") {
                let started_within = terms.start_within.filter(|_| first_epoch == Some(recorded.epoch));
                let limit = [started_within, terms.expires_within].into_iter().flatten().min();
                let claimed = self.claimed_at(run, recorded.epoch);
                if limit.is_some_and(|limit| claimed > seen.passed + limit + slack) {
                    let what = format!("{} was to be attempted when it had expired", recorded.step());
                    self.complain(Promise::Expiry, run, &what);
                }
            }
        }
    }

    fn started(&self, run: Uuid) -> Option<&Started> {
        self.chaos.started.iter().find(|started| started.run == run)
    }

    /// By the processes' clock.
    fn claimed_at(&self, run: Uuid, epoch: i64) -> Duration {
        let mut claims = self.chaos.claimed.iter();
        let claim = claims.find(|claim| claim.run == run && claim.epoch == epoch);
        claim.expect("what is on record was claimed").passed
    }
}
