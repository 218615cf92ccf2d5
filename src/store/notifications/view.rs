//! Notifications as the public API shows them. Only the live table is read: after retention a message is gone.

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

/// One notification of the service, whatever key made it.
pub async fn get(conn: &mut PgConnection, service_id: Uuid, id: Uuid) -> Result<Option<NotificationView>> {
    Ok(views(conn, service_id, &[id]).await?.pop())
}

/// One page of the service's notifications, newest first.
pub async fn list(conn: &mut PgConnection, service_id: Uuid, filter: &Filter) -> Result<Vec<NotificationView>> {
    let ids = match &filter.client_reference {
        Some(reference) => page_of_reference(conn, service_id, filter, reference).await?,
        None => page(conn, service_id, filter).await?,
    };
    views(conn, service_id, &ids).await
}

/// Walks the index by service and time from the place of `older_than` on. Rows of one instant are told apart by id.
async fn page(conn: &mut PgConnection, service_id: Uuid, filter: &Filter) -> Result<Vec<Uuid>> {
    Ok(sqlx::query_scalar!(
        r#"
        select n.id
        from notifications n
        where n.service_id = $1
            and (n.created_at, n.id) < (
                coalesce(
                    (select o.created_at from notifications o where o.id = $2 and o.service_id = $1),
                    case when $2::uuid is null then timestamp 'infinity' end),
                coalesce($2, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
            and ($3::text is null or n.key_type = $3)
            and (cardinality($4::text[]) = 0 or n.notification_status = any($4))
            and (cardinality($5::text[]) = 0 or n.notification_type::text = any($5))
            and ($6 or n.job_id is null)
        order by n.created_at desc, n.id desc
        limit $7
        "#,
        service_id,
        filter.older_than,
        filter.key_type.map(KeyType::as_str),
        &column(&filter.statuses, |s| s.as_str()) as &[&str],
        &column(&filter.notification_types, |t| t.as_str()) as &[&str],
        filter.include_jobs,
        filter.limit,
    )
    .fetch_all(conn)
    .await?)
}

/// The same, by the client's reference. A statement of its own: one that leaves the reference open cannot use its index.
async fn page_of_reference(
    conn: &mut PgConnection,
    service_id: Uuid,
    filter: &Filter,
    reference: &str,
) -> Result<Vec<Uuid>> {
    Ok(sqlx::query_scalar!(
        r#"
        select n.id
        from notifications n
        where n.service_id = $1 and n.client_reference = $8
            and (n.created_at, n.id) < (
                coalesce(
                    (select o.created_at from notifications o where o.id = $2 and o.service_id = $1),
                    case when $2::uuid is null then timestamp 'infinity' end),
                coalesce($2, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
            and ($3::text is null or n.key_type = $3)
            and (cardinality($4::text[]) = 0 or n.notification_status = any($4))
            and (cardinality($5::text[]) = 0 or n.notification_type::text = any($5))
            and ($6 or n.job_id is null)
        order by n.created_at desc, n.id desc
        limit $7
        "#,
        service_id,
        filter.older_than,
        filter.key_type.map(KeyType::as_str),
        &column(&filter.statuses, |s| s.as_str()) as &[&str],
        &column(&filter.notification_types, |t| t.as_str()) as &[&str],
        filter.include_jobs,
        filter.limit,
        reference,
    )
    .fetch_all(conn)
    .await?)
}

/// The rows with these ids, newest first.
async fn views(conn: &mut PgConnection, service_id: Uuid, ids: &[Uuid]) -> Result<Vec<NotificationView>> {
    Ok(sqlx::query_as!(
        NotificationView,
        r#"
        select n.id, n.service_id as "service_id!", n.notification_type::text as "notification_type!: NotificationType",
            n.key_type as "key_type: KeyType", n.notification_status as "status: StatusText", n."to", n.normalised_to,
            n.client_reference, n._personalisation as "personalisation: Sealed", t.id as template_id,
            t.version as template_version, t.content as template_content, t.subject as template_subject,
            t.has_unsubscribe_link as template_has_unsubscribe_link, n.job_id, u.name as "created_by_name?",
            n.created_at at time zone 'utc' as "created_at!", n.sent_at at time zone 'utc' as sent_at, n.sent_by,
            n.updated_at at time zone 'utc' as updated_at, n.billable_units,
            n.rate_multiplier::integer as rate_multiplier, coalesce(n.international, false) as "international!",
            n.phone_prefix, n.postage, n.reply_to_text, n.unsubscribe_link,
            n.scheduled_for at time zone 'utc' as scheduled_for
        from notifications n
        join templates_history t on t.id = n.template_id and t.version = n.template_version
        left join users u on u.id = n.created_by_id
        where n.id = any($1) and n.service_id = $2
        order by n.created_at desc, n.id desc
        "#,
        ids,
        service_id,
    )
    .fetch_all(conn)
    .await?)
}
