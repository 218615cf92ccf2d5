//! SES's first API as the AWS SDK calls it: a form in, XML out. Signatures are not looked at.

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::Utc;
use herald_message::receipt::{Provider, ses::REFERENCE_TAG};
use mail_parser::MessageParser;
use uuid::Uuid;

use crate::World;
use crate::answer::{Answer, Taken, play};
use crate::faults::Fault;
use crate::phone::Message;
use crate::receipts::{Fate, Plan};

/// Emails a second that it allows: more than anybody sends to a stub.
const SEND_RATE: f64 = 100_000.0;

/// `POST /ses`
pub(crate) async fn call(State(world): State<Arc<World>>, body: Bytes) -> Response {
    let form = Form(form_urlencoded::parse(&body).collect());
    if form.field("Action") == Some("GetSendQuota") {
        return quota().into_response();
    }
    let read = |_: &Fault| {
        read_email(&world, &form).map_err(|(code, message)| (StatusCode::BAD_REQUEST, error(code, &message)))
    };
    play(&world, Provider::Ses, read, refused).await
}

fn quota() -> impl IntoResponse {
    let day = SEND_RATE * 24.0 * 60.0 * 60.0;
    let body = format!(
        "<GetSendQuotaResponse xmlns=\"http://ses.amazonaws.com/doc/2010-12-01/\"><GetSendQuotaResult>\
         <Max24HourSend>{day:.1}</Max24HourSend><MaxSendRate>{SEND_RATE:.1}</MaxSendRate>\
         <SentLast24Hours>0.0</SentLast24Hours></GetSendQuotaResult><ResponseMetadata><RequestId>{}</RequestId>\
         </ResponseMetadata></GetSendQuotaResponse>",
        Uuid::now_v7()
    );
    ([(header::CONTENT_TYPE, "text/xml")], body)
}

struct Form<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl Form<'_> {
    fn field(&self, name: &str) -> Option<&str> {
        let pair = self.0.iter().find(|(key, _)| key == name)?;
        Some(&pair.1)
    }

    /// The value of the message tag with that name.
    fn tag(&self, name: &str) -> Option<&str> {
        let (key, _) = self
            .0
            .iter()
            .find(|(key, value)| key.starts_with("Tags.member.") && key.ends_with(".Name") && value == name)?;
        self.field(&format!("{}.Value", key.strip_suffix(".Name")?))
    }
}

struct Email {
    from: String,
    to: String,
    subject: String,
    content: String,
}

fn read_email(world: &World, form: &Form<'_>) -> Result<Taken, (&'static str, String)> {
    let action = form.field("Action").unwrap_or_default();
    let email = match action {
        "SendRawEmail" => read_raw(form),
        "SendEmail" => read_simple(form),
        _ => return Err(("InvalidAction", format!("there is no action {action} here"))),
    }
    .ok_or(("InvalidParameterValue", "the message cannot be read".to_owned()))?;
    let message_id = format!("{}-000000", Uuid::now_v7());
    let tag = form.tag(REFERENCE_TAG);
    let reference = tag.unwrap_or(&message_id).to_owned();
    Ok(Taken {
        receipts: Plan {
            provider: Provider::Ses,
            reference: message_id.clone(),
            tag: tag.map(str::to_owned),
            url: world.receipts.url_of(Provider::Ses),
            fate: Fate::of_address(&email.to),
            to: email.to.clone(),
            from: email.from.clone(),
        },
        yes: success(action, &message_id),
        message: Message {
            reference,
            to: email.to,
            content: email.content,
            provider: Provider::Ses,
            at: Utc::now(),
            from: email.from,
            subject: Some(email.subject),
            message_id: Some(message_id),
        },
    })
}

fn read_raw(form: &Form<'_>) -> Option<Email> {
    let raw = STANDARD.decode(form.field("RawMessage.Data")?).ok()?;
    let message = MessageParser::default().parse(&raw)?;
    let from = message.from()?.first()?;
    let header_to = || message.to()?.first()?.address();
    Some(Email {
        from: match from.name() {
            Some(name) => format!("\"{name}\" <{}>", from.address()?),
            None => from.address()?.to_owned(),
        },
        to: form.field("Destinations.member.1").or_else(header_to)?.to_owned(),
        subject: message.subject().unwrap_or_default().to_owned(),
        content: message.body_text(0)?.replace("\r\n", "\n"),
    })
}

fn read_simple(form: &Form<'_>) -> Option<Email> {
    Some(Email {
        from: form.field("Source")?.to_owned(),
        to: form.field("Destination.ToAddresses.member.1")?.to_owned(),
        subject: form.field("Message.Subject.Data")?.to_owned(),
        content: form
            .field("Message.Body.Text.Data")
            .or_else(|| form.field("Message.Body.Html.Data"))?
            .to_owned(),
    })
}

fn success(action: &str, message_id: &str) -> Answer {
    Answer {
        content_type: "text/xml",
        body: format!(
            "<{action}Response xmlns=\"http://ses.amazonaws.com/doc/2010-12-01/\"><{action}Result>\
             <MessageId>{message_id}</MessageId></{action}Result><ResponseMetadata><RequestId>{}</RequestId>\
             </ResponseMetadata></{action}Response>",
            Uuid::now_v7()
        ),
    }
}

/// A fault's status, worded as SES would; 400 and 429 are its throttling unless a code says otherwise.
fn refused(fault: &Fault, status: StatusCode) -> Answer {
    let (code, message) = match status.as_u16() {
        400 | 429 => ("Throttling", "Maximum sending rate exceeded."),
        403 => ("AccessDenied", "Access denied."),
        503 => ("ServiceUnavailable", "Service is unavailable."),
        500.. => ("InternalFailure", "An internal error occurred."),
        _ => ("MessageRejected", "Refused on request."),
    };
    let message = fault.message.as_deref().unwrap_or(message);
    error(fault.code.as_deref().unwrap_or(code), message)
}

fn error(code: &str, message: &str) -> Answer {
    let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    Answer {
        content_type: "text/xml",
        body: format!(
            "<ErrorResponse xmlns=\"http://ses.amazonaws.com/doc/2010-12-01/\"><Error><Type>Sender</Type>\
             <Code>{}</Code><Message>{}</Message></Error><RequestId>{}</RequestId></ErrorResponse>",
            escape(code),
            escape(message),
            Uuid::now_v7()
        ),
    }
}
