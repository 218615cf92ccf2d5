//! Tokens in links to unsubscribe: whose link it is, in a form that nobody else can make. One is good for a year.
//!
//! Ours are sealed for one notification, with the time they were made. Those that Notify put into emails open too,
//! given its secrets: the address as a Fernet token, and the older form, the address signed with a time.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use fernet::Fernet;
use herald_message::email_address;
use uuid::Uuid;

use super::Sealer;
use crate::DateTime;

/// In seconds.
const LIFE: i64 = 365 * 24 * 60 * 60;

/// Notify's TOKEN_SECRET_KEY.
pub struct NotifyTokenKey(Fernet);

impl NotifyTokenKey {
    /// Reads it as Notify is given it: 32 bytes in base64url. None: it is no such key.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Fernet::new(text.trim()).map(Self)
    }

    /// What it encrypted, and when, in seconds since 1970.
    fn open(&self, token: &str) -> Option<(String, i64)> {
        let text = String::from_utf8(self.0.decrypt(token).ok()?).ok()?;
        // The token was sound, so it begins with a byte of its version and eight of its time.
        let head = BASE64.decode(token.get(..12)?).ok()?;
        let made = u64::from_be_bytes(head.get(1..9)?.try_into().ok()?);
        Some((text, made.try_into().ok()?))
    }
}

impl fmt::Debug for NotifyTokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NotifyTokenKey")
    }
}

impl Sealer {
    /// The token of the link in one email. It fits into the path of a URL as it is.
    #[must_use]
    pub fn unsubscribe_token(&self, notification_id: Uuid, address: &str, made: DateTime) -> String {
        let text = format!("{} {address}", made.timestamp());
        self.seal(&context(notification_id), &text).0
    }

    /// The address that a token was made for. None: it is not one of ours or Notify's, is for another notification,
    /// or is too old.
    #[must_use]
    pub fn unsubscribing_address(&self, notification_id: Uuid, token: &str, now: DateTime) -> Option<String> {
        let opened = self.open_own_token(notification_id, token);
        let opened = opened.or_else(|| self.notify_tokens.as_ref()?.open(token));
        let opened = opened.or_else(|| self.notify.as_ref()?.open_timed(token).ok());
        let (address, made) = opened?;
        if now.timestamp().saturating_sub(made) > LIFE {
            return None;
        }
        // Notify's keys sign other things too, such as links to a new password.
        Some(email_address::parse(&address).ok()?.address)
    }

    fn open_own_token(&self, notification_id: Uuid, token: &str) -> Option<(String, i64)> {
        let text = self.open_own(&context(notification_id), token)?.ok()?;
        let (made, address) = text.split_once(' ')?;
        Some((address.to_owned(), made.parse().ok()?))
    }
}

fn context(notification_id: Uuid) -> String {
    format!("unsubscribe {notification_id}")
}
