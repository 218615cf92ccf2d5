//! Fills a database from a file: users, services with all that belongs to them, and messages. For development,
//! demonstrations and tests. Loading a file again changes nothing: what is there stays as it is.

mod form;
mod rows;

use serde_json::Value;
use sqlx::{Connection, PgConnection};

use crate::{Error, Result, sealed::Sealer};

/// Loads a fixture in one transaction. A mistake in the file is [`Error::Invalid`], and says where it is and what is
/// allowed there; a clash with rows of other ids is [`Error::Conflict`].
pub async fn load(conn: &mut PgConnection, json: &str, sealer: &Sealer) -> Result<()> {
    let form = parse(json)?;
    let mut transaction = conn.begin().await?;
    let now = sqlx::query_scalar!(r#"select now() as "now!""#)
        .fetch_one(&mut *transaction)
        .await?;
    let rows = rows::Rows::of(&form, sealer, now)?;
    insert_people(&mut transaction, &rows).await?;
    insert_content(&mut transaction, &rows).await?;
    insert_messages(&mut transaction, &rows).await?;
    transaction.commit().await?;
    Ok(())
}

fn parse(json: &str) -> Result<form::Fixture> {
    let mut reader = serde_json::Deserializer::from_str(json);
    let form = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        Error::Invalid(format!("{path}: {}", error.into_inner()))
    })?;
    reader.end().map_err(|error| Error::Invalid(error.to_string()))?;
    Ok(form)
}

async fn insert_people(conn: &mut PgConnection, rows: &rows::Rows) -> Result<()> {
    sqlx::query!(
        "insert into users select * from jsonb_populate_recordset(null::users, $1) on conflict (id) do nothing",
        all(&rows.users),
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "with added as (
            insert into services select * from jsonb_populate_recordset(null::services, $1)
            on conflict (id) do nothing returning *)
         insert into services_history select * from added",
        all(&rows.services),
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "insert into service_permissions select * from jsonb_populate_recordset(null::service_permissions, $1)
         on conflict do nothing",
        all(&rows.permissions),
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "insert into user_to_service select * from jsonb_populate_recordset(null::user_to_service, $1)
         on conflict do nothing",
        all(&rows.members),
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "insert into service_sms_senders select * from jsonb_populate_recordset(null::service_sms_senders, $1)
         on conflict (id) do nothing",
        all(&rows.sms_senders),
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "insert into service_email_reply_to select * from jsonb_populate_recordset(null::service_email_reply_to, $1)
         on conflict (id) do nothing",
        all(&rows.reply_to),
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "insert into service_whitelist
         select * from jsonb_populate_recordset(null::service_whitelist, $1) guest
         where not exists (
             select from service_whitelist w where w.service_id = guest.service_id and w.recipient = guest.recipient)",
        all(&rows.guests),
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn insert_content(conn: &mut PgConnection, rows: &rows::Rows) -> Result<()> {
    sqlx::query!(
        "insert into templates select * from jsonb_populate_recordset(null::templates, $1) on conflict (id) do nothing",
        all(&rows.templates),
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "insert into templates_history select * from jsonb_populate_recordset(null::templates_history, $1)
         on conflict (id, version) do nothing",
        all(&rows.template_versions),
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "insert into template_redacted select * from jsonb_populate_recordset(null::template_redacted, $1)
         on conflict (template_id) do nothing",
        all(&rows.redactions),
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "with added as (
            insert into api_keys select * from jsonb_populate_recordset(null::api_keys, $1)
            on conflict (id) do nothing returning *)
         insert into api_keys_history select * from added",
        all(&rows.keys),
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "with added as (
            insert into service_callback_api select * from jsonb_populate_recordset(null::service_callback_api, $1)
            on conflict do nothing returning *)
         insert into service_callback_api_history select * from added",
        all(&rows.callbacks),
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn insert_messages(conn: &mut PgConnection, rows: &rows::Rows) -> Result<()> {
    sqlx::query!(
        "insert into jobs select * from jsonb_populate_recordset(null::jobs, $1) on conflict (id) do nothing",
        all(&rows.jobs),
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        // By name: one of its columns is generated.
        r#"
        insert into notifications (
            id, "to", normalised_to, job_id, job_row_number, service_id, template_id, template_version, created_at,
            sent_at, updated_at, sent_by, _personalisation, key_type, api_key_id, notification_type, billable_units,
            client_reference, notification_status, international, phone_prefix, rate_multiplier, reply_to_text)
        select
            id, "to", normalised_to, job_id, job_row_number, service_id, template_id, template_version, created_at,
            sent_at, updated_at, sent_by, _personalisation, key_type, api_key_id, notification_type, billable_units,
            client_reference, notification_status, international, phone_prefix, rate_multiplier, reply_to_text
        from jsonb_populate_recordset(null::notifications, $1)
        on conflict (id) do nothing
        "#,
        all(&rows.notifications),
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "insert into inbound_numbers select * from jsonb_populate_recordset(null::inbound_numbers, $1)
         on conflict (number) do nothing",
        all(&rows.inbound_numbers),
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "insert into inbound_sms select * from jsonb_populate_recordset(null::inbound_sms, $1)
         on conflict (id) do nothing",
        all(&rows.received_texts),
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "insert into rates
         select * from jsonb_populate_recordset(null::rates, $1) rate
         where not exists (
             select from rates r where r.valid_from = rate.valid_from and r.notification_type = rate.notification_type)",
        all(&rows.rates),
    )
    .execute(conn)
    .await?;
    Ok(())
}

fn all(rows: &[Value]) -> Value {
    Value::Array(rows.to_vec())
}
