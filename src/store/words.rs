//! Closed sets of words that are data in the database and in the API. Frozen.

use std::{fmt, str::FromStr};

use herald_message::status::Status;
use serde::{Deserialize, Serialize};
use sqlx::{
    Postgres, Type,
    error::BoxDynError,
    postgres::{PgTypeInfo, PgValueRef},
};

/// What kind of key created a notification, or may create one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyType {
    Normal,
    Team,
    Test,
}

/// The channel of a template or notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NotificationType {
    Sms,
    Email,
    Letter,
}

/// What kind of event a service is called about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallbackType {
    DeliveryStatus,
    Complaint,
    ReturnedLetter,
    InboundSms,
}

/// A text outside of the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a word of this set")]
pub struct UnknownWord;

impl KeyType {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Team => "team",
            Self::Test => "test",
        }
    }
}

impl NotificationType {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sms => "sms",
            Self::Email => "email",
            Self::Letter => "letter",
        }
    }
}

impl CallbackType {
    pub const ALL: [Self; 4] = [
        Self::DeliveryStatus,
        Self::Complaint,
        Self::ReturnedLetter,
        Self::InboundSms,
    ];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DeliveryStatus => "delivery_status",
            Self::Complaint => "complaint",
            Self::ReturnedLetter => "returned_letter",
            Self::InboundSms => "inbound_sms",
        }
    }
}

impl FromStr for KeyType {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        match text {
            "normal" => Ok(Self::Normal),
            "team" => Ok(Self::Team),
            "test" => Ok(Self::Test),
            _ => Err(UnknownWord),
        }
    }
}

impl FromStr for NotificationType {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        match text {
            "sms" => Ok(Self::Sms),
            "email" => Ok(Self::Email),
            "letter" => Ok(Self::Letter),
            _ => Err(UnknownWord),
        }
    }
}

impl FromStr for CallbackType {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let named = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        named.ok_or(UnknownWord)
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for NotificationType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for CallbackType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A status as its column holds it, for `query_as!`: the status itself knows nothing of databases.
#[derive(Debug)]
pub(crate) struct StatusText(Status);

impl From<StatusText> for Status {
    fn from(StatusText(status): StatusText) -> Self {
        status
    }
}

impl FromStr for StatusText {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        text.parse().map(Self).map_err(|_| UnknownWord)
    }
}

/// Reads a word from a column of any text type.
macro_rules! read_from_text {
    ($($word:ty),+) => { $(
        impl Type<Postgres> for $word {
            fn type_info() -> PgTypeInfo {
                <str as Type<Postgres>>::type_info()
            }

            fn compatible(info: &PgTypeInfo) -> bool {
                <str as Type<Postgres>>::compatible(info)
            }
        }

        impl<'r> sqlx::Decode<'r, Postgres> for $word {
            fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
                Ok(<&str as sqlx::Decode<Postgres>>::decode(value)?.parse::<Self>()?)
            }
        }
    )+ };
}

read_from_text!(KeyType, NotificationType, CallbackType, StatusText);
