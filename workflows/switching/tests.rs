//! The decisions, one by one as Notify makes them, and as properties of hours of arbitrary trouble.

use std::collections::VecDeque;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const NEVER: Option<f64> = None;

fn tally(requests: i64, faults: i64) -> Tally {
    Tally {
        requests,
        errors: faults,
        faults,
    }
}

fn side(identifier: &str, priority: i32) -> Watched {
    Watched {
        id: Uuid::nil(),
        identifier: identifier.to_owned(),
        priority,
        pinned: false,
        version: 1,
        unchanged_seconds: NEVER,
        lately: tally(100, 0),
        before: tally(2_000, 0),
    }
}

/// By name, as they are read.
fn at_rest() -> [Watched; 2] {
    [side("firetext", 49), side("mmg", 51)]
}

fn fall(identifier: &str, seconds_ago: f64) -> Fall {
    Fall {
        identifier: identifier.to_owned(),
        seconds_ago,
    }
}

fn weights(decided: Option<Move>) -> Option<[i32; 2]> {
    decided.map(|decided| decided.weights)
}

#[test]
fn the_fifty_first_error_of_a_minute_costs_a_step_and_the_next_step_takes_a_minute() {
    let policy = Policy::default();
    let mut sides = at_rest();
    sides[1].before.errors = 50;
    assert_eq!(policy.after_errors(&sides, &[]), None);
    sides[1].before.errors = 51;
    let step = policy.after_errors(&sides, &[]).unwrap();
    assert_eq!((step.rule, step.fell, step.weights), (Rule::Errors, Some(1), [59, 41]));

    for (seconds, moves) in [(59.9, false), (60.0, true)] {
        // It is enough that the other one was changed.
        sides[0].unchanged_seconds = Some(seconds);
        let falls = [fall("mmg", seconds)];
        assert_eq!(policy.after_errors(&sides, &falls).is_some(), moves, "{seconds}");
    }
}

#[test]
fn steps_stay_within_their_bounds_and_no_step_is_no_move() {
    let policy = Policy::default();
    let mut sides = [side("firetext", 96), side("mmg", 4)];
    sides[1].before.errors = 51;
    assert_eq!(weights(policy.after_errors(&sides, &[])), Some([100, 0]));
    (sides[0].priority, sides[1].priority) = (100, 0);
    assert_eq!(policy.after_errors(&sides, &[]), None);
}

#[test]
fn a_provider_that_all_but_fails_loses_everything_at_once() {
    let policy = Policy::default();
    let mut sides = at_rest();
    (sides[0].lately, sides[0].before) = (tally(18, 9), tally(2_000, 9));
    assert_eq!(policy.after_errors(&sides, &[]), None, "nine are too few");
    sides[0].lately = tally(21, 10);
    assert_eq!(policy.after_errors(&sides, &[]), None, "less than a half");
    sides[0].lately = tally(20, 10);
    let fallen = policy.after_errors(&sides, &[]).unwrap();
    assert_eq!((fallen.rule, fallen.weights), (Rule::Outage, [0, 100]));
    // Also where little is sent.
    (sides[0].lately, sides[0].before) = (tally(0, 0), tally(5, 5));
    assert_eq!(weights(policy.after_errors(&sides, &[])), Some([0, 100]));
    // Refusals that may be the messages' fault are Notify's errors and no outage.
    sides[0].lately = Tally {
        requests: 30,
        errors: 30,
        faults: 0,
    };
    sides[0].before = sides[0].lately;
    assert_eq!(policy.after_errors(&sides, &[]), None);
}

#[test]
fn one_that_is_slow_beside_one_that_is_not_loses_a_step() {
    let policy = Policy::default();
    let sides = at_rest();
    let decide = |slow| weights(policy.after_slowness(&sides, slow, &[]));
    assert_eq!(decide([0.15, 0.149]), Some([39, 61]));
    assert_eq!(decide([0.0, 1.0]), Some([59, 41]));
    assert_eq!(decide([0.149, 0.149]), None);
    let mut sides = at_rest();
    sides[0].unchanged_seconds = Some(299.0);
    assert_eq!(policy.after_slowness(&sides, [0.0, 1.0], &[]), None);
}

#[test]
fn weights_return_in_steps_after_a_quarter_of_an_hour_without_changes() {
    let policy = Policy::default();
    let mut sides = [side("firetext", 0), side("mmg", 100)];
    for side in &mut sides {
        side.unchanged_seconds = Some(899.0);
    }
    assert_eq!(policy.toward_rest(&sides, &[]), None);
    for expected in [[10, 90], [20, 80], [30, 70], [40, 60], [49, 51]] {
        for side in &mut sides {
            side.unchanged_seconds = Some(900.0);
        }
        let step = policy.toward_rest(&sides, &[fall("firetext", 900.0)]).unwrap();
        assert_eq!(
            (step.rule, step.fell, step.weights),
            (Rule::RestingPoints, None, expected)
        );
        (sides[0].priority, sides[1].priority) = (expected[0], expected[1]);
    }
    assert_eq!(policy.toward_rest(&sides, &[]), None, "they are there");
    sides[0].priority = 0;
    sides[0].before = tally(5, 5);
    assert_eq!(policy.toward_rest(&sides, &[]), None, "not onto one that fails");
}

