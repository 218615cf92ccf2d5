//! `POST /v2/notifications/email`.

use std::{collections::BTreeMap, sync::Arc};

use chrono::Utc;
use herald_message::email_address::{self, EmailAddress};
use herald_store::{
    NotificationType,
    notifications::{NewNotification, NotificationView},
    templates::Template,
};
use herald_workflows::accept;
use poem::{Request, web::Data};
use poem_openapi::{ApiResponse, Object, OpenApi};
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{
    App, Error, Tag,
    auth::Caller,
    content, files,
    once::Once,
    payload::{Answer, JsonWithFiles, Posted, Timestamp},
    read, recipient,
    sanitise::{Sanitised, sanitise},
    send::{self, SentTemplate, Wanted},
    validation::{Fields, present},
};

pub struct Emails;

#[OpenApi(tag = "Tag::Send")]
impl Emails {
    /// Send an email
    ///
    /// It is accepted, and will be sent, once this is answered.
    #[oai(path = "/v2/notifications/email", method = "post", operation_id = "sendEmail")]
    async fn send(
        &self,
        caller: Caller,
        app: Data<&Arc<App>>,
        request: &Request,
        body: Posted<EmailRequest, JsonWithFiles>,
    ) -> Result<EmailAccepted, Error> {
        let once = Once::of(&app, &caller, request.headers(), "email", &body.bytes)?;
        if let Some(earlier) = once.earlier().await? {
            let host = send::host_of(request, &app.settings);
            return AcceptedEmail::again(&app, &caller, &body.bytes, earlier, &host);
        }
        let admission = app.limits.admit(&caller, NotificationType::Email).await?;
        let mut order = Order::read(&body.bytes)?;
        send::check_permission(&caller, NotificationType::Email)?;
        let sanitised_content = sanitise(&mut order.personalisation, &order.sanitise_content_for)?;
        let files = files::take(&mut order.personalisation);
        let template = send::template(&app, &caller, order.template_id, NotificationType::Email).await?;
        content::check_email(&template, &order.personalisation)?;
        let reply_to = send::reply_to(&app, &caller, order.email_reply_to_id).await?;
        recipient::check_address(&app, &caller, &order.email_address).await?;
        let simulated = recipient::is_simulated_address(&order.email_address);
        let links = files::upload(&app, &caller, files, &order.email_address, simulated).await?;
        let document_download_count = files::count(&links);
        order.personalisation.extend(links);
        let content = content::email(&template, &order.personalisation)?;

        let wanted = order.wanted.by(&caller, &template);
        let id = once.id().await?;
        if !simulated {
            let row = NewNotification {
                unsubscribe_link: unsubscribe_link(&app, id, &order, &template),
                to: order.email_address.address,
                normalised_to: Some(order.email_address.normalised),
                personalisation: send::seal(&app, &order.personalisation),
                client_reference: order.reference.clone(),
                reply_to_text: reply_to.map(|address| address.to_string()),
                scheduled_for: wanted.scheduled_for,
                document_download_count,
                ..send::row(id, &caller, &template)
            };
            admission
                .spend(accept::email(&app.engine, row, wanted.timing()))
                .await?;
        }
        let host = send::host_of(request, &app.settings);
        Ok(EmailAccepted::Created(Answer(AcceptedEmail {
            content: EmailContent {
                body: content.body,
                from_email: from_email(&app, &caller),
                one_click_unsubscribe_url: order.one_click_unsubscribe_url,
                subject: content.subject,
            },
            id,
            reference: order.reference,
            sanitised_content,
            scheduled_for: wanted.scheduled_for.map(Timestamp),
            template: SentTemplate::new(&host, &template),
            uri: send::notification_uri(&host, id),
        })))
    }
}

fn from_email(app: &App, caller: &Caller) -> String {
    let local_part = &caller.service().email_sender_local_part;
    format!("{local_part}@{}", app.settings.email_domain)
}

/// The link for the email's `List-Unsubscribe` header: the service's own, or one of ours if the template wants it. Ours
/// carries the recipient's address, sealed.
fn unsubscribe_link(app: &App, id: Uuid, order: &Order, template: &Template) -> Option<String> {
    let ours = || {
        let address = &order.email_address.address;
        let token = app.sealer.unsubscribe_token(id, address, Utc::now());
        format!("{}/unsubscribe/{id}/{token}", app.settings.api_host)
    };
    order
        .one_click_unsubscribe_url
        .clone()
        .or_else(|| template.has_unsubscribe_link.then(ours))
}

