//! `GET /v2/notifications/{id}/timeline`: what happened to a message, in plain words, and what it waits for.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use herald_engine::look::{self, Entry, Standstill};
use herald_message::{
    receipt::{Provider, Receipt},
    status::Status,
};
use herald_store::notifications::NotificationView;
use poem::web::Data;
use poem_openapi::{ApiResponse, Object, OpenApi, param::Path};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    App, Error, Tag,
    auth::Caller,
    payload::{Answer, Timestamp},
    read,
};

pub struct Timelines;

#[OpenApi(tag = "Tag::Notifications")]
impl Timelines {
    /// What happened to a notification
    ///
    /// Each attempt, receipt and wait, oldest first, and why it is not delivered yet. Kept for as long as the operators
    /// keep the engine's journal, two weeks where nothing else is set; of what is older only the beginning and the end
    /// are told.
    #[oai(
        path = "/v2/notifications/:notification_id/timeline",
        method = "get",
        operation_id = "getNotificationTimeline"
    )]
    async fn get(
        &self,
        caller: Caller,
        app: Data<&Arc<App>>,
        /// Its id, which sending it was answered with.
        notification_id: Path<String>,
    ) -> Result<TimelineAnswer, Error> {
        let found = read::find(&app, &caller, &notification_id).await?;
        let run = look::run(&app.pool, found.id).await?;
        let (entries, live) = run.map(|run| (run.timeline, run.live)).unwrap_or_default();
        let mut events = vec![accepted(&found)];
        events.extend(entries.iter().filter_map(event));
        events.extend(settled(&found));
        events.sort_by_key(|event| event.at.0);
        Ok(TimelineAnswer::Ok(Answer(Timeline {
            events,
            id: found.id,
            status: found.status.as_str().to_owned(),
            waits_for: live.and_then(|live| Wait::of(live.standstill)),
        })))
    }
}

#[derive(ApiResponse)]
enum TimelineAnswer {
    /// What happened, and what is waited for.
    #[oai(status = 200)]
    Ok(Answer<Timeline>),
}

#[derive(Debug, Serialize, Object)]
struct Timeline {
    /// Oldest first.
    events: Vec<Happened>,
    id: Uuid,
    /// As `GET /v2/notifications/{notification_id}` tells it.
    status: String,
    /// Null once nothing more will happen.
    waits_for: Option<Wait>,
}

/// Something that happened.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "TimelineEvent")]
struct Happened {
    at: Timestamp,
    /// How often it had been tried by then.
    attempt: Option<u32>,
    /// For people.
    description: String,
    /// For programs: `accepted`, `picked_up`, `attempt`, `taken`, `refused`, `unknown`, `rejected`, `resent`, `confirmed`,
    /// `presumed`, `withdrawn`, `abandoned`, `expired`, `receipt`, `timed_out`, `gave_up`, `cancelled`, `retried` or `settled`.
    event: String,
    provider: Option<String>,
    /// How long the provider's answer took, in milliseconds.
    took_ms: Option<u64>,
}

/// What has to happen before it goes on.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "TimelineWait")]
struct Wait {
    /// For people.
    description: String,
    /// For programs: `worker`, `turn`, `time`, `retry`, `receipt` or `operators`.
    reason: String,
    /// When that ends by itself, if it does.
    until: Option<Timestamp>,
}

impl Happened {
    fn new(at: DateTime<Utc>, event: &str, description: impl Into<String>) -> Self {
        Self {
            at: Timestamp(at),
            attempt: None,
            description: description.into(),
            event: event.to_owned(),
            provider: None,
            took_ms: None,
        }
    }
}

fn accepted(notification: &NotificationView) -> Happened {
    let description = match notification.scheduled_for {
        Some(time) => format!("Accepted, to be sent at {} UTC.", time.format("%H:%M on %-d %B %Y")),
        None => "Accepted.".to_owned(),
    };
    Happened::new(notification.created_at, "accepted", description)
}

fn settled(notification: &NotificationView) -> Option<Happened> {
    let status = notification.status;
    let at = notification.updated_at.filter(|_| status.is_completed())?;
    let detail = notification.detailed_status.as_deref();
    let detail = detail.map(|detail| format!(" ({detail})")).unwrap_or_default();
    Some(Happened::new(
        at,
        "settled",
        format!("Its status became {status}{detail}."),
    ))
}

/// What the engine's journal holds of an attempt.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Details {
    attempt: Option<u32>,
    outcome: String,
    last: bool,
    why: String,
    took_ms: Option<u64>,
    plan: Value,
    payload: Option<Receipt>,
}

