//! The statuses of a notification, under the names that the database and the API use.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One row of `notification_status_types`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    Created,
    Sending,
    Sent,
    Delivered,
    Pending,
    Failed,
    TechnicalFailure,
    TemporaryFailure,
    PermanentFailure,
    PendingVirusCheck,
    ValidationFailed,
    VirusScanFailed,
    ReturnedLetter,
    Cancelled,
}

/// A text that names no status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a notification status")]
pub struct UnknownStatus;

impl Status {
    pub const ALL: [Self; 14] = [
        Self::Created,
        Self::Sending,
        Self::Sent,
        Self::Delivered,
        Self::Pending,
        Self::Failed,
        Self::TechnicalFailure,
        Self::TemporaryFailure,
        Self::PermanentFailure,
        Self::PendingVirusCheck,
        Self::ValidationFailed,
        Self::VirusScanFailed,
        Self::ReturnedLetter,
        Self::Cancelled,
    ];

    /// The text in the database and in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Sending => "sending",
            Self::Sent => "sent",
            Self::Delivered => "delivered",
            Self::Pending => "pending",
            Self::Failed => "failed",
            Self::TechnicalFailure => "technical-failure",
            Self::TemporaryFailure => "temporary-failure",
            Self::PermanentFailure => "permanent-failure",
            Self::PendingVirusCheck => "pending-virus-check",
            Self::ValidationFailed => "validation-failed",
            Self::VirusScanFailed => "virus-scan-failed",
            Self::ReturnedLetter => "returned-letter",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether the API shows `completed_at` (a failed virus scan is not counted among these).
    #[must_use]
    pub const fn is_completed(self) -> bool {
        matches!(
            self,
            Self::Sent
                | Self::Delivered
                | Self::Failed
                | Self::TechnicalFailure
                | Self::TemporaryFailure
                | Self::PermanentFailure
                | Self::ReturnedLetter
                | Self::Cancelled
                | Self::ValidationFailed
        )
    }

    /// Whether a text message's receipt may still change it; anything else is a duplicate.
    #[must_use]
    pub const fn accepts_receipt(self) -> bool {
        matches!(
            self,
            Self::Created | Self::Sending | Self::Pending | Self::Sent | Self::PendingVirusCheck
        )
    }

    /// Whether an email's receipt may still change it: only after the send, and once.
    #[must_use]
    pub const fn accepts_email_receipt(self) -> bool {
        matches!(self, Self::Sending | Self::Pending)
    }
}

impl FromStr for Status {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or(UnknownStatus)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::Status;

    #[test]
    fn names_are_the_same_in_text_and_in_json() {
        for status in Status::ALL {
            assert_eq!(status.as_str().parse(), Ok(status));
            assert_eq!(
                serde_json::to_value(status).unwrap(),
                serde_json::json!(status.as_str())
            );
        }
        assert!("Created".parse::<Status>().is_err());
    }
}
