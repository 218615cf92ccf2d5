//! Settles, once a night, what nobody follows any more after three days: messages that another system began, or whose run
//! was put away by people because no worker could read it. A message with a run of its own times out by itself, to the
//! second.

use herald_engine::{Failure, Queue, Run, Workflow};
use serde::{Deserialize, Serialize};

use crate::{Tools, queues, retry};

#[derive(Debug, Serialize, Deserialize)]
pub struct TimeOutSending {}

impl Workflow for TimeOutSending {
    type Tools = Tools;
    const NAME: &'static str = "time_out_sending";
    const QUEUE: Queue = queues::PERIODIC;

    async fn run(self, run: &mut Run, tools: &Tools) -> Result<(), Failure> {
        run.attempt("time out", &retry::housekeeping(), |_| tools.time_out_sending())
            .await?;
        Ok(())
    }
}
