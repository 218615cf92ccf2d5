//! Hears from the database that something has changed which [`crate::cache`] keeps. Triggers tell of it, whoever makes
//! the change; where word is lost, the cache's short memory bounds what that can do.

use std::{sync::Arc, time::Duration};

use sqlx::{PgPool, postgres::PgListener};

use crate::App;

/// Named in the migrations as well.
const CHANNEL: &str = "herald_changes";

const PAUSE: Duration = Duration::from_secs(1);

/// Listens until the process ends.
pub async fn listen(app: Arc<App>, pool: PgPool) {
    loop {
        if let Err(error) = listen_once(&app, &pool).await {
            tracing::warn!(%error, "lost the connection that hears of changes");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn listen_once(app: &App, pool: &PgPool) -> sqlx::Result<()> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    loop {
        // Whatever was told before this, or while the connection was lost, was not heard.
        app.cache.forget();
        listener.try_recv().await?;
    }
}
