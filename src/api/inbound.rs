//! Texts that people send to a service's number. Each is kept before it is answered; an answer other than 2xx, or none,
//! makes the firm send it again, which is one text all the same.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use herald_engine::Seldom;
use herald_message::{
    inbound::{InboundText, NoText, firetext, mmg},
    receipt::Provider,
};
use herald_store::{
    received::{self, NewReceivedText},
    sealed::context,
};
use poem::{
    IntoResponse, Request, Response,
    http::{HeaderValue, header},
    web::Data,
};
use poem_openapi::{
    ApiResponse, Object, OpenApi,
    payload::Payload,
    registry::{MetaSchemaRef, Registry},
    types::Type,
};
use serde::Serialize;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{
    App, Tag,
    credentials::{self, Refusal},
    error::{LegacyErrors, OtherError},
    formats,
    payload::{Answer, Form, Posted},
};

/// Whoever knows our address can post.
static TURNED_AWAY: Seldom = Seldom::new();
static OF_NOBODY: Seldom = Seldom::new();

/// Names and passwords of the firms. Where a list is empty nobody gets in.
#[derive(Clone, Default)]
pub struct InboundCredentials {
    pub mmg_names: Vec<String>,
    pub mmg_passwords: Vec<String>,
    /// Firetext's name is always `notify`.
    pub firetext_passwords: Vec<String>,
}

const FIRETEXT_NAME: &str = "notify";

pub struct InboundTexts;

#[OpenApi(tag = "Tag::Receipts")]
impl InboundTexts {
    /// A text that MMG has received
    #[oai(
        path = "/notifications/sms/receive/mmg",
        method = "post",
        operation_id = "receiveMmgText"
    )]
    async fn mmg(&self, app: Data<&Arc<App>>, request: &Request, body: Posted<MmgText>) -> Result<Reply, OtherError> {
        let InboundCredentials {
            mmg_names,
            mmg_passwords,
            ..
        } = &app.settings.inbound;
        if let Err(refusal) = credentials::check(request.headers(), mmg_names, mmg_passwords) {
            return Ok(Reply::from(refusal));
        }
        take(&app, Provider::Mmg, mmg::parse(&body.bytes)).await
    }

    /// A text that Firetext has received
    #[oai(
        path = "/notifications/sms/receive/firetext",
        method = "post",
        operation_id = "receiveFiretextText"
    )]
    async fn firetext(
        &self,
        app: Data<&Arc<App>>,
        request: &Request,
        body: Posted<FiretextText, Form>,
    ) -> Result<Reply, OtherError> {
        let passwords = &app.settings.inbound.firetext_passwords;
        if let Err(refusal) = credentials::check(request.headers(), &[FIRETEXT_NAME.to_owned()], passwords) {
            return Ok(Reply::from(refusal));
        }
        take(&app, Provider::Firetext, firetext::parse(&body.bytes)).await
    }
}

async fn take(app: &App, provider: Provider, text: Result<InboundText, NoText>) -> Result<Reply, OtherError> {
    let reply = keep(app, provider, text).await;
    let is_good = matches!(reply, Ok(Reply::Kept(Acknowledged::Kept)));
    herald_metrics::text_received(provider.name(), is_good);
    reply
}

async fn keep(app: &App, provider: Provider, text: Result<InboundText, NoText>) -> Result<Reply, OtherError> {
    let text = match text {
        Ok(text) => text,
        Err(error) => return Ok(Reply::NotUnderstood(Answer(LegacyErrors::new(error.to_string())))),
    };
    let mut connection = app.pool.acquire().await?;
    let service = received::service_of(&mut connection, &text.to).await?;
    drop(connection);
    let Some(service_id) = service else {
        // Our table of numbers is wrong, or a permission was withdrawn: nothing that the firm could mend.
        if let Some(times) = OF_NOBODY.happened() {
            tracing::error!(
                provider = provider.name(),
                times,
                "a text came for a number that receives none"
            );
        }
        return Ok(Reply::Kept(Acknowledged::OfNobody(provider)));
    };
    let received = received_text(app, provider, service_id, text, Utc::now());
    let id = received.id;
    herald_workflows::received::text(&app.arrivals, &app.sealer, received).await?;
    tracing::info!(text = %id, service = %service_id, provider = provider.name(), "a text was received");
    Ok(Reply::Kept(Acknowledged::Kept))
}

fn received_text(
    app: &App,
    provider: Provider,
    service_id: Uuid,
    text: InboundText,
    now: DateTime<Utc>,
) -> NewReceivedText {
    let sent_at = formats::iso_8601(&text.sent_at).map(|(time, _zone)| time.and_utc());
    NewReceivedText {
        id: Uuid::now_v7(),
        service_id,
        key: key(provider, &text, sent_at, now),
        content: app.sealer.seal(context::RECEIVED_TEXT, &text.content),
        notify_number: text.to,
        user_number: text.from,
        provider: provider.name().to_owned(),
        provider_reference: text.reference,
        provider_date: sent_at,
    }
}

