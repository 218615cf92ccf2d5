//! What services have used up of their limits. Each function takes a whole batch; a bucket or a count is named in it once.

use chrono::NaiveDate;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{KeyType, Result};

/// Tokens that requests want of one bucket.
#[derive(Debug, Clone, Copy)]
pub struct TokensWanted {
    pub service_id: Uuid,
    pub key_type: KeyType,
    pub wanted: i64,
    pub per_second: f64,
    pub size: f64,
}

/// Messages that requests want to count towards one limit.
#[derive(Debug, Clone, Copy)]
pub struct MessagesWanted {
    pub service_id: Uuid,
    pub name: &'static str,
    pub wanted: i64,
    /// A day.
    pub limit: i64,
}

pub struct Tokens {
    pub service_id: Uuid,
    pub key_type: KeyType,
    pub granted: i64,
}

pub struct Messages {
    pub service_id: Uuid,
    pub name: String,
    /// UTC.
    pub day: NaiveDate,
    pub granted: i64,
}

/// Takes tokens, as many as there are.
pub async fn take_tokens(conn: &mut PgConnection, wanted: &[TokensWanted]) -> Result<Vec<Tokens>> {
    Ok(sqlx::query_as!(
        Tokens,
        r#"select service_id as "service_id!", key_type as "key_type!: KeyType", granted as "granted!"
           from take_tokens($1, $2, $3, $4, $5)"#,
        &wanted.iter().map(|w| w.service_id).collect::<Vec<_>>(),
        &wanted.iter().map(|w| w.key_type.as_str()).collect::<Vec<_>>() as &[&str],
        &wanted.iter().map(|w| w.wanted).collect::<Vec<_>>(),
        &wanted.iter().map(|w| w.per_second).collect::<Vec<_>>(),
        &wanted.iter().map(|w| w.size).collect::<Vec<_>>(),
    )
    .fetch_all(conn)
    .await?)
}

/// Counts messages of today, as many as the limits allow.
pub async fn reserve(conn: &mut PgConnection, wanted: &[MessagesWanted]) -> Result<Vec<Messages>> {
    Ok(sqlx::query_as!(
        Messages,
        r#"select service_id as "service_id!", name as "name!", day as "day!", granted as "granted!"
           from reserve_messages($1, $2, $3, $4)"#,
        &wanted.iter().map(|w| w.service_id).collect::<Vec<_>>(),
        &wanted.iter().map(|w| w.name).collect::<Vec<_>>() as &[&str],
        &wanted.iter().map(|w| w.wanted).collect::<Vec<_>>(),
        &wanted.iter().map(|w| w.limit).collect::<Vec<_>>(),
    )
    .fetch_all(conn)
    .await?)
}

/// Takes messages back that were counted and did not come to be: service, name, day and how many.
pub async fn give_back(conn: &mut PgConnection, messages: &[(Uuid, &'static str, NaiveDate, i64)]) -> Result<()> {
    sqlx::query!(
        "select give_back_messages($1, $2, $3, $4)",
        &messages.iter().map(|m| m.0).collect::<Vec<_>>(),
        &messages.iter().map(|m| m.1).collect::<Vec<_>>() as &[&str],
        &messages.iter().map(|m| m.2).collect::<Vec<_>>(),
        &messages.iter().map(|m| m.3).collect::<Vec<_>>(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Deletes the counts of days that are over.
pub async fn tidy(conn: &mut PgConnection) -> Result<u64> {
    let done = sqlx::query!("delete from daily_counts where day < (now() at time zone 'utc')::date - 2")
        .execute(conn)
        .await?;
    Ok(done.rows_affected())
}
