//! What phones and inboxes got, in order. Bounded: the newest messages stay.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use herald_message::receipt::Provider;
use serde::{Deserialize, Serialize};

use crate::World;

/// One message that arrived.
#[derive(Debug, Serialize)]
pub(crate) struct Message {
    /// The notification's id; for an email that does not tell it, SES's MessageId.
    pub reference: String,
    pub to: String,
    /// The text; of an email the text part, decoded.
    pub content: String,
    pub provider: Provider,
    pub at: DateTime<Utc>,
    pub from: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
}

pub(crate) struct Phone {
    capacity: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    messages: VecDeque<Arc<Message>>,
    /// Number of the message at the front, counted from the last emptying.
    first: u64,
    /// Numbers of the messages of one notification, and of one MessageId.
    by_reference: HashMap<String, VecDeque<u64>>,
    by_message_id: HashMap<String, u64>,
}

impl Phone {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            kept: Mutex::default(),
        }
    }

    pub(crate) fn receive(&self, message: Message) {
        let mut kept = self.lock();
        if self.capacity > 0 && kept.messages.len() >= self.capacity {
            kept.forget_oldest();
        }
        let number = kept.first + kept.messages.len() as u64;
        kept.by_reference
            .entry(message.reference.clone())
            .or_default()
            .push_back(number);
        if let Some(id) = &message.message_id {
            kept.by_message_id.insert(id.clone(), number);
        }
        kept.messages.push_back(Arc::new(message));
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn forget_oldest(&mut self) {
        let Some(oldest) = self.messages.pop_front() else {
            return;
        };
        self.first += 1;
        if let Some(numbers) = self.by_reference.get_mut(&oldest.reference) {
            numbers.pop_front();
            if numbers.is_empty() {
                self.by_reference.remove(&oldest.reference);
            }
        }
        if let Some(id) = &oldest.message_id {
            self.by_message_id.remove(id);
        }
    }

    fn find(&self, reference: &str) -> Vec<Arc<Message>> {
        let by_id = self.by_message_id.get(reference).into_iter();
        self.by_reference
            .get(reference)
            .into_iter()
            .flatten()
            .chain(by_id)
            .filter_map(|number| self.messages.get(usize::try_from(number - self.first).ok()?))
            .cloned()
            .collect()
    }
}

#[derive(Deserialize)]
pub(crate) struct Filter {
    reference: Option<String>,
}

#[derive(Serialize)]
struct List<'a> {
    messages: Vec<&'a Message>,
}

/// `GET /phone`, `GET /phone?reference=…`
pub(crate) async fn list(State(world): State<Arc<World>>, Query(filter): Query<Filter>) -> Response {
    let messages: Vec<Arc<Message>> = {
        let kept = world.phone.lock();
        match &filter.reference {
            Some(reference) => kept.find(reference),
            None => kept.messages.iter().cloned().collect(),
        }
    };
    // A full phone is hundreds of megabytes of JSON: not on a thread that others wait for.
    let written = tokio::task::spawn_blocking(move || {
        let messages = messages.iter().map(AsRef::as_ref).collect();
        serde_json::to_vec(&List { messages })
    })
    .await;
    match written {
        Ok(Ok(json)) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[derive(Serialize)]
struct Count {
    messages: usize,
    /// Different notifications among them.
    references: usize,
    by_provider: BTreeMap<&'static str, usize>,
}

/// `GET /phone/count`: how much arrived, without the messages.
pub(crate) async fn count(State(world): State<Arc<World>>) -> Response {
    let kept = world.phone.lock();
    let mut by_provider = BTreeMap::new();
    for message in &kept.messages {
        *by_provider.entry(message.provider.name()).or_default() += 1;
    }
    Json(Count {
        messages: kept.messages.len(),
        references: kept.by_reference.len(),
        by_provider,
    })
    .into_response()
}

/// `DELETE /phone`
pub(crate) async fn empty(State(world): State<Arc<World>>) -> StatusCode {
    *world.phone.lock() = Kept::default();
    StatusCode::NO_CONTENT
}