/// What a repetition shares with the text that it repeats: the firm's reference, or where it gives none, all that is in
/// it. The time is in it; where that is not to be read, the same words may well be sent again on another day.
fn key(provider: Provider, text: &InboundText, sent_at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> String {
    let name = provider.name();
    if let Some(reference) = text.reference.as_deref().filter(|reference| !reference.is_empty()) {
        return format!("{name} {reference}");
    }
    let time = sent_at.map_or_else(|| now.date_naive().to_string(), |time| time.to_rfc3339());
    let mut digest = Sha256::new();
    for field in [&text.to, &text.from, &text.content, &time] {
        // The length keeps fields apart.
        digest.update((field.len() as u64).to_be_bytes());
        digest.update(field.as_bytes());
    }
    format!("{name} {:x}", digest.finalize())
}

/// What a firm is answered.
#[derive(ApiResponse)]
enum Reply {
    /// The text will not be lost. Of one to a number that receives none MMG is told `RECEIVED`, as text.
    #[oai(status = 200)]
    Kept(Acknowledged),
    /// The text is not understood.
    #[oai(status = 400)]
    NotUnderstood(Answer<LegacyErrors>),
    /// Credentials are missing.
    #[oai(status = 401)]
    NoCredentials(Answer<LegacyErrors>, #[oai(header = "WWW-Authenticate")] String),
    /// The credentials are wrong.
    #[oai(status = 403)]
    WrongCredentials(Answer<LegacyErrors>),
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Self {
        if let Some(times) = TURNED_AWAY.happened() {
            tracing::warn!(?refusal, times, "a received text is turned away");
        }
        match refusal {
            // Notify says so, although it is Basic that it wants.
            Refusal::NoCredentials => Self::NoCredentials(refusal.told(), "Bearer".to_owned()),
            Refusal::WrongCredentials => Self::WrongCredentials(refusal.told()),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Acknowledged {
    Kept,
    /// It came for a number that receives none.
    OfNobody(Provider),
}

impl Payload for Acknowledged {
    const CONTENT_TYPE: &'static str = "application/json";

    fn schema_ref() -> MetaSchemaRef {
        TextStatus::schema_ref()
    }

    fn register(registry: &mut Registry) {
        TextStatus::register(registry);
    }
}

impl IntoResponse for Acknowledged {
    fn into_response(self) -> Response {
        match self {
            Self::OfNobody(Provider::Mmg) => {
                let html = HeaderValue::from_static("text/html; charset=utf-8");
                Response::builder().header(header::CONTENT_TYPE, html).body("RECEIVED")
            }
            Self::Kept | Self::OfNobody(_) => Answer(TextStatus {
                status: "ok".to_owned(),
            })
            .into_response(),
        }
    }
}

#[derive(Debug, Serialize, Object)]
struct TextStatus {
    /// Always `ok`.
    status: String,
}

/// What MMG sends. For the documentation; it is read in `herald_message::inbound`.
#[derive(Debug, Object)]
#[oai(rename_all = "PascalCase")]
struct MmgText {
    /// Who sent it.
    #[oai(rename = "MSISDN")]
    msisdn: String,
    /// The service's number.
    number: String,
    /// Written for a URL, with backslash escapes.
    message: String,
    /// MMG's own id of it.
    #[oai(rename = "ID")]
    id: String,
    /// UTC, written for a URL.
    date_recieved: String,
    trigger: Option<String>,
    channel: Option<String>,
}

/// What Firetext sends. For the documentation; it is read in `herald_message::inbound`.
#[derive(Debug, Object)]
struct FiretextText {
    /// Who sent it.
    source: String,
    /// The service's number.
    destination: String,
    message: String,
    /// UTC, `YYYY-MM-DD HH:MM:SS`.
    time: String,
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn text(body: &str) -> InboundText {
        firetext::parse(body.as_bytes()).unwrap()
    }

    fn keys(first: &str, second: &str, apart: TimeDelta) -> [String; 2] {
        let now = Utc::now();
        [(first, now), (second, now + apart)].map(|(body, now)| {
            let text = text(body);
            let sent_at = formats::iso_8601(&text.sent_at).map(|(time, _zone)| time.and_utc());
            key(Provider::Firetext, &text, sent_at, now)
        })
    }

    #[test]
    fn a_repetition_is_told_from_another_text() {
        const TEXT: &str = "destination=0786&source=0741&message=Yes&time=2026-11-20+12:00:00";
        let [first, again] = keys(TEXT, TEXT, TimeDelta::days(3));
        assert_eq!(first, again);
        for other in [
            "destination=0786&source=0741&message=Yes&time=2026-11-20+12:00:01",
            "destination=0786&source=0741&message=No&time=2026-11-20+12:00:00",
            "destination=0786&source=0742&message=Yes&time=2026-11-20+12:00:00",
            "destination=07860&source=741&message=Yes&time=2026-11-20+12:00:00",
        ] {
            let [first, other] = keys(TEXT, other, TimeDelta::zero());
            assert_ne!(first, other);
        }
    }

    #[test]
    fn the_same_words_without_a_time_may_be_sent_on_another_day() {
        const TEXT: &str = "destination=0786&source=0741&message=Yes&time=now";
        let [first, again] = keys(TEXT, TEXT, TimeDelta::zero());
        assert_eq!(first, again);
        let [first, later] = keys(TEXT, TEXT, TimeDelta::days(1));
        assert_ne!(first, later);
    }
}
