//! What SES says about an email: a JSON text in an envelope of SNS.
//! Recipients, headers and the mail servers' answers are never read, so that they cannot be stored.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{CallbackError, LONGEST_NAME, Provider, Receipt, Verdict, bounded, bounded_to, sns::Envelope};

/// Name of the message tag that carries our notification id to SES and back. Recipients do not see it. Events that a
/// configuration set publishes bring it back; plain notifications do not.
pub const REFERENCE_TAG: &str = "notification_id";

/// What an event of SES asks of us.
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
}

/// One row for `complaints`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complaint {
    /// MessageId of the email.
    pub reference: String,
    /// Our own id, where the event brings its tag back.
    pub notification_id: Option<Uuid>,
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
#[serde(rename_all = "camelCase")]
struct Message {
    /// In plain notifications.
    notification_type: Option<String>,
    /// In the events of a configuration set, instead.
    event_type: Option<String>,
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

/// Reads the event in an envelope that is a notification.
pub fn read(envelope: &Envelope) -> Result<Notice, CallbackError> {
    let message = envelope
        .message
        .as_deref()
        .ok_or(CallbackError::Unreadable("SES", "the envelope has no Message"))?;
    let message: Message = serde_json::from_str(message)
        .map_err(|_| CallbackError::Unreadable("SES", "the Message is not an SES notification"))?;
    read_message(message)
}

fn read_message(message: Message) -> Result<Notice, CallbackError> {
    let notification_id = message.mail.notification_id();
    let reference = bounded_to(LONGEST_NAME, &message.mail.message_id);
    let sent_at = time(message.mail.timestamp);
    let kind = message.notification_type.or(message.event_type).unwrap_or_default();
    match (kind.as_str(), message.bounce, message.complaint) {
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
            notification_id,
            feedback_id: complaint.feedback_id.map(|id| bounded_to(LONGEST_NAME, &id)),
            complaint_type: complaint.complaint_feedback_type.map(|kind| bounded(&kind)),
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

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::{Notice, REFERENCE_TAG, read};
    use crate::receipt::sns::Envelope;

    #[test]
    fn an_event_of_a_configuration_set_brings_our_id_back() {
        let id = Uuid::from_u128(7);
        let event = json!({
            "eventType": "Delivery",
            "mail": {"messageId": "0100\u{0}-000000", "tags": {REFERENCE_TAG: [id.to_string()]}},
            "delivery": {"timestamp": "2026-11-20T10:00:01.000Z"},
        });
        let envelope = json!({"Type": "Notification", "Message": event.to_string()});
        let envelope = Envelope::parse(envelope.to_string().as_bytes()).unwrap();
        let Ok(Notice::Receipt {
            reference,
            notification_id,
            ..
        }) = read(&envelope)
        else {
            panic!("it is a receipt")
        };
        assert_eq!((reference.as_str(), notification_id), ("0100-000000", Some(id)));
    }
}
