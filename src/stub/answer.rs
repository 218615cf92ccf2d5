//! How a request is met: the fault of the moment, the phone, the receipts, and then the answer, in that order.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use futures::{StreamExt, stream};
use herald_message::receipt::Provider;

use crate::World;
use crate::faults::{Fault, Party};
use crate::phone::Message;
use crate::receipts::Plan;
use crate::server::cut;

/// What a provider makes of one well-formed request.
pub(crate) struct Taken {
    pub message: Message,
    pub receipts: Plan,
    /// The answer that says yes.
    pub yes: Answer,
}

/// A body and what it is.
pub(crate) struct Answer {
    pub content_type: &'static str,
    pub body: String,
}

/// Plays one request. `read` understands it, or says no in the provider's own way; `no` words a fault's status.
pub(crate) async fn play(
    world: &World,
    provider: Provider,
    read: impl FnOnce(&Fault) -> Result<Taken, (StatusCode, Answer)>,
    no: impl FnOnce(&Fault, StatusCode) -> Answer,
) -> Response {
    let Some(fault) = meet(world, Party::Provider(provider)).await else {
        return cut();
    };
    let taken = match read(&fault) {
        Ok(taken) => taken,
        Err((status, answer)) => return respond(&fault, status, answer),
    };
    if fault.takes() {
        world.phone.receive(taken.message);
        if !fault.missing_receipts {
            world.receipts.send(taken.receipts, &fault).await;
        }
    }
    finish(&fault, StatusCode::OK, taken.yes, no).await
}

/// The fault that a request meets, after the wait that it makes. None: the connection ends.
pub(crate) async fn meet(world: &World, party: Party) -> Option<Arc<Fault>> {
    let fault = world.faults.next(party).unwrap_or_else(|| Arc::new(Fault::default()));
    if let Some(latency) = fault.latency_ms {
        tokio::time::sleep(Duration::from_millis(latency)).await;
    }
    (fault.takes() || !fault.reset_before).then_some(fault)
}

/// The answer to a request that was understood, if its fault lets there be one. `ok` is the status of `yes`.
pub(crate) async fn finish(
    fault: &Fault,
    ok: StatusCode,
    yes: Answer,
    no: impl FnOnce(&Fault, StatusCode) -> Answer,
) -> Response {
    if fault.reset_before || fault.reset_after_accept {
        return cut();
    }
    if fault.hang {
        std::future::pending::<()>().await;
    }
    let status = fault.status.and_then(|status| StatusCode::from_u16(status).ok());
    match status {
        Some(status) if !status.is_success() => respond(fault, status, no(fault, status)),
        status => respond(fault, status.unwrap_or(ok), yes),
    }
}

pub(crate) fn respond(fault: &Fault, status: StatusCode, answer: Answer) -> Response {
    let body = fault.body.clone().unwrap_or(answer.body);
    let length = body.len();
    let mut response = Response::new(if fault.truncate {
        cut_short(&body)
    } else if fault.drip {
        drip(body)
    } else {
        Body::from(body)
    });
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    if fault.truncate || fault.drip {
        // Promises the whole body, so that a part of it is recognised as one.
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length.max(2)));
    }
    if let Some(location) = fault.location.as_deref().and_then(|location| location.parse().ok()) {
        headers.insert(header::LOCATION, location);
    }
    if let Some(seconds) = fault.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn cut_short(body: &str) -> Body {
    let half = Bytes::copy_from_slice(&body.as_bytes()[..body.len() / 2]);
    let end = io::Error::new(io::ErrorKind::ConnectionAborted, "cut short on request");
    Body::from_stream(stream::iter([Ok(half), Err(end)]))
}

fn drip(body: String) -> Body {
    let bytes = Bytes::from(body);
    let drops = stream::iter(0..bytes.len()).then(move |at| {
        let drop = bytes.slice(at..=at);
        async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            io::Result::Ok(drop)
        }
    });
    Body::from_stream(drops)
}
