//! Notifications as the public API shows them. Only the live table is read: after retention a message is gone.

use chrono::NaiveDateTime;
use herald_message::status::Status;
use sqlx::PgConnection;
use uuid::Uuid;

use super::column;
use crate::{DateTime, KeyType, NotificationType, Result, sealed::Sealed, words::StatusText};

/// A notification with the template version it was made from.
#[derive(Clone)]
pub struct NotificationView {
    pub id: Uuid,
    pub service_id: Uuid,
    pub notification_type: NotificationType,
    pub key_type: KeyType,
    pub status: Status,
    pub to: String,
    pub normalised_to: Option<String>,
    pub client_reference: Option<String>,
    /// A JSON object.
    pub personalisation: Option<Sealed>,
    pub template_id: Uuid,
    pub template_version: i32,
    pub template_content: String,
    pub template_subject: Option<String>,
    pub template_has_unsubscribe_link: bool,
    pub job_id: Option<Uuid>,
    /// The person who sent it; none for a key.
    pub created_by_name: Option<String>,
    pub created_at: DateTime,
    pub sent_at: Option<DateTime>,
    pub sent_by: Option<String>,
    /// The API's `completed_at`, once the status is a completed one.
    pub updated_at: Option<DateTime>,
    pub billable_units: i32,
    pub rate_multiplier: Option<i32>,
    pub international: bool,
    pub phone_prefix: Option<String>,
    pub postage: Option<String>,
    pub reply_to_text: Option<String>,
    pub unsubscribe_link: Option<String>,
    /// Why it has its status, as the provider put it.
    pub detailed_status: Option<String>,
    /// It is not to be sent before this.
    pub scheduled_for: Option<DateTime>,
}

/// Which notifications a list shows. Empty sets ask for everything.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub key_type: Option<KeyType>,
    pub client_reference: Option<String>,
    pub statuses: Vec<Status>,
    pub notification_types: Vec<NotificationType>,
    pub include_jobs: bool,
    /// Only what was created before this one; nothing, if the service has no such notification.
    pub older_than: Option<Uuid>,
    /// Rows on the page.
    pub limit: i64,
}

impl Filter {
    /// Whether it asks for nothing but messages that ended, and not by arriving: those that the column `unsuccessful` marks.
    fn is_for_unsuccessful(&self) -> bool {
        let is_marked = |status: &Status| {
            !matches!(
                status,
                Status::Created
                    | Status::Sending
                    | Status::Delivered
                    | Status::Sent
                    | Status::Pending
                    | Status::PendingVirusCheck
            )
        };
        !self.statuses.is_empty() && self.statuses.iter().all(is_marked)
    }
}

