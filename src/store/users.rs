//! People with an account.

use sqlx::PgConnection;
use uuid::{Uuid, uuid};

use crate::Result;

/// What Notify itself writes to the people who use it, each from a service of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Newsletter {
    /// Invitations to take part in research.
    Research,
    NewFeatures,
}

impl Newsletter {
    /// The newsletter that this service sends, if it sends one.
    #[must_use]
    pub fn of(service_id: Uuid) -> Option<Self> {
        const RESEARCH: Uuid = uuid!("6c335bf6-ea00-45f1-a40c-6612c7639386");
        const NEW_FEATURES: Uuid = uuid!("2242f811-1027-44c0-b7d1-1459823d6740");
        match service_id {
            RESEARCH => Some(Self::Research),
            NEW_FEATURES => Some(Self::NewFeatures),
            _ => None,
        }
    }
}

/// Sends the user with this address no more of them; says how many rows that changed.
pub async fn unsubscribe(conn: &mut PgConnection, newsletter: Newsletter, address: &str) -> Result<u64> {
    let done = sqlx::query!(
        "update users
         set take_part_in_research = take_part_in_research and not $2,
            receives_new_features_email = receives_new_features_email and $2,
            updated_at = now() at time zone 'utc'
         where lower(email_address) = lower($1)",
        address,
        newsletter == Newsletter::Research,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
