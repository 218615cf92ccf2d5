//! Hours of trouble, second by second: how far weights can be driven, and when people are told.

use std::collections::VecDeque;

use super::*;

/// How weights have moved so far, whatever made them.
#[derive(Default)]
struct Course {
    policy: Policy,
    weights: [i32; 2],
    changed_at: Option<usize>,
    /// When, and whose.
    falls: Vec<(usize, usize)>,
    /// When one began to fall: the one before it was the other one's, or weights had begun to return.
    begun: Vec<usize>,
    moves: Vec<(usize, Rule)>,
}

impl Course {
    fn at_rest() -> Self {
        Self {
            weights: [49, 51],
            ..Self::default()
        }
    }

    /// As they are at this second, with what was counted of each lately, in ten seconds and in a minute.
    fn sides(&self, now: usize, counted: [[Tally; 3]; 2]) -> [Watched; 2] {
        [0, 1].map(|i| Watched {
            unchanged_seconds: self.changed_at.map(|at| (now - at) as f64),
            lately: counted[i][0],
            recent: counted[i][1],
            before: counted[i][2],
            ..side(["firetext", "mmg"][i], self.weights[i])
        })
    }

    fn remembered(&self, now: usize) -> Vec<Fall> {
        let falls = self.falls.iter();
        let falls = falls.map(|(at, whose)| fall(["firetext", "mmg"][*whose], (now - at) as f64));
        falls.filter(|fall| fall.seconds_ago < MEMORY.as_secs_f64()).collect()
    }

    /// What is decided at this second: after errors at once, after slowness each minute, about a return every five.
    fn second(&mut self, now: usize, counted: [[Tally; 3]; 2], slow: [f64; 2]) {
        let (sides, falls) = (self.sides(now, counted), self.remembered(now));
        let policy = &self.policy;
        let left = || {
            policy
                .after_slowness(&sides, slow, &falls)
                .filter(|_| now.is_multiple_of(60))
        };
        let returned = || policy.toward_rest(&sides, &falls).filter(|_| now.is_multiple_of(300));
        let decided = policy.after_errors(&sides, &falls).or_else(left).or_else(returned);
        if let Some(decided) = decided {
            let goes_on = decided.fell.is_some_and(|fell| {
                self.moves.last().is_some_and(|(_, rule)| *rule != Rule::RestingPoints)
                    && self.falls.last().is_some_and(|(_, last)| *last == fell)
            });
            if decided.fell.is_some() && !goes_on {
                self.begun.push(now);
            }
            self.weights = decided.weights;
            self.changed_at = Some(now);
            self.moves.push((now, decided.rule));
            self.falls.extend(decided.fell.map(|fell| (now, fell)));
        }
    }

    fn assert_calm(&self) {
        let moves: Vec<usize> = self.moves.iter().map(|(at, _)| *at).collect();
        assert_eq!(self.weights.iter().sum::<i32>(), 100);
        assert!(most_in_an_hour(&moves) <= MOST_MOVES_IN_AN_HOUR, "{:?}", self.moves);
        assert!(most_in_an_hour(&self.begun) <= 7, "{:?}", self.begun);
        assert!(self.begun.len() <= MOST_BEGINNINGS.len(), "{:?}", self.begun);
    }
}

/// The most of these instants that lie within any one hour.
fn most_in_an_hour(instants: &[usize]) -> usize {
    let from = |from: &usize| instants.iter().filter(|at| (*from..from + 3_600).contains(at)).count();
    instants.iter().map(from).max().unwrap_or(0)
}

/// Both providers under a steady load, second by second, with every process deciding at once.
struct World {
    course: Course,
    counted: [VecDeque<Tally>; 2],
}

impl World {
    fn new() -> Self {
        Self {
            course: Course::at_rest(),
            counted: Default::default(),
        }
    }

