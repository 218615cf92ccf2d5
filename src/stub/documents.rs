//! The document-download service: takes a file from whoever has a key, and gives it to whoever has the link. Bounded:
//! the newest files stay.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::World;
use crate::answer::{Answer, finish, meet, respond};
use crate::faults::{Fault, Party};
use crate::server::cut;

/// Bytes of a file that is taken.
const LARGEST_FILE: usize = 2 * 1024 * 1024;

/// A file that was taken.
#[derive(Serialize)]
struct Document {
    id: Uuid,
    service_id: Uuid,
    #[serde(flatten)]
    terms: Terms,
    #[serde(skip)]
    content: Bytes,
}

/// How a file is to be kept and given away, in the words of the request.
#[derive(Deserialize, Serialize)]
struct Terms {
    is_csv: bool,
    confirmation_email: Option<String>,
    retention_period: Option<String>,
    filename: Option<String>,
}

#[derive(Deserialize)]
struct Upload {
    document: String,
    #[serde(flatten)]
    terms: Terms,
}

pub(crate) struct Documents {
    capacity: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    documents: VecDeque<Document>,
    /// Of all their contents.
    bytes: usize,
    /// Uploads that were tried, whatever became of them.
    uploads: u64,
}

impl Documents {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            kept: Mutex::default(),
        }
    }

    fn keep(&self, document: Document) {
        let mut kept = self.lock();
        kept.bytes += document.content.len();
        kept.documents.push_back(document);
        while kept.bytes > self.capacity {
            let Some(oldest) = kept.documents.pop_front() else {
                break;
            };
            kept.bytes -= oldest.content.len();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `POST /documents/services/{service_id}/documents`
pub(crate) async fn upload(
    State(world): State<Arc<World>>,
    Path(service_id): Path<Uuid>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    world.documents.lock().uploads += 1;
    let Some(fault) = meet(&world, Party::Documents).await else {
        return cut();
    };
    let document = match read(service_id, &headers, &body) {
        Ok(document) => document,
        Err((status, error)) => return respond(&fault, status, refusal(error)),
    };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let url = format!("http://{}/documents/{}", host.unwrap_or("localhost"), document.id);
    let yes = json!({"status": "ok", "document": {"id": document.id, "url": url}});
    if fault.takes() {
        world.documents.keep(document);
    }
    let no = |fault: &Fault, _| refusal(fault.message.as_deref().unwrap_or("Refused on request"));
    finish(&fault, StatusCode::CREATED, json_answer(&yes), no).await
}

fn read(service_id: Uuid, headers: &HeaderMap, body: &[u8]) -> Result<Document, (StatusCode, &'static str)> {
    let key = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    if key.is_none_or(str::is_empty) {
        return Err((StatusCode::UNAUTHORIZED, "There is no bearer token"));
    }
    let bad = |error| (StatusCode::BAD_REQUEST, error);
    let Upload { document, terms } =
        serde_json::from_slice(body).map_err(|_| bad("The request is not as it should be"))?;
    let content = STANDARD
        .decode(document)
        .map_err(|_| bad("Document is not base64 encoded"))?;
    if content.len() > LARGEST_FILE {
        return Err((StatusCode::PAYLOAD_TOO_LARGE, "File is larger than 2 MB"));
    }
    Ok(Document {
        id: Uuid::new_v4(),
        service_id,
        terms,
        content: content.into(),
    })
}

fn refusal(error: &str) -> Answer {
    json_answer(&json!({"error": error}))
}

fn json_answer(json: &serde_json::Value) -> Answer {
    Answer {
        content_type: "application/json",
        body: json.to_string(),
    }
}

/// `GET /documents`
pub(crate) async fn list(State(world): State<Arc<World>>) -> Response {
    let kept = world.documents.lock();
    Json(json!({"documents": kept.documents, "uploads": kept.uploads})).into_response()
}

/// `GET /documents/{id}`: a file as it was before base64.
pub(crate) async fn download(State(world): State<Arc<World>>, Path(id): Path<Uuid>) -> Response {
    let kept = world.documents.lock();
    match kept.documents.iter().find(|document| document.id == id) {
        Some(document) => document.content.clone().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
