//! Delivery receipts from the providers. Each is accepted durably before it is answered; what it means is decided by
//! the run that waits for it. An answer other than 2xx makes the provider try again.

use std::{slice, sync::Arc};

use herald_engine::Seldom;
use herald_message::receipt::{
    CallbackError, SmsCallback, firetext, mmg, ses,
    sns::{Envelope, Kind},
};
use herald_providers::sns;
use poem::{Request, http::HeaderMap, web::Data};
use poem_openapi::{ApiResponse, Object, OpenApi};
use serde::Serialize;

use crate::{
    App, Error, Tag, credentials,
    error::{LegacyErrors, OtherError},
    payload::{Answer, Form, Posted},
};

/// Whoever knows our address can post.
static TURNED_AWAY: Seldom = Seldom::new();
static FORGED: Seldom = Seldom::new();
static OF_OTHERS: Seldom = Seldom::new();

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
        take_sms(&app.arrivals, firetext::parse(&body.bytes)).await
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
        take_sms(&app.arrivals, mmg::parse(&body.bytes)).await
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
        let envelope = match Envelope::parse(&body.bytes) {
            Ok(envelope) => envelope,
            Err(error) => return Ok(Received::not_understood(&error)),
        };
        if let Err(refusal) = app.sns.check(&envelope).await {
            return Received::refused(refusal);
        }
        match envelope.kind {
            Kind::Notification => take_email(&app.arrivals, &envelope).await,
            Kind::SubscriptionConfirmation => match app.sns.confirm(&envelope).await {
                Ok(()) => {
                    tracing::info!(topic = envelope.topic_arn, "a subscription is confirmed");
                    Ok(Received::success())
                }
                Err(refusal) => Received::refused(refusal),
            },
            Kind::UnsubscribeConfirmation => {
                tracing::warn!(
                    topic = envelope.topic_arn,
                    "SNS sends no more events of this topic: it was unsubscribed"
                );
                Ok(Received::success())
            }
        }
    }
}

async fn take_email(engine: &herald_engine::Client, envelope: &Envelope) -> Result<Received, OtherError> {
    match ses::read(envelope) {
        Ok(ses::Notice::Receipt {
            reference,
            notification_id,
            receipt,
            ..
        }) => herald_workflows::receipts::email(engine, reference, notification_id, receipt).await?,
        Ok(ses::Notice::Complaint(complaint)) => {
            let message_id = envelope.message_id.as_deref().and_then(|id| id.parse().ok());
            herald_workflows::receipts::complaint(engine, complaint, message_id).await?;
        }
        Err(error) => return Ok(Received::not_understood(&error)),
    }
    Ok(Received::success())
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
        None => {
            if let Some(times) = OF_OTHERS.happened() {
                let provider = receipt.provider.name();
                tracing::warn!(provider, times, "a receipt's reference is not one of ours");
            }
        }
    }
    Ok(Received::success())
}

/// Who shows no credentials is turned away only where some are asked for.
fn check(headers: &HeaderMap, expected: Option<&BasicCredentials>) -> Result<(), credentials::Refusal> {
    expected.map_or(Ok(()), |expected| {
        credentials::check(
            headers,
            slice::from_ref(&expected.user),
            slice::from_ref(&expected.password),
        )
    })
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
    /// The credentials are wrong, or the signature.
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

    /// What SNS is told: a forgery is turned away for good, and what cannot be told now comes again.
    fn refused(refusal: sns::Refusal) -> Result<Self, OtherError> {
        match refusal {
            sns::Refusal::Forged(why) => {
                if let Some(times) = FORGED.happened() {
                    tracing::warn!(why, times, "a message that says it is from SNS is turned away");
                }
                Ok(Self::WrongCredentials(Answer(LegacyErrors::new(
                    "Forbidden: the message is not signed by a topic of ours",
                ))))
            }
            sns::Refusal::Later(_) => Err(OtherError::from(Error::Unavailable(refusal.into()))),
        }
    }
}

impl From<credentials::Refusal> for Received {
    fn from(refusal: credentials::Refusal) -> Self {
        if let Some(times) = TURNED_AWAY.happened() {
            tracing::warn!(?refusal, times, "a receipt is turned away");
        }
        match refusal {
            credentials::Refusal::NoCredentials => {
                Self::NoCredentials(refusal.told(), "Basic realm=\"receipts\"".to_owned())
            }
            credentials::Refusal::WrongCredentials => Self::WrongCredentials(refusal.told()),
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

/// What SNS sends, signed. For the documentation; it is read in `herald_message::receipt`.
#[derive(Debug, Object)]
#[oai(rename_all = "PascalCase")]
struct SnsEnvelope {
    /// `Notification`, `SubscriptionConfirmation` or `UnsubscribeConfirmation`.
    #[oai(rename = "Type")]
    kind: String,
    /// The event, as JSON in text.
    message: String,
    message_id: Option<String>,
    subject: Option<String>,
    timestamp: Option<String>,
    topic_arn: Option<String>,
    token: Option<String>,
    #[oai(rename = "SubscribeURL")]
    subscribe_url: Option<String>,
    /// 1 (SHA-1) or 2 (SHA-256).
    signature_version: Option<String>,
    signature: Option<String>,
    #[oai(rename = "SigningCertURL")]
    signing_cert_url: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_asked_for_only_where_they_are_set() {
        let expected = BasicCredentials {
            user: "mmg".to_owned(),
            password: "secret".to_owned(),
        };
        assert_eq!(check(&HeaderMap::new(), None), Ok(()));
        let refused = check(&HeaderMap::new(), Some(&expected));
        assert_eq!(refused, Err(credentials::Refusal::NoCredentials));
    }
}
