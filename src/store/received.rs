//! Texts that people sent to a service's number.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{DateTime, Result, sealed::Sealed};

#[derive(Clone)]
pub struct ReceivedText {
    pub id: Uuid,
    pub service_id: Uuid,
    pub notify_number: String,
    pub user_number: String,
    pub content: Sealed,
    pub created_at: DateTime,
}

/// One page, newest first: those older than the text `older_than`, none if the service has no such text.
pub async fn page(
    conn: &mut PgConnection,
    service_id: Uuid,
    older_than: Option<Uuid>,
    limit: i64,
) -> Result<Vec<ReceivedText>> {
    Ok(sqlx::query_as!(
        ReceivedText,
        r#"
        select id, service_id, notify_number, user_number, content as "content: Sealed",
            created_at at time zone 'utc' as "created_at!"
        from inbound_sms
        where service_id = $1
            and (created_at, id) < (
                coalesce(
                    (select created_at from inbound_sms where id = $2 and service_id = $1),
                    case when $2::uuid is null then timestamp 'infinity' end),
                coalesce($2, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
        order by created_at desc, id desc
        limit $3
        "#,
        service_id,
        older_than,
        limit,
    )
    .fetch_all(conn)
    .await?)
}