/// None for what only operators care about.
fn event(entry: &Entry) -> Option<Happened> {
    let details: Details = serde_json::from_value(entry.details.clone()).unwrap_or_default();
    let provider = sent_by(&details.plan).or(details.payload.as_ref().map(|receipt| receipt.provider));
    let name = provider.map_or("the provider", Provider::display_name);
    let (event, description) = match (entry.kind.as_str(), details.outcome.as_str()) {
        ("claimed", _) => ("picked_up", "A worker took it up.".to_owned()),
        ("intent", _) => ("attempt", format!("It is being handed to {name}.")),
        ("done", _) if details.plan.get("pretend").is_some() => {
            ("taken", "Nobody was sent it: a test key made it.".to_owned())
        }
        ("done", _) if entry.step.as_deref() == Some("send") => ("taken", "The provider took it.".to_owned()),
        ("failed", "refused") => (
            "refused",
            format!("That had no effect: {}.{}", details.why, again(details.last)),
        ),
        ("failed", "unknown") => (
            "unknown",
            format!("Whether the provider took it is not known: {}.", details.why),
        ),
        ("failed", _) => ("rejected", format!("It cannot be sent: {}.", details.why)),
        ("resent", _) => (
            "resent",
            "No receipt came for the attempt whose outcome is not known: it is sent again.".to_owned(),
        ),
        ("confirmed", _) => (
            "confirmed",
            "A receipt shows that the provider took it after all.".to_owned(),
        ),
        ("presumed", _) => (
            "presumed",
            "No receipt came for the attempt whose outcome is not known, and it is not sent again.".to_owned(),
        ),
        ("withdrawn", _) => ("withdrawn", "That attempt was not made.".to_owned()),
        ("abandoned", _) => ("abandoned", "Whether the provider took it was never learnt.".to_owned()),
        ("expired", _) => ("expired", "It was not wanted any more, and was not sent.".to_owned()),
        ("received", _) => ("receipt", receipt(details.payload.as_ref()?)),
        ("timed_out", _) => ("timed_out", "No receipt came in time.".to_owned()),
        ("gave_up", _) => ("gave_up", "It was given up.".to_owned()),
        ("cancelled", _) => ("cancelled", "It was cancelled.".to_owned()),
        ("redriven", _) => ("retried", "The operators have it tried again.".to_owned()),
        _ => return None,
    };
    Some(Happened {
        attempt: details.attempt,
        provider: provider.map(|provider| provider.name().to_owned()),
        took_ms: details.took_ms,
        ..Happened::new(entry.at, event, description)
    })
}

fn again(last: bool) -> &'static str {
    if last {
        " That was the last attempt."
    } else {
        " It will be tried again."
    }
}

/// What the provider said, and no more: which failure it is depends on what is known of the message besides.
fn receipt(receipt: &Receipt) -> String {
    let name = receipt.provider.display_name();
    let means = match receipt.status {
        Some(status @ (Status::Delivered | Status::Pending)) => status.as_str().to_owned(),
        Some(_) => "failed".to_owned(),
        None => format!("the unknown status {:?}", receipt.raw_status),
    };
    let detail = receipt.detailed_status().map(|detail| format!(" ({detail})"));
    format!("{name} reports: {means}{}.", detail.unwrap_or_default())
}

/// Whom a plan hands the message to.
fn sent_by(plan: &Value) -> Option<Provider> {
    let name = plan
        .pointer("/send/sent_by")
        .or_else(|| plan.pointer("/pretend/sent/sent_by"))?;
    Provider::from_name(name.as_str()?)
}

impl Wait {
    /// None once nothing more will happen by itself.
    fn of(standstill: Standstill) -> Option<Self> {
        let (reason, description) = match standstill.kind {
            "held" => ("worker", "A worker is at it."),
            "turn" | "key" | "rate" | "queue_full" => ("turn", "It waits for its turn."),
            "back_off" => ("retry", "The last attempt failed; it will be tried again."),
            "sleep" => ("time", "It is not to be sent before this time."),
            "wait" => ("receipt", "It waits for the provider's receipt."),
            "paused" | "queue_paused" => ("operators", "The operators have paused it."),
            "unreadable" | "failed" => (
                "operators",
                "It could not be carried out; the operators can have it tried again.",
            ),
            _ => return None,
        };
        Some(Self {
            description: description.to_owned(),
            reason: reason.to_owned(),
            until: standstill.until.map(Timestamp),
        })
    }
}