#[test]
fn turning_against_the_other_one_takes_longer_each_time() {
    let policy = Policy::default();
    let mut sides = [side("firetext", 0), side("mmg", 100)];
    sides[1].lately = tally(50, 50);
    let falls = |count: usize, ago: f64| -> Vec<Fall> {
        let name = |n: usize| {
            if (count - n).is_multiple_of(2) {
                "mmg"
            } else {
                "firetext"
            }
        };
        (0..count).map(|n| fall(name(n), ago)).collect()
    };
    for (count, pause) in [(1, 60.0), (3, 240.0), (5, 900.0), (41, 900.0)] {
        assert_eq!(policy.after_errors(&sides, &falls(count, pause - 0.1)), None, "{count}");
        assert_eq!(
            weights(policy.after_errors(&sides, &falls(count, pause))),
            Some([100, 0]),
            "{count}"
        );
    }
    // A return waits longer as well.
    sides[1].lately = tally(50, 0);
    assert_eq!(policy.toward_rest(&sides, &falls(3, 3_599.0)), None);
    assert_eq!(weights(policy.toward_rest(&sides, &falls(3, 3_600.0))), Some([10, 90]));
}

fn any_side(identifier: &'static str) -> impl Strategy<Value = Watched> {
    let tallies = || (0i64..300).prop_flat_map(|requests| (0..=requests, 0..=requests, Just(requests)));
    let counted = |(a, b, requests): (i64, i64, i64)| Tally {
        requests,
        errors: a.max(b),
        faults: a.min(b),
    };
    let unchanged = proptest::option::of(0.0..20_000.0);
    (tallies(), tallies(), unchanged, any::<bool>()).prop_map(move |(lately, before, unchanged_seconds, pinned)| {
        Watched {
            unchanged_seconds,
            lately: counted(lately),
            before: counted(before),
            pinned,
            ..side(identifier, 0)
        }
    })
}

fn any_pair() -> impl Strategy<Value = [Watched; 2]> {
    (any_side("firetext"), any_side("mmg"), 0..=100).prop_map(|(firetext, mmg, weight)| {
        let (first, second) = (weight, 100 - weight);
        [
            Watched {
                priority: first,
                ..firetext
            },
            Watched {
                priority: second,
                ..mmg
            },
        ]
    })
}

fn any_falls() -> impl Strategy<Value = Vec<Fall>> {
    let one = (any::<bool>(), 0.0..20_000.0).prop_map(|(first, ago)| fall(if first { "firetext" } else { "mmg" }, ago));
    proptest::collection::vec(one, 0..20).prop_map(|mut falls: Vec<Fall>| {
        falls.sort_by(|a, b| b.seconds_ago.total_cmp(&a.seconds_ago));
        falls
    })
}

proptest! {
    #[test]
    fn weights_always_add_up_and_only_one_in_trouble_beside_one_that_is_not_falls(
        sides in any_pair(), falls in any_falls(), slow in [0.0..0.3, 0.0..0.3],
    ) {
        let policy = Policy::default();
        let decisions = [
            policy.after_errors(&sides, &falls),
            policy.after_slowness(&sides, slow, &falls),
            policy.toward_rest(&sides, &falls),
        ];
        for decided in decisions.into_iter().flatten() {
            prop_assert!(decided.weights.iter().all(|weight| (0..=100).contains(weight)), "{decided:?}");
            prop_assert_eq!(decided.weights.iter().sum::<i32>(), 100);
            prop_assert!(decided.weights[0] != sides[0].priority, "a move moves something");
            prop_assert!(!sides[0].pinned && !sides[1].pinned, "what people set stays");
            if let Some(fell) = decided.fell {
                let other = &sides[1 - fell];
                prop_assert!(decided.weights[fell] < sides[fell].priority);
                prop_assert!(!policy.is_failing(other), "traffic goes to one that fails");
                let step = sides[fell].priority - decided.weights[fell];
                prop_assert!(step <= policy.step || decided.rule == Rule::Outage);
            }
        }
        if sides.iter().all(|side| policy.is_failing(side)) {
            prop_assert_eq!(policy.after_errors(&sides, &falls), None);
        }
        if slow.iter().all(|share| policy.is_slow(*share)) {
            prop_assert_eq!(policy.after_slowness(&sides, slow, &falls), None);
        }
    }
}

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

    /// As they are at this second, with what was counted of each lately and in a minute.
    fn sides(&self, now: usize, counted: [[Tally; 2]; 2]) -> [Watched; 2] {
        [0, 1].map(|i| Watched {
            unchanged_seconds: self.changed_at.map(|at| (now - at) as f64),
            lately: counted[i][0],
            before: counted[i][1],
            ..side(["firetext", "mmg"][i], self.weights[i])
        })
    }

    fn remembered(&self, now: usize) -> Vec<Fall> {
        let falls = self.falls.iter();
        let falls = falls.map(|(at, whose)| fall(["firetext", "mmg"][*whose], (now - at) as f64));
        falls.filter(|fall| fall.seconds_ago < MEMORY.as_secs_f64()).collect()
    }

    /// What is decided at this second: after errors at once, after slowness each minute, about a return every five.
    fn second(&mut self, now: usize, counted: [[Tally; 2]; 2], slow: [f64; 2]) {
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
        let counted = self
            .counted
            .each_ref()
            .map(|counted| [sum(counted, 3), sum(counted, 60)]);
        self.course.second(now, counted, [0.0, 0.0]);
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
fn counts(whose: Option<usize>, is_outage: bool) -> [[Tally; 2]; 2] {
    [0, 1].map(|i| match (whose == Some(i), is_outage) {
        (false, _) => [tally(100, 0), tally(2_000, 0)],
        (true, false) => [tally(100, 2), tally(2_000, 51)],
        (true, true) => [tally(100, 100), tally(2_000, 100)],
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
