//! What happens by the clock. Names are data in the database: frozen. A beat starts the runs; workers play them.

use chrono_tz::Tz;
use herald_engine::{CatchUp, NewRun, Schedule};

use crate::keep_house::KeepHouse;

/// Every schedule that a beat keeps.
pub fn all() -> Vec<Schedule> {
    vec![Schedule {
        name: "housekeeping",
        cron: "0 * * * *",
        zone: Tz::UTC,
        catch_up: CatchUp::Latest,
        start: |_| NewRun::of(&KeepHouse {}),
    }]
}
