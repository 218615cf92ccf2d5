//! When texts move from one provider to the other: decisions over numbers, without a clock and without I/O.
//!
//! Notify's rules are the default: too many errors in a minute, or too many slow deliveries, take a step of weight from
//! one of two providers; without a change for a while, weights go back to their resting points in the same steps. Beyond
//! them:
//!
//! - A provider that all but fails loses all of its weight at once.
//! - Where both are in trouble nothing moves: it would help nobody.
//! - Nothing flaps. The provider that did not fall last may fall only after a pause, which doubles with each fall that is
//!   remembered; and so does the quiet that a return has to wait for.

#[cfg(test)]
mod tests;

use std::time::Duration;

use herald_store::providers::{Delivery, EMAIL_FAILING, Fall, SMS_FAILING, Second, Tally, Watched};
use serde::{Deserialize, Serialize};

/// What a decision looks at as the present: a second or two of trouble must show.
pub const LATELY: Duration = Duration::from_secs(3);

/// Where little is sent, this is the present.
pub const RECENTLY: Duration = Duration::from_secs(10);

/// What errors are counted in.
pub const MINUTE: Duration = Duration::from_secs(60);

/// For how long falls are remembered.
pub const MEMORY: Duration = Duration::from_secs(6 * 60 * 60);

/// What can need a person, by the names that alerts have in the database.
pub const ALERTS: [&str; 7] = [
    SMS_FAILING,
    EMAIL_FAILING,
    "sms_providers_slow",
    "sms_delivery_slow",
    "firetext_refuses_us",
    "mmg_refuses_us",
    "ses_refuses_us",
];

/// With less traffic than this nothing is said about a provider by what it fails.
const FEW: i64 = 5;

/// The numbers of the rules.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Where weights return to, by provider. Together they are 100.
    pub resting_points: Vec<(String, i32)>,
    /// How much weight moves at once, but for an outage.
    pub step: i32,
    /// More errors in a minute cost a provider a step.
    pub errors_a_minute: i64,
    /// No such step sooner after any change.
    pub errors_pause: Duration,
    /// A delivery that takes so long is slow.
    pub slow_after: Duration,
    /// Of the texts created within this time…
    pub slow_within: Duration,
    /// …such a share of slow ones costs a provider a step.
    pub slow_share: f64,
    /// No such step sooner after any change.
    pub slow_pause: Duration,
    /// So many faults within [`LATELY`]…
    pub outage_faults: i64,
    /// …that are such a share of its requests cost a provider all of its weight.
    pub outage_share: f64,
    /// People are told that every provider of a channel fails once they all have for so long.
    pub outage_alert_after: Duration,
    /// Weights return in steps, each after so long without any change.
    pub rest_after: Duration,
    /// Pauses between falls grow up to this.
    pub longest_pause: Duration,
    /// The quiet that a return waits for after a fall grows up to this.
    pub longest_rest: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        Self {
            resting_points: vec![("mmg".to_owned(), 51), ("firetext".to_owned(), 49)],
            step: 10,
            errors_a_minute: 50,
            errors_pause: minutes(1),
            slow_after: minutes(5),
            slow_within: minutes(15),
            slow_share: 0.15,
            slow_pause: minutes(5),
            outage_faults: 10,
            outage_share: 0.5,
            outage_alert_after: Duration::from_secs(10),
            rest_after: minutes(15),
            longest_pause: minutes(15),
            longest_rest: minutes(120),
        }
    }
}

/// Why weights move. The names are data in the database: frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    Outage,
    Errors,
    SlowDelivery,
    RestingPoints,
}

/// New weights for both providers, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    pub rule: Rule,
    /// The one that lost weight because of its trouble; none where weights return.
    pub fell: Option<usize>,
    pub weights: [i32; 2],
}

