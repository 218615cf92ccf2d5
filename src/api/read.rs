//! One notification, as its service sees it.

use std::sync::Arc;

use chrono_tz::Europe::London;
use herald_message::status::Status;
use herald_store::{
    NotificationType,
    notifications::{self, NotificationView},
    sealed::context,
};
use poem::{Request, web::Data};
use poem_openapi::{ApiResponse, Object, OpenApi, param::Path};
use rust_decimal::{Decimal, prelude::ToPrimitive};
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{
    App, Error, Tag,
    auth::Caller,
    content::{self, Content},
    formats,
    payload::{Answer, Timestamp},
    send,
};

pub struct Notifications;

#[OpenApi(tag = "Tag::Notifications")]
impl Notifications {
    /// A notification
    ///
    /// Any key of the service may read it, until it is deleted at the end of the service's retention.
    #[oai(
        path = "/v2/notifications/:notification_id",
        method = "get",
        operation_id = "getNotification"
    )]
    async fn get(
        &self,
        caller: Caller,
        app: Data<&Arc<App>>,
        request: &Request,
        /// Its id, which sending it was answered with.
        notification_id: Path<String>,
    ) -> Result<OneNotification, Error> {
        let found = find(&app, &caller, &notification_id).await?;
        let cost = Cost::of(&app, &found).await?;
        let shown = Notification::new(&app, found, cost, &send::host_of(request, &app.settings))?;
        Ok(OneNotification::Ok(Answer(shown)))
    }

    /// A letter as PDF
    ///
    /// Herald sends no letters yet, so there is none to see.
    #[oai(
        path = "/v2/notifications/:notification_id/pdf",
        method = "get",
        operation_id = "getLetterPdf"
    )]
    async fn get_pdf(
        &self,
        caller: Caller,
        app: Data<&Arc<App>>,
        /// The letter's id.
        notification_id: Path<String>,
    ) -> Result<(), Error> {
        match find(&app, &caller, &notification_id).await?.notification_type {
            NotificationType::Sms | NotificationType::Email => Err(Error::bad_request("Notification is not a letter")),
            NotificationType::Letter => Err(Error::NotAvailable("Herald cannot show letters yet")),
        }
    }
}

/// What a message says.
pub fn content(app: &App, notification: &NotificationView) -> Result<Content, Error> {
    let personalisation = match &notification.personalisation {
        Some(sealed) => {
            let text = app
                .sealer
                .open(context::PERSONALISATION, sealed)
                .map_err(|error| Error::Internal(error.into()))?;
            serde_json::from_str(&text).map_err(|error| Error::Internal(error.into()))?
        }
        None => Map::<String, Value>::new(),
    };
    Ok(content::fill(
        notification.notification_type,
        notification.template_subject.as_deref(),
        &notification.template_content,
        &personalisation,
    ))
}

/// One of the caller's notifications.
pub async fn find(app: &App, caller: &Caller, id: &str) -> Result<NotificationView, Error> {
    let id = formats::uuid(id).ok_or_else(|| Error::invalid("notification_id is not a valid UUID"))?;
    let mut connection = app.pool.acquire().await?;
    notifications::get(&mut connection, caller.service().id, id)
        .await?
        .ok_or(Error::NotFound)
}

/// What a notification costs its service, as far as that is known.
pub struct Cost {
    details: CostDetails,
    pounds: Option<f64>,
}

