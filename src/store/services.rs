//! A service as a request needs it: its settings, what it may do, and the keys that open it.

use std::collections::HashSet;

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    DateTime, Error, KeyType, Result,
    sealed::{Sealed, Sealer, context},
};

#[derive(Clone, Debug)]
pub struct Service {
    pub id: Uuid,
    pub name: String,
    pub active: bool,
    /// In trial mode: sends to its team and guest list only.
    pub restricted: bool,
    pub prefix_sms: bool,
    /// Requests a minute and key type.
    pub rate_limit: i32,
    pub sms_message_limit: i64,
    pub email_message_limit: i64,
    pub letter_message_limit: i64,
    pub international_sms_message_limit: i64,
    pub email_sender_local_part: String,
    pub custom_email_sender_name: Option<String>,
    pub contact_link: Option<String>,
    /// `service_permission_types`: sms, email, international_sms …
    pub permissions: HashSet<String>,
    /// Oldest first. Not expired, or expired within the last seven days: these say "revoked", older ones "not found".
    pub keys: Vec<ApiKey>,
}

/// What is live: in use, not in trial mode, and no demonstration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveCounts {
    pub services: i64,
    /// With a service that is live.
    pub organisations: i64,
}

#[derive(Clone)]
pub struct ApiKey {
    pub id: Uuid,
    pub name: String,
    pub key_type: KeyType,
    /// What signs the caller's tokens.
    pub secret: String,
    pub expires: Option<DateTime>,
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiKey")
            .field("id", &self.id)
            .field("key_type", &self.key_type)
            .finish_non_exhaustive()
    }
}

/// The service with its keys opened, archived or not; `None` when there is no such service.
/// A key whose secret cannot be opened is [`Error::Corrupt`]: leaving it out would look like a revoked key.
pub async fn for_requests(conn: &mut PgConnection, id: Uuid, sealer: &Sealer) -> Result<Option<Service>> {
    let row = sqlx::query!(
        r#"
        select s.name, s.active, s.restricted, s.prefix_sms, s.rate_limit,
            s.sms_message_limit, s.email_message_limit, s.letter_message_limit, s.international_sms_message_limit,
            s.email_sender_local_part, s.custom_email_sender_name, s.contact_link,
            array(select p.permission from service_permissions p where p.service_id = s.id) as "permissions!"
        from services s
        where s.id = $1
        "#,
        id,
    )
    .fetch_optional(&mut *conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Service {
        id,
        name: row.name,
        active: row.active,
        restricted: row.restricted,
        prefix_sms: row.prefix_sms,
        rate_limit: row.rate_limit,
        sms_message_limit: row.sms_message_limit,
        email_message_limit: row.email_message_limit,
        letter_message_limit: row.letter_message_limit,
        international_sms_message_limit: row.international_sms_message_limit,
        email_sender_local_part: row.email_sender_local_part,
        custom_email_sender_name: row.custom_email_sender_name,
        contact_link: row.contact_link,
        permissions: row.permissions.into_iter().collect(),
        keys: keys(conn, id, sealer).await?,
    }))
}

/// All of them, used or not.
pub async fn ids(conn: &mut PgConnection) -> Result<Vec<Uuid>> {
    Ok(sqlx::query_scalar!("select id from services order by id")
        .fetch_all(conn)
        .await?)
}

/// Reads the whole table, which has a row a service.
pub async fn live_counts(conn: &mut PgConnection) -> Result<LiveCounts> {
    Ok(sqlx::query_as!(
        LiveCounts,
        r#"
        select count(*) as "services!", count(distinct organisation_id) as "organisations!"
        from services
        where active and not restricted and count_as_live
        "#
    )
    .fetch_one(conn)
    .await?)
}

async fn keys(conn: &mut PgConnection, service_id: Uuid, sealer: &Sealer) -> Result<Vec<ApiKey>> {
    let rows = sqlx::query!(
        r#"
        select id, name, key_type as "key_type: KeyType", secret, expiry_date at time zone 'utc' as expires
        from api_keys
        where service_id = $1
            and (expiry_date is null or expiry_date::date > (now() at time zone 'utc') - interval '7 days')
        order by created_at, id
        "#,
        service_id,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let secret = sealer
                .open(context::API_KEY, &Sealed::from_stored(row.secret))
                .map_err(|error| Error::Corrupt(format!("the secret of key {}: {error}", row.id)))?;
            Ok(ApiKey {
                id: row.id,
                name: row.name,
                key_type: row.key_type,
                secret,
                expires: row.expires,
            })
        })
        .collect()
}
