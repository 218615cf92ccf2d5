//! Looks after the weights of the providers of texts, by the clock: takes a step from one whose deliveries are slow, and
//! returns to the resting points. What errors say is decided where they happen, at once; see [`crate::tools`].

use herald_engine::{Failure, Queue, Run, Workflow};
use serde::{Deserialize, Serialize};

use crate::{Tools, queues, retry};

#[derive(Debug, Serialize, Deserialize)]
pub struct SwitchProviders {
    pub occasion: Occasion,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Occasion {
    SlowDelivery,
    RestingPoints,
}

impl Workflow for SwitchProviders {
    type Tools = Tools;
    const NAME: &'static str = "switch_providers";
    const QUEUE: Queue = queues::PERIODIC;

    async fn run(self, run: &mut Run, tools: &Tools) -> Result<(), Failure> {
        let policy = &retry::until_the_next();
        let moved = match self.occasion {
            Occasion::SlowDelivery => {
                run.attempt("leave a slow one", policy, |_| tools.leave_a_slow_provider())
                    .await
            }
            Occasion::RestingPoints => run.attempt("tend back", policy, |_| tools.tend_back()).await,
        };
        match moved {
            Err(Failure::Step(why)) => {
                tracing::warn!(%why, "left it to the next minute");
                Ok(())
            }
            moved => moved.map(drop),
        }
    }
}
