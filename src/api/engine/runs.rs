//! Runs: where they stand, and cancelling, pausing, resuming and redriving one or a selection.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use herald_engine::{
    Action, Selection, control,
    look::{self, RunView, STATES},
};
use poem::web::Data;
use poem_openapi::{
    ApiResponse, Object, OpenApi,
    param::{Path, Query},
    types::Example,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Changed, Reason, rows,
    view::{LiveRun, RunShown},
};
use crate::{
    App, InternalTag,
    admin::Administrator,
    error::LegacyErrors,
    formats,
    internal::{self, Refusal, storable},
    payload::{Answer, Posted},
};

/// The most ids in a selection, all of which are recorded.
const MOST_IDS: usize = 1000;

pub struct Runs;

#[OpenApi(tag = "InternalTag::Engine")]
impl Runs {
    /// A run
    ///
    /// Where it stands, why it does not run now, and what happened to it. The run that delivers a notification has the
    /// notification's id.
    #[oai(path = "/engine/runs/:id", method = "get", operation_id = "getRun")]
    async fn get(
        &self,
        _admin: Administrator,
        app: Data<&Arc<App>>,
        /// The run's id.
        id: Path<String>,
    ) -> Result<OneRun, Refusal> {
        let run = match formats::uuid(&id) {
            Some(id) => look::run(&app.pool, id).await?,
            None => None,
        };
        Ok(run.map_or_else(OneRun::not_found, |run| OneRun::Ok(Answer(run.into()))))
    }

    /// Live runs
    ///
    /// Those that fit all parameters, oldest first. `next` is the `after` of the next page, and null on the last. One
    /// request looks through ten thousand runs: where few fit, a page is short or empty, and not the last.
    #[oai(path = "/engine/runs", method = "get", operation_id = "listRuns")]
    #[expect(clippy::too_many_arguments, reason = "each is a parameter of the query")]
    async fn list(
        &self,
        _admin: Administrator,
        app: Data<&Arc<App>>,
        /// The workflow's name.
        workflow: Query<Option<String>>,
        /// The queue's name.
        queue: Query<Option<String>>,
        /// `ready`, `blocked`, `running`, `waiting`, `sleeping`, `parked` or `failed`
        state: Query<Option<String>>,
        /// Whose runs: the service
        tenant: Query<Option<Uuid>>,
        /// Words in the last error
        error: Query<Option<String>>,
        /// Only runs that began after this.
        created_after: Query<Option<DateTime<Utc>>>,
        /// Only runs that began before this.
        created_before: Query<Option<DateTime<Utc>>>,
        /// Only runs with greater ids
        after: Query<Option<Uuid>>,
        /// The most runs of the answer.
        #[oai(default = "rows", validator(minimum(value = "1"), maximum(value = "250")))]
        limit: Query<u16>,
    ) -> Result<RunList, Refusal> {
        let selection = checked(Selection {
            ids: Vec::new(),
            workflow: workflow.0,
            queue: queue.0,
            state: state.0,
            tenant: tenant.0,
            error: error.0,
            created_after: created_after.0,
            created_before: created_before.0,
            unbegun: false,
        })?;
        let page = look::runs(&app.pool, &selection, after.0, limit.0).await?;
        Ok(RunList::Ok(Answer(ListOfRuns {
            next: page.next,
            runs: page.runs.into_iter().map(LiveRun::from).collect(),
        })))
    }

    /// Cancel a run
    ///
    /// It calls nobody any more, and ends in its own way: a message that was not sent is `cancelled`.
    #[oai(path = "/engine/runs/:id/cancel", method = "post", operation_id = "cancelRun")]
    async fn cancel(
        &self,
        admin: Administrator,
        app: Data<&Arc<App>>,
        /// The run's id.
        id: Path<String>,
        body: Posted<Reason>,
    ) -> Result<RunChanged, Refusal> {
        to_one(&app, &admin, Action::Cancel, &id, &body.bytes).await
    }

    /// Pause a run
    ///
    /// It calls nobody, and is not due, until it is resumed. Signals to it are kept.
    #[oai(path = "/engine/runs/:id/pause", method = "post", operation_id = "pauseRun")]
    async fn pause(
        &self,
        admin: Administrator,
        app: Data<&Arc<App>>,
        /// The run's id.
        id: Path<String>,
        body: Posted<Reason>,
    ) -> Result<RunChanged, Refusal> {
        to_one(&app, &admin, Action::Pause, &id, &body.bytes).await
    }

