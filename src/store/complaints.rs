//! What recipients reported as unwanted.

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{DateTime, Result, column};

/// A notification that somebody complained about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    pub notification_id: Uuid,
    pub service_id: Uuid,
}

/// The email that a complaint is about, live or archived: by our own id where the complaint brings it back, or by the
/// reference under which SES knows it.
pub async fn subject(conn: &mut PgConnection, id: Option<Uuid>, reference: &str) -> Result<Option<Subject>> {
    Ok(sqlx::query_as!(
        Subject,
        r#"
        select id as "notification_id!", service_id as "service_id!" from (
            select id, service_id, 1 as place from notifications where id = $1
            union all
            select id, service_id, 2 from notification_history where id = $1
            union all
            select id, service_id, 3 from notifications where reference = $2
            union all
            select id, service_id, 4 from notification_history where reference = $2
        ) found
        where service_id is not null
        order by place
        limit 1
        "#,
        id,
        reference,
    )
    .fetch_optional(conn)
    .await?)
}

/// A complaint as it is recorded. `created_at` is the database's.
#[derive(Clone, Debug)]
pub struct NewComplaint {
    pub id: Uuid,
    pub notification_id: Uuid,
    pub service_id: Uuid,
    pub feedback_id: Option<String>,
    pub complaint_type: Option<String>,
    pub complaint_date: Option<DateTime>,
}

/// Inserts what is not there yet, and says what that was.
pub async fn insert(conn: &mut PgConnection, complaints: &[&NewComplaint]) -> Result<Vec<Uuid>> {
    if complaints.is_empty() {
        return Ok(Vec::new());
    }
    Ok(sqlx::query_scalar!(
        "
        insert into complaints (
            id, notification_id, service_id, ses_feedback_id, complaint_type, complaint_date, created_at)
        select c.id, c.notification_id, c.service_id, c.feedback_id, c.complaint_type,
            c.complaint_date at time zone 'utc', now() at time zone 'utc'
        from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::timestamptz[])
            c (id, notification_id, service_id, feedback_id, complaint_type, complaint_date)
        on conflict do nothing
        returning id
        ",
        &column(complaints, |c| c.id),
        &column(complaints, |c| c.notification_id),
        &column(complaints, |c| c.service_id),
        &column(complaints, |c| c.feedback_id.as_deref()) as &[Option<&str>],
        &column(complaints, |c| c.complaint_type.as_deref()) as &[Option<&str>],
        &column(complaints, |c| c.complaint_date) as &[Option<DateTime>],
    )
    .fetch_all(conn)
    .await?)
}