    /// A second of a hundred texts; what one fails is tried at the other.
    fn second(&mut self, now: usize, fails: [bool; 2]) {
        let mut asked = self.course.weights.map(i64::from);
        let repeated = [0, 1].map(|i| if fails[1 - i] { asked[1 - i] } else { 0 });
        for i in 0..2 {
            asked[i] += repeated[i];
            let counted = &mut self.counted[i];
            counted.push_back(tally(asked[i], if fails[i] { asked[i] } else { 0 }));
            if counted.len() > 60 {
                counted.pop_front();
            }
        }
        self.course.second(now, self.tallies(), [0.0, 0.0]);
    }

    /// What was counted of each lately, in ten seconds and in a minute.
    fn tallies(&self) -> [[Tally; 3]; 2] {
        self.counted
            .each_ref()
            .map(|counted| [3, 10, 60].map(|seconds| sum(counted, seconds)))
    }

    /// Whether people would be told now that both fail.
    fn is_told(&self, now: usize) -> bool {
        let sides = self.course.sides(now, self.tallies());
        let policy = &self.course.policy;
        policy.all_fail(&sides) && policy.have_failed_for_long(&sides, &self.seconds())
    }

    /// As they are kept: none without requests.
    fn seconds(&self) -> Vec<Second> {
        let of = |(counted, name): (&VecDeque<Tally>, &str)| -> Vec<Second> {
            let second = |(ago, tally): (u32, &Tally)| Second {
                provider: name.to_owned(),
                seconds_ago: f64::from(ago),
                tally: *tally,
            };
            (0..).zip(counted.iter().rev()).map(second).collect()
        };
        let all = self.counted.iter().zip(["firetext", "mmg"]).flat_map(of);
        all.filter(|second| second.tally.requests > 0).collect()
    }
}

fn sum(counted: &VecDeque<Tally>, seconds: usize) -> Tally {
    let mut sum = Tally::default();
    for second in counted.iter().rev().take(seconds) {
        sum.requests += second.requests;
        sum.errors += second.errors;
        sum.faults += second.faults;
    }
    sum
}

const MINUTE: usize = 60;
const HOURS_3: usize = 180 * MINUTE;

/// The soonest that one provider after another can begin to fall within three hours, in minutes: the pauses in between
/// are 1, 2, 4, 8 and from then on 15. No way around them: the same one can begin anew only after a return, and none comes
/// sooner than 15 minutes after a fall.
const MOST_BEGINNINGS: [usize; 15] = [0, 1, 3, 7, 15, 30, 45, 60, 75, 90, 105, 120, 135, 150, 165];

/// From rest, one falls in 6 steps of a minute each, and the other in 10, and so on by turns, with the pauses of
/// [`MOST_BEGINNINGS`] after the last step of each: 6 + 4 × 10 steps take 41 minutes and 15 of pauses, and the next pause
/// ends after the hour. To fall at once instead saves minutes, but steps as well; a return costs a quarter of an hour.
const MOST_MOVES_IN_AN_HOUR: usize = 46;

#[test]
fn traffic_leaves_a_dead_provider_within_three_seconds_and_returns_step_by_step() {
    let mut world = World::new();
    (0..100).for_each(|now| world.second(now, [false, false]));
    (100..103).for_each(|now| world.second(now, [true, false]));
    assert_eq!(world.course.weights, [0, 100]);
    (103..HOURS_3).for_each(|now| world.second(now, [false, false]));
    assert_eq!(world.course.weights, [49, 51]);
    let moves = &world.course.moves;
    let gaps: Vec<usize> = moves.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    assert_eq!(gaps.len(), 5, "{moves:?}");
    assert!(gaps.iter().all(|gap| (900..1_200).contains(gap)), "{gaps:?}");
}

#[test]
fn while_both_are_down_nothing_moves() {
    let mut world = World::new();
    (0..3_600).for_each(|now| world.second(now, [true, true]));
    assert_eq!((world.course.weights, world.course.moves.len()), ([49, 51], 0));
}

#[test]
fn whoever_fails_just_where_texts_go_can_drive_them_away_fifteen_times_in_three_hours() {
    let mut world = World::new();
    for now in 0..HOURS_3 {
        let has_most = usize::from(world.course.weights[1] > world.course.weights[0]);
        world.second(now, [has_most == 0, has_most == 1]);
    }
    assert_eq!(world.course.begun, MOST_BEGINNINGS.map(|minute| minute * MINUTE));
    assert_eq!(
        world.course.moves.len(),
        MOST_BEGINNINGS.len(),
        "each of them at once, and no return"
    );
    world.course.assert_calm();
}

