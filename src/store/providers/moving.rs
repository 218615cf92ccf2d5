//! Moves of weights. Each is a new version of a provider's row and a whole copy of it in the history, with its reason
//! and the numbers that it was decided upon. All times are the database's, and are told as ages.

use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use super::Tally;
use crate::{DateTime, Error, NOTIFY_USER_ID, NotificationType, Result};

/// An active provider, with what was counted of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Watched {
    pub id: Uuid,
    pub identifier: String,
    pub priority: i32,
    pub pinned: bool,
    pub version: i32,
    /// Since anybody changed it; none where nobody ever has.
    pub unchanged_seconds: Option<f64>,
    /// Of the last few seconds.
    pub lately: Tally,
    /// Of some more, up to now.
    pub recent: Tally,
    /// Of a longer time, up to now.
    pub before: Tally,
}

/// Locks a channel's active providers until the transaction ends, always in the same order.
pub async fn lock(conn: &mut PgConnection, channel: NotificationType) -> Result<()> {
    sqlx::query!(
        "select id from provider_details where active and notification_type = $1::text::notification_type
         order by identifier for update",
        channel.as_str(),
    )
    .fetch_all(conn)
    .await?;
    Ok(())
}

/// A channel's active providers by name, with what all workers counted of each in the last so many seconds.
pub async fn watched(
    conn: &mut PgConnection,
    channel: NotificationType,
    [lately, recent, before]: [f64; 3],
) -> Result<Vec<Watched>> {
    let rows = sqlx::query!(
        r#"
        select p.id, p.identifier, p.priority, p.pinned, p.version,
            extract(epoch from (clock_timestamp() at time zone 'utc') - p.updated_at)::float8 as unchanged_seconds,
            t.lately_requests as "lately_requests!", t.lately_errors as "lately_errors!",
            t.lately_faults as "lately_faults!", t.recent_requests as "recent_requests!",
            t.recent_errors as "recent_errors!", t.recent_faults as "recent_faults!", t.requests as "requests!", t.errors as "errors!", t.faults as "faults!"
        from provider_details p
        cross join lateral (
            select coalesce(sum(requests), 0)::bigint as requests, coalesce(sum(errors), 0)::bigint as errors,
                coalesce(sum(faults), 0)::bigint as faults,
                coalesce(sum(requests) filter (where is_late), 0)::bigint as lately_requests,
                coalesce(sum(errors) filter (where is_late), 0)::bigint as lately_errors,
                coalesce(sum(faults) filter (where is_late), 0)::bigint as lately_faults,
                coalesce(sum(requests) filter (where is_recent), 0)::bigint as recent_requests,
                coalesce(sum(errors) filter (where is_recent), 0)::bigint as recent_errors,
                coalesce(sum(faults) filter (where is_recent), 0)::bigint as recent_faults
            from (
                select requests, errors, faults, second > now() - $2::float8 * interval '1 second' as is_late,
                    second > now() - $3::float8 * interval '1 second' as is_recent
                from provider_traffic
                where second > now() - $4::float8 * interval '1 second' and provider = p.identifier
            ) s
        ) t
        where p.active and p.notification_type = $1::text::notification_type
        order by p.identifier
        "#,
        channel.as_str(),
        lately,
        recent,
        before,
    )
    .fetch_all(conn)
    .await?;
    let watched = rows.into_iter().map(|row| Watched {
        id: row.id,
        identifier: row.identifier,
        priority: row.priority,
        pinned: row.pinned,
        version: row.version,
        unchanged_seconds: row.unchanged_seconds,
        lately: Tally {
            requests: row.lately_requests,
            errors: row.lately_errors,
            faults: row.lately_faults,
        },
        recent: Tally {
            requests: row.recent_requests,
            errors: row.recent_errors,
            faults: row.recent_faults,
        },
        before: Tally {
            requests: row.requests,
            errors: row.errors,
            faults: row.faults,
        },
    });
    Ok(watched.collect())
}

/// A change of one provider.
#[derive(Clone, Debug)]
pub struct Change<'a> {
    pub id: Uuid,
    /// The one that this was decided upon.
    pub version: i32,
    pub priority: i32,
    pub active: bool,
    pub pinned: bool,
    pub reason: &'a str,
}

