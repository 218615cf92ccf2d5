//! Applies a receipt that no delivery waits for: the delivery is over, or it was begun by another system.

use herald_engine::{Failure, Queue, Run, StepFailure, Workflow};
use herald_message::receipt::Receipt;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Tools, queues, retry};

#[derive(Debug, Serialize, Deserialize)]
pub struct SettleReceipt {
    pub id: Uuid,
    pub receipt: Receipt,
}

impl Workflow for SettleReceipt {
    type Tools = Tools;
    const NAME: &'static str = "settle_receipt";
    const QUEUE: Queue = queues::RECEIPTS;

    async fn run(self, run: &mut Run, tools: &Tools) -> Result<(), Failure> {
        let counted = run
            .attempt("count", &retry::reading(), |_| tools.fragments_of(self.id))
            .await;
        let units = match counted {
            Ok(counted) => counted.answer.flatten(),
            Err(cancelled @ Failure::Step(StepFailure::Cancelled { .. })) => return Err(cancelled),
            // The receipt counts all the same.
            Err(Failure::Step(why)) => {
                tracing::warn!(notification = %self.id, %why, "its fragments cannot be counted");
                None
            }
            Err(failure) => return Err(failure),
        };
        run.commit("settled", tools.settle(self.id, self.receipt, units))
    }
}
