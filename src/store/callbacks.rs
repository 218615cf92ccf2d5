//! Callbacks to services: where they want to be called, and what they are still to be told.
//!
//! An event gets the next number of its service in the transaction of what happened. Until it is told or given up it is a
//! row; what a service was told leaves no row. The events of a service and kind are a [`Lane`], and belong to one run.

mod given_up;
mod telling;

use std::{collections::HashMap, time::Duration};

use herald_message::callback::{Complaint, DeliveryStatus};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

pub use given_up::{EventView, Selection, count, list, now, replay, tidy};
pub use telling::{
    Endpoint, Rest, Waiting, abandon, delivered, failed_once, give_up_late, held, next, rest, stranded, take,
    undeliverable,
};

use crate::{CallbackType, NotificationType, Result, received::ReceivedText, sealed::Sealed, words::StatusText};

/// A service's events of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Lane {
    pub service_id: Uuid,
    pub callback_type: CallbackType,
}

/// Something that a service is to be told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NewEvent {
    #[serde(flatten)]
    pub lane: Lane,
    /// The body of the call.
    pub payload: Sealed,
}

/// Where a service wants to be called.
#[derive(Clone, Debug)]
pub struct NewEndpoint {
    pub lane: Lane,
    pub url: String,
    pub bearer_token: Sealed,
    pub signing_secret: Option<Sealed>,
    pub updated_by_id: Uuid,
}

