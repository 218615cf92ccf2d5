//! Starting runs in somebody else's transaction: for an effect that finds out only then what has to be started.

use std::collections::HashSet;

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{NewRun, statements as sql};

/// Starts runs as soon as the caller's transaction commits. It knows neither keys nor fair turns: such runs are started
/// with [`crate::Client::submit`].
///
/// # Errors
/// Any error of the database.
pub async fn start(conn: &mut PgConnection, runs: &[NewRun]) -> sqlx::Result<()> {
    if runs.is_empty() {
        return Ok(());
    }
    sql::insert_runs(conn, &runs.iter().collect::<Vec<_>>()).await?;
    let queues: HashSet<String> = runs.iter().map(|run| run.queue.0.to_owned()).collect();
    sql::notify(conn, &queues.into_iter().collect::<Vec<_>>()).await
}

/// Which of these runs live on: the others have ended, or have failed.
///
/// # Errors
/// Any error of the database.
pub async fn alive(conn: &mut PgConnection, runs: &[Uuid]) -> sqlx::Result<Vec<Uuid>> {
    sql::alive(conn, runs).await
}
