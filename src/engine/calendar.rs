//! Which instants a cron expression means in a time zone, and what happens to them when the clocks change.
//!
//! The expression is only ever matched against times without a zone; which instants those are is decided here, by
//! rules that hold in every zone. See [`Calendar`].

use std::iter;

use chrono::{DateTime, NaiveDateTime, TimeZone, Timelike, Utc};
use chrono_tz::{GapInfo, OffsetComponents, Tz};
use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};

/// A cron expression of five fields (minute, hour, day of month, month, day of week) or six (second first), in a zone.
///
/// Days of the week are 0 to 7 or names; 0 and 7 are Sunday. Where both day fields are restricted, either is enough.
/// `L` is the last day of a month.
///
/// What happens when the clocks change follows from the hour field:
/// - **Given hours** (`30 1 * * *`, `0 0,12 * * *`, `0 9-17 * * *`) are times of the local clock. A time that does not
///   exist means the first instant after the gap; a time that comes twice means its first coming. So in Europe/London
///   01:30 is 01:00 UTC on the day in spring, and 00:30 UTC on the day in autumn. Two times that become one instant
///   are one.
/// - **Every hour, or every so many** (the field begins with `*`: `*/15 * * * *`, `0 * * * *`, `0 */2 * * *`) means
///   even distances in real time, so the time of day is counted without summer time: in Europe/London that is UTC.
///   The days are those of the local calendar.
#[derive(Debug, Clone)]
pub struct Calendar {
    zone: Tz,
    whole: Cron,
    /// The time of day alone, where it is counted without summer time.
    every: Option<Cron>,
}

impl Calendar {
    /// # Errors
    /// In words, when the expression does not parse or no instant ever matches it.
    pub fn new(expression: &str, zone: Tz) -> Result<Self, String> {
        let fields: Vec<&str> = expression.split_whitespace().collect();
        let time = match fields.len() {
            5 => format!("0 {} {}", fields[0], fields[1]),
            6 => fields[..3].join(" "),
            n => return Err(format!("{expression:?} has {n} fields, not five or six")),
        };
        let whole = parse(expression)?;
        whole
            .find_next_occurrence(&DateTime::UNIX_EPOCH.naive_utc(), true)
            .map_err(|_| format!("{expression:?} never comes"))?;
        let hours = fields[fields.len() - 4];
        let every = hours.starts_with('*').then(|| parse(&format!("{time} * * *")));
        let every = every.transpose()?;
        Ok(Self { zone, whole, every })
    }

