//! Reads what Notify signs: the URL-safe serializer of Python's itsdangerous, `<base64url JSON>.<base64url HMAC>`,
//! with a leading dot when the JSON is zlib-compressed, and in links with a time, `<JSON>.<seconds>.<HMAC>`. Signed is
//! not secret: we read it, and never write it.

use std::{fmt, io::Read};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use hmac::{Hmac, Mac};
use sha1::{Digest, Sha1};

use super::OpenError;

/// Longest JSON that we unpack; Notify's personalisation is far below.
const UNPACKED: u64 = 16 * 1024 * 1024;

/// Notify's SECRET_KEY list and DANGEROUS_SALT.
pub struct Signer {
    /// Derived, newest first.
    keys: Vec<[u8; 20]>,
}

impl Signer {
    /// `secrets` oldest first, as Notify lists them; all of them are accepted.
    #[must_use]
    pub fn new(secrets: &[String], salt: &str) -> Self {
        let derive = |secret: &String| {
            Sha1::new()
                .chain_update(salt)
                .chain_update("signer")
                .chain_update(secret)
                .finalize()
                .into()
        };
        Self {
            keys: secrets.iter().rev().map(derive).collect(),
        }
    }

    /// Checks the signature, then gives a JSON string's text, or the JSON itself if it is of another kind.
    pub fn open(&self, signed: &str) -> Result<String, OpenError> {
        read(self.check(signed)?)
    }

    /// The same for what was signed with a time; also gives that time, in seconds since 1970. Neither form passes for
    /// the other, though one key signs both.
    pub fn open_timed(&self, signed: &str) -> Result<(String, i64), OpenError> {
        let (value, time) = self.check(signed)?.rsplit_once('.').ok_or(OpenError::Form)?;
        let time = decode(time)?;
        let mut bytes = [0; 8];
        let unused = bytes.len().checked_sub(time.len()).ok_or(OpenError::Form)?;
        bytes[unused..].copy_from_slice(&time);
        Ok((read(value)?, i64::from_be_bytes(bytes)))
    }

    /// The value, once its signature is known to be good.
    fn check<'s>(&self, signed: &'s str) -> Result<&'s str, OpenError> {
        let (value, signature) = signed.rsplit_once('.').ok_or(OpenError::Form)?;
        let signature = BASE64.decode(signature).map_err(|_| OpenError::Form)?;
        if !self.keys.iter().any(|key| is_signed_by(key, value, &signature)) {
            return Err(OpenError::Forged);
        }
        Ok(value)
    }
}

fn read(value: &str) -> Result<String, OpenError> {
    let json = match value.strip_prefix('.') {
        Some(packed) => unpack(&decode(packed)?)?,
        None => decode(value)?,
    };
    let json = String::from_utf8(json).map_err(|_| OpenError::Form)?;
    if json.starts_with('"') {
        serde_json::from_str(&json).map_err(|_| OpenError::Form)
    } else {
        Ok(json)
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({} keys)", self.keys.len())
    }
}

/// In constant time.
fn is_signed_by(key: &[u8; 20], value: &str, signature: &[u8]) -> bool {
    Hmac::<Sha1>::new_from_slice(key)
        .expect("HMAC takes a key of any length")
        .chain_update(value)
        .verify_slice(signature)
        .is_ok()
}

fn decode(text: &str) -> Result<Vec<u8>, OpenError> {
    BASE64.decode(text).map_err(|_| OpenError::Form)
}

fn unpack(packed: &[u8]) -> Result<Vec<u8>, OpenError> {
    let mut json = Vec::new();
    flate2::read::ZlibDecoder::new(packed)
        .take(UNPACKED)
        .read_to_end(&mut json)
        .map_err(|_| OpenError::Form)?;
    Ok(json)
}
