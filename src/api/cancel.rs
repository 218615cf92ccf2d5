//! `POST /v2/notifications/{id}/cancel`: takes a message back that nobody has begun to send.

use std::sync::Arc;

use herald_engine::{Action, Actor, Selection, control};
use herald_message::status::Status;
use poem::web::Data;
use poem_openapi::{ApiResponse, Object, OpenApi, param::Path};
use serde::Serialize;
use uuid::Uuid;

use crate::{App, Error, Tag, auth::Caller, payload::Answer, read};

const TOO_LATE: &str = "It is too late to cancel this message: it is being sent, or was";

pub struct Cancellation;

#[OpenApi(tag = "Tag::Send")]
impl Cancellation {
    /// Cancel a message
    ///
    /// Possible until it begins to be sent: while it is scheduled, or waits for its turn. Once this is answered it will
    /// not be sent; its status becomes `cancelled` a moment later. Harmless to repeat.
    #[oai(
        path = "/v2/notifications/:notification_id/cancel",
        method = "post",
        operation_id = "cancelNotification"
    )]
    async fn cancel(
        &self,
        caller: Caller,
        app: Data<&Arc<App>>,
        /// Its id, which sending it was answered with.
        notification_id: Path<String>,
    ) -> Result<CancelAnswer, Error> {
        let found = read::find(&app, &caller, &notification_id).await?;
        let selection = Selection {
            tenant: Some(found.service_id),
            unbegun: true,
            ..Selection::one(found.id)
        };
        let actor = Actor {
            name: format!("service {} (key {})", found.service_id, caller.key_id),
            reason: "cancelled by its service".to_owned(),
        };
        let cancelled = control(&app.pool, Action::Cancel, &selection, &actor, |_| ()).await? > 0;
        if !cancelled && !is_cancelled(&app, &caller, &notification_id, found.id).await? {
            return Err(Error::Conflict(TOO_LATE));
        }
        Ok(CancelAnswer::Ok(Answer(Cancelled {
            id: found.id,
            status: Status::Cancelled.as_str().to_owned(),
        })))
    }
}

/// Whether somebody did it before. A run ends in the commit that writes the status: where there is none any more, the
/// status is the last word.
async fn is_cancelled(app: &App, caller: &Caller, typed: &str, id: Uuid) -> Result<bool, Error> {
    let run = herald_engine::look::run(&app.pool, id).await?;
    let live = run.and_then(|run| run.live);
    if live.is_some_and(|live| live.control.as_deref() == Some("cancelled")) {
        return Ok(true);
    }
    Ok(read::find(app, caller, typed).await?.status == Status::Cancelled)
}

#[derive(ApiResponse)]
enum CancelAnswer {
    /// It will not be sent.
    #[oai(status = 200)]
    Ok(Answer<Cancelled>),
}

#[derive(Debug, Serialize, Object)]
struct Cancelled {
    id: Uuid,
    /// Always `cancelled`.
    status: String,
}
