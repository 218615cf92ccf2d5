//! What receipts say, in each provider's own form. Magic recipients decide a message's fate, as in Notify.

use chrono::{SecondsFormat, Utc};
use chrono_tz::Europe::London;
use herald_message::receipt::{Provider, ses::REFERENCE_TAG};
use serde_json::{Value, json};
use uuid::Uuid;

use super::Plan;
use crate::faults::Fault;
use crate::sns;

/// How a message ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Delivered,
    Pending,
    Temporary,
    Permanent,
    Complaint,
}

impl Fate {
    /// `…7700900003` is not reachable for now, `…7700900002` never.
    pub(crate) fn of_number(number: &str) -> Self {
        if number.ends_with("7700900003") {
            Self::Temporary
        } else if number.ends_with("7700900002") {
            Self::Permanent
        } else {
            Self::Delivered
        }
    }

    pub(crate) fn of_address(address: &str) -> Self {
        match address {
            "perm-fail@simulator.notify" => Self::Permanent,
            "temp-fail@simulator.notify" => Self::Temporary,
            "complaint@simulator.notify" => Self::Complaint,
            _ => Self::Delivered,
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "delivered" => Self::Delivered,
            "pending" => Self::Pending,
            "temporary" => Self::Temporary,
            "permanent" => Self::Permanent,
            "complaint" => Self::Complaint,
            _ => return None,
        })
    }
}

/// One receipt: the provider's status and its detailed code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stage {
    status: String,
    code: Option<String>,
}

/// A receipt as it is posted.
pub(super) struct Body {
    pub content_type: &'static str,
    pub content: String,
    pub is_sns: bool,
}

/// The receipts of one message in their natural order.
pub(super) fn stages(plan: &Plan, fault: &Fault) -> Vec<Stage> {
    let stage = |status: &str, code: Option<&str>| Stage {
        status: status.to_owned(),
        code: fault.receipt_code.as_deref().or(code).map(str::to_owned),
    };
    let fate = match fault
        .receipt_status
        .as_deref()
        .map(|word| (word, Fate::from_word(word)))
    {
        Some((raw, None)) => return vec![stage(raw, None)],
        Some((_, Some(fate))) => fate,
        None => plan.fate,
    };
    let mixed = fault.receipts_out_of_order;
    let mut stages = Vec::new();
    match (plan.provider, fate) {
        (Provider::Firetext, fate) => {
            if mixed || matches!(fate, Fate::Pending | Fate::Temporary) {
                stages.push(Stage {
                    status: "2".into(),
                    code: None,
                });
            }
            match fate {
                Fate::Pending => {}
                Fate::Temporary => stages.push(stage("1", Some("102"))),
                Fate::Permanent => stages.push(stage("1", None)),
                Fate::Delivered | Fate::Complaint => stages.push(stage("0", None)),
            }
        }
        (Provider::Mmg, Fate::Temporary) => stages.push(stage("4", Some("6"))),
        (Provider::Mmg, Fate::Permanent) => stages.push(stage("5", Some("52"))),
        (Provider::Mmg, _) => {
            if mixed {
                stages.push(stage("3", Some("2")));
            }
            stages.push(stage("3", Some("5")));
        }
        (Provider::Ses, Fate::Temporary) => stages.push(stage("Transient", Some("General"))),
        (Provider::Ses, Fate::Permanent) => stages.push(stage("Permanent", Some("General"))),
        (Provider::Ses, fate) => {
            stages.push(stage("Delivery", None));
            if fate == Fate::Complaint {
                stages.push(stage("Complaint", None));
            }
        }
    }
    stages
}

impl Stage {
    /// `certificate_url` is where SNS' signatures can be checked.
    pub(super) fn write(&self, plan: &Plan, certificate_url: &str) -> Body {
        match plan.provider {
            Provider::Firetext => self.firetext(plan),
            Provider::Mmg => self.mmg(plan),
            Provider::Ses => self.ses(plan, certificate_url),
        }
    }

    fn firetext(&self, plan: &Plan) -> Body {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("mobile", &plan.to)
            .append_pair("status", &self.status)
            .append_pair("reference", &plan.reference)
            .append_pair("time", &london_now());
        if let Some(code) = &self.code {
            form.append_pair("code", code);
        }
        Body {
            content_type: "application/x-www-form-urlencoded",
            content: form.finish(),
            is_sns: false,
        }
    }

    fn mmg(&self, plan: &Plan) -> Body {
        let mut json = json!({
            "reference": "mmg_reference",
            "CID": plan.reference,
            "MSISDN": plan.to,
            "status": self.status,
            "deliverytime": london_now(),
        });
        if let Some(code) = &self.code {
            json["substatus"] = json!(code);
        }
        Body {
            content_type: "application/json",
            content: json.to_string(),
            is_sns: false,
        }
    }

    fn ses(&self, plan: &Plan, certificate_url: &str) -> Body {
        let now = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        let mut message = json!({
            "mail": {
                "timestamp": now,
                "messageId": plan.reference,
                "source": plan.from,
                "destination": [plan.to],
            },
        });
        if let Some(tag) = &plan.tag {
            message["mail"]["tags"] = json!({ REFERENCE_TAG: [tag] });
        }
        let (kind, part, content) = self.ses_part(plan, &now);
        message["notificationType"] = json!(kind);
        message[part] = content;
        let envelope = json!({
            "Type": "Notification",
            "MessageId": Uuid::now_v7(),
            "TopicArn": sns::TOPIC,
            "Message": message.to_string(),
            "Timestamp": now,
        });
        let envelope = sns::signed(envelope, certificate_url);
        Body {
            // SNS posts its JSON as text.
            content_type: "text/plain; charset=UTF-8",
            content: envelope.to_string(),
            is_sns: true,
        }
    }

    fn ses_part(&self, plan: &Plan, now: &str) -> (&str, &'static str, Value) {
        let feedback_id = Uuid::now_v7();
        match self.status.as_str() {
            kind @ ("Transient" | "Permanent" | "Undetermined") => (
                "Bounce",
                "bounce",
                json!({
                    "bounceType": kind,
                    "bounceSubType": self.code,
                    "bouncedRecipients": [{"emailAddress": plan.to}],
                    "timestamp": now,
                    "feedbackId": feedback_id,
                }),
            ),
            "Complaint" => (
                "Complaint",
                "complaint",
                json!({
                    "complainedRecipients": [{"emailAddress": plan.to}],
                    "complaintFeedbackType": "abuse",
                    "timestamp": now,
                    "feedbackId": feedback_id,
                }),
            ),
            other => (
                other,
                "delivery",
                json!({"timestamp": now, "recipients": [plan.to], "smtpResponse": "250 ok"}),
            ),
        }
    }
}

fn london_now() -> String {
    Utc::now()
        .with_timezone(&London)
        .format("%Y-%m-%d %H:%M:%S")
        .to_string()
}
