//! Closed-loop load: each connection sends its next request when the last one is answered.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};
use tokio::{net::TcpStream, task::JoinSet};

use crate::herald::{EMAIL_TEMPLATE, Herald, SECRET, SERVICE, TEMPLATE};

/// A request that is made over and over.
#[derive(Clone)]
pub struct Ask {
    /// As it stands in the table.
    pub name: &'static str,
    method: Method,
    path: String,
    body: Bytes,
    expected: StatusCode,
}

impl Ask {
    pub fn send_text() -> Self {
        let body = json!({"phone_number": "07700900123", "template_id": TEMPLATE, "personalisation": {"name": "Ada"}});
        Self::post("POST sms", "/v2/notifications/sms", &body)
    }

    pub fn send_email() -> Self {
        let body = json!({"email_address": "ada@example.com", "template_id": EMAIL_TEMPLATE, "personalisation": {"name": "Ada"}});
        Self::post("POST email", "/v2/notifications/email", &body)
    }

    pub fn read(id: &str) -> Self {
        Self::get("GET by id", format!("/v2/notifications/{id}"))
    }

    /// 250 of many notifications.
    pub fn list() -> Self {
        Self::get("GET list page", "/v2/notifications".to_owned())
    }

    fn post(name: &'static str, path: &str, body: &Value) -> Self {
        Self {
            name,
            method: Method::POST,
            path: path.to_owned(),
            body: body.to_string().into(),
            expected: StatusCode::CREATED,
        }
    }

    fn get(name: &'static str, path: String) -> Self {
        Self {
            name,
            method: Method::GET,
            path,
            body: Bytes::new(),
            expected: StatusCode::OK,
        }
    }
}

/// What a load met.
pub struct Load {
    /// Milliseconds, sorted.
    latencies: Vec<f64>,
    elapsed: Duration,
}

impl Load {
    pub fn count(&self) -> usize {
        self.latencies.len()
    }

    pub fn rate(&self) -> f64 {
        self.count() as f64 / self.elapsed.as_secs_f64()
    }

    pub fn percentile(&self, share: f64) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        self.latencies
            .get((last as f64 * share) as usize)
            .copied()
            .unwrap_or(f64::NAN)
    }
}

pub async fn for_a_while(herald: &Herald, ask: &Ask, connections: usize, length: Duration) -> anyhow::Result<Load> {
    let until = Instant::now() + length;
    run(herald, ask, connections, move || Instant::now() < until).await
}

pub async fn so_many(herald: &Herald, ask: &Ask, connections: usize, requests: usize) -> anyhow::Result<Load> {
    let left = AtomicUsize::new(requests);
    run(herald, ask, connections, move || {
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
            .is_ok()
    })
    .await
}

async fn run(
    herald: &Herald,
    ask: &Ask,
    connections: usize,
    more: impl Fn() -> bool + Send + Sync + 'static,
) -> anyhow::Result<Load> {
    let more = Arc::new(more);
    let began = Instant::now();
    let mut running = JoinSet::new();
    for _ in 0..connections {
        let (more, ask, port) = (more.clone(), ask.clone(), herald.port);
        running.spawn(async move { send_while(port, &ask, &*more).await });
    }
    let mut latencies = Vec::new();
    while let Some(connection) = running.join_next().await {
        latencies.extend(connection??);
    }
    let elapsed = began.elapsed();
    latencies.sort_by(f64::total_cmp);
    Ok(Load { latencies, elapsed })
}

/// The one answer to a request, for what it says.
pub async fn once(herald: &Herald, ask: &Ask) -> anyhow::Result<Value> {
    let mut sender = connect(herald.port).await?;
    Ok(serde_json::from_slice(&send(&mut sender, &token()?, ask).await?)?)
}

async fn connect(port: u16) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn send_while(port: u16, ask: &Ask, more: &(dyn Fn() -> bool + Send + Sync)) -> anyhow::Result<Vec<f64>> {
    let mut sender = connect(port).await?;
    let (mut token, mut signed) = (token()?, Instant::now());
    let mut latencies = Vec::new();
    while more() {
        if signed.elapsed() > Duration::from_secs(10) {
            (token, signed) = (self::token()?, Instant::now());
        }
        let began = Instant::now();
        send(&mut sender, &token, ask).await?;
        latencies.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(latencies)
}

async fn send(sender: &mut SendRequest<Full<Bytes>>, token: &str, ask: &Ask) -> anyhow::Result<Bytes> {
    let request = Request::builder()
        .method(&ask.method)
        .uri(&ask.path)
        .header("host", "127.0.0.1")
        .header("authorization", token)
        .header("content-type", "application/json")
        .body(Full::new(ask.body.clone()))?;
    sender.ready().await?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let answer = answer.into_body().collect().await?.to_bytes();
    ensure!(
        status == ask.expected,
        "{} answered {status}: {}",
        ask.name,
        String::from_utf8_lossy(&answer)
    );
    Ok(answer)
}

fn token() -> anyhow::Result<String> {
    let issued = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("the clock")?
        .as_secs();
    let claims = json!({"iss": SERVICE, "iat": issued});
    let token = jsonwebtoken::encode(
        &Header::default(),
        &claims,
        &EncodingKey::from_secret(SECRET.as_bytes()),
    )?;
    Ok(format!("Bearer {token}"))
}
