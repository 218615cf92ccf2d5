//! Endpoints of services, which note what they are called with and answer as they are told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::World;
use crate::answer::{Answer, respond};
use crate::server::cut;

/// The name of the endpoint `/callbacks`; those of the others go on after it.
pub(crate) const CALLBACKS: &str = "callbacks";

/// The calls that are kept: the newest ones.
const MOST: usize = 100_000;

/// One call, as it came.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Call {
    /// `callbacks`, `callbacks/a`
    endpoint: String,
    /// By their names in lower case.
    headers: BTreeMap<String, String>,
    body: String,
    /// What it is answered with; none when it is not answered.
    status: Option<u16>,
    at: DateTime<Utc>,
}

/// Calls, in order.
#[derive(Default)]
pub(crate) struct Calls(Mutex<Vec<Call>>);

/// `POST /callbacks`, `POST /callbacks/{name}`: 204, unless a fault says otherwise.
pub(crate) async fn call(State(world): State<Arc<World>>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let endpoint = uri.path().trim_matches('/').to_owned();
    let fault = world.faults.next_of_service(&endpoint).unwrap_or_default();
    if let Some(latency) = fault.latency_ms {
        tokio::time::sleep(Duration::from_millis(latency)).await;
    }
    if fault.reset_before {
        return cut();
    }
    let is_cut = fault.reset_after_accept || fault.hang;
    let status = fault.status.and_then(|status| StatusCode::from_u16(status).ok());
    let status = status.unwrap_or(StatusCode::NO_CONTENT);
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    world.calls.note(Call {
        endpoint,
        headers: headers
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), text(value)))
            .collect(),
        body: String::from_utf8_lossy(&body).into_owned(),
        status: (!is_cut).then_some(status.as_u16()),
        at: Utc::now(),
    });
    if fault.hang {
        std::future::pending::<()>().await;
    }
    if is_cut {
        return cut();
    }
    let answer = Answer {
        content_type: "text/plain",
        body: String::new(),
    };
    let mut response = respond(&fault, status, answer);
    if let Some(location) = fault.location.as_deref().and_then(|to| HeaderValue::from_str(to).ok()) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

#[derive(Deserialize)]
pub(crate) struct Filter {
    endpoint: Option<String>,
}

/// `GET /callbacks`, `GET /callbacks?endpoint=…`
pub(crate) async fn list(State(world): State<Arc<World>>, Query(filter): Query<Filter>) -> Response {
    let mut calls = world.calls.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    calls.retain(|call| {
        filter
            .endpoint
            .as_ref()
            .is_none_or(|endpoint| call.endpoint == *endpoint)
    });
    Json(json!({ "calls": calls })).into_response()
}

/// `DELETE /callbacks`
pub(crate) async fn forget(State(world): State<Arc<World>>) -> StatusCode {
    world.calls.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    StatusCode::NO_CONTENT
}

impl Calls {
    fn note(&self, call: Call) {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if calls.len() >= MOST {
            calls.drain(..MOST / 10);
        }
        calls.push(call);
    }
}
