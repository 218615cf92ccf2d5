//! What needs a person: each kind of trouble is one row, raised once and lowered once however many processes see it.

use serde_json::Value;
use sqlx::PgConnection;

use crate::{DateTime, Result};

/// Every provider of texts fails. The names of alerts are data in the database: frozen.
pub const SMS_FAILING: &str = "sms_failing";
/// Every provider of emails fails.
pub const EMAIL_FAILING: &str = "email_failing";

#[derive(Clone, Debug)]
pub struct Alert {
    pub name: String,
    /// The first strike.
    pub since: DateTime,
    /// The same, as its age by the database's clock.
    pub seconds: f64,
    pub numbers: Value,
}

/// Adds a strike, and says whether that was the one, `after` so many in a row, that raised it. Nothing changes while it is
/// raised.
pub async fn raise_alert(conn: &mut PgConnection, name: &str, after: i32, numbers: &Value) -> Result<bool> {
    let raised = sqlx::query_scalar!(
        "
        insert into provider_alerts as a (name, strikes, raised, since, numbers)
        values ($1, 1, $2 <= 1, now(), $3)
        on conflict (name) do update
        set strikes = a.strikes + 1, raised = a.strikes + 1 >= $2, numbers = excluded.numbers, ended_at = null,
            since = case when a.strikes = 0 then now() else a.since end
        where not a.raised
        returning raised
        ",
        name,
        after,
        numbers,
    )
    .fetch_optional(conn)
    .await?;
    Ok(raised == Some(true))
}

/// Forgets its strikes. Where that lowered it, says for how many seconds it was raised.
pub async fn lower_alert(conn: &mut PgConnection, name: &str) -> Result<Option<f64>> {
    let lowered = sqlx::query!(
        r#"
        with before as (
            select name, raised, since from provider_alerts where name = $1 and strikes > 0 for update
        )
        update provider_alerts a
        set strikes = 0, raised = false, ended_at = now()
        from before
        where a.name = before.name
        returning before.raised as was_raised, extract(epoch from now() - before.since)::float8 as "seconds!"
        "#,
        name,
    )
    .fetch_optional(conn)
    .await?;
    Ok(lowered
        .filter(|lowered| lowered.was_raised)
        .map(|lowered| lowered.seconds))
}

/// Those that are raised now, oldest first.
pub async fn alerts(conn: &mut PgConnection) -> Result<Vec<Alert>> {
    Ok(sqlx::query_as!(
        Alert,
        r#"
        select name, since, extract(epoch from now() - since)::float8 as "seconds!", numbers
        from provider_alerts where raised order by since, name
        "#,
    )
    .fetch_all(conn)
    .await?)
}

/// Which of [`SMS_FAILING`] and [`EMAIL_FAILING`] are raised now.
pub async fn failing_channels(conn: &mut PgConnection) -> Result<Vec<String>> {
    Ok(sqlx::query_scalar!(
        "select name from provider_alerts where raised and name in ('sms_failing', 'email_failing') order by name",
    )
    .fetch_all(conn)
    .await?)
}
