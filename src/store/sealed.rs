//! Text that is unreadable at rest: personalisation, secrets of keys, received messages.
//!
//! Our form is `h1.<key id>.<base64url>`: XChaCha20-Poly1305 under a random nonce, bound to a context, so that a
//! value copied into another column does not open. Notify's signed (readable) form opens too, given its secrets.

mod itsdangerous;
mod links;

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use chacha20poly1305::{
    AeadCore, KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, OsRng, Payload},
};
use serde::{Deserialize, Serialize};

pub use itsdangerous::Signer as NotifySigner;
pub use links::NotifyTokenKey;

/// What a sealed value is for: the column that holds it.
pub mod context {
    pub const API_KEY: &str = "api_keys.secret";
    /// The JSON object of a notification.
    pub const PERSONALISATION: &str = "notifications._personalisation";
    pub const RECEIVED_TEXT: &str = "inbound_sms.content";
    pub const CALLBACK_TOKEN: &str = "service_callback_api.bearer_token";
    pub const CALLBACK_SIGNING_SECRET: &str = "service_callback_api.signing_secret";
    /// The body of a call.
    pub const CALLBACK_PAYLOAD: &str = "service_callback_event.payload";
}

const VERSION: &str = "h1";
const NONCE: usize = 24;

/// A sealed text, as it is stored.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, sqlx::Type)]
#[sqlx(transparent)]
#[serde(transparent)]
pub struct Sealed(String);

impl Sealed {
    /// Takes a column's text as it is; only opening it tells whether it is sound.
    #[must_use]
    pub const fn from_stored(text: String) -> Self {
        Self(text)
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Sealed or not, it stays out of logs.
impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed(…)")
    }
}

/// One key and its public name.
pub struct Key {
    id: String,
    cipher: XChaCha20Poly1305,
}

/// Why a key is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("a key is written id:base64, 32 bytes of it")]
    Form,
    #[error("a key's id is 1 to 16 letters, digits or hyphens")]
    Id,
}

impl Key {
    pub fn new(id: &str, bytes: &[u8; 32]) -> Result<Self, KeyError> {
        let fits = (1..=16).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !fits {
            return Err(KeyError::Id);
        }
        Ok(Self {
            id: id.to_owned(),
            cipher: XChaCha20Poly1305::new(bytes.into()),
        })
    }

    /// Reads `id:base64url`, as in settings; padding and the other base64 alphabet are accepted.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let (id, bytes) = text.trim().split_once(':').ok_or(KeyError::Form)?;
        let bytes = bytes.trim_end_matches('=').replace('+', "-").replace('/', "_");
        let bytes = BASE64.decode(bytes).map_err(|_| KeyError::Form)?;
        Self::new(id, bytes.as_slice().try_into().map_err(|_| KeyError::Form)?)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id)
    }
}

/// Why a sealed text does not open. None of these goes away by trying again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("it was sealed with key {0}, which is not known here")]
    UnknownKey(String),
    #[error("it was changed, or sealed for another purpose")]
    Forged,
    #[error("it is in no known form")]
    Form,
}

/// Seals with one key and opens with several: a key is retired by putting a new one in front of it.
#[derive(Debug)]
pub struct Sealer {
    current: Key,
    older: Vec<Key>,
    notify: Option<NotifySigner>,
    notify_tokens: Option<NotifyTokenKey>,
}

impl Sealer {
    #[must_use]
    pub const fn new(current: Key, older: Vec<Key>) -> Self {
        Self {
            current,
            older,
            notify: None,
            notify_tokens: None,
        }
    }

    /// Also opens what Notify signed.
    #[must_use]
    pub fn reading_notify(mut self, signer: NotifySigner) -> Self {
        self.notify = Some(signer);
        self
    }

    /// Also opens the tokens that Notify encrypted into links.
    #[must_use]
    pub fn reading_notify_tokens(mut self, key: NotifyTokenKey) -> Self {
        self.notify_tokens = Some(key);
        self
    }

    /// Two seals of one text differ.
    #[must_use]
    pub fn seal(&self, context: &str, text: &str) -> Sealed {
        let nonce = XChaCha20Poly1305::generate_nonce(&mut OsRng);
        let sealed = self
            .current
            .cipher
            .encrypt(
                &nonce,
                Payload {
                    msg: text.as_bytes(),
                    aad: context.as_bytes(),
                },
            )
            .expect("a text in memory is far below the cipher's limit of 256 GiB");
        let mut bytes = Vec::with_capacity(NONCE + sealed.len());
        bytes.extend_from_slice(&nonce);
        bytes.extend_from_slice(&sealed);
        let mut stored = format!("{VERSION}.{}.", self.current.id);
        BASE64.encode_string(&bytes, &mut stored);
        Sealed(stored)
    }

    /// The text that was sealed for this context. Of Notify's form: a JSON string's text, or any other JSON as it is.
    pub fn open(&self, context: &str, sealed: &Sealed) -> Result<String, OpenError> {
        match self.open_own(context, &sealed.0) {
            Some(opened) => opened,
            None => self.notify.as_ref().ok_or(OpenError::Form)?.open(&sealed.0),
        }
    }

    /// None when it is not in our form.
    fn open_own(&self, context: &str, sealed: &str) -> Option<Result<String, OpenError>> {
        let (id, body) = sealed.strip_prefix(VERSION)?.strip_prefix('.')?.split_once('.')?;
        Some(self.open_body(context, id, body))
    }

    fn open_body(&self, context: &str, id: &str, body: &str) -> Result<String, OpenError> {
        let key = std::iter::once(&self.current)
            .chain(&self.older)
            .find(|key| key.id == id)
            .ok_or_else(|| OpenError::UnknownKey(id.to_owned()))?;
        let bytes = BASE64.decode(body).map_err(|_| OpenError::Form)?;
        let (nonce, msg) = bytes.split_at_checked(NONCE).ok_or(OpenError::Form)?;
        let text = key
            .cipher
            .decrypt(
                XNonce::from_slice(nonce),
                Payload {
                    msg,
                    aad: context.as_bytes(),
                },
            )
            .map_err(|_| OpenError::Forged)?;
        String::from_utf8(text).map_err(|_| OpenError::Form)
    }
}