impl Policy {
    /// What the errors of both say, wherever one of them happened.
    pub fn after_errors(&self, sides: &[Watched; 2], falls: &[Fall]) -> Option<Move> {
        let index = self.only(sides, |side| self.is_failing(side));
        let outage = index.map(|index| (index, Rule::Outage, 100));
        let too_many = |side: &Watched| side.before.errors > self.errors_a_minute;
        let (index, rule, amount) = match outage {
            Some(outage) => outage,
            None => (self.only(sides, too_many)?, Rule::Errors, self.step),
        };
        if rule == Rule::Errors && !unchanged_for(sides, self.errors_pause) {
            return None;
        }
        if self.is_doubtful(&sides[1 - index]) || !self.may_fall(&sides[index], falls, self.errors_pause) {
            return None;
        }
        shift(sides, index, rule, amount)
    }

    /// What the shares of slow deliveries of both say.
    pub fn after_slowness(&self, sides: &[Watched; 2], slow: [f64; 2], falls: &[Fall]) -> Option<Move> {
        let index = match slow.map(|share| self.is_slow(share)) {
            [true, false] => 0,
            [false, true] => 1,
            // Both, or neither.
            _ => return None,
        };
        let may_fall = self.may_fall(&sides[index], falls, self.slow_pause);
        if !may_fall || !unchanged_for(sides, self.slow_pause) || self.is_doubtful(&sides[1 - index]) {
            return None;
        }
        shift(sides, index, Rule::SlowDelivery, self.step)
    }

    /// A step toward the resting points, after a time without changes.
    pub fn toward_rest(&self, sides: &[Watched; 2], falls: &[Fall]) -> Option<Move> {
        let quiet = grown(self.rest_after, episodes(falls, self.rest_after), self.longest_rest);
        let fell_lately = falls.last().is_some_and(|last| last.seconds_ago < quiet.as_secs_f64());
        if fell_lately || is_pinned(sides) || !unchanged_for(sides, self.rest_after) {
            return None;
        }
        let mut weights = [0; 2];
        for (side, weight) in sides.iter().zip(&mut weights) {
            let (_, rest) = self.resting_points.iter().find(|(name, _)| *name == side.identifier)?;
            *weight = side.priority + (rest - side.priority).clamp(-self.step, self.step);
        }
        let changed = |index: usize| weights[index] - sides[index].priority;
        let onto_trouble = (0..2).any(|index| changed(index) > 0 && self.is_failing(&sides[index]));
        if onto_trouble || (0..2).all(|index| changed(index) == 0) {
            return None;
        }
        Some(Move {
            rule: Rule::RestingPoints,
            fell: None,
            weights,
        })
    }

    /// Whether it all but fails: much of what it was asked lately, or everything in ten seconds or a minute.
    pub fn is_failing(&self, side: &Watched) -> bool {
        let Watched {
            lately, recent, before, ..
        } = side;
        let lately_fails = lately.faults >= self.outage_faults.max(1) && share(lately) >= self.outage_share;
        let fails_all = |tally: &Tally| tally.requests >= FEW && tally.faults == tally.requests;
        lately_fails || fails_all(recent) || fails_all(before)
    }

    /// Whether nobody serves a channel: all of its providers fail, as far as one look can tell.
    pub fn all_fail(&self, sides: &[Watched]) -> bool {
        !sides.is_empty() && sides.iter().all(|side| self.is_failing(side))
    }

    /// Whether those that all fail have done so long enough for people to be told. One look is not enough: in the moment in
    /// which texts leave one that has fallen, the other may stumble.
    pub fn have_failed_for_long(&self, sides: &[Watched], seconds: &[Second]) -> bool {
        let longest =
            |side: &Watched| self.failing_for(seconds.iter().filter(|second| second.provider == side.identifier));
        sides
            .iter()
            .all(|side| longest(side) >= self.outage_alert_after.as_secs_f64())
    }

