//! After the send: receipts settle a notification, and what never got one fails.

use std::{
    borrow::Borrow,
    collections::{HashMap, HashSet},
};

use herald_message::{
    phone::has_delivery_receipts,
    receipt::{Receipt, decide},
    status::Status,
};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use super::column;
use crate::{Error, Result, words::StatusText};

/// A receipt for a notification.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settlement {
    pub id: Uuid,
    pub receipt: Receipt,
    /// Fragments, counted again by the caller: taken where the row has none yet.
    pub billable_units: Option<i32>,
}

/// A row that was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    pub id: Uuid,
    pub service_id: Uuid,
    pub was: Status,
    pub status: Status,
    /// The provider that took it.
    pub sent_by: Option<String>,
    /// Since a provider took it; none where none has, and for the message of a test key.
    pub sent_ms_ago: Option<i64>,
}

struct Current {
    place: Place,
    id: Uuid,
    service_id: Uuid,
    was: Status,
    status: Status,
    sent_by: Option<String>,
    phone_prefix: Option<String>,
    international: bool,
    sent_ms_ago: Option<i64>,
    units: Option<i32>,
    detailed_status: Option<String>,
    changed: bool,
}

/// Where a row is. After its retention a message is in the history, and its receipt may come all the same.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Live,
    History,
}

/// Applies receipts by Notify's rules and says which rows changed, live or archived. A completed notification is never
/// moved, an unknown id is nothing. Several receipts for one row count in the order given.
///
/// The rule needs the row as it is, so: lock in the order of ids, decide here, write once. The lock lasts only in a
/// transaction, which must be open.
pub async fn settle<S: Borrow<Settlement> + Sync>(conn: &mut PgConnection, settlements: &[S]) -> Result<Vec<Settled>> {
    if settlements.is_empty() {
        return Ok(Vec::new());
    }
    let mut rows = lock(conn, column(settlements, |s| s.borrow().id)).await?;
    let place: HashMap<Uuid, usize> = rows.iter().enumerate().map(|(i, row)| (row.id, i)).collect();
    for settlement in settlements {
        let settlement = settlement.borrow();
        if let Some(&i) = place.get(&settlement.id) {
            rows[i].take(settlement);
        }
    }
    rows.retain(|row| row.changed);
    let (live, archived): (Vec<&Current>, Vec<&Current>) = rows.iter().partition(|row| row.place == Place::Live);
    write(conn, &live).await?;
    write_history(conn, &archived).await?;
    Ok(column(&rows, |row| Settled {
        id: row.id,
        service_id: row.service_id,
        was: row.was,
        status: row.status,
        sent_by: row.sent_by.clone(),
        sent_ms_ago: row.sent_ms_ago,
    }))
}

impl Current {
    fn new(
        place: Place,
        id: Uuid,
        service_id: Uuid,
        was: Status,
        (sent_by, phone_prefix, international): (Option<String>, Option<String>, bool),
    ) -> Self {
        Self {
            place,
            id,
            service_id,
            was,
            status: was,
            sent_by,
            phone_prefix,
            international,
            sent_ms_ago: None,
            units: None,
            detailed_status: None,
            changed: false,
        }
    }

    fn take(&mut self, settlement: &Settlement) {
        if self.international
            && self
                .phone_prefix
                .as_deref()
                .is_some_and(|prefix| !has_delivery_receipts(prefix))
        {
            return;
        }
        let Some(status) = decide(self.status, self.sent_by.as_deref(), &settlement.receipt) else {
            return;
        };
        self.status = status;
        self.units = self.units.or(settlement.billable_units);
        self.detailed_status = settlement.receipt.detailed_status();
        self.sent_by
            .get_or_insert_with(|| settlement.receipt.provider.name().to_owned());
        self.changed = true;
    }
}

/// The rows, locked. The live ones first: one that retention is moving just then is waited for, and found where it went.
async fn lock(conn: &mut PgConnection, mut ids: Vec<Uuid>) -> Result<Vec<Current>> {
    let live = sqlx::query!(
        r#"
        select id, service_id as "service_id!", notification_status as "was: StatusText", sent_by, phone_prefix,
            coalesce(international, false) as "international!", case when key_type <> 'test'
            then (extract(epoch from (now() at time zone 'utc') - sent_at) * 1000)::bigint end as sent_ms_ago
        from notifications
        where id = any($1)
        order by id
        for no key update
        "#,
        &ids,
    )
    .fetch_all(&mut *conn)
    .await?;
    let live = live.into_iter().map(|row| {
        let sent = (row.sent_by, row.phone_prefix, row.international);
        Current {
            sent_ms_ago: row.sent_ms_ago,
            ..Current::new(Place::Live, row.id, row.service_id, row.was.into(), sent)
        }
    });
    let mut rows: Vec<Current> = live.collect();
    let found: HashSet<Uuid> = rows.iter().map(|row| row.id).collect();
    ids.retain(|id| !found.contains(id));
    if ids.is_empty() {
        return Ok(rows);
    }
    let archived = sqlx::query!(
        r#"
        select id, service_id as "service_id!", notification_status as "was!: StatusText", sent_by, phone_prefix,
            coalesce(international, false) as "international!"
        from notification_history
        where id = any($1) and notification_status is not null and service_id is not null
        order by id
        for no key update
        "#,
        &ids,
    )
    .fetch_all(conn)
    .await?;
    rows.extend(archived.into_iter().map(|row| {
        let sent = (row.sent_by, row.phone_prefix, row.international);
        Current::new(Place::History, row.id, row.service_id, row.was.into(), sent)
    }));
    Ok(rows)
}

