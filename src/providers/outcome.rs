//! What became of a send, and the one table that classifies it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Timing, certificate};

/// The provider took the message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The id that receipts will name, where it is not our own (SES: MessageId).
    pub reference: Option<String>,
    pub timing: Timing,
}

/// What the caller may do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The provider surely did not take it: try again, perhaps elsewhere.
    Refused,
    /// We are too fast: try again, after the time that was asked for.
    Throttled { after: Option<Duration> },
    /// The same message will be refused for ever.
    Never,
    /// It may have been taken: wait for a receipt before sending again.
    Unknown,
}

/// A send that did not end with the provider's yes. `reason` holds no personal data and may be shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{reason}")]
pub struct SendError {
    pub outcome: Outcome,
    /// HTTP status; 504 for a timeout of ours; none when there was no response at all.
    pub status: Option<u16>,
    pub reason: String,
    pub timing: Timing,
}

/// SES takes no more emails until the day is over, or the account is given more.
pub(crate) const DAILY_QUOTA: &str = "Request refused: daily quota exceeded";

/// Firetext does not know our key. It says so with a 200.
pub(crate) const UNKNOWN_KEY: &str = "Request refused: authentication error";

/// Nothing was sent to SES, since there is nothing to sign it with.
pub(crate) const NO_CREDENTIALS: &str = "Request failed: credentials could not be had";

impl SendError {
    /// Whether the trouble is the provider's own, or that of our way to it: no answer, a 5xx, also one that says when to
    /// come back, an answer that nobody can read, or our credentials are refused. Whatever else it refuses may be the
    /// message's fault, or that of our pace.
    #[must_use]
    pub fn is_fault(&self) -> bool {
        match self.outcome {
            Outcome::Unknown => true,
            Outcome::Refused => self.is_of_credentials() || self.status.is_none_or(|status| status >= 500),
            Outcome::Throttled { after } => after.is_some() && self.status == Some(503),
            Outcome::Never => false,
        }
    }

    /// Whether it goes on until a person does something: credentials are refused or missing, a quota is used up, or the
    /// provider shows a certificate that is not trusted, such as one that has expired.
    #[must_use]
    pub fn needs_a_person(&self) -> bool {
        self.is_of_credentials()
            || [DAILY_QUOTA, NO_CREDENTIALS].contains(&self.reason.as_str())
            || certificate::is_distrust(&self.reason)
    }

    fn is_of_credentials(&self) -> bool {
        matches!(self.status, Some(401 | 403)) || self.reason == UNKNOWN_KEY
    }

    pub(crate) fn new(outcome: Outcome, status: Option<u16>, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self {
            outcome,
            status,
            reason,
            timing: Timing::default(),
        }
    }

    /// No answer in time. Before the request could leave, nothing can have been taken.
    pub(crate) fn timeout(connected: bool) -> Self {
        Self::new(sent_or_not(connected), Some(504), "Gateway timeout")
    }

    /// The connection failed or ended before an answer.
    pub(crate) fn no_response(connected: bool) -> Self {
        let reason = if connected {
            "Request failed: no response"
        } else {
            "Request failed: could not connect"
        };
        Self::new(sent_or_not(connected), None, reason)
    }

    /// A 2xx whose body cannot be read or does not say yes or no.
    pub(crate) fn unclear(status: u16, reason: &str) -> Self {
        Self::new(Outcome::Unknown, Some(status), reason)
    }

    /// An answer other than 2xx. A gateway that lost its backend (502, 504, and what some say in their place) cannot know
    /// whether the backend took the message; every other error is the provider's own word that it did not.
    pub(crate) fn from_status(status: u16, retry_after: Option<Duration>) -> Self {
        let (outcome, reason) = match status {
            429 => (
                Outcome::Throttled { after: retry_after },
                "Request failed: too many requests".to_owned(),
            ),
            503 if retry_after.is_some() => (
                Outcome::Throttled { after: retry_after },
                "Request failed: service unavailable".to_owned(),
            ),
            502 => (Outcome::Unknown, "Request failed: bad gateway".to_owned()),
            504 => (Outcome::Unknown, "Gateway timeout".to_owned()),
            520 | 522 | 524 | 598 | 599 => (Outcome::Unknown, format!("Request failed: status {status}")),
            _ => (Outcome::Refused, format!("Request failed: status {status}")),
        };
        Self::new(outcome, Some(status), reason)
    }
}

fn sent_or_not(connected: bool) -> Outcome {
    if connected { Outcome::Unknown } else { Outcome::Refused }
}
