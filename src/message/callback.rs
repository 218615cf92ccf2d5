//! What a service is called with: the bodies, to the byte as GOV.UK Notify writes them, and the signature of a call.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};
use chrono::{DateTime, Utc};
use hmac::{Hmac, Mac};
use serde::{Serialize, Serializer};
use sha2::Sha256;
use uuid::Uuid;

use crate::{python, status::Status};

/// A message was delivered, or it failed.
#[derive(Clone, Serialize)]
pub struct DeliveryStatus {
    pub id: Uuid,
    /// The client's own.
    pub reference: Option<String>,
    pub to: String,
    pub status: Status,
    #[serde(serialize_with = "instant")]
    pub created_at: DateTime<Utc>,
    #[serde(serialize_with = "instant_or_null")]
    pub completed_at: Option<DateTime<Utc>>,
    #[serde(serialize_with = "instant_or_null")]
    pub sent_at: Option<DateTime<Utc>>,
    pub notification_type: &'static str,
    pub template_id: Uuid,
    pub template_version: i32,
}

/// Somebody called an email spam.
#[derive(Clone, Serialize)]
pub struct Complaint {
    pub notification_id: Uuid,
    pub complaint_id: Uuid,
    pub reference: Option<String>,
    pub to: String,
    #[serde(serialize_with = "instant")]
    pub complaint_date: DateTime<Utc>,
}

/// Somebody sent a text to the service's number.
#[derive(Clone, Serialize)]
pub struct InboundSms {
    pub id: Uuid,
    pub source_number: String,
    pub destination_number: String,
    pub message: String,
    #[serde(serialize_with = "instant")]
    pub date_received: DateTime<Utc>,
}

impl DeliveryStatus {
    pub fn body(&self) -> String {
        python::dumps(self)
    }
}

impl Complaint {
    pub fn body(&self) -> String {
        python::dumps(self)
    }
}

impl InboundSms {
    pub fn body(&self) -> String {
        python::dumps(self)
    }
}

fn instant<S: Serializer>(at: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&at.format("%Y-%m-%dT%H:%M:%S%.6fZ"))
}

fn instant_or_null<S: Serializer>(at: &Option<DateTime<Utc>>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => instant(at, serializer),
        None => serializer.serialize_none(),
    }
}

/// The key of a signing secret in the form of Standard Webhooks: `whsec_` and from 24 to 64 bytes in base64.
pub fn signing_key(secret: &str) -> Option<Vec<u8>> {
    let encoded = secret.strip_prefix("whsec_")?.trim_end_matches('=');
    let key = STANDARD_NO_PAD.decode(encoded).ok()?;
    (24..=64).contains(&key.len()).then_some(key)
}

/// The signature of a call by Standard Webhooks: `v1,` and the HMAC of id, time (seconds since 1970) and body.
pub fn signature(key: &[u8], id: &str, timestamp: i64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_what_python_would_write() {
        let text = InboundSms {
            id: Uuid::nil(),
            source_number: "447700900123".to_owned(),
            destination_number: "07411000001".to_owned(),
            message: "Ünï \"😀\"\u{7f}\n\\".to_owned(),
            date_received: DateTime::from_timestamp(1_795_257_000, 45_000_000).unwrap(),
        };
        assert_eq!(
            text.body(),
            r#"{"id": "00000000-0000-0000-0000-000000000000", "source_number": "447700900123", "#.to_owned()
                + r#""destination_number": "07411000001", "message": "\u00dcn\u00ef \"\ud83d\ude00\"\u007f\n\\", "#
                + r#""date_received": "2026-11-21T10:30:00.045000Z"}"#
        );
    }

    /// The example of the Standard Webhooks specification's reference libraries.
    #[test]
    fn a_signature_is_that_of_the_standard() {
        let key = signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert_eq!(
            signature(
                &key,
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                1_614_265_330,
                r#"{"test": 2432232314}"#
            ),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
        for secret in [
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_c2hvcnQ=",
            "whsec_no base64 at all, no base64",
        ] {
            assert_eq!(signing_key(secret), None, "{secret}");
        }
    }
}
