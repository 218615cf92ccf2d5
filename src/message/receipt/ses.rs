//! What SES says about an email: the envelope of SNS with a JSON text inside.
//! Recipients, headers and the mail servers' answers are never read, so that they cannot be stored.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{CallbackError, Provider, Receipt, Verdict, bounded};

/// Name of the message tag that carries our notification id to SES and back. Recipients do not see it. Events that a
/// configuration set publishes bring it back; plain notifications do not.
pub const REFERENCE_TAG: &str = "notification_id";

/// What an SNS envelope asks of us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The email of that MessageId was delivered or bounced.
    Receipt {
        reference: String,
        /// Our own id, where the event brings its tag back.
        notification_id: Option<Uuid>,
        /// When SES took the email; tells a receipt that overtook our commit from one about a stranger's email.
        sent_at: Option<DateTime<Utc>>,
        receipt: Receipt,
    },
    /// The recipient reported the email; its status stays as it is.
    Complaint(Complaint),
    /// SNS wants to see that the endpoint is ours: fetch the URL, if the topic is one of ours.
    SubscriptionConfirmation { topic: String, subscribe_url: String },
}

/// One row for `complaints`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complaint {
    /// MessageId of the email.
    pub reference: String,
    pub feedback_id: Option<String>,
    pub complaint_type: Option<String>,
    pub at: Option<DateTime<Utc>>,
}

/// What a bounce type means: anything but `Permanent`, in exactly this spelling, may pass.
#[must_use]
pub fn bounce_verdict(bounce_type: &str) -> Verdict {
    match bounce_type {
        "Permanent" => Verdict::Permanent,
        _ => Verdict::Temporary,
    }
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "Type")]
    kind: Option<String>,
    #[serde(rename = "Message")]
    message: Option<String>,
    #[serde(rename = "TopicArn")]
    topic: Option<String>,
    #[serde(rename = "SubscribeURL")]
    subscribe_url: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    notification_type: String,
    mail: Mail,
    bounce: Option<Bounce>,
    delivery: Option<Delivery>,
    complaint: Option<ComplaintBody>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mail {
    message_id: String,
    timestamp: Option<String>,
    #[serde(default)]
    tags: HashMap<String, Vec<String>>,
}

impl Mail {
    fn notification_id(&self) -> Option<Uuid> {
        self.tags.get(REFERENCE_TAG)?.first()?.parse().ok()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bounce {
    bounce_type: String,
    bounce_sub_type: Option<String>,
    timestamp: Option<String>,
}

#[derive(Deserialize)]
struct Delivery {
    timestamp: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ComplaintBody {
    complaint_feedback_type: Option<String>,
    feedback_id: Option<String>,
    timestamp: Option<String>,
}

/// Reads one SNS request body. Its signature is the caller's business: it needs the network.
pub fn parse(body: &[u8]) -> Result<Notice, CallbackError> {
    let envelope: Envelope = serde_json::from_slice(body)
        .map_err(|_| CallbackError::Unreadable("SES", "the body is not an SNS envelope"))?;
    if envelope.kind.as_deref() == Some("SubscriptionConfirmation") {
        return match (envelope.topic, envelope.subscribe_url) {
            (Some(topic), Some(subscribe_url)) => Ok(Notice::SubscriptionConfirmation { topic, subscribe_url }),
            _ => Err(CallbackError::Unreadable("SES", "the subscription has no topic or URL")),
        };
    }
    let message = envelope
        .message
        .ok_or(CallbackError::Unreadable("SES", "the envelope has no Message"))?;
    let message: Message = serde_json::from_str(&message)
        .map_err(|_| CallbackError::Unreadable("SES", "the Message is not an SES notification"))?;
    read_message(message)
}

fn read_message(message: Message) -> Result<Notice, CallbackError> {
    let notification_id = message.mail.notification_id();
    let reference = message.mail.message_id;
    let sent_at = time(message.mail.timestamp);
    match (message.notification_type.as_str(), message.bounce, message.complaint) {
        ("Delivery", ..) => Ok(Notice::Receipt {
            reference,
            notification_id,
            sent_at,
            receipt: Receipt {
                at: message.delivery.and_then(|delivery| time(delivery.timestamp)),
                ..Receipt::new(Provider::Ses, Verdict::Delivered, "Delivery")
            },
        }),
        ("Bounce", Some(bounce), _) => Ok(Notice::Receipt {
            reference,
            notification_id,
            sent_at,
            receipt: bounced(bounce),
        }),
        ("Complaint", _, Some(complaint)) => Ok(Notice::Complaint(Complaint {
            reference,
            feedback_id: complaint.feedback_id,
            complaint_type: complaint.complaint_feedback_type,
            at: time(complaint.timestamp),
        })),
        _ => Err(CallbackError::Unreadable(
            "SES",
            "neither a delivery, a bounce nor a complaint",
        )),
    }
}

fn bounced(bounce: Bounce) -> Receipt {
    let code = match &bounce.bounce_sub_type {
        Some(sub_type) => format!("{}/{sub_type}", bounce.bounce_type),
        None => bounce.bounce_type.clone(),
    };
    Receipt {
        detailed_code: Some(bounded(&code)),
        at: time(bounce.timestamp),
        ..Receipt::new(Provider::Ses, bounce_verdict(&bounce.bounce_type), "Bounce")
    }
}

fn time(text: Option<String>) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(&text?)
        .ok()
        .map(|time| time.with_timezone(&Utc))
}
