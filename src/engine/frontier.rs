//! From where on a claimer looks for what is due.
//!
//! A queue's index is walked from what has been due longest. While an old transaction keeps Postgres from cleaning, the
//! entries of all runs that ended since then lie at that end, and every claim walks over them. So when the walk has become
//! dear, a claimer begins for a while where it ended before, and walks the whole way so seldom that it costs it a fortieth
//! of its time. What turns up behind it, an urgent run or an ended lease, then waits for [`SELDOM`] at most.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

/// A walk as short as this is not worth a bound.
const CHEAP: Duration = Duration::from_millis(2);

/// A whole walk is made after this many times as long as the last one took...
const SPARING: u32 = 40;

/// ...and after this long at least.
const SELDOM: Duration = Duration::from_secs(1);

/// How long something may be due before others can see it: a transaction that makes it so commits later.
const MARGIN: TimeDelta = TimeDelta::seconds(5);

/// Where a walk begins that does not go the whole way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Timers that ran out before were found.
    pub since: DateTime<Utc>,
    /// Ready runs whose turn came before were found.
    pub turn: DateTime<Utc>,
}

/// What a claim says of its walk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Walk {
    /// By the database's clock.
    pub at: DateTime<Utc>,
    /// The turn of the last ready run that was found.
    pub last_turn: Option<DateTime<Utc>>,
    pub took: Duration,
}

#[derive(Default)]
pub(crate) struct Frontier {
    /// When the last whole walk began, and how long it took.
    whole: Option<(Instant, Duration)>,
    since: Option<DateTime<Utc>>,
    turn: Option<DateTime<Utc>>,
}

impl Frontier {
    /// None for the whole way.
    pub fn bounds(&self, now: Instant) -> Option<Bounds> {
        let bounds = Bounds {
            since: self.since? - MARGIN,
            turn: self.turn?,
        };
        (!self.rest(now).is_zero()).then_some(bounds)
    }

    /// How long it is until the whole way is to be walked.
    pub fn rest(&self, now: Instant) -> Duration {
        match self.whole {
            Some((began, took)) if took > CHEAP => (took * SPARING)
                .min(SELDOM)
                .saturating_sub(now.saturating_duration_since(began)),
            _ => Duration::ZERO,
        }
    }

    /// After a claim within `bounds` that began at `began` and took `length`; `walk` is none when it found nothing.
    pub fn note(&mut self, bounds: Option<Bounds>, began: Instant, length: Duration, walk: Option<Walk>) {
        if bounds.is_none() {
            self.whole = Some((began, walk.map_or(length, |walk| walk.took)));
            self.since = walk.map(|walk| walk.at).or(self.since);
        }
        self.turn = walk.and_then(|walk| walk.last_turn).or(self.turn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(took: Duration) -> Option<Walk> {
        Some(Walk {
            at: DateTime::UNIX_EPOCH,
            last_turn: Some(DateTime::UNIX_EPOCH),
            took,
        })
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_is_dear_is_bounded_and_never_for_long() {
        for took in [0, 1, 2, 3, 10, 24, 25, 26, 5_000].map(Duration::from_millis) {
            let (mut frontier, began) = (Frontier::default(), Instant::now());
            assert!(frontier.bounds(began).is_none(), "the first walk goes the whole way");
            frontier.note(None, began, Duration::ZERO, walk(took));
            assert_eq!(frontier.bounds(began).is_some(), took > CHEAP, "{took:?}");
            let later = began + (took * SPARING).min(SELDOM);
            assert!(frontier.bounds(later).is_none(), "{took:?}");
            if let Some(bounds) = frontier.bounds(began) {
                frontier.note(Some(bounds), began, Duration::ZERO, walk(Duration::ZERO));
                assert!(frontier.bounds(began).is_some(), "{took:?}");
                assert!(
                    frontier.bounds(later).is_none(),
                    "{took:?}: what is within bounds puts nothing off"
                );
            }
        }
    }
}
