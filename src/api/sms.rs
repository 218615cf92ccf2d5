//! `POST /v2/notifications/sms`.

use std::sync::Arc;

use herald_store::{
    NotificationType,
    notifications::{NewNotification, NotificationView},
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
    content,
    once::Once,
    payload::{Answer, Posted, Timestamp},
    read,
    recipient::{self, TypedNumber},
    send::{self, SentTemplate, Wanted},
    validation::{Fields, present},
};

pub struct Texts;

#[OpenApi(tag = "Tag::Send")]
impl Texts {
    /// Send a text message
    ///
    /// It is accepted, and will be sent, once this is answered.
    #[oai(path = "/v2/notifications/sms", method = "post", operation_id = "sendSms")]
    async fn send(
        &self,
        caller: Caller,
        app: Data<&Arc<App>>,
        request: &Request,
        body: Posted<SmsRequest>,
    ) -> Result<SmsAccepted, Error> {
        let once = Once::of(&app, &caller, request.headers(), "sms", &body.bytes)?;
        if let Some(earlier) = once.earlier().await? {
            return AcceptedSms::again(&app, earlier, &send::host_of(request, &app.settings));
        }
        let mut admission = app.limits.admit(&caller, NotificationType::Sms).await?;
        let Order {
            phone_number: TypedNumber { text: typed, number },
            template_id,
            personalisation,
            reference,
            wanted,
            sms_sender_id,
        } = Order::read(&body.bytes)?;

        send::check_permission(&caller, NotificationType::Sms)?;
        let template = send::template(&app, &caller, template_id, NotificationType::Sms).await?;
        let text = content::text(&template, &personalisation)?;
        let sender = send::sms_sender(&app, &caller, sms_sender_id).await?;
        recipient::check_number(&app, &caller, &number).await?;
        admission.count_international(&caller, &number).await?;
        text.check_length()?;

        let wanted = wanted.by(&caller, &template);
        let id = once.id().await?;
        if !recipient::is_simulated_number(&number) {
            let row = NewNotification {
                to: typed,
                international: number.international,
                phone_prefix: Some(number.country_prefix),
                rate_multiplier: Some(number.rate_multiplier.into()),
                normalised_to: Some(number.normalised),
                personalisation: send::seal(&app, &personalisation),
                client_reference: reference.clone(),
                reply_to_text: Some(sender.to_string()),
                scheduled_for: wanted.scheduled_for,
                ..send::row(id, &caller, &template)
            };
            admission.spend(accept::sms(&app.engine, row, wanted.timing())).await?;
        }
        let host = send::host_of(request, &app.settings);
        Ok(SmsAccepted::Created(Answer(AcceptedSms {
            content: SmsContent {
                body: text.body,
                from_number: sender.to_string(),
            },
            id,
            reference,
            scheduled_for: wanted.scheduled_for.map(Timestamp),
            template: SentTemplate::new(&host, &template),
            uri: send::notification_uri(&host, id),
        })))
    }
}

/// What is asked for, read.
#[derive(Debug)]
pub struct Order {
    phone_number: TypedNumber,
    template_id: Uuid,
    personalisation: Map<String, Value>,
    reference: Option<String>,
    wanted: Wanted,
    sms_sender_id: Option<Uuid>,
}

impl Order {
    pub fn read(body: &[u8]) -> Result<Self, Error> {
        let mut fields = Fields::of_body(body)?;
        fields.require(&["phone_number", "template_id"]);
        let reference = fields.short_text("reference", send::LONGEST_REFERENCE);
        let phone_number = fields.judged_text("phone_number", recipient::read_phone_number);
        let template_id = fields.uuid("template_id");
        let personalisation = fields.object("personalisation");
        let wanted = Wanted::read(&mut fields);
        let sms_sender_id = fields.uuid("sms_sender_id");
        fields.finish()?;
        Ok(Self {
            phone_number: present(phone_number, "phone_number")?,
            template_id: present(template_id, "template_id")?,
            personalisation: personalisation.unwrap_or_default(),
            reference,
            wanted,
            sms_sender_id,
        })
    }
}

/// A text message to send.
#[derive(Debug, Object)]
struct SmsRequest {
    phone_number: String,
    template_id: Uuid,
    /// Values for the template's placeholders.
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
    /// One of the service's senders, if not the default.
    sms_sender_id: Option<Uuid>,
}

#[derive(ApiResponse)]
enum SmsAccepted {
    /// The message will be sent.
    #[oai(status = 201)]
    Created(Answer<AcceptedSms>),
}

#[derive(Debug, Serialize, Object)]
struct AcceptedSms {
    content: SmsContent,
    id: Uuid,
    reference: Option<String>,
    /// When it will be sent; null: at once.
    scheduled_for: Option<Timestamp>,
    template: SentTemplate,
    /// Where to read about it.
    uri: String,
}

#[derive(Debug, Serialize, Object)]
struct SmsContent {
    /// Without the name of the service, which may be put in front when it is sent.
    body: String,
    from_number: String,
}

impl AcceptedSms {
    /// The answer to a request that came before.
    fn again(app: &App, notification: NotificationView, host: &str) -> Result<SmsAccepted, Error> {
        let content = read::content(app, &notification)?;
        Ok(SmsAccepted::Created(Answer(Self {
            content: SmsContent {
                body: content.body,
                from_number: notification.reply_to_text.clone().unwrap_or_default(),
            },
            id: notification.id,
            scheduled_for: notification.scheduled_for.map(Timestamp),
            template: SentTemplate::of(host, &notification),
            uri: send::notification_uri(host, notification.id),
            reference: notification.client_reference,
        })))
    }
}
