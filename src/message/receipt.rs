//! Delivery receipts: what a provider's callback says, and what it makes of a notification's status.
//! Pure. A `Receipt` is journaled, so it never holds a number, an address or free text of unbounded length.

pub mod firetext;
pub mod mmg;
pub mod ses;
pub mod sns;

use chrono::{DateTime, NaiveDateTime, TimeZone, Utc};
use chrono_tz::Europe::London;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::status::Status;

/// Longest provider text that a receipt keeps: `Permanent/OnAccountSuppressionList` is the longest real one.
const RAW_LIMIT: usize = 64;

/// Longest id of a provider's that is kept: those of SES have 60 characters.
const LONGEST_NAME: usize = 255;

/// Who says it. The text is the one of `notifications.sent_by`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    Firetext,
    Mmg,
    Ses,
}

impl Provider {
    /// The text of `sent_by` and `provider_details.identifier`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Firetext => "firetext",
            Self::Mmg => "mmg",
            Self::Ses => "ses",
        }
    }

    /// How messages for people spell it.
    #[must_use]
    pub const fn display_name(self) -> &'static str {
        match self {
            Self::Firetext => "Firetext",
            Self::Mmg => "MMG",
            Self::Ses => "SES",
        }
    }

    /// The provider with that `sent_by`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Firetext, Self::Mmg, Self::Ses]
            .into_iter()
            .find(|provider| provider.name() == name)
    }
}

/// What one provider status means, before the notification's own state is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Delivered,
    Pending,
    Temporary,
    Permanent,
    /// A status text that the provider never documented.
    Unknown,
}

impl Verdict {
    /// The status it stands for; none when unknown.
    #[must_use]
    pub const fn status(self) -> Option<Status> {
        match self {
            Self::Delivered => Some(Status::Delivered),
            Self::Pending => Some(Status::Pending),
            Self::Temporary => Some(Status::TemporaryFailure),
            Self::Permanent => Some(Status::PermanentFailure),
            Self::Unknown => None,
        }
    }
}

/// One delivery receipt, as it is journaled and sent to the run that waits for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    pub provider: Provider,
    /// None: the provider's status text is unknown.
    pub status: Option<Status>,
    pub raw_status: String,
    /// Firetext's `code`, MMG's `substatus`, `bounceType/bounceSubType` of SES.
    pub detailed_code: Option<String>,
    /// When the provider says that it happened.
    pub at: Option<DateTime<Utc>>,
}

impl Receipt {
    fn new(provider: Provider, verdict: Verdict, raw_status: &str) -> Self {
        Self {
            provider,
            status: verdict.status(),
            raw_status: bounded(raw_status),
            detailed_code: None,
            at: None,
        }
    }

    /// The provider's words for the detailed code, where it documented some.
    #[must_use]
    pub fn detail(&self) -> Option<&'static str> {
        let code = self.detailed_code.as_deref()?;
        match self.provider {
            Provider::Firetext => firetext::code(code).map(|(_, text)| text),
            Provider::Mmg => mmg::substatus(&self.raw_status, code),
            Provider::Ses => None,
        }
    }

    /// What is kept of the reason: the provider's code, and its words for it where it documented some.
    #[must_use]
    pub fn detailed_status(&self) -> Option<String> {
        let code = self.detailed_code.as_deref()?;
        Some(match self.detail() {
            Some(words) => format!("{code} {words}"),
            None => code.to_owned(),
        })
    }

    /// Firetext's code of a failure, where it never documented that one.
    #[must_use]
    pub fn unknown_code(&self) -> Option<&str> {
        let failed = self.provider == Provider::Firetext && self.status == Some(Status::PermanentFailure);
        let code = self.detailed_code.as_deref().filter(|_| failed);
        code.filter(|code| firetext::code(code).is_none())
    }

    /// Why an unknown status could not be understood, in Notify's words.
    #[must_use]
    pub fn unknown_status_error(&self) -> Option<String> {
        self.status.is_none().then(|| {
            format!(
                "{} callback failed: status {} not found.",
                self.provider.display_name(),
                self.raw_status
            )
        })
    }
}

/// A callback about one text message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmsCallback {
    /// The notification. None: the provider's reference is no UUID, so the receipt can never find one; it is
    /// answered like any other and dropped with a log line.
    pub notification_id: Option<Uuid>,
    pub receipt: Receipt,
}

/// A callback that is not understood; the answer is 400 and nothing is stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallbackError {
    /// Fields that are absent or empty, each named in a sentence of its own.
    #[error("{}", .0.join(", "))]
    Missing(Vec<String>),
    /// The body is not of the form that the provider uses.
    #[error("{0} callback failed: {1}")]
    Unreadable(&'static str, &'static str),
}

impl CallbackError {
    /// The value of `message` in the answer `{"result": "error", "message": …}`.
    #[must_use]
    pub fn message(&self) -> serde_json::Value {
        match self {
            Self::Missing(fields) => serde_json::json!(fields),
            Self::Unreadable(..) => serde_json::json!(self.to_string()),
        }
    }
}