async fn write(conn: &mut PgConnection, rows: &[&Current]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let done = sqlx::query!(
        "
        update notifications n
        set notification_status = s.status, sent_by = s.sent_by, updated_at = now() at time zone 'utc',
            billable_units = case when n.billable_units = 0 then coalesce(s.units, 0) else n.billable_units end,
            detailed_status = s.detailed_status
        from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::integer[], $6::text[])
            s (id, was, status, sent_by, units, detailed_status)
        where n.id = s.id and n.id = any($1) and n.notification_status = s.was
        ",
        &column(rows, |row| row.id),
        &column(rows, |row| row.was.as_str()) as &[&str],
        &column(rows, |row| row.status.as_str()) as &[&str],
        &column(rows, |row| row.sent_by.as_deref()) as &[Option<&str>],
        &column(rows, |row| row.units) as &[Option<i32>],
        &column(rows, |row| row.detailed_status.as_deref()) as &[Option<&str>],
    )
    .execute(conn)
    .await?;
    all_written(done.rows_affected(), rows)
}

async fn write_history(conn: &mut PgConnection, rows: &[&Current]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let done = sqlx::query!(
        "
        update notification_history n
        set notification_status = s.status, sent_by = s.sent_by, updated_at = now() at time zone 'utc',
            detailed_status = s.detailed_status
        from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[])
            s (id, was, status, sent_by, detailed_status)
        where n.id = s.id and n.id = any($1) and n.notification_status = s.was
        ",
        &column(rows, |row| row.id),
        &column(rows, |row| row.was.as_str()) as &[&str],
        &column(rows, |row| row.status.as_str()) as &[&str],
        &column(rows, |row| row.sent_by.as_deref()) as &[Option<&str>],
        &column(rows, |row| row.detailed_status.as_deref()) as &[Option<&str>],
    )
    .execute(conn)
    .await?;
    all_written(done.rows_affected(), rows)
}

fn all_written(written: u64, rows: &[&Current]) -> Result<()> {
    if written == rows.len() as u64 {
        Ok(())
    } else {
        Err(Error::Refused(
            "receipts were settled outside of a transaction while another settled them".into(),
        ))
    }
}

/// Gives up on rows that are `created`, `sending` or `pending`, and says which those were. The status is
/// `technical-failure`, `temporary-failure` or `cancelled`; anything else is refused.
pub async fn fail(conn: &mut PgConnection, failures: &[(Uuid, Status)]) -> Result<Vec<Settled>> {
    if let Some((id, status)) = failures.iter().find(|(_, s)| {
        !matches!(
            s,
            Status::TechnicalFailure | Status::TemporaryFailure | Status::Cancelled
        )
    }) {
        return Err(Error::Invalid(format!(
            "notification {id} cannot be given up as {status}"
        )));
    }
    if failures.is_empty() {
        return Ok(Vec::new());
    }
    Ok(sqlx::query_as!(
        Settled,
        r#"
        with locked as (
            select id, notification_status as was from notifications
            where id = any($1) and notification_status in ('created', 'sending', 'pending')
            order by id
            for no key update
        )
        update notifications n
        set notification_status = f.status, updated_at = now() at time zone 'utc'
        from unnest($1::uuid[], $2::text[]) f (id, status)
        join locked using (id)
        where n.id = f.id and n.id = any($1) and n.notification_status = locked.was
        returning n.id, n.service_id as "service_id!", locked.was as "was!: StatusText",
            n.notification_status as "status: StatusText", n.sent_by, case when n.key_type <> 'test'
            then (extract(epoch from (now() at time zone 'utc') - n.sent_at) * 1000)::bigint end as sent_ms_ago
        "#,
        &column(failures, |(id, _)| *id),
        &column(failures, |(_, status)| status.as_str()) as &[&str],
    )
    .fetch_all(conn)
    .await?)
}