    /// Resume a paused run
    #[oai(path = "/engine/runs/:id/resume", method = "post", operation_id = "resumeRun")]
    async fn resume(
        &self,
        admin: Administrator,
        app: Data<&Arc<App>>,
        /// The run's id.
        id: Path<String>,
        body: Posted<Reason>,
    ) -> Result<RunChanged, Refusal> {
        to_one(&app, &admin, Action::Resume, &id, &body.bytes).await
    }

    /// Try a run again that has failed, or that nobody could read
    #[oai(path = "/engine/runs/:id/redrive", method = "post", operation_id = "redriveRun")]
    async fn redrive(
        &self,
        admin: Administrator,
        app: Data<&Arc<App>>,
        /// The run's id.
        id: Path<String>,
        body: Posted<Reason>,
    ) -> Result<RunChanged, Refusal> {
        to_one(&app, &admin, Action::Redrive, &id, &body.bytes).await
    }

    /// Cancel a selection of runs
    ///
    /// In batches, oldest first, as the other deeds on selections. If the request is cut off, repeating it goes on.
    #[oai(path = "/engine/runs/cancel", method = "post", operation_id = "cancelRuns")]
    async fn cancel_selected(
        &self,
        admin: Administrator,
        app: Data<&Arc<App>>,
        body: Posted<SelectedRuns>,
    ) -> Result<RunsChanged, Refusal> {
        to_selected(&app, &admin, Action::Cancel, &body.bytes).await
    }

    /// Pause a selection of runs
    #[oai(path = "/engine/runs/pause", method = "post", operation_id = "pauseRuns")]
    async fn pause_selected(
        &self,
        admin: Administrator,
        app: Data<&Arc<App>>,
        body: Posted<SelectedRuns>,
    ) -> Result<RunsChanged, Refusal> {
        to_selected(&app, &admin, Action::Pause, &body.bytes).await
    }

    /// Resume a selection of paused runs
    #[oai(path = "/engine/runs/resume", method = "post", operation_id = "resumeRuns")]
    async fn resume_selected(
        &self,
        admin: Administrator,
        app: Data<&Arc<App>>,
        body: Posted<SelectedRuns>,
    ) -> Result<RunsChanged, Refusal> {
        to_selected(&app, &admin, Action::Resume, &body.bytes).await
    }

    /// Try a selection of failed runs again
    #[oai(path = "/engine/runs/redrive", method = "post", operation_id = "redriveRuns")]
    async fn redrive_selected(
        &self,
        admin: Administrator,
        app: Data<&Arc<App>>,
        body: Posted<SelectedRuns>,
    ) -> Result<RunsChanged, Refusal> {
        to_selected(&app, &admin, Action::Redrive, &body.bytes).await
    }
}

async fn to_one(
    app: &App,
    admin: &Administrator,
    action: Action,
    id: &str,
    body: &[u8],
) -> Result<RunChanged, Refusal> {
    let Reason { reason } = internal::read(body)?;
    let actor = admin.acting_because(internal::reason(&reason)?);
    let Some(id) = formats::uuid(id) else {
        return Ok(RunChanged::not_found());
    };
    let changed = control(&app.pool, action, &Selection::one(id), &actor, |_| ()).await?;
    if changed > 0 {
        return Ok(RunChanged::Ok(Answer(Changed { changed })));
    }
    let run = look::run(&app.pool, id).await?;
    Ok(run.map_or_else(RunChanged::not_found, |run| RunChanged::refused(action, &run)))
}

async fn to_selected(app: &App, admin: &Administrator, action: Action, body: &[u8]) -> Result<RunsChanged, Refusal> {
    let SelectedRuns { all, reason, selection } = internal::read(body)?;
    let actor = admin.acting_because(internal::reason(&reason)?);
    let selection = checked(selection.unwrap_or_default().into())?;
    if selection.is_everything() != all.unwrap_or_default() {
        let fault = if selection.is_everything() {
            "It says nothing, and so means every live run: set all to true if that is meant."
        } else {
            "With all set to true it must say nothing."
        };
        return Err(Refusal::of_field("selection", fault));
    }
    let changed = control(&app.pool, action, &selection, &actor, |_| ()).await?;
    Ok(RunsChanged::Ok(Answer(Changed { changed })))
}

