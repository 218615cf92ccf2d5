//! Which message a request made that may come again.

use std::time::Duration;

use sqlx::PgConnection;
use uuid::Uuid;

use crate::Result;

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// SHA-256 of what was asked for.
    pub request: Vec<u8>,
    /// The id that the message has, or will have.
    pub notification_id: Uuid,
}

/// What was asked for with this key; none if it was not used, or too long ago.
pub async fn find(conn: &mut PgConnection, service_id: Uuid, digest: &[u8; 32]) -> Result<Option<Known>> {
    Ok(sqlx::query_as!(
        Known,
        "select request, notification_id from idempotency_keys
         where service_id = $1 and digest = $2 and expires_at > now()",
        service_id,
        digest,
    )
    .fetch_optional(conn)
    .await?)
}

/// Reserves the key for `new`, unless it is reserved: of two that do it at once both learn the first one's.
pub async fn reserve(
    conn: &mut PgConnection,
    service_id: Uuid,
    digest: &[u8; 32],
    new: &Known,
    kept: Duration,
) -> Result<Known> {
    Ok(sqlx::query_as!(
        Known,
        "insert into idempotency_keys as k (service_id, digest, request, notification_id, expires_at)
         values ($1, $2, $3, $4, now() + $5::float8 * interval '1 second')
         on conflict (service_id, digest) do update
         set request = case when k.expires_at > now() then k.request else excluded.request end,
             notification_id = case when k.expires_at > now() then k.notification_id else excluded.notification_id end,
             expires_at = case when k.expires_at > now() then k.expires_at else excluded.expires_at end
         returning request, notification_id",
        service_id,
        digest,
        new.request,
        new.notification_id,
        kept.as_secs_f64(),
    )
    .fetch_one(conn)
    .await?)
}

/// Deletes at most `limit` keys that may be used anew anyway; returns how many.
pub async fn tidy(conn: &mut PgConnection, limit: i64) -> Result<u64> {
    let done = sqlx::query!(
        "delete from idempotency_keys k using (
             select service_id, digest from idempotency_keys where expires_at <= now()
             order by expires_at limit $1 for update skip locked) old
         where k.service_id = old.service_id and k.digest = old.digest",
        limit,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
