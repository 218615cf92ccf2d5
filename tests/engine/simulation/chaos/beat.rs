//! A schedule, and beats that look at it now and then.

use chrono::DateTime;
use chrono_tz::UTC;
use herald_engine::{CatchUp, NewRun, Schedule};

use super::Chaos;
use crate::engine::simulation::story::{Act, Play};

/// The seconds between two instants of the schedule.
pub const EVERY: i64 = 20;

/// How many of the instants that one look finds fire.
pub const MOST: u32 = 2;

pub(super) fn schedule() -> Schedule {
    Schedule {
        name: "simulated",
        cron: "*/20 * * * * *",
        zone: UTC,
        catch_up: CatchUp::All { at_most: MOST },
        start: |_| NewRun::of(&scheduled()),
    }
}

/// What the schedule starts.
pub fn scheduled() -> Play {
    Play {
        acts: vec![Act::Note, Act::Sleep(5_000)],
    }
}

impl Chaos {
    /// A beat looks.
    pub(super) async fn look(&mut self) {
        self.tick().await;
        self.beat.look().await.unwrap();
        self.looks.push(DateTime::from_timestamp_micros(self.clock()).unwrap());
        self.tell("a beat looks".to_owned());
    }
}
