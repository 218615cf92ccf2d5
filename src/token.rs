//! `herald token KEY` and `herald token --admin`: a bearer token, for trying the API with curl. It holds for thirty seconds.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;

use crate::config;

/// Length of a UUID in text, of which a key has two behind its name: `name-serviceid-secret`.
const UUID: usize = 36;

/// The token of a service, by one of its keys.
///
/// # Errors
/// When the key is not of that form.
pub fn of(key: &str) -> anyhow::Result<String> {
    ensure!(
        key.is_ascii() && key.len() > 2 * UUID + 1,
        "the key must be of the form name-serviceid-secret"
    );
    let (rest, secret) = key.split_at(key.len() - UUID);
    let service = &rest[rest.len() - UUID - 1..rest.len() - 1];
    signed(service, secret)
}

/// The token of the administration pages, by the secret that is given, or else the first that is set.
///
/// # Errors
/// When there is no secret.
pub fn of_admin(secret: Option<&str>) -> anyhow::Result<String> {
    let set = config::admin_secrets()?;
    let secret = secret
        .or(set.first().map(String::as_str))
        .context("there is no secret: give one, or set INTERNAL_CLIENT_API_KEYS")?;
    signed(herald_api::ADMIN_CLIENT, secret)
}

fn signed(issuer: &str, secret: &str) -> anyhow::Result<String> {
    let issued = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("the clock is before 1970")?
        .as_secs();
    let claims = json!({"iss": issuer, "iat": issued});
    Ok(jsonwebtoken::encode(
        &Header::default(),
        &claims,
        &EncodingKey::from_secret(secret.as_bytes()),
    )?)
}
