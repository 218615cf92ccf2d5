//! What a run needs to be played again: its journal and its signals, read for many runs at once.

use std::collections::HashMap;

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    journal::Replay,
    statements::{self as sql, SignalRow},
};

/// The journal as it was read, or why it could not be.
pub(crate) type Past = Result<(Replay, Vec<SignalRow>), serde_json::Error>;

/// The pasts of those of the runs that have one.
pub(crate) async fn read_past(conn: &mut PgConnection, runs: &[Uuid]) -> sqlx::Result<HashMap<Uuid, Past>> {
    let mut pasts: HashMap<Uuid, Past> = HashMap::new();
    for row in sql::journal_of(conn, runs).await? {
        let past = pasts.entry(row.run_id).or_insert_with(|| Ok(Default::default()));
        match serde_json::from_str(row.events.0.get()) {
            Ok(events) => {
                if let Ok((replay, _)) = past {
                    replay.add(row.seq, row.at, events);
                }
            }
            Err(error) => *past = Err(error),
        }
    }
    for signal in sql::signals_of(conn, runs).await? {
        let past = pasts.entry(signal.run_id).or_insert_with(|| Ok(Default::default()));
        if let Ok((_, inbox)) = past {
            inbox.push(signal);
        }
    }
    Ok(pasts)
}
