//! Texts that people sent to a service's number.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{DateTime, Result, column, sealed::Sealed};

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

/// The service that a number belongs to, if it may receive texts.
pub async fn service_of(conn: &mut PgConnection, number: &str) -> Result<Option<Uuid>> {
    Ok(sqlx::query_scalar!(
        r#"
        select n.service_id as "service_id!"
        from inbound_numbers n
        join service_permissions p on p.service_id = n.service_id and p.permission = 'inbound_sms'
        where n.number = $1 and n.active
        "#,
        number,
    )
    .fetch_optional(conn)
    .await?)
}

/// A text as it arrived. `created_at` is the database's.
#[derive(Clone)]
pub struct NewReceivedText {
    pub id: Uuid,
    pub service_id: Uuid,
    pub notify_number: String,
    /// International digits, or an alphanumeric sender as it came.
    pub user_number: String,
    pub content: Sealed,
    /// The provider's identifier.
    pub provider: String,
    pub provider_reference: Option<String>,
    /// None: the provider's own time could not be read, and the time of arrival counts.
    pub provider_date: Option<DateTime>,
    /// The same for a text that the provider repeats, and for no other.
    pub key: String,
}

/// Inserts what is not there yet, and says what that was.
pub async fn insert(conn: &mut PgConnection, texts: &[&NewReceivedText]) -> Result<Vec<Uuid>> {
    if texts.is_empty() {
        return Ok(Vec::new());
    }
    Ok(sqlx::query_scalar!(
        "
        insert into inbound_sms (
            id, service_id, notify_number, user_number, content, provider, provider_reference, provider_date,
            received_key, created_at)
        select t.id, t.service_id, t.notify_number, t.user_number, t.content, t.provider, t.provider_reference,
            coalesce(t.provider_date, now()) at time zone 'utc', t.received_key, now() at time zone 'utc'
        from unnest(
            $1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::timestamptz[],
            $9::text[]
        ) t (id, service_id, notify_number, user_number, content, provider, provider_reference, provider_date,
            received_key)
        on conflict (received_key) where received_key is not null do nothing
        returning id
        ",
        &column(texts, |t| t.id),
        &column(texts, |t| t.service_id),
        &column(texts, |t| t.notify_number.as_str()) as &[&str],
        &column(texts, |t| t.user_number.as_str()) as &[&str],
        &column(texts, |t| t.content.as_str()) as &[&str],
        &column(texts, |t| t.provider.as_str()) as &[&str],
        &column(texts, |t| t.provider_reference.as_deref()) as &[Option<&str>],
        &column(texts, |t| t.provider_date) as &[Option<DateTime>],
        &column(texts, |t| t.key.as_str()) as &[&str],
    )
    .fetch_all(conn)
    .await?)
}
