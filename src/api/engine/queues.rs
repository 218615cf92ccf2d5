//! Queues: how full they are, and their pauses and limits.

use std::sync::Arc;

use herald_engine::{
    ALL_QUEUES, Error as EngineError, QueueChange, QueueLimits, change_queue,
    look::{self, Count, QueueView},
};
use herald_workflows::queues;
use poem::web::Data;
use poem_openapi::{ApiResponse, Object, OpenApi, param::Path, types::Example};
use serde::{Deserialize, Serialize};

use super::Reason;
use crate::{
    App, InternalTag,
    admin::Administrator,
    error::LegacyErrors,
    internal::{self, Refusal},
    payload::{Answer, Posted, Timestamp},
};

pub struct Queues;

#[OpenApi(tag = "InternalTag::Engine")]
impl Queues {
    /// All queues
    #[oai(path = "/engine/queues", method = "get", operation_id = "listQueues")]
    async fn list(&self, _admin: Administrator, app: Data<&Arc<App>>) -> Result<QueueList, Refusal> {
        let queues = look::queues_and(&app.pool, &queues::ALL.map(|queue| queue.0)).await?;
        let queues = queues.into_iter().map(QueueState::from).collect();
        Ok(QueueList::Ok(Answer(ListOfQueues { queues })))
    }

    /// Pause a queue
    ///
    /// No run of it begins, and no timer of it goes off, until it is resumed. What runs goes on to its next wait. The
    /// name `all` (or `*`) means every queue.
    #[oai(path = "/engine/queues/:name/pause", method = "post", operation_id = "pauseQueue")]
    async fn pause(
        &self,
        admin: Administrator,
        app: Data<&Arc<App>>,
        /// The queue's name.
        name: Path<String>,
        body: Posted<Reason>,
    ) -> Result<QueueChanged, Refusal> {
        let Reason { reason } = internal::read(&body.bytes)?;
        change(&app, &admin, &name, QueueChange::Pause, &reason).await
    }

    /// Open a queue
    ///
    /// Also while all others are paused. The name `all` (or `*`) opens every queue.
    #[oai(path = "/engine/queues/:name/resume", method = "post", operation_id = "resumeQueue")]
    async fn resume(
        &self,
        admin: Administrator,
        app: Data<&Arc<App>>,
        /// The queue's name.
        name: Path<String>,
        body: Posted<Reason>,
    ) -> Result<QueueChanged, Refusal> {
        let Reason { reason } = internal::read(&body.bytes)?;
        change(&app, &admin, &name, QueueChange::Resume, &reason).await
    }

    /// Set the limits of a queue
    ///
    /// All of them, over all workers: what is absent or null is not limited.
    #[oai(path = "/engine/queues/:name/limits", method = "put", operation_id = "limitQueue")]
    async fn limit(
        &self,
        admin: Administrator,
        app: Data<&Arc<App>>,
        /// The queue's name.
        name: Path<String>,
        body: Posted<NewLimits>,
    ) -> Result<QueueChanged, Refusal> {
        let limits: NewLimits = internal::read(&body.bytes)?;
        let wanted = QueueLimits {
            max_running: limits.max_running,
            rate: limits.rate,
            burst: limits.burst,
        };
        change(&app, &admin, &name, QueueChange::Limit(wanted), &limits.reason).await
    }
}

async fn change(
    app: &App,
    admin: &Administrator,
    name: &str,
    change: QueueChange,
    reason: &str,
) -> Result<QueueChanged, Refusal> {
    let name = match name {
        "all" | ALL_QUEUES => ALL_QUEUES,
        name if queues::named(name).is_some() => name,
        _ => return Ok(QueueChanged::unknown()),
    };
    let actor = admin.acting_because(internal::reason(reason)?);
    match change_queue(&app.pool, name, change, &actor).await {
        Ok(()) => Ok(QueueChanged::Ok(Answer(QueuesChanged { queue: name.to_owned() }))),
        Err(EngineError::Refused(why)) => Err(Refusal::of_field("limits", why)),
        Err(error) => Err(error.into()),
    }
}

#[derive(ApiResponse)]
enum QueueList {
    /// All of them.
    #[oai(status = 200)]
    Ok(Answer<ListOfQueues>),
}

#[derive(ApiResponse)]
enum QueueChanged {
    /// It holds for every worker from its next claim on.
    #[oai(status = 200)]
    Ok(Answer<QueuesChanged>),
    /// There is no such queue; `message` names those that there are.
    #[oai(status = 404)]
    Unknown(Answer<LegacyErrors>),
}

impl QueueChanged {
    fn unknown() -> Self {
        let known = queues::ALL.map(|queue| queue.0).join(", ");
        Self::Unknown(Answer(LegacyErrors::new(format!(
            "There is no such queue; known are: all, {known}"
        ))))
    }
}

#[derive(Debug, Serialize, Object)]
struct QueuesChanged {
    /// The queue; `*` for all.
    queue: String,
}

/// The limits of a queue over all workers.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(example)]
struct NewLimits {
    /// Starts that may come at once after a quiet time; as many as in a second where nothing is said.
    #[oai(validator(minimum(value = "1"), maximum(value = "1000000")))]
    burst: Option<f64>,
    /// Runs that hold a worker at once.
    #[oai(validator(minimum(value = "1"), maximum(value = "1000000")))]
    max_running: Option<u32>,
    /// Starts a second.
    #[oai(validator(minimum(value = "0.001"), maximum(value = "1000000")))]
    rate: Option<f64>,
    /// Kept for ever, with who it was.
    #[oai(validator(min_length = 1, max_length = 500))]
    reason: String,
}

impl Example for NewLimits {
    fn example() -> Self {
        Self {
            burst: Some(50.0),
            max_running: Some(200),
            rate: Some(20.0),
            reason: "Firetext asks for less".to_owned(),
        }
    }
}

#[derive(Debug, Serialize, Object)]
struct ListOfQueues {
    queues: Vec<QueueState>,
}

#[derive(Debug, Serialize, Object)]
struct QueueState {
    /// One for each state in which there are runs.
    counts: Vec<CountOfRuns>,
    limits: Limits,
    name: String,
    paused: bool,
    /// Starts that are allowed at this moment, where the queue has a rate.
    tokens: Option<f64>,
}

/// What is null is not limited.
#[derive(Debug, Serialize, Object)]
struct Limits {
    burst: Option<f64>,
    max_running: Option<u32>,
    rate: Option<f64>,
}

#[derive(Debug, Serialize, Object)]
struct CountOfRuns {
    /// Whether there are too many to count them, and `runs` is an estimate.
    estimated: bool,
    /// The first instant at which one is due. Of ready runs it is a turn.
    first_due: Option<Timestamp>,
    runs: i64,
    /// As a run's; or `paused`, of those that people paused, whatever their state, unless a worker holds them.
    state: String,
}

impl From<QueueView> for QueueState {
    fn from(queue: QueueView) -> Self {
        let QueueLimits {
            max_running,
            rate,
            burst,
        } = queue.limits;
        Self {
            counts: queue.counts.into_iter().map(CountOfRuns::from).collect(),
            limits: Limits {
                burst,
                max_running,
                rate,
            },
            name: queue.name,
            paused: queue.paused,
            tokens: queue.tokens,
        }
    }
}

impl From<Count> for CountOfRuns {
    fn from(count: Count) -> Self {
        Self {
            estimated: count.estimated,
            first_due: count.first_due.map(Timestamp),
            runs: count.runs,
            state: count.state,
        }
    }
}
