//! Records that a recipient complained about an email, live or archived, and has its service told. The email's status stays as it is.

use herald_engine::{Failure, Queue, Run, Workflow};
use herald_message::receipt::ses::Complaint;
use herald_store::complaints::NewComplaint;
use serde::{Deserialize, Serialize};

use crate::{Tools, find_email::look_for, queues};

#[derive(Debug, Serialize, Deserialize)]
pub struct RecordComplaint {
    pub complaint: Complaint,
}

impl Workflow for RecordComplaint {
    type Tools = Tools;
    const NAME: &'static str = "record_complaint";
    const QUEUE: Queue = queues::RECEIPTS;

    async fn run(self, run: &mut Run, tools: &Tools) -> Result<(), Failure> {
        let complaint = self.complaint;
        let Some(subject) = look_for(run, || tools.complained_about(&complaint)).await? else {
            tracing::error!(reference = complaint.reference, "a complaint is about no email of ours");
            return Ok(());
        };
        let new = NewComplaint {
            id: run.id(),
            notification_id: subject.notification_id,
            service_id: subject.service_id,
            feedback_id: complaint.feedback_id,
            complaint_type: complaint.complaint_type,
            complaint_date: complaint.at,
        };
        run.commit("recorded", tools.record(new))
    }
}
