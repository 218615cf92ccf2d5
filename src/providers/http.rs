//! The one way in which clients other than SES's speak HTTP: pooled connections, deadlines, bounded answers, no retries.

use std::time::Duration;

use chrono::{DateTime, Utc};
use herald_message::receipt::Provider;
use reqwest::header::RETRY_AFTER;
use reqwest::redirect::Policy;
use reqwest::{Body, RequestBuilder, Response, Url};

use crate::timing::{Stopwatch, TimedBody};
use crate::{Outcome, ReceiptUrl, SendError, SetupError, Timeouts, certificate};

/// No provider answers with more than a few hundred bytes.
pub(crate) const LONGEST_ANSWER: usize = 64 * 1024;

/// A wish to wait for longer than this is not believed.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// A client for one provider. Idle connections are dropped before a provider's load balancer would (60 s and more),
/// so that few requests meet a connection that is just being closed: each of those has an unknown outcome.
pub(crate) fn client(url: &Url, timeouts: Timeouts) -> Result<reqwest::Client, SetupError> {
    use_ring();
    let builder = reqwest::Client::builder();
    let builder = if url.scheme() == "http" {
        // A stub: it must be reachable from a machine that has no certificates installed.
        builder.tls_certs_only([])
    } else {
        builder
    };
    builder
        .user_agent("herald")
        .http1_only()
        .redirect(Policy::none())
        .retry(reqwest::retry::never())
        .connect_timeout(timeouts.connect)
        .read_timeout(timeouts.read)
        .timeout(timeouts.total)
        .pool_idle_timeout(Duration::from_secs(20))
        .tcp_keepalive(Duration::from_secs(4))
        .tcp_keepalive_interval(Duration::from_secs(2))
        .tcp_keepalive_retries(8)
        .build()
        .map_err(SetupError::Client)
}

/// Makes ring the process's TLS provider unless the program has chosen already.
pub(crate) fn use_ring() {
    // An error says that one is installed, which is what we want.
    drop(rustls::crypto::ring::default_provider().install_default());
}

/// The provider's URL, checked when the client is built.
pub(crate) fn provider_url(what: &'static str, url: &str) -> Result<Url, SetupError> {
    Url::parse(url)
        .ok()
        .filter(|url| url.has_host() && matches!(url.scheme(), "http" | "https"))
        .ok_or(SetupError::Url(what))
}

/// The receipt URL as the provider gets it: credentials inserted, if there are any.
pub(crate) fn receipt_url(what: &'static str, receipt: Option<&ReceiptUrl>) -> Result<Option<String>, SetupError> {
    let Some(receipt) = receipt else {
        return Ok(None);
    };
    let mut url = provider_url(what, &receipt.url)?;
    if let Some((user, password)) = &receipt.credentials {
        url.set_username(user).map_err(|()| SetupError::Url(what))?;
        url.set_password(Some(password.expose()))
            .map_err(|()| SetupError::Url(what))?;
    }
    Ok(Some(url.into()))
}

/// A 2xx answer with its whole body.
pub(crate) struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

/// Sends and reads the answer. Anything but a complete 2xx is an error.
pub(crate) async fn exchange(
    provider: Provider,
    request: RequestBuilder,
    stopwatch: &Stopwatch,
) -> Result<Answer, SendError> {
    let outcome = try_exchange(request, stopwatch).await;
    if let Err(error) = &outcome {
        tracing::debug!(
            provider = provider.name(),
            status = error.status,
            reason = error.reason,
            "not sent"
        );
    }
    outcome
}

async fn try_exchange(request: RequestBuilder, stopwatch: &Stopwatch) -> Result<Answer, SendError> {
    let (client, request) = request.build_split();
    let mut request = request.map_err(|error| no_answer(&error))?;
    if let Some(body) = request.body_mut() {
        *body = Body::wrap(TimedBody {
            body: std::mem::take(body),
            stopwatch: stopwatch.clone(),
        });
    }
    let mut response = client.execute(request).await.map_err(|error| no_answer(&error))?;
    stopwatch.is_answered();
    let status = response.status();
    if !status.is_success() {
        let after = retry_after(&response);
        // Only to keep the connection: what it says changes nothing.
        drop(read(&mut response).await);
        return Err(SendError::from_status(status.as_u16(), after));
    }
    let status = status.as_u16();
    let body = read(&mut response).await?;
    Ok(Answer { status, body })
}

/// The whole body of an answer, if it is one of a few hundred bytes, as they all are.
pub(crate) async fn read(response: &mut Response) -> Result<Vec<u8>, SendError> {
    let status = response.status().as_u16();
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > LONGEST_ANSWER => {
                return Err(SendError::unclear(status, "Request failed: endless answer"));
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(error) if error.is_timeout() => return Err(SendError::timeout(true)),
            Err(_) => return Err(SendError::unclear(status, "Request failed: truncated answer")),
        }
    }
}

pub(crate) fn no_answer(error: &reqwest::Error) -> SendError {
    // A request that cannot be built never left either.
    let connected = !(error.is_connect() || error.is_builder());
    if let Some(reason) = certificate::distrusted(error) {
        SendError::new(Outcome::Refused, None, reason)
    } else if error.is_timeout() {
        SendError::timeout(connected)
    } else {
        SendError::no_response(connected)
    }
}

/// `Retry-After`, in seconds or as a date. One that is over asks for nothing.
pub(crate) fn retry_after(response: &Response) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let wait = if is_number {
        text.parse().map_or(Duration::MAX, Duration::from_secs)
    } else {
        let until = DateTime::parse_from_rfc2822(text).ok()?;
        (until.to_utc() - Utc::now()).to_std().ok()?
    };
    Some(wait.min(LONGEST_RETRY_AFTER))
}
