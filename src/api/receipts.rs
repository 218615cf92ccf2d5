//! Delivery receipts from the providers. Each is accepted durably before it is answered; what it means is decided by
//! the run that waits for it. An answer other than 2xx makes the provider try again.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use herald_message::receipt::{CallbackError, SmsCallback, firetext, mmg, ses};
use poem::{
    Request,
    http::{HeaderMap, header},
    web::Data,
};
use poem_openapi::{ApiResponse, Object, OpenApi};
use serde::Serialize;
use subtle::ConstantTimeEq;

use crate::{
    App, Tag,
    error::{LegacyErrors, OtherError},
    payload::{Answer, Form, Posted},
};

/// The user name and password with which a provider calls back. They stand in the receipt URL that it is given.
#[derive(Clone)]
pub struct BasicCredentials {
    pub user: String,
    pub password: String,
}

/// Who must show credentials. Without any, a provider's receipts are taken from everybody, as in Notify, where the
/// network's edge sees to it.
#[derive(Clone, Default)]
pub struct ReceiptCredentials {
    pub firetext: Option<BasicCredentials>,
    pub mmg: Option<BasicCredentials>,
    pub ses: Option<BasicCredentials>,
}

pub struct Receipts;

#[OpenApi(tag = "Tag::Receipts")]
impl Receipts {
    /// A receipt from Firetext
    #[oai(
        path = "/notifications/sms/firetext",
        method = "post",
        operation_id = "receiveFiretextReceipt"
    )]
    async fn firetext(
        &self,
        app: Data<&Arc<App>>,
        request: &Request,
        body: Posted<FiretextReceipt, Form>,
    ) -> Result<Received, OtherError> {
        if let Err(refusal) = check(request.headers(), app.settings.receipts.firetext.as_ref()) {
            return Ok(Received::from(refusal));
        }
        take_sms(&app.engine, firetext::parse(&body.bytes)).await
    }

    /// A receipt from MMG
    #[oai(path = "/notifications/sms/mmg", method = "post", operation_id = "receiveMmgReceipt")]
    async fn mmg(
        &self,
        app: Data<&Arc<App>>,
        request: &Request,
        body: Posted<MmgReceipt>,
    ) -> Result<Received, OtherError> {
        if let Err(refusal) = check(request.headers(), app.settings.receipts.mmg.as_ref()) {
            return Ok(Received::from(refusal));
        }
        take_sms(&app.engine, mmg::parse(&body.bytes)).await
    }

    /// An event of SES, in an envelope of SNS
    #[oai(path = "/notifications/email/ses", method = "post", operation_id = "receiveSesEvent")]
    async fn ses(
        &self,
        app: Data<&Arc<App>>,
        request: &Request,
        body: Posted<SnsEnvelope>,
    ) -> Result<Received, OtherError> {
        if let Err(refusal) = check(request.headers(), app.settings.receipts.ses.as_ref()) {
            return Ok(Received::from(refusal));
        }
        // The envelope's signature is to be checked here, before anything in it is believed.
        match ses::parse(&body.bytes) {
            Ok(ses::Notice::Receipt {
                reference,
                notification_id,
                receipt,
                ..
            }) => {
                herald_workflows::receipts::email(&app.engine, reference, notification_id, receipt).await?;
            }
            Ok(ses::Notice::Complaint(complaint)) => {
                tracing::warn!(
                    reference = complaint.reference,
                    feedback = complaint.feedback_id,
                    "a recipient complained"
                );
            }
            Ok(ses::Notice::SubscriptionConfirmation { topic, .. }) => {
                tracing::warn!(topic, "SNS asks to confirm a subscription; the link is not followed");
            }
            Err(error) => return Ok(Received::not_understood(&error)),
        }
        Ok(Received::success())
    }
}

async fn take_sms(
    engine: &herald_engine::Client,
    callback: Result<SmsCallback, CallbackError>,
) -> Result<Received, OtherError> {
    let SmsCallback {
        notification_id,
        receipt,
    } = match callback {
        Ok(callback) => callback,
        Err(error) => return Ok(Received::not_understood(&error)),
    };
    match notification_id {
        Some(id) => herald_workflows::receipts::sms(engine, id, receipt).await?,
        None => tracing::warn!(
            provider = receipt.provider.name(),
            "a receipt's reference is not one of ours"
        ),
    }
    Ok(Received::success())
}

