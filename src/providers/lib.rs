//! Ways out of Herald: Firetext and MMG for texts, SES for emails, document-download for the files of emails, and calls to
//! services.
//!
//! A client sends once and says what became of it; whether and when to try again is the engine's business. What a
//! provider said is classified in one place (`outcome`), by the one question that matters for the next attempt:
//! can the message have been taken? No error carries a number, an address or content.

pub mod callbacks;
mod certificate;
pub mod documents;
pub mod firetext;
mod http;
pub mod mmg;
mod outcome;
pub mod ses;
pub mod sns;
mod timing;

use std::fmt;
use std::time::Duration;

use herald_message::receipt::Provider;
use uuid::Uuid;

pub use crate::outcome::{Accepted, Outcome, SendError};
pub use crate::timing::Timing;

/// One text message.
#[derive(Clone)]
pub struct Text {
    /// Digits with country code and without plus.
    pub to: String,
    pub from: String,
    /// As rendered, the service's name in front if it wants that.
    pub body: String,
    /// Our notification id; the receipt brings it back.
    pub reference: Uuid,
    /// Firetext has an account of its own for these.
    pub international: bool,
}

/// One email.
#[derive(Clone)]
pub struct Email {
    pub to: String,
    pub from_name: String,
    pub from_address: String,
    pub reply_to: Option<String>,
    pub subject: String,
    pub plain_text: String,
    pub html: String,
    /// URL for one-click unsubscribing.
    pub unsubscribe: Option<String>,
    /// Our notification id; it travels as a tag that recipients do not see.
    pub reference: Uuid,
}

/// One of the SMS firms. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub enum SmsClient {
    Firetext(firetext::Client),
    Mmg(mmg::Client),
}

impl SmsClient {
    #[must_use]
    pub fn provider(&self) -> Provider {
        match self {
            Self::Firetext(_) => Provider::Firetext,
            Self::Mmg(_) => Provider::Mmg,
        }
    }

    /// The text of `sent_by`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.provider().name()
    }

    /// Sends once.
    pub async fn send(&self, text: &Text) -> Result<Accepted, SendError> {
        match self {
            Self::Firetext(client) => client.send(text).await,
            Self::Mmg(client) => client.send(text).await,
        }
    }
}

/// How long to wait. `total` covers a whole send, from looking for a connection to the last byte of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    pub connect: Duration,
    pub read: Duration,
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            read: Duration::from_secs(10),
            total: Duration::from_secs(10),
        }
    }
}

/// A key or password: it is never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<T: Into<String>> From<T> for Secret {
    fn from(text: T) -> Self {
        Self::new(text)
    }
}

/// Where an SMS provider shall post its receipts, and with which basic credentials.
#[derive(Clone, Debug)]
pub struct ReceiptUrl {
    pub url: String,
    pub credentials: Option<(String, Secret)>,
}

/// A client that cannot be built: the program's settings are wrong.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("{0} is not a usable URL")]
    Url(&'static str),
    #[error("{0} cannot be sent in a header")]
    Key(&'static str),
    #[error("the HTTP client cannot be built")]
    Client(#[source] reqwest::Error),
}
