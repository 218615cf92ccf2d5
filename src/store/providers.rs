//! Providers: who may send now and with which weights, what they do, how weights are moved, and what needs a person.

mod alerts;
mod moving;
mod traffic;

use sqlx::PgConnection;
use uuid::Uuid;

pub use alerts::{Alert, EMAIL_FAILING, SMS_FAILING, alerts, failing_channels, lower_alert, raise_alert};
pub use moving::{Change, Fall, Version, Watched, change, falls, history, lock, watched};
pub use traffic::{Delivery, Second, Tally, Traffic, add_traffic, deliveries, forget_traffic, seconds, traffic};

use crate::{DateTime, NotificationType, Result};

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

/// A provider as people look at it.
#[derive(Clone, Debug)]
pub struct Shown {
    pub id: Uuid,
    pub identifier: String,
    pub display_name: String,
    pub notification_type: NotificationType,
    pub priority: i32,
    pub active: bool,
    /// People have set it: no rule moves weights of its channel.
    pub pinned: bool,
    pub version: i32,
    pub updated_at: Option<DateTime>,
    /// Why it was changed last.
    pub reason: Option<String>,
    /// The operator who changed it last; none: a rule.
    pub changed_by: Option<String>,
}

/// Every provider, by channel and name.
pub async fn all(conn: &mut PgConnection) -> Result<Vec<Shown>> {
    Ok(sqlx::query_as!(
        Shown,
        r#"
        select id, identifier, display_name, notification_type::text as "notification_type!: NotificationType", priority,
            active, pinned, version, updated_at at time zone 'utc' as updated_at, reason, changed_by
        from provider_details
        order by notification_type::text, identifier
        "#
    )
    .fetch_all(conn)
    .await?)
}
