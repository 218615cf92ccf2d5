//! Templates: the latest version, any earlier one, and the list that a service sees.

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
}

/// The current version, archived or not.
pub async fn latest(conn: &mut PgConnection, service_id: Uuid, template_id: Uuid) -> Result<Option<Template>> {
    Ok(sqlx::query_as!(
        Template,
        r#"
        select t.id, t.service_id, t.template_type::text as "template_type!: NotificationType", t.version, t.name, t.content, t.subject,
            t.postage, t.created_at at time zone 'utc' as "created_at!", t.updated_at at time zone 'utc' as updated_at,
            u.email_address as created_by, t.archived, t.hidden, t.has_unsubscribe_link,
            coalesce(r.redact_personalisation, false) as "redacted!"
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
            coalesce(r.redact_personalisation, false) as "redacted!"
        from templates_history t
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
            coalesce(r.redact_personalisation, false) as "redacted!"
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
