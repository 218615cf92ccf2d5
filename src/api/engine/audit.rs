//! Who did what to runs and queues, and why.

use std::sync::Arc;

use herald_engine::look::{self, AuditEntry};
use poem::web::Data;
use poem_openapi::{ApiResponse, Object, OpenApi, param::Query};
use serde::Serialize;
use serde_json::Value;

use super::rows;
use crate::{
    App, InternalTag,
    admin::Administrator,
    internal::Refusal,
    payload::{Answer, Timestamp},
};

pub struct Audit;

#[OpenApi(tag = "InternalTag::Engine")]
impl Audit {
    /// What people did
    ///
    /// Newest first. `next` is the `before` of the next page, and null on the last.
    #[oai(path = "/engine/audit", method = "get", operation_id = "listAudit")]
    async fn list(
        &self,
        _admin: Administrator,
        app: Data<&Arc<App>>,
        /// Only what was done before the entry with this number.
        before: Query<Option<i64>>,
        /// The most entries of the answer.
        #[oai(default = "rows", validator(minimum(value = "1"), maximum(value = "250")))]
        limit: Query<u16>,
    ) -> Result<AuditList, Refusal> {
        let entries = look::audit(&app.pool, before.0, limit.0).await?;
        let next = (entries.len() >= usize::from(limit.0))
            .then(|| entries.last().map(|last| last.id))
            .flatten();
        Ok(AuditList::Ok(Answer(ListOfDeeds {
            entries: entries.into_iter().map(Deed::from).collect(),
            next,
        })))
    }
}

#[derive(ApiResponse)]
enum AuditList {
    /// A page of entries.
    #[oai(status = 200)]
    Ok(Answer<ListOfDeeds>),
}

#[derive(Debug, Serialize, Object)]
struct ListOfDeeds {
    entries: Vec<Deed>,
    next: Option<i64>,
}

#[derive(Debug, Serialize, Object)]
struct Deed {
    /// `cancel`, `pause`, `resume`, `redrive`, `pause_queue`, `resume_queue`, `limit_queue` or `replay_callbacks`.
    action: String,
    actor: String,
    at: Timestamp,
    /// How many runs, queues or events; of a selection there is an entry for each batch.
    changed: i32,
    id: i64,
    reason: String,
    /// The selection, or the queue and its limits.
    target: Value,
}

impl From<AuditEntry> for Deed {
    fn from(entry: AuditEntry) -> Self {
        Self {
            action: entry.action,
            actor: entry.actor,
            at: Timestamp(entry.at),
            changed: entry.changed,
            id: entry.id,
            reason: entry.reason,
            target: entry.target,
        }
    }
}
