//! Reads messages for concurrent stories: while one query is under way, the next ones gather, and share a query.

use std::collections::HashMap;

use herald_store::notifications::{self, ToSend};
use sqlx::PgPool;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::in_time;

/// Ids in one query at most.
const BATCH: usize = 256;

pub(super) struct Reader(mpsc::Sender<Wanted>);

struct Wanted {
    id: Uuid,
    reply: oneshot::Sender<Result<Option<ToSend>, Unread>>,
}

/// The query of many failed, and has told the log why.
#[derive(Clone, Copy)]
pub(super) struct Unread;

impl Reader {
    #[expect(clippy::disallowed_methods, reason = "it belongs to the tools, not to a story")]
    pub fn new(pool: PgPool) -> Self {
        let (sender, mut wanted) = mpsc::channel(BATCH);
        tokio::spawn(async move {
            let mut batch = Vec::new();
            while wanted.recv_many(&mut batch, BATCH).await > 0 {
                answer(&pool, std::mem::take(&mut batch)).await;
            }
        });
        Self(sender)
    }

    /// The message; none when there is no such id.
    pub async fn read(&self, id: Uuid) -> Result<Option<ToSend>, Unread> {
        let (reply, answer) = oneshot::channel();
        // The reader stops with the process.
        self.0.send(Wanted { id, reply }).await.map_err(|_| Unread)?;
        answer.await.map_err(|_| Unread)?
    }
}

async fn answer(pool: &PgPool, batch: Vec<Wanted>) {
    let ids: Vec<Uuid> = batch.iter().map(|wanted| wanted.id).collect();
    let read = async { notifications::to_send(&mut *pool.acquire().await?, &ids).await };
    let read = in_time(read).await.map_err(|error| {
        tracing::warn!(%error, attempts = ids.len(), "attempts failed because our database did");
        Unread
    });
    let found = read.map(|rows| {
        rows.into_iter()
            .map(|row| (row.id, row))
            .collect::<HashMap<Uuid, ToSend>>()
    });
    for Wanted { id, reply } in batch {
        let answer = match &found {
            Ok(rows) => Ok(rows.get(&id).cloned()),
            Err(unread) => Err(*unread),
        };
        // A story that was stopped meanwhile needs no answer.
        let _ = reply.send(answer);
    }
}