/// Both are compared whole and in constant time.
fn check(headers: &HeaderMap, expected: Option<&BasicCredentials>) -> Result<(), Refusal> {
    let Some(expected) = expected else { return Ok(()) };
    let given = headers.get(header::AUTHORIZATION).ok_or(Refusal::NoCredentials)?;
    let given = given
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .ok_or(Refusal::WrongCredentials)?;
    let (scheme, credentials) = given;
    let credentials = BASE64_STANDARD.decode(credentials.trim()).unwrap_or_default();
    let wanted = format!("{}:{}", expected.user, expected.password);
    let same = bool::from(credentials.ct_eq(wanted.as_bytes()));
    if scheme.eq_ignore_ascii_case("basic") && same {
        Ok(())
    } else {
        Err(Refusal::WrongCredentials)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    NoCredentials,
    WrongCredentials,
}

/// What a provider is answered.
#[derive(ApiResponse)]
enum Received {
    /// The receipt will not be lost.
    #[oai(status = 200)]
    Success(Answer<Success>),
    /// The receipt is not understood.
    #[oai(status = 400)]
    NotUnderstood(Answer<LegacyErrors>),
    /// Credentials are missing.
    #[oai(status = 401)]
    NoCredentials(Answer<LegacyErrors>, #[oai(header = "WWW-Authenticate")] String),
    /// The credentials are wrong.
    #[oai(status = 403)]
    WrongCredentials(Answer<LegacyErrors>),
}

impl Received {
    fn success() -> Self {
        Self::Success(Answer(Success {
            result: "success".to_owned(),
        }))
    }

    fn not_understood(error: &CallbackError) -> Self {
        Self::NotUnderstood(Answer(LegacyErrors::new(error.message())))
    }
}

impl From<Refusal> for Received {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoCredentials => Self::NoCredentials(
                Answer(LegacyErrors::new("Unauthorized: authentication token must be provided")),
                "Basic realm=\"receipts\"".to_owned(),
            ),
            Refusal::WrongCredentials => Self::WrongCredentials(Answer(LegacyErrors::new(
                "Forbidden: invalid authentication token provided",
            ))),
        }
    }
}

#[derive(Debug, Serialize, Object)]
struct Success {
    /// Always `success`.
    result: String,
}

/// What Firetext sends. For the documentation; it is read in `herald_message::receipt`.
#[derive(Debug, Object)]
struct FiretextReceipt {
    /// 0 delivered, 1 failed, 2 pending.
    status: String,
    /// Our id of the notification.
    reference: String,
    /// Why it failed.
    code: Option<String>,
    /// London time, `YYYY-MM-DD HH:MM:SS`.
    time: Option<String>,
    mobile: Option<String>,
}

/// What MMG sends. For the documentation; it is read in `herald_message::receipt`.
#[derive(Debug, Object)]
#[oai(rename_all = "lowercase")]
struct MmgReceipt {
    /// 3 delivered; 2, 4 and 5 failed.
    status: String,
    /// Our id of the notification.
    #[oai(rename = "CID")]
    cid: String,
    substatus: Option<String>,
    /// London time, `YYYY-MM-DD HH:MM:SS`.
    deliverytime: Option<String>,
    #[oai(rename = "MSISDN")]
    msisdn: Option<String>,
    reference: Option<String>,
}

/// What SNS sends. For the documentation; it is read in `herald_message::receipt`.
#[derive(Debug, Object)]
#[oai(rename_all = "PascalCase")]
struct SnsEnvelope {
    /// `Notification` or `SubscriptionConfirmation`.
    #[oai(rename = "Type")]
    kind: String,
    /// The event, as JSON in text.
    message: String,
    topic_arn: Option<String>,
    #[oai(rename = "SubscribeURL")]
    subscribe_url: Option<String>,
}

#[cfg(test)]
mod tests {
    use poem::http::HeaderValue;

    use super::*;

    fn verdict(header: Option<&'static str>) -> Result<(), Refusal> {
        let expected = BasicCredentials {
            user: "mmg".to_owned(),
            password: "let:me:in".to_owned(),
        };
        let value = header.map(|value| (header::AUTHORIZATION, HeaderValue::from_static(value)));
        check(&value.into_iter().collect(), Some(&expected))
    }

    #[test]
    fn credentials_are_asked_for_only_where_they_are_set_and_then_must_be_right() {
        assert_eq!(check(&HeaderMap::new(), None), Ok(()));
        assert_eq!(verdict(None), Err(Refusal::NoCredentials));
        // mmg:let:me:in
        assert_eq!(verdict(Some("Basic bW1nOmxldDptZTppbg==")), Ok(()));
        assert_eq!(verdict(Some("basic bW1nOmxldDptZTppbg==")), Ok(()));
        for wrong in [
            "Basic bW1nOg==",
            "Basic !",
            "Bearer bW1nOmxldDptZTppbg==",
            "bW1nOmxldDptZTppbg==",
            "Basic",
        ] {
            assert_eq!(verdict(Some(wrong)), Err(Refusal::WrongCredentials), "{wrong}");
        }
    }
}
