//! Notifications: the hot table. A row is inserted once and changed about twice, always in batches.
//!
//! `status` moves created → sending → (pending →) delivered or failed; a text to a country without receipts stops
//! at `sent`. Each change names the statuses that it may leave, and says which rows it moved.

mod overdue;
mod sending;
mod settling;
mod view;

use std::borrow::Borrow;

use herald_message::status::Status;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

pub use overdue::{Overdue, Place, overdue};
pub use sending::{Marked, Sent, ToSend, count_fragments, mark_sending, to_send};
pub use settling::{Settled, Settlement, fail, settle};
pub use view::{Filter, NotificationView, get, list};

use crate::{DateTime, Error, KeyType, NotificationType, Result, column, sealed::Sealed, words::StatusText};

/// A row as the API or a job makes it. `created_at` is the database's.
#[derive(Clone, Serialize, Deserialize)]
pub struct NewNotification {
    pub id: Uuid,
    pub service_id: Uuid,
    pub template_id: Uuid,
    pub template_version: i32,
    pub notification_type: NotificationType,
    pub key_type: KeyType,
    /// None: a person sent it.
    pub api_key_id: Option<Uuid>,
    pub created_by_id: Option<Uuid>,
    pub job_id: Option<Uuid>,
    pub job_row_number: Option<i32>,
    /// `created`, but for letters and for rows that failed validation.
    pub status: Status,
    /// As typed, without the space around it.
    pub to: String,
    /// Digits, country prefix first, no plus; or the lower-case address.
    pub normalised_to: Option<String>,
    /// A JSON object.
    pub personalisation: Option<Sealed>,
    /// The client's own.
    pub client_reference: Option<String>,
    /// Ours or the provider's, by which a receipt finds the row; for texts it is the id, and this is none.
    pub reference: Option<String>,
    /// Sender name of a text, reply-to address of an email, as it was when the message was accepted.
    pub reply_to_text: Option<String>,
    pub international: bool,
    pub phone_prefix: Option<String>,
    pub rate_multiplier: Option<i32>,
    pub billable_units: i32,
    pub postage: Option<String>,
    pub document_download_count: Option<i32>,
    /// Emails only.
    pub unsubscribe_link: Option<String>,
    /// It is not to be sent before this.
    pub scheduled_for: Option<DateTime>,
}

impl std::fmt::Debug for NewNotification {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewNotification")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl NewNotification {
    /// Refuses what Postgres cannot store, a zero character, before it spoils the batch that others share. Only texts
    /// that a client chose freely can hold one.
    pub fn check(&self) -> Result<()> {
        let texts = [
            Some(&self.to),
            self.client_reference.as_ref(),
            self.unsubscribe_link.as_ref(),
        ];
        if texts.into_iter().flatten().any(|text| text.contains('\0')) {
            return Err(Error::Invalid(format!(
                "notification {} holds a zero character",
                self.id
            )));
        }
        Ok(())
    }
}