    /// How many seconds ago it began to fail, second after second, the newest first; in between may be some without requests.
    fn failing_for<'a>(&self, seconds: impl Iterator<Item = &'a Second>) -> f64 {
        let failing = seconds.take_while(|second| share(&second.tally) >= self.outage_share);
        failing.last().map_or(0.0, |second| second.seconds_ago)
    }

    /// Whether so many of its deliveries are slow that it counts as slow.
    pub fn is_slow(&self, share: f64) -> bool {
        share >= self.slow_share
    }

    /// Whether texts that fail elsewhere would fare no better with it, as far as can be told.
    fn is_doubtful(&self, side: &Watched) -> bool {
        self.is_failing(side)
            || side.before.errors > self.errors_a_minute
            || [side.lately, side.recent]
                .iter()
                .any(|tally| tally.requests > 0 && share(tally) >= self.outage_share)
    }

    /// The one of both that this holds for, if it is one of two that rules may move.
    fn only(&self, sides: &[Watched; 2], holds: impl Fn(&Watched) -> bool) -> Option<usize> {
        match sides.each_ref().map(holds) {
            [true, false] => Some(0),
            [false, true] => Some(1),
            _ => None,
        }
    }

    /// Going on down is free. Turning against the other one has to wait, longer with every fall that is remembered.
    fn may_fall(&self, side: &Watched, falls: &[Fall], pause: Duration) -> bool {
        falls.last().is_none_or(|last| {
            let turns = episodes(falls, self.rest_after);
            last.identifier == side.identifier
                || last.seconds_ago >= grown(pause, turns, self.longest_pause).as_secs_f64()
        })
    }
}

/// Whether it works, by what it was asked in a minute, and of late: the end of an outage has to be seen.
pub fn is_well(side: &Watched) -> bool {
    side.before.requests > 0 && share(&side.before) < 0.25 && share(&side.recent) < 0.25
}

/// Whether it takes messages again after it was out of order with us for so long. A minute that began before is full of
/// what it took until then, and a quota that is used up is no fault.
pub fn takes_messages_again(side: &Watched, seconds: f64) -> bool {
    let Tally { requests, errors, .. } = side.before;
    seconds >= MINUTE.as_secs_f64() && requests > 0 && errors * 4 < requests
}

/// The share of slow ones among a provider's deliveries; nothing without deliveries.
pub fn slow_share(delivery: &Delivery) -> f64 {
    if delivery.total == 0 {
        return 0.0;
    }
    delivery.slow as f64 / delivery.total as f64
}

fn share(tally: &Tally) -> f64 {
    if tally.requests == 0 {
        return 0.0;
    }
    tally.faults as f64 / tally.requests as f64
}

/// Takes up to `amount` from one and gives as much to the other, as Notify does: each within its bounds.
fn shift(sides: &[Watched; 2], index: usize, rule: Rule, amount: i32) -> Option<Move> {
    let mut weights = sides.each_ref().map(|side| side.priority);
    weights[index] = (weights[index] - amount).max(0);
    weights[1 - index] = (weights[1 - index] + amount).min(100);
    let is_new = sides.iter().zip(weights).any(|(side, weight)| side.priority != weight);
    (is_new && !is_pinned(sides)).then_some(Move {
        rule,
        fell: Some(index),
        weights,
    })
}

fn is_pinned(sides: &[Watched; 2]) -> bool {
    sides.iter().any(|side| side.pinned)
}

fn unchanged_for(sides: &[Watched; 2], pause: Duration) -> bool {
    let unchanged = |side: &Watched| {
        side.unchanged_seconds
            .is_none_or(|seconds| seconds >= pause.as_secs_f64())
    };
    sides.iter().all(unchanged)
}

/// How often a provider began to fall: steps that follow one another are one fall. A return takes at least `rest_after`,
/// so a fall that comes later is a new one.
fn episodes(falls: &[Fall], rest_after: Duration) -> u32 {
    let new = |pair: &[Fall]| {
        pair[0].identifier != pair[1].identifier
            || pair[0].seconds_ago - pair[1].seconds_ago >= rest_after.as_secs_f64()
    };
    let begun = usize::from(!falls.is_empty()) + falls.windows(2).filter(|pair| new(pair)).count();
    u32::try_from(begun).unwrap_or(u32::MAX)
}

/// Doubled for each time after the first, up to `longest`.
fn grown(pause: Duration, times: u32, longest: Duration) -> Duration {
    pause
        .saturating_mul(2u32.saturating_pow(times.saturating_sub(1)))
        .min(longest.max(pause))
}
