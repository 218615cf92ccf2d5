//! What the outside world saw, held against the journal.

use std::collections::HashMap;

use herald_engine::Action;
use uuid::Uuid;

use super::{Oracle, Promise, Recorded, act_of};
use crate::engine::simulation::story::{Act, Attempt, Made, Unknown};

impl Oracle<'_> {
    pub(super) fn calls_are_decided(&mut self, run: Uuid, journal: &[Recorded]) {
        let Some(play) = self.plays.get(&run).cloned() else {
            return;
        };
        let outside = self.chaos.outside.lock();
        let mut made: Vec<_> = outside
            .made
            .iter()
            .filter(|made| made.attempt.run == run)
            .copied()
            .collect();
        made.sort_by_key(|made| made.attempt);
        let delays: HashMap<Attempt, u64> = outside.delays.iter().copied().collect();
        drop(outside);
        for (i, call) in made.iter().enumerate() {
            let Attempt { step, attempt, .. } = call.attempt;
            let before = |op: i64, kind: &str, n: u32| {
                let same = move |r: &&Recorded| r.is(kind) && r.step() == step && r.event["attempt"] == n && r.op < op;
                journal.iter().rfind(same)
            };
            let intent = before(call.op, "intent", attempt);
            if intent.is_none() {
                let what = format!("{step} {attempt} was made without an intent");
                self.complain(Promise::Intent, run, &what);
            }
            if let Some(action) = intent.and_then(|intent| self.control_at(run, intent.op)) {
                let what = format!("{step} {attempt} was made in spite of {}", action.name());
                self.complain(Promise::Control, run, &what);
            }
            let Some(Act::Call(policy)) = act_of(&play, step) else {
                panic!("a call is in its play")
            };
            if attempt > policy.attempts {
                self.complain(Promise::WithinPolicy, run, &format!("{step} {attempt} was made"));
            }
            let Some(earlier) = i.checked_sub(1).map(|i| made[i].attempt).filter(|a| a.step == step) else {
                continue;
            };
            let resent = before(call.op, "resent", earlier.attempt);
            let refused = before(call.op, "failed", earlier.attempt).filter(|r| r.event["outcome"] == "refused");
            let twice = format!(
                "{step} was called as {} and as {attempt} without a decision",
                earlier.attempt
            );
            if earlier.attempt == attempt || (resent.is_none() && refused.is_none()) {
                self.complain(Promise::NotBlindlyTwice, run, &twice);
            }
            if resent.is_some() && policy.on_unknown == Unknown::GiveUp {
                self.complain(
                    Promise::WithinPolicy,
                    run,
                    &format!("{step} was repeated against its policy"),
                );
            }
        }
        for call in &made {
            self.call_is_not_early(run, journal, call, &delays);
        }
    }

    /// What people wanted of the run at that time.
    fn control_at(&self, run: Uuid, op: i64) -> Option<Action> {
        let mut before = self.chaos.deeds.iter().filter(|deed| deed.run == run && deed.op < op);
        let newest = before.next_back()?.action;
        (newest != Action::Resume).then_some(newest)
    }

    /// Compared with the latest time that the clock has shown: it may have been set back since the claim.
    fn call_is_not_early(&mut self, run: Uuid, journal: &[Recorded], call: &Made, delays: &HashMap<Attempt, u64>) {
        let Attempt { step, attempt, .. } = call.attempt;
        for refused in journal
            .iter()
            .filter(|r| r.is("failed") && r.step() == step && r.event["outcome"] == "refused")
        {
            let earlier = u32::try_from(refused.event["attempt"].as_u64().unwrap()).unwrap();
            let Some(delay) = delays.get(&Attempt {
                attempt: earlier,
                ..call.attempt
            }) else {
                continue;
            };
            let not_before = refused.at + i64::try_from(*delay).unwrap() * 1_000;
            if earlier < attempt && call.latest < not_before {
                self.complain(
                    Promise::WithinPolicy,
                    run,
                    &format!("{step} {attempt} was made too early"),
                );
            }
        }
    }
}
