//! Sends one text and follows it until the phone has it, it has failed, or three days have passed.

use herald_engine::{Failure, Queue, Run, Workflow};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Tools, follow::follow, queues, tools::SendPlan};

#[derive(Debug, Serialize, Deserialize)]
pub struct DeliverSms {
    pub id: Uuid,
}

impl Workflow for DeliverSms {
    type Tools = Tools;
    const NAME: &'static str = "deliver_sms";
    const QUEUE: Queue = queues::SEND_SMS;

    async fn run(self, run: &mut Run, tools: &Tools) -> Result<(), Failure> {
        let age = run.age();
        let sent = run
            .attempt_or(
                "send",
                &tools.sending,
                |past| tools.send_text(self.id, age, past),
                SendPlan::not_taken,
            )
            .await;
        follow(run, tools, self.id, sent).await
    }
}
