//! The providers that may send now, with the weights by which one is drawn.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{NotificationType, Result};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    pub id: Uuid,
    /// `firetext`, `mmg`, `ses` …: the text of `notifications.sent_by`.
    pub identifier: String,
    pub display_name: String,
    /// Weight of the draw, 0 to 100.
    pub priority: i32,
    pub supports_international: bool,
}

/// The active providers of a channel, heaviest first.
pub async fn active(conn: &mut PgConnection, notification_type: NotificationType) -> Result<Vec<Provider>> {
    Ok(sqlx::query_as!(
        Provider,
        "select id, identifier, display_name, priority, supports_international
         from provider_details
         where active and notification_type = $1::text::notification_type
         order by priority desc, identifier",
        notification_type.as_str(),
    )
    .fetch_all(conn)
    .await?)
}