impl Cost {
    /// A text's cost is known once its fragments are counted: when it is sent, or fails before.
    pub async fn of(app: &App, notification: &NotificationView) -> Result<Self, Error> {
        if notification.notification_type != NotificationType::Sms {
            return Ok(Self {
                details: CostDetails::default(),
                pounds: Some(0.0),
            });
        }
        if notification.status == Status::Created && notification.billable_units == 0 {
            return Ok(Self {
                details: CostDetails::default(),
                pounds: None,
            });
        }
        let day = notification.created_at.with_timezone(&London).date_naive();
        let rate = app.cache.sms_rate(day).await?.unwrap_or_default();
        let multiplier = Decimal::from(notification.rate_multiplier.unwrap_or(1));
        let pounds = rate * multiplier * Decimal::from(notification.billable_units);
        Ok(Self {
            details: CostDetails {
                billable_sms_fragments: Some(notification.billable_units),
                international_rate_multiplier: multiplier.to_f64(),
                sms_rate: rate.to_f64(),
            },
            pounds: pounds.to_f64(),
        })
    }
}

#[derive(ApiResponse)]
enum OneNotification {
    /// The notification, as it is now.
    #[oai(status = 200)]
    Ok(Answer<Notification>),
}

#[derive(Debug, Serialize, Object)]
pub struct Notification {
    /// With its placeholders filled.
    body: String,
    completed_at: Option<Timestamp>,
    cost_details: CostDetails,
    /// Null while it is not known.
    cost_in_pounds: Option<f64>,
    created_at: Timestamp,
    /// Who sent it, if a person did.
    created_by_name: Option<String>,
    email_address: Option<String>,
    pub id: Uuid,
    is_cost_data_ready: bool,
    line_1: Option<String>,
    line_2: Option<String>,
    line_3: Option<String>,
    line_4: Option<String>,
    line_5: Option<String>,
    line_6: Option<String>,
    one_click_unsubscribe_url: Option<String>,
    phone_number: Option<String>,
    postage: Option<String>,
    postcode: Option<String>,
    /// The client's own.
    reference: Option<String>,
    /// When it was to be sent; null: at once.
    scheduled_for: Option<Timestamp>,
    sent_at: Option<Timestamp>,
    /// `created`, `sending`, `pending`, `sent`, `delivered`, `permanent-failure`, `temporary-failure`,
    /// `technical-failure` …
    status: String,
    /// Of an email.
    subject: Option<String>,
    template: TemplateVersion,
    #[oai(rename = "type")]
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Debug, Default, Serialize, Object)]
struct CostDetails {
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    billable_sms_fragments: Option<i32>,
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    international_rate_multiplier: Option<f64>,
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    sms_rate: Option<f64>,
}

#[derive(Debug, Serialize, Object)]
struct TemplateVersion {
    id: Uuid,
    uri: String,
    version: i32,
}

impl Notification {
    pub fn new(app: &App, notification: NotificationView, cost: Cost, host: &str) -> Result<Self, Error> {
        let content = content(app, &notification)?;
        let to = |kind| (notification.notification_type == kind).then(|| notification.to.clone());
        let template_id = notification.template_id;
        let version = notification.template_version;
        Ok(Self {
            body: content.body,
            completed_at: notification
                .updated_at
                .filter(|_| notification.status.is_completed())
                .map(Timestamp),
            cost_details: cost.details,
            cost_in_pounds: cost.pounds,
            created_at: Timestamp(notification.created_at),
            created_by_name: notification.created_by_name,
            email_address: to(NotificationType::Email),
            id: notification.id,
            is_cost_data_ready: cost.pounds.is_some(),
            line_1: None,
            line_2: None,
            line_3: None,
            line_4: None,
            line_5: None,
            line_6: None,
            one_click_unsubscribe_url: notification.unsubscribe_link,
            phone_number: to(NotificationType::Sms),
            postage: notification.postage,
            postcode: None,
            reference: notification.client_reference,
            scheduled_for: notification.scheduled_for.map(Timestamp),
            sent_at: notification.sent_at.map(Timestamp),
            status: notification.status.as_str().to_owned(),
            subject: content.subject,
            template: TemplateVersion {
                id: template_id,
                uri: format!("{host}/v2/template/{template_id}/version/{version}"),
                version,
            },
            kind: notification.notification_type.as_str().to_owned(),
        })
    }
}
