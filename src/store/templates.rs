//! Templates: the latest version, any earlier one, and the list that a service sees.

use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{DateTime, NotificationType, Result};

/// One version of a template.
#[derive(Clone, Debug)]
pub struct Template {
    pub id: Uuid,
    pub service_id: Uuid,
    pub template_type: NotificationType,
    pub version: i32,
    pub name: String,
    pub content: String,
    pub subject: Option<String>,
    /// Letters only.
    pub postage: Option<String>,
    pub created_at: DateTime,
    /// Of this version.
    pub updated_at: Option<DateTime>,
    /// Email address of the author of this version.
    pub created_by: String,
    pub archived: bool,
    /// Not for people: made by the system, and not found by the API.
    pub hidden: bool,
    pub has_unsubscribe_link: bool,
    /// Whether people may not see the personalisation of its notifications. The API still fills it in.
    pub redacted: bool,
    /// In seconds: how long its messages are wanted, where a request does not say. Of the template, not of a version.
    pub expires_in: Option<i32>,
}

/// The current version, archived or not.
pub async fn latest(conn: &mut PgConnection, service_id: Uuid, template_id: Uuid) -> Result<Option<Template>> {
    Ok(sqlx::query_as!(
        Template,
        r#"
        select t.id, t.service_id, t.template_type::text as "template_type!: NotificationType", t.version, t.name, t.content, t.subject,
            t.postage, t.created_at at time zone 'utc' as "created_at!", t.updated_at at time zone 'utc' as updated_at,
            u.email_address as created_by, t.archived, t.hidden, t.has_unsubscribe_link,
            coalesce(r.redact_personalisation, false) as "redacted!", t.expires_in
        from templates t
        join users u on u.id = t.created_by_id
        left join template_redacted r on r.template_id = t.id
        where t.id = $1 and t.service_id = $2
        "#,
        template_id,
        service_id,
    )
    .fetch_optional(conn)
    .await?)
}

/// One version, with the times and the author of that version.
pub async fn version(
    conn: &mut PgConnection,
    service_id: Uuid,
    template_id: Uuid,
    version: i32,
) -> Result<Option<Template>> {
    Ok(sqlx::query_as!(
        Template,
        r#"
        select t.id, t.service_id, t.template_type::text as "template_type!: NotificationType", t.version, t.name, t.content, t.subject,
            t.postage, t.created_at at time zone 'utc' as "created_at!", t.updated_at at time zone 'utc' as updated_at,
            u.email_address as created_by, t.archived, t.hidden, t.has_unsubscribe_link,
            coalesce(r.redact_personalisation, false) as "redacted!", current.expires_in
        from templates_history t
        join templates current on current.id = t.id
        join users u on u.id = t.created_by_id
        left join template_redacted r on r.template_id = t.id
        where t.id = $1 and t.service_id = $2 and t.version = $3
        "#,
        template_id,
        service_id,
        version,
    )
    .fetch_optional(conn)
    .await?)
}

/// Every template that people see, of one type or of all, by name (capital letters first) and then by type.
pub async fn all(
    conn: &mut PgConnection,
    service_id: Uuid,
    template_type: Option<NotificationType>,
) -> Result<Vec<Template>> {
    Ok(sqlx::query_as!(
        Template,
        r#"
        select t.id, t.service_id, t.template_type::text as "template_type!: NotificationType", t.version, t.name, t.content, t.subject,
            t.postage, t.created_at at time zone 'utc' as "created_at!", t.updated_at at time zone 'utc' as updated_at,
            u.email_address as created_by, t.archived, t.hidden, t.has_unsubscribe_link,
            coalesce(r.redact_personalisation, false) as "redacted!", t.expires_in
        from templates t
        join users u on u.id = t.created_by_id
        left join template_redacted r on r.template_id = t.id
        where t.service_id = $1 and not t.archived and not t.hidden
            and ($2::text is null or t.template_type::text = $2)
        order by t.name collate "C", t.template_type, t.id
        "#,
        service_id,
        template_type.map(NotificationType::as_str),
    )
    .fetch_all(conn)
    .await?)
}

/// A template whose messages are wanted for some time only.
#[derive(Clone, Debug, Serialize)]
pub struct Expiring {
    pub id: Uuid,
    pub service_id: Uuid,
    pub name: String,
    /// In seconds.
    pub expires_in: i32,
}

/// All of them, archived ones left out, by service and name.
pub async fn expiring(conn: &mut PgConnection) -> Result<Vec<Expiring>> {
    Ok(sqlx::query_as!(
        Expiring,
        r#"
        select id, service_id, name, expires_in as "expires_in!" from templates
        where expires_in is not null and not archived
        order by service_id, name, id
        "#,
    )
    .fetch_all(conn)
    .await?)
}

/// From now on. False if there is no such template.
pub async fn set_expiry(conn: &mut PgConnection, id: Uuid, seconds: Option<i32>) -> Result<bool> {
    let changed = sqlx::query!("update templates set expires_in = $2 where id = $1", id, seconds)
        .execute(conn)
        .await?;
    Ok(changed.rows_affected() > 0)
}
