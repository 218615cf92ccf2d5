//! Readers who want no more emails of a service, for the service to see to. The row holds the reader's address.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::Result;

/// An email, live or archived, as far as a request tells of it.
pub struct Email {
    pub notification_id: Uuid,
    pub service_id: Uuid,
    pub template_id: Uuid,
    pub template_version: i32,
}

/// Whether a request about this email waits for its service.
pub async fn is_waiting(conn: &mut PgConnection, notification_id: Uuid) -> Result<bool> {
    Ok(sqlx::query_scalar!(
        r#"
        select exists (
            select from unsubscribe_request
            where notification_id = $1 and unsubscribe_request_report_id is null) as "waiting!"
        "#,
        notification_id,
    )
    .fetch_one(conn)
    .await?)
}

/// The notification, whether or not its retention has ended. None: there is no such one.
pub async fn email(conn: &mut PgConnection, notification_id: Uuid) -> Result<Option<Email>> {
    Ok(sqlx::query_as!(
        Email,
        r#"
        select id as "notification_id!", service_id as "service_id!", template_id as "template_id!",
            template_version as "template_version!"
        from notifications_all_time_view
        where id = $1
        limit 1
        "#,
        notification_id,
    )
    .fetch_optional(conn)
    .await?)
}

/// Records a request, unless one waits already; says how many rows that made.
pub async fn insert(conn: &mut PgConnection, id: Uuid, email: &Email, address: &str) -> Result<u64> {
    let done = sqlx::query!(
        "insert into unsubscribe_request (
            id, notification_id, service_id, template_id, template_version, email_address, created_at)
         values ($1, $2, $3, $4, $5, $6, now() at time zone 'utc')
         on conflict (notification_id) where unsubscribe_request_report_id is null do nothing",
        id,
        email.notification_id,
        email.service_id,
        email.template_id,
        email.template_version,
        address,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Moves requests that no report has taken up for so many days to the history, which holds no addresses: `limit` at most,
/// the oldest first. Says how many.
pub async fn archive(conn: &mut PgConnection, days: i32, limit: i64) -> Result<u64> {
    let done = sqlx::query!(
        "
        with old as (
            select id from unsubscribe_request
            where unsubscribe_request_report_id is null
                and created_at < (now() at time zone 'utc') - $1::integer * interval '1 day'
            order by created_at
            limit $2
            for update skip locked
        ), gone as (
            delete from unsubscribe_request r using old where r.id = old.id
            returning r.id, r.notification_id, r.service_id, r.template_id, r.template_version, r.created_at
        )
        insert into unsubscribe_request_history (
            id, notification_id, service_id, template_id, template_version, created_at)
        select id, notification_id, service_id, template_id, template_version, created_at from gone
        ",
        days,
        limit,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
