//! The outermost layer: what holds for every request and every answer, whatever the route.
//!
//! An answer always comes (a panic is a 500, a request that takes too long a 504), always as JSON in one of the two
//! shapes of [`crate::error`], and always with the headers that GOV.UK Notify sends.

use std::{
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use futures::FutureExt;
use poem::{
    Endpoint, Request, Response, Result,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode},
};
use poem_openapi::OperationId;
use rand::Rng;

use crate::{
    Error,
    error::{self, Shape},
};

const TRACE_ID: HeaderName = HeaderName::from_static("x-b3-traceid");
const SPAN_ID: HeaderName = HeaderName::from_static("x-b3-spanid");

const HEADERS: [(&str, &str); 8] = [
    ("access-control-allow-origin", "*"),
    ("access-control-allow-headers", "Content-Type,Authorization"),
    ("access-control-allow-methods", "GET,PUT,POST,DELETE"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "SAMEORIGIN"),
    ("x-permitted-cross-domain-policies", "none"),
    (
        "strict-transport-security",
        "max-age=31536000; includeSubDomains; preload",
    ),
    ("cache-control", "no-store, no-cache, private, must-revalidate"),
];

pub struct Edge<E> {
    inner: E,
    patience: Duration,
    headers: HeaderMap,
}

impl<E> Edge<E> {
    pub fn around(inner: E, patience: Duration) -> Self {
        let headers = HEADERS
            .into_iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        Self {
            inner,
            patience,
            headers,
        }
    }
}

impl<E: Endpoint<Output = Response>> Endpoint for Edge<E> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> Result<Response> {
        let began = Instant::now();
        let method = request.method().clone();
        let trace = trace_ids(request.headers_mut());
        let shape = Shape::of(request.uri().path());
        let unknown_type = is_unknown_notification_type(&request);
        let work = AssertUnwindSafe(self.inner.call(request)).catch_unwind();
        let mut operation = None;
        let mut response = match tokio::time::timeout(self.patience, work).await {
            Ok(Ok(Ok(response))) => {
                operation = response.data().copied();
                response
            }
            Ok(Ok(Err(error))) if unknown_type && error.status() == StatusCode::METHOD_NOT_ALLOWED => {
                error::not_found()
            }
            Ok(Ok(Err(error))) => {
                operation = error.data().copied();
                error::answer(error, shape)
            }
            Ok(Err(_panic)) => Error::Internal("it panicked".into()).to_response(shape),
            Err(_elapsed) => Error::TimedOut.to_response(shape),
        };
        let headers = response.headers_mut();
        headers.extend(self.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        headers.extend(trace);
        if let Some(OperationId(operation)) = operation {
            herald_metrics::request_answered(method.as_str(), operation, response.status().as_u16(), began.elapsed());
        }
        Ok(response)
    }
}

/// The caller's ids, or new ones: Zipkin's form, 128 and 64 bits in hexadecimal.
fn trace_ids(headers: &HeaderMap) -> [(HeaderName, HeaderValue); 2] {
    let or_new = |name: HeaderName, digits: usize| {
        let value = headers
            .get(&name)
            .filter(|id| !id.is_empty() && id.len() <= 64)
            .cloned()
            .unwrap_or_else(|| {
                let id = format!("{:0digits$x}", rand::rng().random::<u128>() >> (128 - digits * 4));
                HeaderValue::from_str(&id).expect("hexadecimal digits are a header value")
            });
        (name, value)
    };
    [or_new(TRACE_ID, 32), or_new(SPAN_ID, 16)]
}

/// `POST /v2/notifications/pigeon` is a route for Notify, and says that there is no such thing; for our router it is
/// the wrong method for `GET /v2/notifications/{id}`.
fn is_unknown_notification_type(request: &Request) -> bool {
    let kind = request.uri().path().strip_prefix("/v2/notifications/");
    request.method() == Method::POST && kind.is_some_and(|kind| !kind.contains('/'))
}
