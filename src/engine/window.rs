//! Walking through live runs, oldest first, a bounded number at a time, whatever is looked for among them.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{Action, Selection, statements as sql};

/// Runs in a window at most.
const MOST: usize = 10_000;

/// Some live runs, of which those that a selection means are picked out.
pub(crate) struct Window {
    /// In order.
    pub runs: Vec<Uuid>,
    /// After which run the next window begins; none where there is none.
    pub next: Option<Uuid>,
}

impl Window {
    /// Runs after the id `after`: of those that the selection names; of the failed or the parked, where it means these, or
    /// they are what is to be done something about; or else of all.
    pub async fn after(
        conn: &mut PgConnection,
        selection: &Selection,
        deed: Option<Action>,
        after: Uuid,
    ) -> sqlx::Result<Self> {
        let most = i64::try_from(MOST).unwrap_or(i64::MAX);
        let dead: &[&str] = match (selection.state.as_deref(), deed) {
            (Some("failed"), _) => &["failed"],
            (Some("parked"), _) => &["parked"],
            (None, Some(Action::Redrive)) => &["failed", "parked"],
            _ => &[],
        };
        let runs = match dead {
            _ if !selection.ids.is_empty() => {
                let mut named = selection.ids.clone();
                named.retain(|run| *run > after);
                named.sort_unstable();
                named.dedup();
                named.truncate(MOST);
                named
            }
            [_, ..] => {
                let queues = match &selection.queue {
                    Some(queue) => vec![queue.clone()],
                    None => sql::queue_names(conn).await?,
                };
                sql::next_dead(conn, &queues, dead, after, most).await?
            }
            [] => sql::next_runs(conn, after, most).await?,
        };
        let next = runs.last().copied().filter(|_| runs.len() == MOST);
        Ok(Self { runs, next })
    }
}
