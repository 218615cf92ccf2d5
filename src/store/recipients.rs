//! Whom a service in trial mode, or a team key, may write to.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::Result;

/// Texts as people typed them: compare after normalising both sides.
#[derive(Clone)]
pub struct Allowed {
    /// Everybody linked to the service, whatever their state.
    pub team: Vec<Member>,
    /// Email addresses and phone numbers of the guest list.
    pub guests: Vec<String>,
}

#[derive(Clone)]
pub struct Member {
    pub email_address: String,
    pub mobile_number: Option<String>,
}

pub async fn allowed(conn: &mut PgConnection, service_id: Uuid) -> Result<Allowed> {
    let team = sqlx::query_as!(
        Member,
        "select u.email_address, u.mobile_number
         from user_to_service m join users u on u.id = m.user_id
         where m.service_id = $1",
        service_id,
    )
    .fetch_all(&mut *conn)
    .await?;
    let guests = sqlx::query_scalar!(
        "select recipient from service_whitelist where service_id = $1",
        service_id
    )
    .fetch_all(conn)
    .await?;
    Ok(Allowed { team, guests })
}