#[test]
fn whoever_errs_a_little_just_where_texts_go_can_take_forty_six_steps_in_an_hour() {
    let mut course = Course::at_rest();
    let mut whose = 1;
    for now in 0..HOURS_3 {
        if course.weights[whose] == 0 {
            whose = 1 - whose;
        }
        course.second(now, counts(Some(whose), false), [0.0, 0.0]);
    }
    assert_eq!(
        course.moves.iter().filter(|(at, _)| *at < 3_600).count(),
        MOST_MOVES_IN_AN_HOUR
    );
    course.assert_calm();
}

/// A steady two thousand requests a minute, of which one provider fails too many, or everything lately.
fn counts(whose: Option<usize>, is_outage: bool) -> [[Tally; 3]; 2] {
    [0, 1].map(|i| match (whose == Some(i), is_outage) {
        (false, _) => [tally(100, 0), tally(330, 0), tally(2_000, 0)],
        (true, false) => [tally(100, 2), tally(330, 8), tally(2_000, 51)],
        (true, true) => [tally(100, 100), tally(330, 100), tally(2_000, 100)],
    })
}

fn any_pattern(kinds: usize) -> impl Strategy<Value = Vec<(usize, usize)>> {
    let lengths = proptest::collection::vec((1usize..600, 0..kinds), 1..40);
    (lengths, 1usize..60).prop_map(|(lengths, hurry)| {
        let hurried = lengths
            .into_iter()
            .map(|(length, kind)| ((length / hurry).max(1), kind));
        hurried.collect()
    })
}

/// Three hours of a pattern over and over: each second, and what kind of trouble there is.
fn played(pattern: &[(usize, usize)]) -> impl Iterator<Item = (usize, usize)> {
    let kinds = pattern.iter().cycle();
    let kinds = kinds.flat_map(|(length, kind)| std::iter::repeat_n(*kind, *length));
    (0..HOURS_3).zip(kinds)
}

proptest! {
    // Each is three hours of seconds.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn providers_that_go_up_and_down_cannot_make_the_weights_flap(pattern in any_pattern(4)) {
        let mut world = World::new();
        for (now, kind) in played(&pattern) {
            world.second(now, [[false, false], [true, false], [false, true], [true, true]][kind]);
        }
        world.course.assert_calm();
    }

    #[test]
    fn people_are_told_that_both_fail_once_nothing_was_taken_for_long_enough_and_no_sooner(pattern in any_pattern(4)) {
        let mut world = World::new();
        let enough = world.course.policy.outage_alert_after.as_secs();
        let mut nothing_taken = 0;
        for (now, kind) in played(&pattern) {
            world.second(now, [[false, false], [true, false], [false, true], [true, true]][kind]);
            let newest = world.counted.iter().filter_map(|counted| counted.back());
            let is_taken = newest.map(|tally| tally.requests - tally.faults).sum::<i64>() > 0;
            nothing_taken = if is_taken { 0 } else { nothing_taken + 1 };
            prop_assert_eq!(world.is_told(now), nothing_taken > enough, "{} s at {}", nothing_taken, now);
        }
    }

    /// Whatever a second's counts may ask for, with no regard to what would have to happen before.
    #[test]
    fn no_counts_at_all_can_make_the_weights_flap(pattern in any_pattern(7)) {
        let mut course = Course::at_rest();
        for (now, kind) in played(&pattern) {
            match kind {
                0 => course.second(now, counts(None, false), [0.0, 0.0]),
                1 | 2 => course.second(now, counts(Some(kind - 1), false), [0.0, 0.0]),
                3 | 4 => course.second(now, counts(Some(kind - 3), true), [0.0, 0.0]),
                _ => course.second(now, counts(None, false), [[1.0, 0.0], [0.0, 1.0]][kind - 5]),
            }
        }
        course.assert_calm();
    }
}
