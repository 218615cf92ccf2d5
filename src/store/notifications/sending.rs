//! Between acceptance and the provider's yes: what a send needs to know, and what it leaves behind.

use std::borrow::Borrow;

use herald_message::status::Status;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use super::column;
use crate::{DateTime, KeyType, NotificationType, Result, sealed::Sealed, words::StatusText};

/// Everything that a send needs, read at once.
#[derive(Clone)]
pub struct ToSend {
    pub id: Uuid,
    pub service_id: Uuid,
    pub notification_type: NotificationType,
    pub key_type: KeyType,
    /// Only `created` may be sent.
    pub status: Status,
    pub created_at: DateTime,
    pub scheduled_for: Option<DateTime>,
    pub to: String,
    pub normalised_to: Option<String>,
    pub international: bool,
    pub phone_prefix: Option<String>,
    pub sent_by: Option<String>,
    pub reply_to_text: Option<String>,
    pub unsubscribe_link: Option<String>,
    /// A JSON object.
    pub personalisation: Option<Sealed>,
    pub template_id: Uuid,
    pub template_version: i32,
    pub template_content: String,
    pub template_subject: Option<String>,
    pub template_has_unsubscribe_link: bool,
    pub service_name: String,
    pub service_active: bool,
    pub prefix_sms: bool,
    pub email_sender_local_part: String,
    pub custom_email_sender_name: Option<String>,
}

impl std::fmt::Debug for ToSend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ToSend")
            .field("id", &self.id)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// Reads what is to be sent, in no order; an id without a row is left out.
pub async fn to_send(conn: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<ToSend>> {
    Ok(sqlx::query_as!(
        ToSend,
        // Found apart from the joins, by `offset 0`: a plan made while the table was small would otherwise walk all of it.
        r#"
        select n.id, n.service_id as "service_id!", n.notification_type::text as "notification_type!: NotificationType",
            n.key_type as "key_type: KeyType", n.notification_status as "status: StatusText",
            n.created_at at time zone 'utc' as "created_at!", n.scheduled_for at time zone 'utc' as scheduled_for,
            n."to", n.normalised_to,
            coalesce(n.international, false) as "international!", n.phone_prefix, n.sent_by, n.reply_to_text,
            n.unsubscribe_link, n._personalisation as "personalisation: Sealed", t.id as template_id,
            t.version as template_version, t.content as template_content, t.subject as template_subject,
            t.has_unsubscribe_link as template_has_unsubscribe_link, s.name as service_name,
            s.active as service_active, s.prefix_sms, s.email_sender_local_part, s.custom_email_sender_name
        from (select * from notifications where id = any($1) offset 0) n
        join services s on s.id = n.service_id
        join templates_history t on t.id = n.template_id and t.version = n.template_version
        "#,
        ids,
    )
    .fetch_all(conn)
    .await?)
}

/// A provider took it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sent {
    pub id: Uuid,
    /// The provider's identifier.
    pub sent_by: String,
    /// `sending`; `sent` where no receipt will come.
    pub status: Status,
    /// Fragments of the text as it was sent; 0 for an email.
    pub billable_units: i32,
    /// The provider's message id, for emails: receipts come under it.
    pub reference: Option<String>,
}

/// Counts fragments of texts that are still to be sent, where that was not done before, as Notify does when a provider has
/// not taken one: ids and fragments. Rows are locked as in [`mark_sending`].
pub async fn count_fragments(conn: &mut PgConnection, counts: &[(Uuid, i32)]) -> Result<()> {
    sqlx::query!(
        "
        with locked as (
            select id from notifications
            where id = any($1) and notification_status = 'created' and billable_units = 0
            order by id
            for no key update
        )
        update notifications n
        set billable_units = c.fragments, updated_at = now() at time zone 'utc'
        from unnest($1::uuid[], $2::integer[]) c (id, fragments)
        join locked using (id)
        where n.id = c.id and n.id = any($1)
        ",
        &column(counts, |(id, _)| *id),
        &column(counts, |(_, fragments)| *fragments),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A row that became `sending`, or `sent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marked {
    pub id: Uuid,
    /// Since its creation; none for the message of a test key, which waits for nobody.
    pub waited_ms: Option<i64>,
}

/// Records what was sent, and says which rows that changed: those that still were `created`.
///
/// Rows are locked in the order of their ids first, as in `settle`, so that two batches cannot deadlock.
pub async fn mark_sending<S: Borrow<Sent> + Sync>(conn: &mut PgConnection, sent: &[S]) -> Result<Vec<Marked>> {
    if sent.is_empty() {
        return Ok(Vec::new());
    }
    let sent: Vec<&Sent> = sent.iter().map(Borrow::borrow).collect();
    Ok(sqlx::query_as!(
        Marked,
        r#"
        with locked as (
            select id from notifications
            where id = any($1) and notification_status = 'created'
            order by id
            for no key update
        )
        update notifications n
        set notification_status = s.status, sent_by = s.sent_by, billable_units = s.billable_units,
            reference = coalesce(s.reference, n.reference), sent_at = now() at time zone 'utc',
            updated_at = now() at time zone 'utc'
        from unnest($1::uuid[], $2::text[], $3::text[], $4::integer[], $5::text[])
            s (id, sent_by, status, billable_units, reference)
        join locked using (id)
        where n.id = s.id and n.id = any($1) and n.notification_status = 'created'
        returning n.id, case when n.key_type <> 'test'
            then (extract(epoch from n.sent_at - n.created_at) * 1000)::bigint end as waited_ms
        "#,
        &column(&sent, |s| s.id),
        &column(&sent, |s| s.sent_by.as_str()) as &[&str],
        &column(&sent, |s| s.status.as_str()) as &[&str],
        &column(&sent, |s| s.billable_units),
        &column(&sent, |s| s.reference.as_deref()) as &[Option<&str>],
    )
    .fetch_all(conn)
    .await?)
}
