//! The way in for delivery receipts. They are accepted durably before the provider is answered; what they mean is
//! decided by the delivery that waits for them, or, where none does, by a run of their own.

use herald_engine::{Client, Error, NewRun, NewSignal, Queue, Signal, Submission};
use herald_message::receipt::{Receipt, ses::Complaint};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{find_email::FindEmail, queues, record_complaint::RecordComplaint, settle_receipt::SettleReceipt};

/// A receipt on its way to the delivery that waits for it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReceiptSignal(pub Receipt);

impl Signal for ReceiptSignal {
    const NAME: &'static str = "receipt";
    const QUEUE: Queue = queues::RECEIPTS;
}

/// Accepts a receipt about a text. Returns after the commit, which concurrent callers share.
///
/// # Errors
/// As [`Client::submit`].
pub async fn sms(engine: &Client, notification_id: Uuid, receipt: Receipt) -> Result<(), Error> {
    accept(engine, notification_id, receipt).await
}

/// Accepts a receipt about an email. Where the event does not bring our id back, SES' own reference finds it.
///
/// # Errors
/// As [`Client::submit`].
pub async fn email(
    engine: &Client,
    ses_reference: String,
    notification_id: Option<Uuid>,
    receipt: Receipt,
) -> Result<(), Error> {
    if let Some(id) = notification_id {
        return accept(engine, id, receipt).await;
    }
    let key = format!("{ses_reference} {}", key(&receipt));
    let run = NewRun::of(&FindEmail {
        reference: ses_reference,
        receipt,
    })?
    .once(key);
    engine.submit(Submission::new().start(run)).await.map(drop)
}

/// Accepts a complaint about an email. `message_id` is that of the SNS message, which tells repetitions of a complaint
/// without a feedback id.
///
/// # Errors
/// As [`Client::submit`].
pub async fn complaint(engine: &Client, complaint: Complaint, message_id: Option<Uuid>) -> Result<(), Error> {
    let report = complaint.feedback_id.clone();
    let report = report
        .or_else(|| message_id.map(|id| id.to_string()))
        .unwrap_or_default();
    let key = format!("{} {report}", complaint.reference);
    let run = NewRun::of(&RecordComplaint { complaint })?.once(key);
    engine.submit(Submission::new().start(run)).await.map(drop)
}

async fn accept(engine: &Client, notification_id: Uuid, receipt: Receipt) -> Result<(), Error> {
    let signal = to_delivery(notification_id, receipt)?;
    engine.submit(Submission::new().signal(signal)).await.map(drop)
}

/// Duplicates have the same key, and the first one counts. A delivery that is over, or that another system began,
/// is settled by a run of the receipt's own.
pub(crate) fn to_delivery(notification_id: Uuid, receipt: Receipt) -> Result<NewSignal, Error> {
    let key = key(&receipt);
    let late = NewRun::of(&SettleReceipt {
        id: notification_id,
        receipt: receipt.clone(),
    })?;
    Ok(NewSignal::to(notification_id, key, &ReceiptSignal(receipt))?.or_start(late))
}

fn key(receipt: &Receipt) -> String {
    let code = receipt.detailed_code.as_deref().unwrap_or_default();
    format!("{} {} {code}", receipt.provider.name(), receipt.raw_status)
}
