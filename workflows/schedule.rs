//! What happens by the clock. Names are data in the database: frozen. A beat starts the runs; workers play them.

use chrono_tz::Tz;
use herald_engine::{CatchUp, Error, NewRun, Schedule};

use crate::{
    keep_house::KeepHouse,
    switch_providers::{Occasion, SwitchProviders},
    time_out_sending::TimeOutSending,
};

/// Every schedule that a beat keeps.
pub fn all() -> Vec<Schedule> {
    vec![
        Schedule {
            name: "housekeeping",
            cron: "0 * * * *",
            zone: Tz::UTC,
            catch_up: CatchUp::Latest,
            start: |_| NewRun::of(&KeepHouse {}),
        },
        Schedule {
            name: "timeout_sending_notifications",
            cron: "5 0 * * *",
            zone: Tz::UTC,
            catch_up: CatchUp::Latest,
            start: |_| NewRun::of(&TimeOutSending {}),
        },
        Schedule {
            name: "leave_a_slow_provider",
            cron: "* * * * *",
            zone: Tz::UTC,
            catch_up: CatchUp::Latest,
            start: |_| switch_providers(Occasion::SlowDelivery),
        },
        Schedule {
            name: "tend_providers_back",
            cron: "*/5 * * * *",
            zone: Tz::UTC,
            catch_up: CatchUp::Latest,
            start: |_| switch_providers(Occasion::RestingPoints),
        },
    ]
}

fn switch_providers(occasion: Occasion) -> Result<NewRun, Error> {
    NewRun::of(&SwitchProviders { occasion })
}