    /// The instants after `after` and up to `until`, oldest first, none twice.
    pub fn between(&self, after: DateTime<Utc>, until: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> {
        // Instants are whole seconds, so a fraction of one changes nothing about what comes after it.
        let from = after.with_nanosecond(0).unwrap_or(after);
        let instants: Box<dyn Iterator<Item = DateTime<Utc>>> = match &self.every {
            Some(every) => Box::new(self.evenly(every, from, until)),
            None => Box::new(self.by_the_local_clock(from, until)),
        };
        let mut last = after;
        instants.filter(move |instant| {
            let new = *instant > last;
            last = last.max(*instant);
            new
        })
    }

    fn by_the_local_clock(&self, after: DateTime<Utc>, until: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> {
        let local = after.with_timezone(&self.zone).naive_local();
        matches_after(&self.whole, local)
            .map(|local| self.instant_of(local))
            .take_while(move |instant| *instant <= until)
    }

    fn instant_of(&self, local: NaiveDateTime) -> DateTime<Utc> {
        self.zone
            .from_local_datetime(&local)
            .earliest()
            .or_else(|| GapInfo::new(&local, &self.zone)?.end)
            .map_or_else(|| local.and_utc(), |instant| instant.to_utc())
    }

    fn evenly(&self, every: &Cron, after: DateTime<Utc>, until: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> {
        let ahead = self.zone.offset_from_utc_datetime(&after.naive_utc()).base_utc_offset();
        let times = matches_after(every, after.naive_utc() + ahead);
        let instants = times.map(move |time| (time, (time - ahead).and_utc()));
        // The end comes first: of an expression for leap days, the next match may be years away.
        instants
            .take_while(move |(_, instant)| *instant <= until)
            .filter_map(|(time, instant)| {
                let today = instant.with_timezone(&self.zone).date_naive();
                let matches = self.whole.is_time_matching(&today.and_time(time.time()));
                matches.unwrap_or(false).then_some(instant)
            })
    }
}

fn parse(expression: &str) -> Result<Cron, String> {
    CronParser::builder()
        .seconds(Seconds::Optional)
        .year(Year::Disallowed)
        .build()
        .parse(expression)
        .map_err(|error| format!("{expression:?}: {error}"))
}

/// The matches of an expression after a time, as if no clock ever changed.
fn matches_after(cron: &Cron, after: NaiveDateTime) -> impl Iterator<Item = NaiveDateTime> {
    let next = |time: &NaiveDateTime| cron.find_next_occurrence(time, false).ok();
    iter::successors(next(&after), next)
}

#[cfg(test)]
mod tests {
    use chrono::{Datelike, TimeDelta};
    use chrono_tz::{Australia::Lord_Howe, Europe::London, UTC};
    use proptest::prelude::*;

    use super::*;

    fn at(instant: &str) -> DateTime<Utc> {
        instant.parse().unwrap()
    }

    fn minutes(after: DateTime<Utc>, until: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> {
        let next = |minute: &DateTime<Utc>| Some(*minute + TimeDelta::minutes(1));
        iter::successors(next(&after), next).take_while(move |minute| *minute <= until)
    }

    /// The rule for a given time of day, said again minute by minute.
    fn means(zone: Tz, hour: u32, minute: u32, instant: DateTime<Utc>) -> bool {
        let local = |instant: DateTime<Utc>| instant.with_timezone(&zone).naive_local();
        let (now, before) = (local(instant), local(instant - TimeDelta::minutes(1)));
        let shown = |time: NaiveDateTime| (time.hour(), time.minute()) == (hour, minute);
        let step = (now - before).num_minutes();
        let in_the_gap = (1..step).any(|skipped| shown(before + TimeDelta::minutes(skipped)));
        let again =
            || minutes(instant - TimeDelta::hours(3), instant - TimeDelta::minutes(1)).any(|past| local(past) == now);
        (shown(now) && !again()) || in_the_gap
    }

    proptest! {
        #[test]
        fn a_given_time_comes_once_a_day_where_the_local_clock_shows_it_first_or_has_jumped_over_it(
            hour in 0u32..4, minute in 0u32..60, zone in prop::sample::select(vec![London, UTC, Lord_Howe]), day in 0i64..730,
        ) {
            let after = at("2026-01-01T12:00:00Z") + TimeDelta::days(day);
            let until = after + TimeDelta::days(2);
            let calendar = Calendar::new(&format!("{minute} {hour} * * *"), zone).unwrap();
            let found: Vec<_> = calendar.between(after, until).collect();
            let expected: Vec<_> = minutes(after, until).filter(|instant| means(zone, hour, minute, *instant)).collect();
            prop_assert_eq!(&found, &expected);
            prop_assert_eq!(found.len(), 2);
        }

        #[test]
        fn every_so_many_minutes_or_hours_come_at_even_distances(
            (expression, distance) in prop::sample::select(vec![
                ("* * * * *", 1), ("*/15 * * * *", 15), ("7 * * * *", 60), ("0 */2 * * *", 120), ("30 */6 * * *", 360),
            ]),
            zone in prop::sample::select(vec![London, UTC, Lord_Howe]),
            start in at("2026-03-27T00:00:00Z").timestamp()..at("2026-10-27T00:00:00Z").timestamp(),
        ) {
            let start = DateTime::from_timestamp(start, 0).unwrap();
            let calendar = Calendar::new(expression, zone).unwrap();
            let found: Vec<_> = calendar.between(start, start + TimeDelta::days(2)).collect();
            prop_assert!(found.windows(2).all(|two| two[1] - two[0] == TimeDelta::minutes(distance)));
            prop_assert_eq!(found.len() as i64, 2 * 24 * 60 / distance);
        }

        #[test]
        fn where_a_look_ends_and_the_next_begins_changes_nothing(
            expression in prop::sample::select(vec![
                "30 1 * * *", "*/10 1 * * *", "*/20 * * * *", "0 */4 * * 0", "59 59 23 L * *", "0 0 1,2 25,29 * *",
            ]),
            start in prop::sample::select(vec!["2026-03-28T12:00:00Z", "2026-10-24T12:00:00Z"]),
            cuts in prop::collection::vec(0i64..86_400_000, 0..20),
        ) {
            let calendar = Calendar::new(expression, London).unwrap();
            let (after, until) = (at(start), at(start) + TimeDelta::days(1));
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| after + TimeDelta::milliseconds(cut)).collect();
            cuts.extend([after, until]);
            cuts.sort();
            let whole: Vec<_> = calendar.between(after, until).collect();
            let pieces: Vec<_> = cuts.windows(2).flat_map(|two| calendar.between(two[0], two[1]).collect::<Vec<_>>()).collect();
            prop_assert_eq!(whole, pieces);
        }
    }

    #[test]
    fn the_days_of_an_even_schedule_are_those_of_the_local_calendar() {
        let calendar = Calendar::new("*/30 * 1 7 *", London).unwrap();
        let found: Vec<_> = calendar
            .between(at("2026-06-30T00:00:00Z"), at("2026-07-03T00:00:00Z"))
            .collect();
        assert_eq!(found.len(), 48);
        assert_eq!(found[0], at("2026-06-30T23:00:00Z"));
        assert!(found.iter().all(|instant| instant.with_timezone(&London).day() == 1));
    }
}
