//! The second half of every delivery: what became of the send, then receipts until the message is settled, or three
//! days have passed.

use std::time::Duration;

use herald_engine::{Attempted, Failure, Run, StepFailure};
use herald_message::status::Status;
use herald_store::notifications::Sent;
use uuid::Uuid;

use crate::{
    Tools,
    effects::{Cancel, GiveUp, MarkSending},
    receipts::ReceiptSignal,
    tools::{ProviderReference, SendPlan},
};

/// How long after its creation a message without a receipt fails.
pub(crate) const HOURS_72: Duration = Duration::from_secs(72 * 60 * 60);

pub async fn follow(
    run: &mut Run,
    tools: &Tools,
    id: Uuid,
    sent: Result<Attempted<SendPlan, ProviderReference>, Failure>,
) -> Result<(), Failure> {
    let sent = match sent {
        Err(Failure::Step(why)) => {
            match why {
                StepFailure::Cancelled { .. } => run.commit("given up", Cancel { id })?,
                // As its service wished: nobody has to look at this run.
                StepFailure::Expired { .. } => return run.commit("given up", tools.time_is_over(id)),
                _ => run.commit("given up", GiveUp { id })?,
            }
            return Err(why.into());
        }
        sent => sent?,
    };
    match sent.plan {
        SendPlan::NotNeeded => Ok(()),
        SendPlan::Pretend { sent, receipts } => {
            run.commit("sending", MarkSending(sent))?;
            receipts
                .into_iter()
                .try_for_each(|receipt| run.commit("settled", tools.settle(id, receipt, None)))
        }
        SendPlan::Send(plan) => {
            let billable_units = Some(plan.billable_units);
            let reference = sent.answer.flatten();
            let sent_by = plan.sent_by.clone();
            run.commit("sending", MarkSending(Sent { reference, ..plan }))?;
            until_settled(run, tools, id, &sent_by, billable_units).await
        }
    }
}

/// A provider that was given up for another one may say at last that it could not deliver either: that is not the end of
/// what the other one has taken.
async fn until_settled(
    run: &mut Run,
    tools: &Tools,
    id: Uuid,
    sent_by: &str,
    billable_units: Option<i32>,
) -> Result<(), Failure> {
    loop {
        let patience = run.left_of_age(HOURS_72);
        let receipt = match run.wait_for(patience).await {
            Ok(Some(ReceiptSignal(receipt))) => receipt,
            Ok(None) => return run.commit("timed out", tools.time_is_over(id)),
            // What a provider has taken cannot be called back; nobody follows it any more.
            Err(cancelled @ Failure::Step(StepFailure::Cancelled { .. })) => {
                run.commit("timed out", tools.let_go(id))?;
                return Err(cancelled);
            }
            Err(failure) => return Err(failure),
        };
        let has_arrived = receipt.status == Some(Status::Delivered);
        if receipt.provider.name() != sent_by && !has_arrived {
            continue;
        }
        let is_final = receipt.status != Some(Status::Pending);
        run.commit("settled", tools.settle(id, receipt, billable_units))?;
        if is_final {
            return Ok(());
        }
    }
}
