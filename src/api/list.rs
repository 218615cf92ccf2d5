//! `GET /v2/notifications`: a service's notifications, newest first, a page at a time.

use std::sync::Arc;

use herald_message::status::Status;
use herald_store::{
    NotificationType,
    notifications::{self, Filter},
};
use poem::{Request, web::Data};
use poem_openapi::{ApiResponse, Object, OpenApi, param::Query};
use serde::Serialize;

use crate::{
    App, Error, Tag,
    auth::Caller,
    paging::{Links, Parameters, older_than, one_of},
    payload::Answer,
    read::{Cost, Notification},
    send,
};

/// What may be asked for as a status, in the order in which Notify says it.
pub const STATUSES: [&str; 16] = [
    "cancelled",
    "created",
    "sending",
    "sent",
    "delivered",
    "pending",
    "failed",
    "technical-failure",
    "temporary-failure",
    "permanent-failure",
    "pending-virus-check",
    "validation-failed",
    "virus-scan-failed",
    "returned-letter",
    "accepted",
    "received",
];

/// All that `failed` stands for. No message has that status itself any more.
const FAILED: [Status; 6] = [
    Status::TechnicalFailure,
    Status::TemporaryFailure,
    Status::PermanentFailure,
    Status::ValidationFailed,
    Status::VirusScanFailed,
    Status::ReturnedLetter,
];

pub const TYPES: [&str; 3] = ["sms", "email", "letter"];

/// Parameters of which the first value counts.
const SINGLE: [&str; 3] = ["reference", "include_jobs", "older_than"];

pub struct NotificationLists;

#[OpenApi(tag = "Tag::Notifications")]
impl NotificationLists {
    /// All notifications
    ///
    /// Newest first, a page at a time, of those that were made with a key of the same type. Parameters that are not
    /// listed here are refused.
    #[expect(clippy::too_many_arguments, reason = "the documentation has each of them")]
    #[oai(path = "/v2/notifications", method = "get", operation_id = "listNotifications")]
    async fn list(
        &self,
        caller: Caller,
        app: Data<&Arc<App>>,
        request: &Request,
        /// Only those with this reference.
        #[oai(name = "reference")]
        _reference: Query<Option<String>>,
        /// Only those in one of these statuses. `failed` stands for every failure; `accepted` and `received` are the
        /// statuses of letters.
        #[oai(name = "status")]
        _status: Query<Option<Vec<String>>>,
        /// `sms`, `email` or `letter`
        #[oai(name = "template_type")]
        _template_type: Query<Option<Vec<String>>>,
        /// `true`: also those from uploaded lists
        #[oai(name = "include_jobs")]
        _include_jobs: Query<Option<String>>,
        /// Only those older than this notification.
        #[oai(name = "older_than")]
        _older_than: Query<Option<String>>,
    ) -> Result<NotificationList, Error> {
        let mut parameters = Parameters::of(request)?;
        let filter = Filter {
            key_type: Some(caller.key_type),
            limit: app.settings.page_size.into(),
            ..read(&parameters)?
        };
        // The connection goes back before costs are looked up: these may need one.
        let page = notifications::list(&mut *app.pool.acquire().await?, caller.service().id, &filter).await?;
        let host = send::host_of(request, &app.settings);
        let mut shown = Vec::with_capacity(page.len());
        for notification in page {
            let cost = Cost::of(&app, &notification).await?;
            shown.push(Notification::new(&app, notification, cost, &host)?);
        }

        let address = format!("{host}/v2/notifications");
        for name in SINGLE {
            parameters.keep_first(name);
        }
        let current = parameters.on(&address);
        let next = shown.last().map(|last| {
            parameters.set("older_than", last.id.to_string());
            parameters.on(&address)
        });
        Ok(NotificationList::Ok(Answer(ListOfNotifications {
            links: Links { current, next },
            notifications: shown,
        })))
    }
}

fn read(parameters: &Parameters) -> Result<Filter, Error> {
    let mut fields = parameters.fields();
    fields.take("reference");
    let reference = parameters.first("reference");
    if reference.is_some_and(|reference| reference.contains('\0')) {
        // Postgres cannot store it, nor compare with it.
        fields.fault("reference", "must not contain null characters");
    }
    fields.take("status");
    let mut statuses = Vec::new();
    for status in parameters.all("status") {
        if one_of(&mut fields, "status", status, &STATUSES) {
            statuses.extend(meant_by(status));
        }
    }
    fields.take("template_type");
    let mut notification_types = Vec::<NotificationType>::new();
    for name in parameters.all("template_type") {
        if one_of(&mut fields, "template_type", name, &TYPES) {
            notification_types.extend(name.parse::<NotificationType>());
        }
    }
    fields.take("include_jobs");
    let include_jobs = parameters.first("include_jobs");
    if let Some(answer) = include_jobs {
        one_of(&mut fields, "include_jobs", answer, &["true", "True"]);
    }
    let older_than = older_than(parameters, &mut fields);
    fields.finish()?;
    Ok(Filter {
        key_type: None,
        client_reference: reference.map(str::to_owned),
        statuses: without_repetition(statuses),
        notification_types,
        include_jobs: include_jobs.is_some(),
        older_than,
        limit: 0,
    })
}

fn meant_by(status: &str) -> Vec<Status> {
    match status {
        "failed" => FAILED.to_vec(),
        "accepted" => vec![Status::Created, Status::Sending],
        "received" => vec![Status::Delivered],
        name => name.parse().into_iter().collect(),
    }
}

/// Each status once; none, which asks for everything, if these are all there are.
fn without_repetition(asked: Vec<Status>) -> Vec<Status> {
    let kept: Vec<Status> = Status::ALL
        .into_iter()
        .filter(|status| asked.contains(status))
        .collect();
    // `failed` itself is never among them.
    if kept.len() == Status::ALL.len() - 1 {
        Vec::new()
    } else {
        kept
    }
}

#[derive(ApiResponse)]
enum NotificationList {
    /// A page of them.
    #[oai(status = 200)]
    Ok(Answer<ListOfNotifications>),
}

#[derive(Debug, Serialize, Object)]
#[oai(rename = "Notifications")]
struct ListOfNotifications {
    links: Links,
    notifications: Vec<Notification>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_that_may_be_asked_for_means_something() {
        for status in STATUSES {
            assert!(!meant_by(status).is_empty(), "{status}");
        }
    }

    #[test]
    fn all_statuses_together_are_no_filter() {
        let all = |left_out: Option<&str>| {
            let asked = STATUSES.into_iter().filter(|status| Some(*status) != left_out);
            without_repetition(asked.flat_map(meant_by).collect())
        };
        assert!(all(None).is_empty());
        assert!(
            all(Some("accepted")).is_empty(),
            "created and sending were asked for by name"
        );
        assert_eq!(all(Some("sent")).len(), 12);
        assert_eq!(
            without_repetition(vec![Status::Sent, Status::Sent, Status::Created]),
            [Status::Created, Status::Sent]
        );
    }
}
