//! Sends one email and follows it until it is delivered, it has failed, or three days have passed.

use herald_engine::{Failure, Queue, Run, Workflow};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Tools, follow::follow, queues, retry};

#[derive(Debug, Serialize, Deserialize)]
pub struct DeliverEmail {
    pub id: Uuid,
}

impl Workflow for DeliverEmail {
    type Tools = Tools;
    const NAME: &'static str = "deliver_email";
    const QUEUE: Queue = queues::SEND_EMAIL;

    async fn run(self, run: &mut Run, tools: &Tools) -> Result<(), Failure> {
        let policy = retry::sending_emails(&tools.sending);
        let age = run.age();
        let sent = run
            .attempt("send", &policy, |past| tools.send_email(self.id, age, past))
            .await;
        follow(run, tools, self.id, sent).await
    }
}