/// What is asked for, read.
#[derive(Debug)]
pub struct Order {
    email_address: EmailAddress,
    template_id: Uuid,
    personalisation: Map<String, Value>,
    reference: Option<String>,
    wanted: Wanted,
    email_reply_to_id: Option<Uuid>,
    one_click_unsubscribe_url: Option<String>,
    sanitise_content_for: Vec<String>,
}

impl Order {
    pub fn read(body: &[u8]) -> Result<Self, Error> {
        let mut fields = Fields::of_body(body)?;
        fields.require(&["email_address", "template_id"]);
        let reference = fields.short_text("reference", send::LONGEST_REFERENCE);
        let email_address = fields.judged_text("email_address", email_address::parse);
        let template_id = fields.uuid("template_id");
        let personalisation = fields.object("personalisation");
        let wanted = Wanted::read(&mut fields);
        let email_reply_to_id = fields.uuid("email_reply_to_id");
        let one_click_unsubscribe_url = fields.https_url("one_click_unsubscribe_url");
        let sanitise_content_for = fields.texts("sanitise_content_for");
        fields.finish()?;
        Ok(Self {
            email_address: present(email_address, "email_address")?,
            template_id: present(template_id, "template_id")?,
            personalisation: personalisation.unwrap_or_default(),
            reference,
            wanted,
            email_reply_to_id,
            one_click_unsubscribe_url,
            sanitise_content_for,
        })
    }
}

/// An email to send.
#[derive(Debug, Object)]
struct EmailRequest {
    email_address: String,
    template_id: Uuid,
    /// Values for the template's placeholders. A file is an object with its content in base64, `file`, and if wanted
    /// `filename` or `is_csv`, `confirm_email_before_download` (true if left out) and `retention_period` (such as
    /// `4 weeks`; 26 if left out): the recipient gets a link.
    personalisation: Option<Value>,
    /// The client's own, to find the message by.
    #[oai(validator(max_length = 1000))]
    reference: Option<String>,
    /// Within the next 24 hours. Kept for services with the permission `schedule_messages`; for others it is checked, and
    /// the message is sent at once.
    scheduled_for: Option<String>,
    /// Seconds after which the message is not wanted any more: it is then not sent, and becomes `temporary-failure`.
    /// They count from the time that it is scheduled for.
    #[oai(validator(minimum(value = "1"), maximum(value = "259200")))]
    expires_in: Option<u32>,
    /// One of the service's reply-to addresses, if not the default.
    email_reply_to_id: Option<Uuid>,
    /// Where mail programs can unsubscribe the recipient; starts with `https://`.
    one_click_unsubscribe_url: Option<String>,
    /// Names of placeholders whose values a stranger may have written.
    sanitise_content_for: Option<Vec<String>>,
}

#[derive(ApiResponse)]
enum EmailAccepted {
    /// The message will be sent.
    #[oai(status = 201)]
    Created(Answer<AcceptedEmail>),
}

#[derive(Debug, Serialize, Object)]
struct AcceptedEmail {
    content: EmailContent,
    id: Uuid,
    reference: Option<String>,
    /// By placeholder: what was changed in its value.
    sanitised_content: BTreeMap<String, Sanitised>,
    /// When it will be sent; null: at once.
    scheduled_for: Option<Timestamp>,
    template: SentTemplate,
    /// Where to read about it.
    uri: String,
}

#[derive(Debug, Serialize, Object)]
struct EmailContent {
    /// Markdown.
    body: String,
    from_email: String,
    one_click_unsubscribe_url: Option<String>,
    subject: String,
}

impl AcceptedEmail {
    /// The answer to a request that came before, with the same body.
    fn again(
        app: &App,
        caller: &Caller,
        body: &[u8],
        notification: NotificationView,
        host: &str,
    ) -> Result<EmailAccepted, Error> {
        let mut fields = Fields::of_body(body)?;
        let mut personalisation = fields.object("personalisation").unwrap_or_default();
        let content = read::content(app, &notification)?;
        Ok(EmailAccepted::Created(Answer(Self {
            content: EmailContent {
                body: content.body,
                from_email: from_email(app, caller),
                one_click_unsubscribe_url: fields.https_url("one_click_unsubscribe_url"),
                subject: content.subject.unwrap_or_default(),
            },
            id: notification.id,
            sanitised_content: sanitise(&mut personalisation, &fields.texts("sanitise_content_for"))?,
            scheduled_for: notification.scheduled_for.map(Timestamp),
            template: SentTemplate::of(host, &notification),
            uri: send::notification_uri(host, notification.id),
            reference: notification.client_reference,
        })))
    }
}
