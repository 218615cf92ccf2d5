//! Prepares the engine's tables for the days ahead, and takes away what is over: days of them, events that services could
//! not be told of, and the addresses in requests to unsubscribe. It runs by the clock; see [`crate::schedule`].

use herald_engine::{Failure, Queue, Run, Workflow};
use serde::{Deserialize, Serialize};

use crate::{Tools, queues, retry};

/// How far ahead partitions are made: the time that may pass without any housekeeping.
pub const DAYS_AHEAD: u16 = 7;

#[derive(Debug, Serialize, Deserialize)]
pub struct KeepHouse {}

impl Workflow for KeepHouse {
    type Tools = Tools;
    const NAME: &'static str = "keep_house";
    const QUEUE: Queue = queues::PERIODIC;

    async fn run(self, run: &mut Run, tools: &Tools) -> Result<(), Failure> {
        run.attempt("make partitions", &retry::housekeeping(), |_| {
            tools.make_partitions(DAYS_AHEAD)
        })
        .await?;
        run.attempt("tidy", &retry::housekeeping(), |_| tools.tidy()).await?;
        run.attempt("tidy callbacks", &retry::housekeeping(), |_| tools.tidy_callbacks())
            .await?;
        run.attempt("archive unsubscribe requests", &retry::housekeeping(), |_| {
            tools.archive_unsubscribe_requests()
        })
        .await?;
        Ok(())
    }
}
