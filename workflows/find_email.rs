//! Finds the email that a receipt of SES is about, and hands the receipt to its delivery. The receipt may be faster
//! than the commit that records SES's reference; what nobody knows after minutes was not sent by us.

use herald_engine::{Failure, Queue, Run, Workflow};
use herald_message::receipt::Receipt;
use serde::{Deserialize, Serialize};

use crate::{Tools, queues, receipts, retry};

#[derive(Debug, Serialize, Deserialize)]
pub struct FindEmail {
    pub reference: String,
    pub receipt: Receipt,
}

impl Workflow for FindEmail {
    type Tools = Tools;
    const NAME: &'static str = "find_email";
    const QUEUE: Queue = queues::RECEIPTS;

    async fn run(self, run: &mut Run, tools: &Tools) -> Result<(), Failure> {
        let found = run
            .attempt("find", &retry::finding_email(), |_| tools.find_email(&self.reference))
            .await;
        match found {
            Ok(found) => {
                let id = found.answer.expect("a look-up always has its answer");
                run.signal("handed over", receipts::to_delivery(id, self.receipt)?)
            }
            Err(Failure::Step(why)) => {
                tracing::warn!(%why, "a receipt of SES is about no email of ours");
                Ok(())
            }
            Err(failure) => Err(failure),
        }
    }
}
