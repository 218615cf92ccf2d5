//! Requests that may come again. A client that got no answer repeats its request with the same `Idempotency-Key`, and gets
//! the answer about the message that the first one made, for a day. For services that ask for it, a client's reference
//! is such a key.
//!
//! The key is reserved, with the id that the message will have, just before the message is accepted under that id. So
//! whatever happens in between, and however many requests race, there is one message: accepting an id twice is
//! accepting it once. A request that is refused reserves nothing.

use std::time::Duration;

use herald_store::{
    idempotency::{self, Known},
    notifications::{self, NotificationView},
};
use poem::http::HeaderMap;
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{App, Error, auth::Caller};

pub const HEADER: &str = "Idempotency-Key";

/// Characters of a key.
pub const LONGEST_KEY: usize = 255;

const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// The permission of services whose references are keys.
const REFERENCES: &str = "idempotent_references";

/// How a request is to be known again, if it is.
pub struct Once<'a> {
    app: &'a App,
    service_id: Uuid,
    /// Digests of the key, and of what is asked for.
    known_by: Option<([u8; 32], [u8; 32])>,
}

impl<'a> Once<'a> {
    /// `kind` tells the routes apart. A body that is no JSON is left to those who read it.
    ///
    /// # Errors
    /// When the header is empty, too long or not ASCII.
    pub fn of(
        app: &'a App,
        caller: &Caller,
        headers: &HeaderMap,
        kind: &'static str,
        body: &[u8],
    ) -> Result<Self, Error> {
        let key = match headers.get(HEADER) {
            Some(value) => {
                let fits = |key: &&str| !key.is_empty() && key.len() <= LONGEST_KEY;
                let key = value.to_str().ok().map(str::trim).filter(fits).ok_or_else(|| {
                    Error::invalid(format!("{HEADER} must be from 1 to {LONGEST_KEY} characters of ASCII"))
                })?;
                Some(("key", key.to_owned()))
            }
            None if caller.may(REFERENCES) => reference_in(body).map(|reference| ("reference", reference)),
            None => None,
        };
        let known_by = key.map(|(sort, key)| {
            let key_type = caller.key_type.as_str();
            (
                digest(&[sort.as_bytes(), key_type.as_bytes(), key.as_bytes()]),
                digest(&[kind.as_bytes(), &canonical(body)]),
            )
        });
        Ok(Self {
            app,
            service_id: caller.service().id,
            known_by,
        })
    }

    /// The message that this request made before.
    ///
    /// # Errors
    /// [`Error::KeyReused`] when the key stands for another request.
    pub async fn earlier(&self) -> Result<Option<NotificationView>, Error> {
        let Some((key, request)) = self.known_by else {
            return Ok(None);
        };
        let conn = &mut *self.app.pool.acquire().await?;
        let Some(known) = idempotency::find(conn, self.service_id, &key).await? else {
            return Ok(None);
        };
        let id = id_of(&known, &request)?;
        Ok(notifications::get(conn, self.service_id, id).await?)
    }

    /// The id that the message is to have: a new one, or that which the request had before.
    ///
    /// # Errors
    /// [`Error::KeyReused`] when another request with this key was faster.
    pub async fn id(&self) -> Result<Uuid, Error> {
        let new = Uuid::now_v7();
        let Some((key, request)) = self.known_by else {
            return Ok(new);
        };
        let known = Known {
            request: request.to_vec(),
            notification_id: new,
        };
        let conn = &mut *self.app.pool.acquire().await?;
        let known = idempotency::reserve(conn, self.service_id, &key, &known, KEPT).await?;
        id_of(&known, &request)
    }
}

fn id_of(known: &Known, request: &[u8; 32]) -> Result<Uuid, Error> {
    if known.request == request {
        Ok(known.notification_id)
    } else {
        Err(Error::KeyReused)
    }
}

fn reference_in(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let reference = body.get("reference")?.as_str()?;
    (!reference.is_empty()).then(|| reference.to_owned())
}

/// The same for the same JSON, whatever the order of its keys and the space between.
fn canonical(body: &[u8]) -> Vec<u8> {
    let sorted = serde_json::from_slice(body).map(|mut value: Value| {
        value.sort_all_objects();
        value.to_string().into_bytes()
    });
    sorted.unwrap_or_else(|_not_json| body.to_vec())
}

/// Of several parts, none of which can pass for a piece of another.
fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_the_same_when_their_json_is() {
        let of = |body: &str| digest(&[b"sms", &canonical(body.as_bytes())]);
        let one = of(r#"{"a":1,"b":{"c":[1,2],"d":"x"}}"#);
        assert_eq!(one, of(r#"{ "b": {"d":"x", "c":[1,2]}, "a":1 }"#));
        for other in [
            r#"{"a":1,"b":{"c":[2,1],"d":"x"}}"#,
            r#"{"a":"1","b":{"c":[1,2],"d":"x"}}"#,
            r#"{"a":1}"#,
            "",
        ] {
            assert_ne!(one, of(other), "{other}");
        }
        assert_ne!(digest(&[b"ab", b"c"]), digest(&[b"a", b"bc"]));
    }
}