/// Of these notifications those whose services want to know, as they are in this transaction, in the order of their ids.
/// The archive knows no recipients: there `to` is empty.
pub async fn delivery_statuses(conn: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<(Uuid, DeliveryStatus)>> {
    let rows = sqlx::query!(
        r#"
        with told as materialized (
            select service_id, id, client_reference, "to", notification_status, created_at, updated_at, sent_at,
                notification_type, template_id, template_version
            from notifications
            where id = any($1)
            union all
            select service_id, id, client_reference, '', notification_status, created_at, updated_at, sent_at,
                notification_type, template_id, template_version
            from notification_history h
            where id = any($1) and not exists (select from notifications n where n.id = h.id and n.id = any($1))
        )
        select n.service_id as "service_id!", n.id as "id!", n.client_reference, n."to" as "to!",
            n.notification_status as "status!: StatusText", n.created_at at time zone 'utc' as "created_at!",
            n.updated_at at time zone 'utc' as updated_at, n.sent_at at time zone 'utc' as sent_at,
            n.notification_type::text as "notification_type!: NotificationType", n.template_id as "template_id!",
            n.template_version as "template_version!"
        from told n
        join service_callback_api c on c.service_id = n.service_id and c.callback_type = 'delivery_status'
        where n.template_id is not null
        order by n.id
        "#,
        ids,
    )
    .fetch_all(conn)
    .await?;
    let rows = rows.into_iter().map(|row| {
        let status = DeliveryStatus {
            id: row.id,
            reference: row.client_reference,
            to: row.to,
            status: row.status.into(),
            created_at: row.created_at,
            completed_at: row.updated_at,
            sent_at: row.sent_at,
            notification_type: row.notification_type.as_str(),
            template_id: row.template_id,
            template_version: row.template_version,
        };
        (row.service_id, status)
    });
    Ok(rows.collect())
}

/// Of these complaints those whose services want to know. Who complained is known as long as the email is live.
pub async fn complaints(conn: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<(Uuid, Complaint)>> {
    let rows = sqlx::query!(
        r#"
        select c.service_id, c.id, c.notification_id,
            coalesce(c.complaint_date, c.created_at) at time zone 'utc' as "complaint_date!",
            coalesce(n.client_reference, h.client_reference) as client_reference,
            coalesce(n.normalised_to, n."to", '') as "to!"
        from complaints c
        join service_callback_api a on a.service_id = c.service_id and a.callback_type = 'complaint'
        left join notifications n on n.id = c.notification_id
        left join notification_history h on h.id = c.notification_id
        where c.id = any($1)
        order by c.id
        "#,
        ids,
    )
    .fetch_all(conn)
    .await?;
    let rows = rows.into_iter().map(|row| {
        let complaint = Complaint {
            notification_id: row.notification_id,
            complaint_id: row.id,
            reference: row.client_reference,
            to: row.to,
            complaint_date: row.complaint_date,
        };
        (row.service_id, complaint)
    });
    Ok(rows.collect())
}

/// Of these received texts those whose services want to know.
pub async fn received_texts(conn: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<ReceivedText>> {
    Ok(sqlx::query_as!(
        ReceivedText,
        r#"
        select t.id, t.service_id, t.notify_number, t.user_number, t.content as "content: Sealed",
            t.created_at at time zone 'utc' as "created_at!"
        from inbound_sms t
        join service_callback_api a on a.service_id = t.service_id and a.callback_type = 'inbound_sms'
        where t.id = any($1)
        order by t.id
        "#,
        ids,
    )
    .fetch_all(conn)
    .await?)
}

/// Those of these lanes about which their services want to be called.
pub async fn wanted(conn: &mut PgConnection, lanes: &[Lane]) -> Result<Vec<Lane>> {
    let services: Vec<Uuid> = lanes.iter().map(|lane| lane.service_id).collect();
    let kinds: Vec<&str> = lanes.iter().map(|lane| lane.callback_type.as_str()).collect();
    Ok(sqlx::query_as!(
        Lane,
        r#"
        select distinct c.service_id, c.callback_type as "callback_type!: CallbackType"
        from unnest($1::uuid[], $2::text[]) l (service_id, callback_type)
        join service_callback_api c on c.service_id = l.service_id and c.callback_type = l.callback_type
        "#,
        &services,
        &kinds as &[&str],
    )
    .fetch_all(conn)
    .await?)
}

/// Adds events, which get the next numbers of their services in the order given. Their calls are not repeated after
/// `patience`.
///
/// The numbers' rows stay locked until the transaction ends, in the order of the services, so that two batches cannot
/// deadlock. Afterwards their lanes must be [`take`]n in the same transaction, or nobody tells them.
pub async fn add(conn: &mut PgConnection, events: &[NewEvent], patience: Duration) -> Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    let services: Vec<Uuid> = events.iter().map(|event| event.lane.service_id).collect();
    let numbers = sqlx::query!(
        r#"
        insert into service_callback_sequence (service_id, last)
        select service_id, count(*) from unnest($1::uuid[]) s (service_id) group by service_id order by service_id
        on conflict (service_id) do update set last = service_callback_sequence.last + excluded.last
        returning service_id, last
        "#,
        &services,
    )
    .fetch_all(&mut *conn)
    .await?;
    let mut last: HashMap<Uuid, i64> = numbers.into_iter().map(|row| (row.service_id, row.last)).collect();
    // From behind: the last event of a service has its last number.
    let mut sequences: Vec<i64> = services
        .iter()
        .rev()
        .map(|service| {
            let next = last.entry(*service).or_default();
            *next -= 1;
            *next + 1
        })
        .collect();
    sequences.reverse();
    let ids: Vec<Uuid> = events.iter().map(|_| Uuid::now_v7()).collect();
    let kinds: Vec<&str> = events.iter().map(|event| event.lane.callback_type.as_str()).collect();
    let payloads: Vec<&str> = events.iter().map(|event| event.payload.as_str()).collect();
    sqlx::query!(
        "
        insert into service_callback_event (id, service_id, callback_type, sequence, payload, give_up_at)
        select id, service_id, callback_type, sequence, payload, now() + $6 * interval '1 second'
        from unnest($1::uuid[], $2::uuid[], $3::text[], $4::bigint[], $5::text[])
            e (id, service_id, callback_type, sequence, payload)
        ",
        &ids,
        &services,
        &kinds as &[&str],
        &sequences,
        &payloads as &[&str],
        patience.as_secs_f64(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Sets where a service wants to be called, in place of what was said before.
pub async fn set(conn: &mut PgConnection, endpoint: &NewEndpoint) -> Result<()> {
    sqlx::query!(
        "
        with put as (
            insert into service_callback_api (id, service_id, callback_type, url, bearer_token, signing_secret,
                updated_by_id, created_at, version)
            values ($1, $2, $3, $4, $5, $6, $7, now() at time zone 'utc', 1)
            on conflict (service_id, callback_type) do update
            set url = excluded.url, bearer_token = excluded.bearer_token, signing_secret = excluded.signing_secret,
                updated_by_id = excluded.updated_by_id, updated_at = now() at time zone 'utc',
                version = service_callback_api.version + 1
            returning *)
        insert into service_callback_api_history select * from put
        ",
        Uuid::new_v4(),
        endpoint.lane.service_id,
        endpoint.lane.callback_type.as_str(),
        endpoint.url,
        endpoint.bearer_token.as_str(),
        endpoint.signing_secret.as_ref().map(Sealed::as_str),
        endpoint.updated_by_id,
    )
    .execute(conn)
    .await?;
    Ok(())
}
