//! From where on a claimer looks for what is due.
//!
//! A queue's index is walked from what has been due longest. While an old transaction keeps Postgres from cleaning, the
//! entries of all runs that ended since then lie at that end, and every claim walks over them. So when the walk has become
//! dear, a claimer begins for a while where it has seen everything before, and walks the whole way so seldom that it costs it
//! a fiftieth of its time, or every [`SELDOM`]. What turns up behind it, such as a run that is resumed, then waits for [`SELDOM`] at most.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

/// A walk as short as this is not worth a bound.
const CHEAP: Duration = Duration::from_millis(2);

/// A whole walk is made after this many times as long as the last one took...
const SPARING: u32 = 50;

/// ...and after this long at least.
const SELDOM: Duration = Duration::from_secs(2);

/// A run that is made due at an instant, or gets a turn, turns up when its transaction commits, so long afterwards at most. So
/// much of the way is walked again.
const MOMENT: Duration = Duration::from_millis(250);

/// Where a walk begins that does not go the whole way, by the database's clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Leases and timers that ended before were seen.
    pub since: DateTime<Utc>,
    /// Ready runs whose turn came before were seen...
    pub turn: DateTime<Utc>,
    /// ...and those whose turn comes after the present and before this.
    pub ahead: DateTime<Utc>,
}

impl Bounds {
    /// What both have seen.
    fn and_before(self, other: Self) -> Self {
        Self {
            since: self.since.min(other.since),
            turn: self.turn.min(other.turn),
            ahead: self.ahead.min(other.ahead),
        }
    }
}

/// What a claim says of its walk: what it has seen, as [`Bounds`] has it. What is none was not walked, for want of room.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Walk {
    pub since: Option<DateTime<Utc>>,
    pub turn: Option<DateTime<Utc>>,
    pub ahead: Option<DateTime<Utc>>,
    pub took: Duration,
    /// How long the queue's rate lets nothing begin, where that is so.
    pub rest: Option<Duration>,
}

impl Walk {
    /// With what had been seen before where it has not come.
    pub fn seen(&self, before: Option<Bounds>) -> Option<Bounds> {
        Some(Bounds {
            since: self.since.or(before.map(|before| before.since))?,
            turn: self.turn.or(before.map(|before| before.turn))?,
            ahead: self.ahead.or(before.map(|before| before.ahead))?,
        })
    }

    fn is_complete(&self) -> bool {
        self.seen(None).is_some()
    }
}

#[derive(Default)]
pub(crate) struct Frontier {
    /// When the last whole walk ended, and how long it took.
    whole: Option<(Instant, Duration)>,
    /// What was seen a [`MOMENT`] ago or earlier; or by the first walk.
    seen: Option<Bounds>,
    /// What was seen after that, and when.
    newer: Option<(Instant, Bounds)>,
}

impl Frontier {
    /// None for the whole way.
    pub fn bounds(&self, now: Instant) -> Option<Bounds> {
        self.seen.filter(|_| !self.rest(now).is_zero())
    }

    /// How long it is until the whole way is to be walked.
    pub fn rest(&self, now: Instant) -> Duration {
        match self.whole {
            Some((ended, took)) if took > CHEAP => (took * SPARING)
                .min(SELDOM)
                .saturating_sub(now.saturating_duration_since(ended)),
            _ => Duration::ZERO,
        }
    }

    /// After a claim within `bounds` that has ended `now`.
    pub fn note(&mut self, bounds: Option<Bounds>, now: Instant, walk: Walk) {
        let is_whole = bounds.is_none();
        if is_whole && walk.is_complete() {
            self.whole = Some((now, walk.took));
        }
        let Some(seen) = walk.seen(self.seen) else { return };
        if is_whole {
            // It may have left off before what was seen ahead.
            self.seen = self.seen.map(|before| before.and_before(seen));
            self.newer = self.newer.map(|(at, newer)| (at, newer.and_before(seen)));
        }
        match self.newer {
            Some((at, newer)) if now.saturating_duration_since(at) >= MOMENT => {
                self.seen = Some(newer);
                self.newer = Some((now, seen));
            }
            Some(_) => {}
            None => (self.seen, self.newer) = (Some(seen), Some((now, seen))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + chrono::TimeDelta::seconds(second)
    }

    fn seen(took: Duration, second: i64, ahead: i64) -> Walk {
        Walk {
            since: Some(at(second)),
            turn: Some(at(second)),
            ahead: Some(at(ahead)),
            took,
            rest: None,
        }
    }

    fn walk(took: Duration) -> Walk {
        seen(took, 0, 0)
    }

    #[tokio::test(start_paused = true)]
    async fn a_walk_begins_where_all_was_seen_a_moment_before_and_a_whole_one_takes_back_what_lay_ahead() {
        let (mut frontier, dear) = (Frontier::default(), Duration::from_millis(30));
        let began = Instant::now();
        frontier.note(None, began, seen(dear, 0, 100));
        for step in 1..40 {
            let now = began + step * MOMENT / 8;
            let bounds = frontier.bounds(now);
            let second = bounds.unwrap().since;
            let latest = i64::from(step.saturating_sub(8));
            assert!(second <= at(latest) && second >= at(latest - 8), "{second} at {step}");
            frontier.note(bounds, now, seen(dear, i64::from(step), 100 + i64::from(step)));
        }
        let now = began + SELDOM;
        assert!(frontier.bounds(now).is_none());
        frontier.note(None, now, seen(dear, 50, 60));
        for step in 0..40 {
            let now = now + step * MOMENT / 8;
            let bounds = frontier.bounds(now);
            assert!(bounds.unwrap().ahead <= at(60 + i64::from(step)), "at {step}");
            frontier.note(bounds, now, seen(dear, 51, 60 + i64::from(step)));
        }
        let cramped = Walk {
            turn: None,
            ..seen(dear, 90, 90)
        };
        frontier.note(None, now + SELDOM, cramped);
        assert!(
            frontier.bounds(now + SELDOM).is_none(),
            "a walk that did not come through is no whole one"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_is_dear_is_bounded_and_never_for_long() {
        for took in [0, 1, 2, 3, 10, 39, 40, 41, 5_000].map(Duration::from_millis) {
            let (mut frontier, began) = (Frontier::default(), Instant::now());
            assert!(frontier.bounds(began).is_none(), "the first walk goes the whole way");
            frontier.note(None, began, walk(took));
            assert_eq!(frontier.bounds(began).is_some(), took > CHEAP, "{took:?}");
            let later = began + (took * SPARING).min(SELDOM);
            assert!(frontier.bounds(later).is_none(), "{took:?}");
            if let Some(bounds) = frontier.bounds(began) {
                frontier.note(Some(bounds), began, walk(Duration::ZERO));
                assert!(frontier.bounds(began).is_some(), "{took:?}");
                assert!(
                    frontier.bounds(later).is_none(),
                    "{took:?}: what is within bounds puts nothing off"
                );
            }
        }
    }
}
