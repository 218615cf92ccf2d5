//! Messages that nobody follows any more, found by walking over a service's messages by time. No index leads to them: one by
//! status would be written anew with each status that a message gets.

use std::time::Duration;

use chrono::NaiveDateTime;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::Result;

/// How far a walk has come.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    created_at: NaiveDateTime,
    id: Uuid,
}

/// What a step of the walk found.
#[derive(Clone, Debug, Default)]
pub struct Overdue {
    /// With a provider, and neither delivered nor failed.
    pub sent: Vec<Uuid>,
    /// Still `created`.
    pub unsent: Vec<Uuid>,
    /// Where the next step begins; none at the end.
    pub place: Option<Place>,
}

/// Texts and emails that are not settled, and whose age is between these two: a step that looks at `rows` messages of a
/// service at most, and begins after `place`, or with the oldest.
pub async fn overdue(
    conn: &mut PgConnection,
    service_id: Uuid,
    (youngest, oldest): (Duration, Duration),
    place: Option<Place>,
    rows: i64,
) -> Result<Overdue> {
    let found = sqlx::query!(
        r#"
        with page as materialized (
            select n.id, n.created_at, n.notification_status as status, n.notification_type = 'letter' as is_letter
            from notifications n
            where n.service_id = $1
                and n.created_at >= coalesce($2, (now() at time zone 'utc') - $3::float8 * interval '1 second')
                and ($2::timestamp is null or (n.created_at, n.id) > ($2, $4))
                and n.created_at < (now() at time zone 'utc') - $5::float8 * interval '1 second'
            order by n.created_at, n.id
            limit $6
        )
        select
            array(select p.id from page p where not p.is_letter and p.status in ('sending', 'pending')) as "sent!",
            array(select p.id from page p where not p.is_letter and p.status = 'created') as "unsent!",
            id, created_at
        from page
        order by created_at desc, id desc
        limit 1
        "#,
        service_id,
        place.map(|place| place.created_at),
        oldest.as_secs_f64(),
        place.map(|place| place.id),
        youngest.as_secs_f64(),
        rows,
    )
    .fetch_optional(conn)
    .await?;
    Ok(found.map_or_else(Overdue::default, |found| Overdue {
        sent: found.sent,
        unsent: found.unsent,
        place: Some(Place {
            created_at: found.created_at,
            id: found.id,
        }),
    }))
}
