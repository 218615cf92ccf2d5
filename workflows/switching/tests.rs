//! The decisions, one by one as Notify makes them, and as properties of hours of arbitrary trouble.

mod hours;

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
        recent: tally(330, 0),
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
    // Also where little is sent: a few texts a second, or a minute.
    for (lately, recent, falls) in [
        (tally(2, 2), tally(4, 4), false),
        (tally(2, 2), tally(6, 5), false),
        (tally(2, 2), tally(5, 5), true),
    ] {
        (sides[0].lately, sides[0].recent, sides[0].before) = (lately, recent, tally(60, 5));
        let expected = falls.then_some([0, 100]);
        assert_eq!(weights(policy.after_errors(&sides, &[])), expected, "{recent:?}");
    }
    sides[0].recent = tally(0, 0);
    (sides[0].lately, sides[0].before) = (tally(0, 0), tally(5, 5));
    assert_eq!(weights(policy.after_errors(&sides, &[])), Some([0, 100]));
    // Refusals that may be the messages' fault are Notify's errors and no outage.
    sides[0].lately = Tally {
        requests: 30,
        errors: 30,
        faults: 0,
    };
    (sides[0].recent, sides[0].before) = (sides[0].lately, sides[0].lately);
    assert_eq!(policy.after_errors(&sides, &[]), None);
}

#[test]
fn one_that_was_well_until_ten_seconds_ago_is_not_well() {
    let mut side = side("ses", 100);
    assert!(is_well(&side));
    (side.recent, side.before) = (tally(10, 10), tally(60, 10));
    assert!(!is_well(&side));
    side.recent = tally(0, 0);
    assert!(is_well(&side), "nobody has asked since");
    side.before = tally(0, 0);
    assert!(!is_well(&side));
}

#[test]
fn while_the_other_fails_as_much_nothing_moves_though_little_is_sent() {
    let mut sides = at_rest();
    (sides[0].lately, sides[0].recent) = (tally(2, 2), tally(5, 5));
    (sides[1].lately, sides[1].recent) = (tally(0, 0), tally(4, 4));
    assert_eq!(Policy::default().after_errors(&sides, &[]), None);
}

#[test]
fn one_that_refused_us_takes_messages_again_after_a_minute_in_which_it_took_most() {
    let mut side = side("ses", 100);
    assert!(
        !takes_messages_again(&side, 59.9),
        "that minute began before it refused us"
    );
    assert!(takes_messages_again(&side, 60.0));
    // Beyond a quota nothing is a fault.
    side.before = Tally {
        errors: 500,
        ..tally(2_000, 0)
    };
    assert!(!takes_messages_again(&side, 3_600.0));
    side.before = tally(0, 0);
    assert!(!takes_messages_again(&side, 3_600.0), "nobody has asked");
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
    let counts = (tallies(), tallies(), tallies());
    (counts, unchanged, any::<bool>()).prop_map(move |((lately, recent, before), unchanged_seconds, pinned)| Watched {
        unchanged_seconds,
        lately: counted(lately),
        recent: counted(recent),
        before: counted(before),
        pinned,
        ..side(identifier, 0)
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
