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

read_from_text!(KeyType, NotificationType, StatusText);