/// The status that a receipt gives to a notification, or none when it changes nothing (it came before an email
/// was sent, or after the notification was settled).
///
/// `sent_by` is the provider that sent; where none is recorded yet it is the one that calls back. An unknown
/// status is a technical failure. A permanent failure is looked at twice: Firetext's code may say that it is
/// temporary, and without a known code a notification that was already pending has failed for the time being only.
#[must_use]
pub fn decide(current: Status, sent_by: Option<&str>, receipt: &Receipt) -> Option<Status> {
    let open = match receipt.provider {
        Provider::Ses => current.accepts_email_receipt(),
        Provider::Firetext | Provider::Mmg => current.accepts_receipt(),
    };
    if !open {
        return None;
    }
    let Some(status) = receipt.status else {
        return Some(Status::TechnicalFailure);
    };
    if receipt.provider == Provider::Ses || status != Status::PermanentFailure {
        return Some(status);
    }
    let by_firetext = sent_by.unwrap_or(receipt.provider.name()) == Provider::Firetext.name();
    let code = receipt
        .detailed_code
        .as_deref()
        .filter(|_| by_firetext)
        .and_then(firetext::code);
    Some(match code {
        Some((verdict, _)) => verdict.status().unwrap_or(status),
        None if current == Status::Pending => Status::TemporaryFailure,
        None => Status::PermanentFailure,
    })
}

/// Provider times are London wall-clock times. The hour that exists twice is taken as winter time, and so is the
/// one that does not exist. Anything unreadable is no time: it must not cost us the receipt.
fn london_time(text: &str) -> Option<DateTime<Utc>> {
    let local = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S").ok()?;
    let utc = London
        .from_local_datetime(&local)
        .latest()
        .map_or_else(|| local.and_utc(), |time| time.with_timezone(&Utc));
    Some(utc)
}

fn missing(provider: Provider, fields: &[(&str, bool)]) -> Result<(), CallbackError> {
    let missing: Vec<String> = fields
        .iter()
        .filter(|(_, present)| !present)
        .map(|(name, _)| format!("{} callback failed: {name} missing", provider.display_name()))
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(CallbackError::Missing(missing))
    }
}

fn bounded(text: &str) -> String {
    bounded_to(RAW_LIMIT, text)
}

/// Control characters have no place in a code or an id, and one of them, zero, none in the database.
fn bounded_to(most: usize, text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::{CallbackError, Receipt, decide, firetext, london_time, mmg};
    use crate::status::Status;

    fn time(text: &str) -> Option<String> {
        london_time(text).map(|time| time.to_rfc3339())
    }

    #[test]
    fn provider_times_are_london_times() {
        assert_eq!(
            time("2026-11-20 10:00:00").as_deref(),
            Some("2026-11-20T10:00:00+00:00")
        );
        assert_eq!(
            time("2026-07-20 10:00:00").as_deref(),
            Some("2026-07-20T09:00:00+00:00")
        );
        assert_eq!(
            time("2026-10-25 01:30:00").as_deref(),
            Some("2026-10-25T01:30:00+00:00")
        );
        assert_eq!(
            time("2026-03-29 01:30:00").as_deref(),
            Some("2026-03-29T01:30:00+00:00")
        );
        assert_eq!(time("2026-11-20T10:00:00Z"), None);
    }

    #[test]
    fn a_receipt_survives_its_journal() {
        let callback = mmg::parse(br#"{"CID":"x","status":4,"substatus":6}"#).unwrap();
        let json = serde_json::to_string(&callback.receipt).unwrap();
        assert_eq!(serde_json::from_str::<Receipt>(&json).unwrap(), callback.receipt);
        assert_eq!(callback.receipt.detail(), Some("Absent Subscriber"));
        assert_eq!(callback.notification_id, None);
    }

    #[test]
    fn the_reason_is_told_by_code_and_in_words_where_there_are_some() {
        let reason = |body: &str| mmg::parse(body.as_bytes()).unwrap().receipt.detailed_status();
        assert_eq!(
            reason(r#"{"CID":"x","status":4,"substatus":6}"#).as_deref(),
            Some("6 Absent Subscriber")
        );
        assert_eq!(
            reason(r#"{"CID":"x","status":4,"substatus":99}"#).as_deref(),
            Some("99")
        );
        assert_eq!(reason(r#"{"CID":"x","status":4}"#), None);
    }

    #[test]
    fn what_cannot_be_stored_is_left_out() {
        let receipt = firetext::parse(b"status=0%00&code=1%0001&reference=r").unwrap().receipt;
        assert_eq!(
            (receipt.raw_status.as_str(), receipt.detailed_code.as_deref()),
            ("0", Some("101"))
        );
    }

    #[test]
    fn a_long_status_is_cut_and_a_null_one_is_missing() {
        let body = format!("status={}&reference=r", "7".repeat(500));
        let receipt = firetext::parse(body.as_bytes()).unwrap().receipt;
        assert_eq!(receipt.raw_status.len(), 64);
        assert_eq!(decide(Status::Sending, None, &receipt), Some(Status::TechnicalFailure));
        assert!(matches!(
            mmg::parse(br#"{"CID":"x","status":null}"#),
            Err(CallbackError::Missing(_))
        ));
    }
}
