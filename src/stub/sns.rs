//! SNS as its subscribers see it: envelopes signed with a key of the stub's own, whose certificate it serves, and links
//! that confirm subscriptions. The key is no secret and opens nothing: whoever trusts this host in its settings
//! trusts a stub.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use herald_message::receipt::sns::Envelope;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::World;

/// The topic that SES is said to publish to.
pub const TOPIC: &str = "arn:aws:sns:eu-west-1:000000000000:ses-callbacks";

/// Where the certificate is, on the stub.
pub const CERTIFICATE_PATH: &str = "/SimpleNotificationService-stub.pem";

pub const CERTIFICATE: &str = include_str!("sns/certificate.pem");

static KEY: LazyLock<RsaKeyPair> = LazyLock::new(|| {
    let key = PrivatePkcs8KeyDer::from_pem_slice(include_bytes!("sns/key.pem")).expect("the file beside is a PEM file");
    RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).expect("the file beside holds an RSA key")
});

/// Signs an envelope as version 2 of SNS' signatures says. What it lacks of the fields to be signed is made up.
///
/// # Panics
/// When it is not an SNS envelope.
#[must_use]
pub fn signed(mut envelope: Value, certificate_url: &str) -> Value {
    for (field, value) in [
        ("Message", json!("")),
        ("MessageId", json!(uuid::Uuid::now_v7())),
        ("TopicArn", json!(TOPIC)),
        ("Timestamp", json!("2026-11-20T10:00:00.000Z")),
    ] {
        if envelope.get(field).is_none() {
            envelope[field] = value;
        }
    }
    let text = Envelope::parse(envelope.to_string().as_bytes()).ok();
    let text = text.and_then(|envelope| envelope.signed_text());
    let text = text.expect("it is an envelope with all that SNS signs");
    let mut signature = vec![0; KEY.public().modulus_len()];
    KEY.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature)
        .expect("the signature has room, and the system its random numbers");
    envelope["SignatureVersion"] = json!("2");
    envelope["Signature"] = json!(STANDARD.encode(signature));
    envelope["SigningCertURL"] = json!(certificate_url);
    envelope
}

/// The URL of the certificate on a stub that listens there.
pub(crate) fn certificate_url(address: SocketAddr) -> String {
    let host = if address.ip().is_unspecified() {
        format!("127.0.0.1:{}", address.port())
    } else {
        address.to_string()
    };
    format!("http://{host}{CERTIFICATE_PATH}")
}

/// `GET /SimpleNotificationService-stub.pem`
pub(crate) async fn certificate() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "binary/octet-stream")], CERTIFICATE)
}

/// The tokens of confirmed subscriptions.
#[derive(Default)]
pub(crate) struct Confirmed(Mutex<Vec<String>>);

#[derive(Deserialize)]
pub(crate) struct Confirmation {
    #[serde(rename = "Token")]
    token: String,
}

/// `GET /sns/confirm?Token=…`
pub(crate) async fn confirm(
    State(world): State<Arc<World>>,
    Query(Confirmation { token }): Query<Confirmation>,
) -> StatusCode {
    let mut tokens = world.confirmed.0.lock().unwrap_or_else(PoisonError::into_inner);
    tokens.push(token);
    StatusCode::OK
}

/// `GET /sns/confirmed`
pub(crate) async fn confirmed(State(world): State<Arc<World>>) -> Json<Value> {
    let tokens = world.confirmed.0.lock().unwrap_or_else(PoisonError::into_inner);
    Json(json!({ "tokens": *tokens }))
}
