//! The checks and lookups that sending a text and sending an email have in common.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use herald_message::status::Status;
use herald_store::{
    NotificationType,
    notifications::{NewNotification, NotificationView},
    sealed::{Sealed, context},
    templates::Template,
};
use herald_workflows::accept::Timing;
use poem::{Request, http::header};
use poem_openapi::Object;
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{App, Error, Settings, auth::Caller, validation::Fields};

/// Characters of a client's reference.
pub const LONGEST_REFERENCE: usize = 1000;

pub const NOT_ALLOWED_LETTERS: &str = "Service is not allowed to send letters";

pub fn check_permission(caller: &Caller, kind: NotificationType) -> Result<(), Error> {
    if caller.may(kind.as_str()) {
        return Ok(());
    }
    Err(Error::bad_request(match kind {
        NotificationType::Sms => "Service is not allowed to send text messages",
        NotificationType::Email => "Service is not allowed to send emails",
        NotificationType::Letter => NOT_ALLOWED_LETTERS,
    }))
}

/// The service's template, if it is one for this and in use.
pub async fn template(app: &App, caller: &Caller, id: Uuid, kind: NotificationType) -> Result<Arc<Template>, Error> {
    let found = app.cache.template(caller.service().id, id).await?;
    let template = found.ok_or_else(|| Error::bad_request("Template not found"))?;
    if template.template_type != kind {
        let is = template.template_type;
        return Err(Error::bad_request(format!(
            "{is} template is not suitable for {kind} notification"
        )));
    }
    if template.archived {
        return Err(Error::bad_request("Template has been deleted"));
    }
    Ok(template)
}

/// The name or number that a text comes from.
pub async fn sms_sender(app: &App, caller: &Caller, id: Option<Uuid>) -> Result<Arc<str>, Error> {
    let service_id = caller.service().id;
    match (app.cache.sms_sender(service_id, id).await?, id) {
        (Some(sender), _) => Ok(sender),
        (None, Some(id)) => Err(no_such("sms_sender_id", id, service_id)),
        (None, None) => Err(Error::Internal("the service has no default sender of texts".into())),
    }
}

/// The address that answers to an email go to; none if the service wants no answers.
pub async fn reply_to(app: &App, caller: &Caller, id: Option<Uuid>) -> Result<Option<Arc<str>>, Error> {
    let service_id = caller.service().id;
    match (app.cache.reply_to(service_id, id).await?, id) {
        (None, Some(id)) => Err(no_such("email_reply_to_id", id, service_id)),
        (found, _) => Ok(found),
    }
}

fn no_such(name: &str, id: Uuid, service_id: Uuid) -> Error {
    Error::bad_request(format!(
        "{name} {id} does not exist in database for service id {service_id}"
    ))
}

/// A row with everything in it that does not depend on the recipient.
pub fn row(id: Uuid, caller: &Caller, template: &Template) -> NewNotification {
    NewNotification {
        id,
        service_id: caller.service().id,
        template_id: template.id,
        template_version: template.version,
        notification_type: template.template_type,
        key_type: caller.key_type,
        api_key_id: Some(caller.key_id),
        created_by_id: None,
        job_id: None,
        job_row_number: None,
        status: Status::Created,
        to: String::new(),
        normalised_to: None,
        personalisation: None,
        client_reference: None,
        reference: None,
        reply_to_text: None,
        international: false,
        phone_prefix: None,
        rate_multiplier: None,
        billable_units: 0,
        postage: None,
        document_download_count: None,
        unsubscribe_link: None,
        scheduled_for: None,
    }
}

/// The longest time for which a message may be wanted, in seconds: that after which we give up on it ourselves.
pub const LONGEST_EXPIRY: u32 = 72 * 60 * 60;

/// The permission of services whose `scheduled_for` is kept; for others it is only checked, as in Notify.
const SCHEDULING: &str = "schedule_messages";

/// When a message is wanted.
#[derive(Debug, Default, Clone, Copy)]
pub struct Wanted {
    pub scheduled_for: Option<DateTime<Utc>>,
    pub expires_in: Option<Duration>,
}

impl Wanted {
    /// Reads `scheduled_for` and `expires_in`.
    pub fn read(fields: &mut Fields) -> Self {
        Self {
            scheduled_for: fields.schedule("scheduled_for"),
            expires_in: fields.seconds("expires_in", LONGEST_EXPIRY),
        }
    }

    /// What of it this caller may want, and what the template wants where nothing is said.
    pub fn by(self, caller: &Caller, template: &Template) -> Self {
        let expires_in = template.expires_in.and_then(|seconds| seconds.try_into().ok());
        Self {
            scheduled_for: self.scheduled_for.filter(|_| caller.may(SCHEDULING)),
            expires_in: self.expires_in.or(expires_in.map(Duration::from_secs)),
        }
    }

    pub fn timing(&self) -> Timing {
        let ahead = self.scheduled_for.and_then(|time| (time - Utc::now()).to_std().ok());
        Timing {
            after: ahead.unwrap_or_default(),
            expires_in: self.expires_in,
        }
    }
}

/// Personalisation as it is stored.
pub fn seal(app: &App, personalisation: &Map<String, Value>) -> Option<Sealed> {
    if personalisation.is_empty() {
        return None;
    }
    let json = serde_json::to_string(personalisation).expect("what was read from JSON can be written as JSON");
    Some(app.sealer.seal(context::PERSONALISATION, &json))
}

/// Scheme and host of this request, as the client sees them: a proxy in front may speak HTTPS for us.
pub fn host_of(request: &Request, settings: &Settings) -> String {
    let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let scheme = match text("x-forwarded-proto") {
        Some("https") => "https",
        _ => "http",
    };
    match text(header::HOST.as_str()) {
        Some(host) => format!("{scheme}://{host}"),
        None => settings.api_host.clone(),
    }
}

pub fn notification_uri(host: &str, id: Uuid) -> String {
    format!("{host}/v2/notifications/{id}")
}

/// The template that a message was made from.
#[derive(Debug, Serialize, Object)]
pub struct SentTemplate {
    id: Uuid,
    uri: String,
    version: i32,
}

impl SentTemplate {
    pub fn new(host: &str, template: &Template) -> Self {
        let Template {
            id,
            service_id,
            version,
            ..
        } = *template;
        Self {
            id,
            uri: format!("{host}/services/{service_id}/templates/{id}"),
            version,
        }
    }

    /// Of a message that was accepted before.
    pub fn of(host: &str, notification: &NotificationView) -> Self {
        let (id, service_id) = (notification.template_id, notification.service_id);
        Self {
            id,
            uri: format!("{host}/services/{service_id}/templates/{id}"),
            version: notification.template_version,
        }
    }
}
