//! What is to be started again and again, and what is decided about each instant of it: fired or skipped, once.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use crate::{Calendar, Error, NewRun};

/// A workflow that is started at planned instants, by any number of [`crate::Beat`]s once an instant.
///
/// A schedule that the database does not know yet begins with the first look at it. When the expression of a known
/// one changes, the new expression holds from the last decided instant on.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// Frozen: it is data in the database.
    pub name: &'static str,
    /// Five fields (minute, hour, day of month, month, day of week) or six (second first), as [`Calendar`] reads them.
    pub cron: &'static str,
    /// Whose local time the expression is about.
    pub zone: Tz,
    pub catch_up: CatchUp,
    /// The run of a planned instant. A key of the run ([`NewRun::once`]) is not looked at: the instant is the key.
    /// While it errs, the schedule stays where it is.
    pub start: fn(planned: DateTime<Utc>) -> Result<NewRun, Error>,
}

/// What becomes of instants that were missed because no beat ran. What is skipped is recorded with its reason.
///
/// A look decides about all instants that are due, and does not ask which of them were missed: usually there is one.
/// Looks are at most half a minute apart while a beat runs and reaches the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatchUp {
    /// The newest so many fire.
    All { at_most: u32 },
    /// The newest fires.
    Latest,
    /// Those fire that are not older than this. With less than a minute, a slow look skips what nobody missed.
    Skip { grace: Duration },
}

impl Schedule {
    /// # Errors
    /// [`Error::Schedule`] when the expression does not parse or never comes, or the policy lets nothing fire.
    pub(crate) fn calendar(&self) -> Result<Calendar, Error> {
        let wrong = |why| Error::Schedule { name: self.name, why };
        if matches!(self.catch_up, CatchUp::All { at_most: 0 }) {
            return Err(wrong("by its policy it never fires".to_owned()));
        }
        Calendar::new(self.cron, self.zone).map_err(wrong)
    }
}

/// About one planned instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decision {
    pub planned_at: DateTime<Utc>,
    /// Why it does not fire.
    pub skipped: Option<String>,
}

/// What one look decides.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Oldest first.
    pub decisions: Vec<Decision>,
    pub decided_until: DateTime<Utc>,
    /// Whether more is due: this was as much as one look may decide.
    pub more: bool,
}

/// The most that one look decides, so that no transaction grows with the time that no beat ran.
pub(crate) const MOST: usize = 1_000;

/// Decides about the instants after `decided_until` up to `now`, which is the database's. Looks no further than it has
/// to, however long ago `decided_until` is.
pub(crate) fn plan(calendar: &Calendar, catch_up: CatchUp, decided_until: DateTime<Utc>, now: DateTime<Utc>) -> Plan {
    let newest = match catch_up {
        CatchUp::All { at_most } => usize::try_from(at_most).unwrap_or(usize::MAX),
        CatchUp::Latest => 1,
        CatchUp::Skip { .. } => usize::MAX,
    };
    // An instant is not among the newest once so many are known to come after it.
    let enough = match catch_up {
        CatchUp::Skip { .. } => MOST + 1,
        CatchUp::All { .. } | CatchUp::Latest => MOST.saturating_add(newest),
    };
    let due: Vec<_> = calendar.between(decided_until, now).take(enough).collect();
    let skipped = |(i, planned_at): (usize, &DateTime<Utc>)| match catch_up {
        CatchUp::Skip { grace } => older(*planned_at, now, grace).then(|| format!("more than {grace:?} late")),
        CatchUp::All { .. } | CatchUp::Latest => {
            (due.len() - i > newest).then(|| format!("missed, and not among the newest {newest}"))
        }
    };
    let decisions: Vec<_> = due
        .iter()
        .enumerate()
        .take(MOST)
        .map(|(i, planned_at)| Decision {
            planned_at: *planned_at,
            skipped: skipped((i, planned_at)),
        })
        .collect();
    let more = due.len() > decisions.len();
    let last = decisions.last().filter(|_| more).map(|decision| decision.planned_at);
    Plan {
        decided_until: last.unwrap_or_else(|| now.max(decided_until)),
        decisions,
        more,
    }
}

fn older(planned_at: DateTime<Utc>, now: DateTime<Utc>, grace: Duration) -> bool {
    now - planned_at > TimeDelta::from_std(grace).unwrap_or(TimeDelta::MAX)
}

#[cfg(test)]
mod tests {
    use chrono_tz::UTC;
    use proptest::prelude::*;

    use super::*;

    fn at(instant: &str) -> DateTime<Utc> {
        instant.parse().unwrap()
    }

    fn fired(plan: &Plan) -> Vec<DateTime<Utc>> {
        let fired = plan.decisions.iter().filter(|decision| decision.skipped.is_none());
        fired.map(|decision| decision.planned_at).collect()
    }

    /// All that is decided until nothing more is due, and the size of the biggest look.
    fn drain(catch_up: CatchUp, mut decided_until: DateTime<Utc>, now: DateTime<Utc>) -> (Vec<Decision>, usize) {
        let calendar = Calendar::new("* * * * *", UTC).unwrap();
        let (mut all, mut biggest) = (Vec::new(), 0);
        loop {
            let plan = plan(&calendar, catch_up, decided_until, now);
            biggest = biggest.max(plan.decisions.len());
            decided_until = plan.decided_until;
            all.extend(plan.decisions);
            if !plan.more {
                assert_eq!(decided_until, now);
                return (all, biggest);
            }
        }
    }

    #[test]
    fn nothing_is_due_before_its_time_or_when_the_database_s_clock_went_back() {
        let calendar = Calendar::new("0 * * * *", UTC).unwrap();
        let (noon, almost_one) = (at("2026-06-01T12:00:00Z"), at("2026-06-01T12:59:59.999999Z"));
        let early = plan(&calendar, CatchUp::Latest, noon, almost_one);
        assert_eq!((early.decisions.len(), early.decided_until), (0, almost_one));
        let back = plan(&calendar, CatchUp::Latest, noon, noon - TimeDelta::hours(2));
        assert_eq!((back.decisions.len(), back.decided_until), (0, noon));
        let on_time = plan(&calendar, CatchUp::Latest, almost_one, at("2026-06-01T13:00:00Z"));
        assert_eq!(fired(&on_time), [at("2026-06-01T13:00:00Z")]);
    }

    proptest! {
        // Each is thousands of instants.
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn every_instant_is_decided_once_and_by_its_policy_however_many_were_missed(
            missed in 0i64..4_500, newest in 1u32..3_000, policy in 0..3,
        ) {
            let start = at("2026-06-01T12:00:00Z");
            let now = start + TimeDelta::minutes(missed) + TimeDelta::seconds(30);
            let grace = Duration::from_secs(60 * u64::from(newest));
            let (catch_up, expected) = match policy {
                0 => (CatchUp::All { at_most: newest }, missed.min(newest.into())),
                1 => (CatchUp::Latest, missed.min(1)),
                _ => (CatchUp::Skip { grace }, missed.min(newest.into())),
            };
            let (decisions, biggest) = drain(catch_up, start, now);
            prop_assert!(biggest <= MOST);
            let planned: Vec<_> = decisions.iter().map(|decision| decision.planned_at).collect();
            let every: Vec<_> = (1..=missed).map(|minute| start + TimeDelta::minutes(minute)).collect();
            prop_assert_eq!(planned, every);
            let skips = usize::try_from(missed - expected).unwrap();
            prop_assert!(decisions.iter().enumerate().all(|(i, decision)| decision.skipped.is_some() == (i < skips)));
        }
    }
}
