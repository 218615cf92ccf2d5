//! Whether the live runs can go on under this version of the program: each story is played through its recorded past,
//! and no further. Nothing is written, and nobody is called.

use std::sync::Arc;

use sqlx::PgPool;
use uuid::Uuid;

use crate::{
    committer::Client,
    executor::Executor,
    past::read_past,
    registry::{Registry, Stories},
    slots::Slots,
    statements::{self as sql, ClaimedRow},
    workflow::Queue,
};

/// A live run that this version would park.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WouldPark {
    pub run: Uuid,
    pub workflow: String,
    pub why: String,
}

/// Runs that are read at once.
const BATCH: i64 = 500;

/// Plays all live runs but the failed ones, oldest first, and tells `found` each that would be parked, `progress` how many
/// were played so far. Returns how many there were.
///
/// # Errors
/// Any error of the database.
pub async fn check_upgrade<T: Send + Sync + 'static>(
    pool: &PgPool,
    registry: Registry<T>,
    mut found: impl FnMut(WouldPark),
    mut progress: impl FnMut(usize),
) -> sqlx::Result<usize> {
    let stories: Arc<dyn Stories> = Arc::new(registry);
    let executor = Executor {
        stories,
        client: Client::nowhere(),
        queue: Queue(""),
        slots: Slots::new(1),
        deaths: 0,
        told: Arc::default(),
    };
    let (mut after, mut played) = (Uuid::nil(), 0);
    loop {
        let conn = &mut *pool.acquire().await?;
        let rows: Vec<ClaimedRow> = sql::open_runs(conn, after, BATCH).await?;
        let Some(last) = rows.last() else { return Ok(played) };
        after = last.id;
        let begun: Vec<Uuid> = rows.iter().filter(|row| row.epoch > 0).map(|row| row.id).collect();
        let mut pasts = read_past(conn, &begun).await?;
        for row in rows.into_iter().map(Arc::new) {
            let past = pasts.remove(&row.id).unwrap_or_else(|| Ok(Default::default()));
            if let Some(why) = executor.rehearse(row.clone(), past).await {
                let workflow = row.workflow.clone();
                found(WouldPark {
                    run: row.id,
                    workflow,
                    why,
                });
            }
            played += 1;
        }
        progress(played);
    }
}