/// The rows of the service `$2` that a condition on `$1` names, newest first. They are found apart from everything else
/// (`offset 0` keeps them so): a plan made while the table was small would otherwise walk all rows of the service.
macro_rules! views {
    ($condition:literal, $named:expr, $service_id:expr) => {
        sqlx::query_as!(
            NotificationView,
            r#"
            select n.id, n.service_id as "service_id!",
                n.notification_type::text as "notification_type!: NotificationType", n.key_type as "key_type: KeyType",
                n.notification_status as "status: StatusText", n."to", n.normalised_to, n.client_reference,
                n._personalisation as "personalisation: Sealed", t.id as template_id, t.version as template_version,
                t.content as template_content, t.subject as template_subject,
                t.has_unsubscribe_link as template_has_unsubscribe_link, n.job_id, u.name as "created_by_name?",
                n.created_at at time zone 'utc' as "created_at!", n.sent_at at time zone 'utc' as sent_at, n.sent_by,
                n.updated_at at time zone 'utc' as updated_at, n.billable_units,
                n.rate_multiplier::integer as rate_multiplier, coalesce(n.international, false) as "international!",
                n.phone_prefix, n.postage, n.reply_to_text, n.unsubscribe_link,
                n.detailed_status, n.scheduled_for at time zone 'utc' as scheduled_for
            from (select * from notifications where "#
                + $condition
                + " offset 0) n
            join templates_history t on t.id = n.template_id and t.version = n.template_version
            left join users u on u.id = n.created_by_id
            where n.service_id = $2
            order by n.created_at desc, n.id desc",
            $named,
            $service_id,
        )
    };
}

/// One notification of the service, whatever key made it. A statement of its own: for an array that it does not know,
/// Postgres expects ten rows, and so would plan anew each time (0.4 ms of CPU) rather than keep a plan.
pub async fn get(conn: &mut PgConnection, service_id: Uuid, id: Uuid) -> Result<Option<NotificationView>> {
    Ok(views!("id = $1", id, service_id).fetch_optional(conn).await?)
}

/// The ids of a page of the service `$1` that fit a filter and a condition, newest first. Each condition is a statement of its
/// own, that names what its index holds: one that leaves it open would walk the index by time. It may name `$9`.
macro_rules! page {
    ($conn:expr, $service_id:expr, $filter:expr, $after:expr, $condition:literal $(, $named:expr)?) => {
        sqlx::query_scalar!(
            "select id
            from notifications
            where service_id = $1 and (created_at, id) < ($2, $3)
                and ($4::text is null or key_type = $4)
                and (cardinality($5::text[]) = 0 or notification_status = any($5))
                and (cardinality($6::text[]) = 0 or notification_type::text = any($6))
                and ($7 or job_id is null) and "
                + $condition
                + " order by created_at desc, id desc limit $8",
            $service_id,
            $after.created_at,
            $after.id,
            $filter.key_type.map(KeyType::as_str),
            &column(&$filter.statuses, |s| s.as_str()) as &[&str],
            &column(&$filter.notification_types, |t| t.as_str()) as &[&str],
            $filter.include_jobs,
            $filter.limit,
            $($named,)?
        )
        .fetch_all($conn)
        .await?
    };
}

/// One page of the service's notifications, newest first.
pub async fn list(conn: &mut PgConnection, service_id: Uuid, filter: &Filter) -> Result<Vec<NotificationView>> {
    let after = match filter.older_than {
        None => Some(Place::NEWEST),
        Some(id) => Place::of(conn, service_id, id).await?,
    };
    let Some(after) = after else { return Ok(Vec::new()) };
    let ids = match (&filter.client_reference, filter.key_type) {
        // By `ix_notifications_client_reference`.
        (Some(reference), _) => page!(
            &mut *conn,
            service_id,
            filter,
            after,
            "client_reference = $9",
            reference
        ),
        // By `ix_notifications_service_key_type_created_at`: their rows are few among a service's live traffic.
        (None, Some(KeyType::Team | KeyType::Test)) => {
            page!(
                &mut *conn,
                service_id,
                filter,
                after,
                "key_type = $4 and key_type <> 'normal'"
            )
        }
        // By `ix_notifications_service_unsuccessful_created_at`: few among those that ended well or are on their way.
        (None, _) if filter.is_for_unsuccessful() => page!(&mut *conn, service_id, filter, after, "unsuccessful"),
        // By `ix_notifications_service_created_at`, backwards from a place, until the page is full: where every row fits the
        // filter, it reads a page.
        (None, Some(KeyType::Normal) | None) => page!(&mut *conn, service_id, filter, after, "true"),
    };
    views(conn, service_id, &ids).await
}

/// Where a page begins in the order of lists: by time, and rows of one instant by id. It is looked up first, because
/// Postgres plans better for a time that it knows than for one that it has yet to find.
struct Place {
    created_at: NaiveDateTime,
    id: Uuid,
}

impl Place {
    const NEWEST: Self = Self {
        created_at: DateTime::MAX_UTC.naive_utc(),
        id: Uuid::max(),
    };

    /// That of one of the service's notifications, if it has it.
    async fn of(conn: &mut PgConnection, service_id: Uuid, id: Uuid) -> Result<Option<Self>> {
        Ok(sqlx::query_as!(
            Self,
            "select created_at, id from notifications where id = $1 and service_id = $2",
            id,
            service_id,
        )
        .fetch_optional(conn)
        .await?)
    }
}

/// The rows with these ids, newest first.
async fn views(conn: &mut PgConnection, service_id: Uuid, ids: &[Uuid]) -> Result<Vec<NotificationView>> {
    Ok(views!("id = any($1)", ids, service_id).fetch_all(conn).await?)
}
