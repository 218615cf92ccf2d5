//! Events that services could not be told of: looked at, told once more, and in the end forgotten.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use super::Lane;
use crate::{CallbackType, DateTime, Result};

/// Events that fit everything that is said here.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Selection {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub callback_type: Option<CallbackType>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_after: Option<DateTime>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_before: Option<DateTime>,
}

impl Selection {
    /// Whether it says nothing, and so means every event.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    fn ids(&self) -> Option<&[Uuid]> {
        (!self.ids.is_empty()).then_some(&self.ids)
    }

    fn kind(&self) -> Option<&'static str> {
        self.callback_type.map(CallbackType::as_str)
    }
}

/// An event as it is shown: without its payload.
#[derive(Debug, Clone, Serialize)]
pub struct EventView {
    pub id: Uuid,
    pub service_id: Uuid,
    pub callback_type: CallbackType,
    pub sequence: i64,
    pub created_at: DateTime,
    /// Calls that failed.
    pub attempts: i32,
    pub last_error: Option<String>,
    /// None: it waits.
    pub undeliverable_at: Option<DateTime>,
}

/// One page of what waits, or else of what is undeliverable, by service and number: what follows the event `after`. None
/// when there is no such event any more: it has been told, or forgotten.
pub async fn list(
    conn: &mut PgConnection,
    selection: &Selection,
    waiting: bool,
    after: Option<Uuid>,
    limit: u16,
) -> Result<Option<Vec<EventView>>> {
    let mut place = None;
    if let Some(after) = after {
        let found = sqlx::query!(
            "select service_id, sequence from service_callback_event where id = $1",
            after
        );
        let Some(found) = found.fetch_optional(&mut *conn).await? else {
            return Ok(None);
        };
        place = Some((found.service_id, found.sequence));
    }
    let page = sqlx::query_as!(
        EventView,
        r#"
        select id, service_id, callback_type as "callback_type: CallbackType", sequence, created_at, attempts, last_error,
            undeliverable_at
        from service_callback_event
        where ($1 and undeliverable_at is null or not $1 and undeliverable_at is not null)
            and ($2::uuid[] is null or id = any ($2))
            and ($3::uuid is null or service_id = $3) and ($4::text is null or callback_type = $4)
            and ($5::timestamptz is null or created_at >= $5) and ($6::timestamptz is null or created_at < $6)
            and ($7::uuid is null or (service_id, sequence) > ($7, $8::bigint))
        order by service_id, sequence
        limit $9
        "#,
        waiting,
        selection.ids(),
        selection.service_id,
        selection.kind(),
        selection.created_after,
        selection.created_before,
        place.map(|(service, _)| service),
        place.map(|(_, sequence)| sequence),
        i64::from(limit),
    );
    Ok(Some(page.fetch_all(conn).await?))
}

/// How many undeliverable events are selected.
pub async fn count(conn: &mut PgConnection, selection: &Selection) -> Result<i64> {
    let count = sqlx::query_scalar!(
        r#"
        select count(*) as "count!" from service_callback_event
        where undeliverable_at is not null and ($1::uuid[] is null or id = any ($1))
            and ($2::uuid is null or service_id = $2) and ($3::text is null or callback_type = $3)
            and ($4::timestamptz is null or created_at >= $4) and ($5::timestamptz is null or created_at < $5)
        "#,
        selection.ids(),
        selection.service_id,
        selection.kind(),
        selection.created_after,
        selection.created_before,
    );
    Ok(count.fetch_one(conn).await?)
}

/// The time by which a replay ends.
pub async fn now(conn: &mut PgConnection) -> Result<DateTime> {
    Ok(sqlx::query_scalar!(r#"select now() as "now!""#).fetch_one(conn).await?)
}

/// Lets undeliverable events wait again, each service's in order, for `patience` from now; `limit` at most, and only
/// those that had become undeliverable by `until`. Says to which lanes they belong, an entry an event.
pub async fn replay(
    conn: &mut PgConnection,
    selection: &Selection,
    until: DateTime,
    patience: Duration,
    limit: i64,
) -> Result<Vec<Lane>> {
    Ok(sqlx::query_as!(
        Lane,
        r#"
        update service_callback_event
        set undeliverable_at = null, attempts = 0, give_up_at = now() + $7 * interval '1 second'
        where undeliverable_at is not null and id = any (array(
            select id from service_callback_event
            where undeliverable_at <= $1 and ($2::uuid[] is null or id = any ($2))
                and ($3::uuid is null or service_id = $3) and ($4::text is null or callback_type = $4)
                and ($5::timestamptz is null or created_at >= $5) and ($6::timestamptz is null or created_at < $6)
            order by service_id, sequence limit $8 for update))
        returning service_id, callback_type as "callback_type: CallbackType"
        "#,
        until,
        selection.ids(),
        selection.service_id,
        selection.kind(),
        selection.created_after,
        selection.created_before,
        patience.as_secs_f64(),
        limit,
    )
    .fetch_all(conn)
    .await?)
}

/// Events that are forgotten in one statement.
const FORGOTTEN_AT_ONCE: i64 = 10_000;

/// Forgets events that became undeliverable so long ago: they hold personal data. Outside of a transaction, so that each
/// statement's are gone whatever becomes of the next. Says how many.
pub async fn tidy(conn: &mut PgConnection, keep_days: u16) -> Result<u64> {
    let mut forgotten = 0;
    loop {
        let done = sqlx::query!(
            "delete from service_callback_event where id = any (array(
                 select id from service_callback_event where undeliverable_at < now() - $1 * interval '1 day'
                 limit $2 for update skip locked))",
            f64::from(keep_days),
            FORGOTTEN_AT_ONCE,
        );
        let some = done.execute(&mut *conn).await?.rows_affected();
        forgotten += some;
        if some < FORGOTTEN_AT_ONCE.unsigned_abs() {
            return Ok(forgotten);
        }
    }
}
