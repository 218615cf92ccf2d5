//! Posts delivery receipts, some time after a message was taken: over few kept connections, again and again while
//! nobody takes them, as the real providers do.

mod wording;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use herald_message::receipt::Provider;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::faults::Fault;
use crate::{Settings, World};
pub(crate) use wording::Fate;
use wording::{Body, Stage};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What there is to say about one message, and to whom.
pub(crate) struct Plan {
    pub provider: Provider,
    /// The reference that the receipts name.
    pub reference: String,
    /// Our own id, where the message carried it beside its reference.
    pub tag: Option<String>,
    /// None: nobody wants to know.
    pub url: Option<String>,
    pub fate: Fate,
    pub to: String,
    pub from: String,
}

/// The sender of receipts.
pub(crate) struct Receipts {
    api_url: Option<String>,
    delay: RangeInclusive<Duration>,
    postman: Arc<Postman>,
    /// Where SNS' certificate is.
    certificate_url: Arc<str>,
    end: CancellationToken,
}

struct Postman {
    http: reqwest::Client,
    connections: Semaphore,
    patience: Duration,
    waiting: AtomicU64,
    attempts: AtomicU64,
    posted: AtomicU64,
    refused: AtomicU64,
    given_up: AtomicU64,
}

impl Receipts {
    pub(crate) fn new(settings: &Settings, certificate_url: String) -> Self {
        let http = client(settings.receipt_connections);
        Self {
            api_url: settings.api_url.clone(),
            delay: settings.receipt_delay.clone(),
            certificate_url: certificate_url.into(),
            postman: Arc::new(Postman {
                http,
                connections: Semaphore::new(settings.receipt_connections.max(1)),
                patience: settings.receipt_patience,
                waiting: AtomicU64::new(0),
                attempts: AtomicU64::new(0),
                posted: AtomicU64::new(0),
                refused: AtomicU64::new(0),
                given_up: AtomicU64::new(0),
            }),
            end: CancellationToken::new(),
        }
    }

    /// Where that provider's receipts go when the request names no URL.
    pub(crate) fn url_of(&self, provider: Provider) -> Option<String> {
        let api = self.api_url.as_deref()?.trim_end_matches('/');
        Some(match provider {
            Provider::Ses => format!("{api}/notifications/email/ses"),
            Provider::Firetext | Provider::Mmg => format!("{api}/notifications/sms/{}", provider.name()),
        })
    }

    /// Sends a message's receipts in the background; with `receipt_before_answer` the first one before it returns.
    pub(crate) async fn send(&self, mut plan: Plan, fault: &Fault) {
        let Some(url) = plan.url.clone() else {
            return;
        };
        if fault.untagged_receipts {
            plan.tag = None;
        }
        let mut stages = wording::stages(&plan, fault);
        if fault.receipts_out_of_order {
            stages.reverse();
        }
        let copies = fault.duplicate_receipts + 1;
        let mut letters: Vec<(Duration, Stage)> = Vec::with_capacity(stages.len());
        for stage in stages {
            letters.push((self.draw_delay(fault), stage.clone()));
            letters.extend((1..copies).map(|_| (Duration::ZERO, stage.clone())));
        }
        if fault.receipt_before_answer && !letters.is_empty() {
            let (_, stage) = letters.remove(0);
            self.postman
                .try_once(&url, stage.write(&plan, &self.certificate_url))
                .await;
        }
        let postman = Arc::clone(&self.postman);
        let certificate_url = Arc::clone(&self.certificate_url);
        let end = self.end.clone();
        postman.waiting.fetch_add(letters.len() as u64, Ordering::Relaxed);
        tokio::spawn(end.run_until_cancelled_owned(async move {
            for (delay, stage) in letters {
                sleep(delay).await;
                postman.deliver(&url, stage.write(&plan, &certificate_url)).await;
                postman.waiting.fetch_sub(1, Ordering::Relaxed);
            }
        }));
    }

    pub(crate) fn forget(&self) {
        self.end.cancel();
    }

    fn draw_delay(&self, fault: &Fault) -> Duration {
        let delay = match fault.receipt_delay_ms {
            Some(delay) => Duration::from_millis(delay),
            None if self.delay.is_empty() => *self.delay.start(),
            None => rand::random_range(self.delay.clone()),
        };
        if fault.receipts_out_of_order {
            delay.mul_f64(rand::random_range(1.0..5.0))
        } else {
            delay
        }
    }
}

/// A machine without certificates can still post to where `http` leads.
fn client(connections: usize) -> reqwest::Client {
    // An error says that a TLS provider is installed, which is what we want.
    drop(rustls::crypto::ring::default_provider().install_default());
    let builder = || {
        reqwest::Client::builder()
            .pool_max_idle_per_host(connections)
            .timeout(Duration::from_secs(30))
    };
    builder()
        .build()
        .or_else(|_| builder().tls_certs_only([]).build())
        .expect("the settings of this client are fixed, and its TLS provider is installed")
}

enum Posted {
    Yes,
    No,
    Later,
}

impl Postman {
    async fn deliver(&self, url: &str, body: Body) {
        let started = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            match self.post(url, &body).await {
                Posted::Yes | Posted::No => return,
                Posted::Later if started.elapsed() > self.patience => {
                    self.given_up.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!("a receipt was given up");
                    return;
                }
                Posted::Later => sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn try_once(&self, url: &str, body: Body) {
        self.post(url, &body).await;
    }

    async fn post(&self, url: &str, body: &Body) -> Posted {
        let Ok(_connection) = self.connections.acquire().await else {
            return Posted::No;
        };
        let mut request = self
            .http
            .post(url)
            .header(CONTENT_TYPE, body.content_type)
            .body(body.content.clone());
        if body.is_sns {
            request = request.header("x-amz-sns-message-type", "Notification");
        }
        let answer = request.send().await;
        self.attempts.fetch_add(1, Ordering::Relaxed);
        let status = match answer {
            Ok(response) => {
                let status = response.status();
                // Read to the end, so that the connection can serve the next receipt.
                drop(response.bytes().await);
                status
            }
            Err(_) => return Posted::Later,
        };
        if status.is_success() {
            self.posted.fetch_add(1, Ordering::Relaxed);
            Posted::Yes
        } else if status.is_server_error() || status.as_u16() == 429 {
            Posted::Later
        } else {
            self.refused.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(status = status.as_u16(), "a receipt was refused");
            Posted::No
        }
    }
}

/// `GET /receipts`
pub(crate) async fn show(State(world): State<Arc<World>>) -> Json<Value> {
    let postman = &world.receipts.postman;
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    Json(json!({
        "waiting": count(&postman.waiting),
        "attempts": count(&postman.attempts),
        "posted": count(&postman.posted),
        "refused": count(&postman.refused),
        "given_up": count(&postman.given_up),
    }))
}