/// Makes new versions. `by` is the operator; none is a rule, which acts in the name of Notify's own user. `numbers` is a
/// JSON object; its member `fell` names a provider that a rule took weight from.
///
/// # Errors
/// [`Error::Conflict`] when somebody else has changed one of them; the transaction must then be rolled back.
pub async fn change(conn: &mut PgConnection, changes: &[Change<'_>], numbers: &Value, by: Option<&str>) -> Result<()> {
    fn column<'a, T>(changes: &'a [Change<'_>], value: impl Fn(&'a Change<'_>) -> T) -> Vec<T> {
        changes.iter().map(value).collect()
    }
    let done = sqlx::query!(
        "
        with moment as materialized (
            select clock_timestamp() at time zone 'utc' as at
        ), changed as (
            update provider_details p
            set priority = c.priority, active = c.active, pinned = c.pinned, reason = c.reason,
                version = p.version + 1, updated_at = moment.at, created_by_id = $7,
                numbers = $8, changed_by = $9
            from unnest($1::uuid[], $2::integer[], $3::integer[], $4::boolean[], $5::boolean[], $6::text[])
                c (id, version, priority, active, pinned, reason), moment
            where p.id = c.id and p.version = c.version
            returning p.*
        )
        insert into provider_details_history (
            id, display_name, identifier, priority, notification_type, active, updated_at, version, created_by_id,
            supports_international, reason, pinned, numbers, changed_by)
        select id, display_name, identifier, priority, notification_type, active, updated_at, version, created_by_id,
            supports_international, reason, pinned, numbers, changed_by
        from changed
        ",
        &column(changes, |change| change.id),
        &column(changes, |change| change.version),
        &column(changes, |change| change.priority),
        &column(changes, |change| change.active),
        &column(changes, |change| change.pinned),
        &column(changes, |change| change.reason) as &[&str],
        by.is_none().then_some(NOTIFY_USER_ID),
        numbers,
        by,
    )
    .execute(conn)
    .await?;
    if done.rows_affected() == changes.len() as u64 {
        Ok(())
    } else {
        Err(Error::Conflict("provider_details.version".into()))
    }
}

/// A rule took weight from a provider.
#[derive(Clone, Debug, PartialEq)]
pub struct Fall {
    pub identifier: String,
    pub seconds_ago: f64,
}

/// More falls than hysteresis lets happen in any time that anybody remembers.
const MOST_FALLS: i64 = 1_000;

/// The falls among the providers of texts in the last so many seconds, oldest first.
pub async fn falls(conn: &mut PgConnection, seconds: f64) -> Result<Vec<Fall>> {
    let mut falls = sqlx::query_as!(
        Fall,
        r#"
        select identifier,
            extract(epoch from (clock_timestamp() at time zone 'utc') - updated_at)::float8 as "seconds_ago!"
        from provider_details_history
        where notification_type = 'sms' and numbers ->> 'fell' = identifier
            and updated_at > (now() at time zone 'utc') - $1::float8 * interval '1 second'
        order by updated_at desc, version desc
        limit $2
        "#,
        seconds,
        MOST_FALLS,
    )
    .fetch_all(conn)
    .await?;
    falls.reverse();
    Ok(falls)
}

/// A row of the history.
#[derive(Clone, Debug)]
pub struct Version {
    pub identifier: String,
    pub version: i32,
    pub priority: i32,
    pub active: bool,
    pub pinned: bool,
    pub updated_at: Option<DateTime>,
    pub reason: Option<String>,
    pub changed_by: Option<String>,
    pub numbers: Option<Value>,
}

/// The newest versions, of one provider or of all, newest first.
pub async fn history(conn: &mut PgConnection, identifier: Option<&str>, limit: i64) -> Result<Vec<Version>> {
    Ok(sqlx::query_as!(
        Version,
        "
        select identifier, version, priority, active, pinned, updated_at at time zone 'utc' as updated_at, reason,
            changed_by, numbers
        from provider_details_history
        where $1::text is null or identifier = $1
        order by updated_at desc nulls last, identifier, version desc
        limit $2
        ",
        identifier,
        limit,
    )
    .fetch_all(conn)
    .await?)
}
