//! Hears from the database that something has changed which [`crate::cache`] keeps. Triggers tell of it, whoever makes
//! the change; where word is lost, the cache's short memory bounds what that can do.

use std::{sync::Arc, time::Duration};

use sqlx::PgPool;

use crate::App;

/// Named in the migrations as well.
const CHANNEL: &str = "herald_changes";

const PAUSE: Duration = Duration::from_secs(1);

/// Listens until the process ends.
pub async fn listen(app: Arc<App>, pool: PgPool) {
    loop {
        // Whatever was told before it listens, or while the connection was lost, was not heard.
        let Err(error) = herald_engine::hear(&pool, CHANNEL, |_| app.cache.forget()).await;
        tracing::warn!(%error, "lost the connection that hears of changes");
        tokio::time::sleep(PAUSE).await;
    }
}
