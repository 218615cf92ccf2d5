//! `herald token KEY`: a bearer token, for trying the API with curl. It holds for thirty seconds.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;

/// Length of a UUID in text, of which a key has two behind its name: `name-serviceid-secret`.
const UUID: usize = 36;

/// # Errors
/// When the key is not of that form.
pub fn of(key: &str) -> anyhow::Result<String> {
    ensure!(
        key.is_ascii() && key.len() > 2 * UUID + 1,
        "the key must be of the form name-serviceid-secret"
    );
    let (rest, secret) = key.split_at(key.len() - UUID);
    let service = &rest[rest.len() - UUID - 1..rest.len() - 1];
    let issued = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("the clock is before 1970")?
        .as_secs();
    let claims = json!({"iss": service, "iat": issued});
    Ok(jsonwebtoken::encode(
        &Header::default(),
        &claims,
        &EncodingKey::from_secret(secret.as_bytes()),
    )?)
}
