//! Callbacks to services, as operators see them: what is still to be told or could not be told, and telling it once more.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use herald_store::{
    CallbackType,
    callbacks::{self, EventView, Selection},
};
use herald_workflows::callbacks::replay;
use poem::web::Data;
use poem_openapi::{ApiResponse, Object, OpenApi, param::Query, types::Example};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    App, InternalTag,
    admin::Administrator,
    internal::{self, Refusal},
    payload::{Answer, Posted, Timestamp},
};

/// The most ids in a selection, all of which are recorded.
const MOST_IDS: usize = 1000;

/// The length of a page where nothing is said.
fn rows() -> u16 {
    50
}

pub struct Callbacks;

#[OpenApi(tag = "InternalTag::Callbacks")]
impl Callbacks {
    /// Events that services could not be told of
    ///
    /// By service and number, without what they say. `next` is the `after` of the next page, and null on the last.
    #[oai(path = "/callbacks", method = "get", operation_id = "listCallbacks")]
    #[expect(clippy::too_many_arguments, reason = "each is a parameter of the query")]
    async fn list(
        &self,
        _admin: Administrator,
        app: Data<&Arc<App>>,
        /// Those that still wait instead.
        #[oai(default)]
        waiting: Query<bool>,
        /// The service's id.
        service_id: Query<Option<Uuid>>,
        /// `delivery_status`, `complaint`, `inbound_sms` or `returned_letter`.
        callback_type: Query<Option<String>>,
        /// Only events that happened at this time or later.
        created_after: Query<Option<DateTime<Utc>>>,
        /// Only events that happened before this.
        created_before: Query<Option<DateTime<Utc>>>,
        /// Only what follows this event.
        after: Query<Option<Uuid>>,
        /// The most events of the answer.
        #[oai(default = "rows", validator(minimum(value = "1"), maximum(value = "250")))]
        limit: Query<u16>,
    ) -> Result<EventList, Refusal> {
        let selection = Selection {
            ids: Vec::new(),
            service_id: service_id.0,
            callback_type: kind(callback_type.0.as_deref())?,
            created_after: created_after.0,
            created_before: created_before.0,
        };
        let mut conn = app.pool.acquire().await?;
        let page = callbacks::list(&mut conn, &selection, waiting.0, after.0, limit.0).await?;
        let events = page.ok_or_else(|| Refusal::of_field("after", "There is no such event any more: begin again."))?;
        let next = (events.len() >= usize::from(limit.0)).then(|| events.last().map(|last| last.id));
        Ok(EventList::Ok(Answer(ListOfEvents {
            events: events.into_iter().map(CallbackEvent::from).collect(),
            next: next.flatten(),
        })))
    }

    /// Tell services once more of what they could not be told of
    ///
    /// Each service in order, in batches. If the request is cut off, repeating it goes on.
    #[oai(path = "/callbacks/replay", method = "post", operation_id = "replayCallbacks")]
    async fn replay(
        &self,
        admin: Administrator,
        app: Data<&Arc<App>>,
        body: Posted<SelectedEvents>,
    ) -> Result<EventsReplayed, Refusal> {
        let SelectedEvents { all, reason, selection } = internal::read(&body.bytes)?;
        let actor = admin.acting_because(internal::reason(&reason)?);
        let selection = checked(selection.unwrap_or_default())?;
        if selection.is_everything() != all.unwrap_or_default() {
            let fault = if selection.is_everything() {
                "It says nothing, and so means every undeliverable event: set all to true if that is meant."
            } else {
                "With all set to true it must say nothing."
            };
            return Err(Refusal::of_field("selection", fault));
        }
        let changed = replay(&app.pool, &selection, &actor, |_| ()).await?;
        Ok(EventsReplayed::Ok(Answer(Replayed { changed })))
    }
}

fn kind(text: Option<&str>) -> Result<Option<CallbackType>, Refusal> {
    let parsed = text.map(str::parse).transpose();
    parsed.map_err(|_| {
        let known = CallbackType::ALL.map(CallbackType::as_str).join(", ");
        Refusal::of_field("callback_type", format!("Must be one of: {known}."))
    })
}

fn checked(selection: EventSelection) -> Result<Selection, Refusal> {
    let ids = selection.ids.unwrap_or_default();
    if ids.len() > MOST_IDS {
        return Err(Refusal::of_field("ids", format!("Must be {MOST_IDS} at most.")));
    }
    Ok(Selection {
        ids,
        service_id: selection.service_id,
        callback_type: kind(selection.callback_type.as_deref())?,
        created_after: selection.created_after,
        created_before: selection.created_before,
    })
}

#[derive(ApiResponse)]
enum EventList {
    /// A page of events.
    #[oai(status = 200)]
    Ok(Answer<ListOfEvents>),
}

#[derive(ApiResponse)]
enum EventsReplayed {
    /// Events of the selection that are not undeliverable are left as they are.
    #[oai(status = 200)]
    Ok(Answer<Replayed>),
}

#[derive(Debug, Serialize, Object)]
struct ListOfEvents {
    events: Vec<CallbackEvent>,
    next: Option<Uuid>,
}

/// Something that a service is to be told.
#[derive(Debug, Serialize, Object)]
struct CallbackEvent {
    /// Calls that failed.
    attempts: i32,
    callback_type: String,
    created_at: Timestamp,
    /// What the service knows it by.
    id: Uuid,
    last_error: Option<String>,
    /// Its number among the service's events.
    sequence: i64,
    service_id: Uuid,
    /// Null: it waits.
    undeliverable_at: Option<Timestamp>,
}

impl From<EventView> for CallbackEvent {
    fn from(event: EventView) -> Self {
        Self {
            attempts: event.attempts,
            callback_type: event.callback_type.to_string(),
            created_at: Timestamp(event.created_at),
            id: event.id,
            last_error: event.last_error,
            sequence: event.sequence,
            service_id: event.service_id,
            undeliverable_at: event.undeliverable_at.map(Timestamp),
        }
    }
}

/// How much was replayed.
#[derive(Debug, Serialize, Object)]
struct Replayed {
    /// Events.
    changed: usize,
}

/// A deed on many events.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(example)]
struct SelectedEvents {
    /// Must be true for a selection that says nothing, and so means every undeliverable event.
    #[oai(skip_serializing_if_is_none)]
    all: Option<bool>,
    /// Kept for ever, with who it was.
    #[oai(validator(min_length = 1, max_length = 500))]
    reason: String,
    selection: Option<EventSelection>,
}

/// Undeliverable events that fit everything that is said here.
#[derive(Debug, Default, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(skip_serializing_if_is_none)]
struct EventSelection {
    /// `delivery_status`, `complaint`, `inbound_sms` or `returned_letter`.
    callback_type: Option<String>,
    created_after: Option<DateTime<Utc>>,
    created_before: Option<DateTime<Utc>>,
    #[oai(validator(max_items = 1000))]
    ids: Option<Vec<Uuid>>,
    service_id: Option<Uuid>,
}

impl Example for SelectedEvents {
    fn example() -> Self {
        Self {
            all: None,
            reason: "the endpoint is well again".to_owned(),
            selection: Some(EventSelection {
                callback_type: Some("delivery_status".to_owned()),
                ..EventSelection::default()
            }),
        }
    }
}