fn checked(selection: Selection) -> Result<Selection, Refusal> {
    if selection.ids.len() > MOST_IDS {
        return Err(Refusal::of_field("ids", format!("Must be {MOST_IDS} at most.")));
    }
    if let Some(state) = &selection.state
        && !STATES.contains(&state.as_str())
    {
        return Err(Refusal::of_field(
            "state",
            format!("Must be one of: {}.", STATES.join(", ")),
        ));
    }
    let texts = [
        ("workflow", &selection.workflow),
        ("queue", &selection.queue),
        ("error", &selection.error),
    ];
    for (name, text) in texts {
        storable(name, text.as_deref().unwrap_or_default())?;
    }
    Ok(selection)
}

#[derive(ApiResponse)]
#[expect(clippy::large_enum_variant, reason = "there is one a request")]
enum OneRun {
    /// The run, as it is now.
    #[oai(status = 200)]
    Ok(Answer<RunShown>),
    /// Nothing is known of such a run.
    #[oai(status = 404)]
    NotFound(Answer<LegacyErrors>),
}

impl OneRun {
    fn not_found() -> Self {
        Self::NotFound(Answer(LegacyErrors::new("No result found")))
    }
}

#[derive(ApiResponse)]
enum RunList {
    /// A page of runs.
    #[oai(status = 200)]
    Ok(Answer<ListOfRuns>),
}

#[derive(Debug, Serialize, Object)]
struct ListOfRuns {
    next: Option<Uuid>,
    runs: Vec<LiveRun>,
}

#[derive(ApiResponse)]
enum RunChanged {
    /// It was done.
    #[oai(status = 200)]
    Ok(Answer<Changed>),
    /// Nothing is known of such a run.
    #[oai(status = 404)]
    NotFound(Answer<LegacyErrors>),
    /// The run is in a state in which this makes no sense; `message` names the state.
    #[oai(status = 409)]
    Conflict(Answer<LegacyErrors>),
}

impl RunChanged {
    fn not_found() -> Self {
        Self::NotFound(Answer(LegacyErrors::new("No result found")))
    }

    fn refused(action: Action, run: &RunView) -> Self {
        let control = run.live.as_ref().and_then(|live| live.control.as_deref());
        let state = control.map_or_else(|| run.state.clone(), |control| format!("{} and {control}", run.state));
        Self::Conflict(Answer(LegacyErrors::new(format!(
            "{} makes no sense for a run that is {state}",
            action.name()
        ))))
    }
}

#[derive(ApiResponse)]
enum RunsChanged {
    /// Runs of the selection for which it makes no sense are left as they are.
    #[oai(status = 200)]
    Ok(Answer<Changed>),
}

/// A deed on many runs.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(example)]
struct SelectedRuns {
    /// Must be true for a selection that says nothing, and so means every live run.
    #[oai(skip_serializing_if_is_none)]
    all: Option<bool>,
    /// Kept for ever, with who it was.
    #[oai(validator(min_length = 1, max_length = 500))]
    reason: String,
    selection: Option<RunSelection>,
}

/// Live runs that fit everything that is said here.
#[derive(Debug, Default, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(skip_serializing_if_is_none)]
struct RunSelection {
    created_after: Option<DateTime<Utc>>,
    created_before: Option<DateTime<Utc>>,
    /// Words in the last error.
    error: Option<String>,
    #[oai(validator(max_items = 1000))]
    ids: Option<Vec<Uuid>>,
    queue: Option<String>,
    /// `ready`, `blocked`, `running`, `waiting`, `sleeping`, `parked` or `failed`.
    state: Option<String>,
    /// Whose runs: the service.
    tenant: Option<Uuid>,
    workflow: Option<String>,
}

impl From<RunSelection> for Selection {
    fn from(selection: RunSelection) -> Self {
        Self {
            ids: selection.ids.unwrap_or_default(),
            workflow: selection.workflow,
            queue: selection.queue,
            state: selection.state,
            tenant: selection.tenant,
            error: selection.error,
            created_after: selection.created_after,
            created_before: selection.created_before,
            unbegun: false,
        }
    }
}

impl Example for SelectedRuns {
    fn example() -> Self {
        Self {
            all: None,
            reason: "Firetext is well again".to_owned(),
            selection: Some(RunSelection {
                error: Some("503".to_owned()),
                queue: Some("send-sms".to_owned()),
                state: Some("failed".to_owned()),
                ..RunSelection::default()
            }),
        }
    }
}