/// Inserts what is not there yet, and says how many rows that was; an id that exists is left as it is.
///
/// `created_at` grows by a microsecond a row, so that rows of one batch keep their order and a list that goes on
/// "older than" a row never skips its neighbours.
pub async fn insert<N: Borrow<NewNotification> + Sync>(conn: &mut PgConnection, rows: &[N]) -> Result<u64> {
    if rows.is_empty() {
        return Ok(0);
    }
    let rows: Vec<&NewNotification> = rows.iter().map(Borrow::borrow).collect();
    let done = sqlx::query!(
        r#"
        insert into notifications (
            id, service_id, template_id, template_version, notification_type, key_type, api_key_id, created_by_id,
            job_id, job_row_number, notification_status, "to", normalised_to, _personalisation, client_reference,
            reference, reply_to_text, international, phone_prefix, rate_multiplier, billable_units, postage,
            document_download_count, unsubscribe_link, scheduled_for, created_at)
        select n.id, n.service_id, n.template_id, n.template_version, n.notification_type::notification_type,
            n.key_type, n.api_key_id, n.created_by_id, n.job_id, n.job_row_number, n.notification_status, n."to",
            n.normalised_to, n.personalisation, n.client_reference, n.reference, n.reply_to_text, n.international,
            n.phone_prefix, n.rate_multiplier, n.billable_units, n.postage, n.document_download_count,
            n.unsubscribe_link, n.scheduled_for at time zone 'utc', (now() at time zone 'utc') + n.place * interval '1 microsecond'
        from unnest(
            $1::uuid[], $2::uuid[], $3::uuid[], $4::integer[], $5::text[], $6::text[], $7::uuid[], $8::uuid[],
            $9::uuid[], $10::integer[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[],
            $17::text[], $18::boolean[], $19::text[], $20::integer[], $21::integer[], $22::text[], $23::integer[],
            $24::text[], $25::timestamptz[]
        ) with ordinality n (
            id, service_id, template_id, template_version, notification_type, key_type, api_key_id, created_by_id,
            job_id, job_row_number, notification_status, "to", normalised_to, personalisation, client_reference,
            reference, reply_to_text, international, phone_prefix, rate_multiplier, billable_units, postage,
            document_download_count, unsubscribe_link, scheduled_for, place)
        on conflict (id) do nothing
        "#,
        &column(&rows, |n| n.id),
        &column(&rows, |n| n.service_id),
        &column(&rows, |n| n.template_id),
        &column(&rows, |n| n.template_version),
        &column(&rows, |n| n.notification_type.as_str()) as &[&str],
        &column(&rows, |n| n.key_type.as_str()) as &[&str],
        &column(&rows, |n| n.api_key_id) as &[Option<Uuid>],
        &column(&rows, |n| n.created_by_id) as &[Option<Uuid>],
        &column(&rows, |n| n.job_id) as &[Option<Uuid>],
        &column(&rows, |n| n.job_row_number) as &[Option<i32>],
        &column(&rows, |n| n.status.as_str()) as &[&str],
        &column(&rows, |n| n.to.as_str()) as &[&str],
        &column(&rows, |n| n.normalised_to.as_deref()) as &[Option<&str>],
        &column(&rows, |n| n.personalisation.as_ref().map(Sealed::as_str)) as &[Option<&str>],
        &column(&rows, |n| n.client_reference.as_deref()) as &[Option<&str>],
        &column(&rows, |n| n.reference.as_deref()) as &[Option<&str>],
        &column(&rows, |n| n.reply_to_text.as_deref()) as &[Option<&str>],
        &column(&rows, |n| n.international),
        &column(&rows, |n| n.phone_prefix.as_deref()) as &[Option<&str>],
        &column(&rows, |n| n.rate_multiplier) as &[Option<i32>],
        &column(&rows, |n| n.billable_units),
        &column(&rows, |n| n.postage.as_deref()) as &[Option<&str>],
        &column(&rows, |n| n.document_download_count) as &[Option<i32>],
        &column(&rows, |n| n.unsubscribe_link.as_deref()) as &[Option<&str>],
        &column(&rows, |n| n.scheduled_for) as &[Option<DateTime>],
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Finds the emails that a provider's message ids belong to, live or archived; ids that nobody has are left out.
pub async fn id_by_reference(conn: &mut PgConnection, references: &[String]) -> Result<Vec<(String, Uuid)>> {
    let rows = sqlx::query!(
        r#"
        select reference as "reference!", id as "id!" from notifications where reference = any($1)
        union all
        select reference, id from notification_history where reference = any($1)
        "#,
        references,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.reference, row.id)).collect())
}

/// How many notifications are in each status. It reads the whole table: for tests and small installations.
pub async fn count_by_status(conn: &mut PgConnection) -> Result<Vec<(Status, i64)>> {
    let rows = sqlx::query!(
        r#"
        select notification_status as "status: StatusText", count(*) as "n!"
        from notifications group by notification_status order by notification_status
        "#
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.status.into(), row.n)).collect())
}
