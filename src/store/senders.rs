//! In whose name a service writes: the texts' sender names, the emails' reply-to addresses. Archived ones are gone.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::Result;

/// The default sender name or number of a service's texts.
pub async fn sms_default(conn: &mut PgConnection, service_id: Uuid) -> Result<Option<String>> {
    Ok(sqlx::query_scalar!(
        "select sms_sender from service_sms_senders
         where service_id = $1 and is_default and not archived
         order by created_at, id limit 1",
        service_id,
    )
    .fetch_optional(conn)
    .await?)
}

/// One sender of the service's texts.
pub async fn sms(conn: &mut PgConnection, service_id: Uuid, id: Uuid) -> Result<Option<String>> {
    Ok(sqlx::query_scalar!(
        "select sms_sender from service_sms_senders where service_id = $1 and id = $2 and not archived",
        service_id,
        id,
    )
    .fetch_optional(conn)
    .await?)
}

/// The default reply-to address of a service's emails; many services have none.
pub async fn reply_to_default(conn: &mut PgConnection, service_id: Uuid) -> Result<Option<String>> {
    Ok(sqlx::query_scalar!(
        "select email_address from service_email_reply_to
         where service_id = $1 and is_default and not archived
         order by created_at, id limit 1",
        service_id,
    )
    .fetch_optional(conn)
    .await?)
}

/// One reply-to address of the service.
pub async fn reply_to(conn: &mut PgConnection, service_id: Uuid, id: Uuid) -> Result<Option<String>> {
    Ok(sqlx::query_scalar!(
        "select email_address from service_email_reply_to where service_id = $1 and id = $2 and not archived",
        service_id,
        id,
    )
    .fetch_optional(conn)
    .await?)
}
