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
use hyper::{Request, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;
use tokio::{net::TcpStream, task::JoinSet};

use crate::herald::{Herald, SECRET, SERVICE, TEMPLATE};

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

pub async fn for_a_while(herald: &Herald, connections: usize, length: Duration) -> anyhow::Result<Load> {
    let until = Instant::now() + length;
    run(herald, connections, move || Instant::now() < until).await
}

pub async fn so_many(herald: &Herald, connections: usize, requests: usize) -> anyhow::Result<Load> {
    let left = AtomicUsize::new(requests);
    run(herald, connections, move || {
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
            .is_ok()
    })
    .await
}

async fn run(
    herald: &Herald,
    connections: usize,
    more: impl Fn() -> bool + Send + Sync + 'static,
) -> anyhow::Result<Load> {
    let more = Arc::new(more);
    let began = Instant::now();
    let mut running = JoinSet::new();
    for _ in 0..connections {
        let (more, port) = (more.clone(), herald.port);
        running.spawn(async move { send_while(port, &*more).await });
    }
    let mut latencies = Vec::new();
    while let Some(connection) = running.join_next().await {
        latencies.extend(connection??);
    }
    let elapsed = began.elapsed();
    latencies.sort_by(f64::total_cmp);
    Ok(Load { latencies, elapsed })
}

async fn send_while(port: u16, more: &(dyn Fn() -> bool + Send + Sync)) -> anyhow::Result<Vec<f64>> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let body = Bytes::from(
        json!({"phone_number": "07700900123", "template_id": TEMPLATE, "personalisation": {"name": "Ada"}}).to_string(),
    );
    let (mut token, mut signed) = (token()?, Instant::now());
    let mut latencies = Vec::new();
    while more() {
        if signed.elapsed() > Duration::from_secs(10) {
            (token, signed) = (self::token()?, Instant::now());
        }
        let began = Instant::now();
        send(&mut sender, &token, body.clone()).await?;
        latencies.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(latencies)
}

async fn send(sender: &mut SendRequest<Full<Bytes>>, token: &str, body: Bytes) -> anyhow::Result<()> {
    let request = Request::post("/v2/notifications/sms")
        .header("host", "127.0.0.1")
        .header("authorization", token)
        .header("content-type", "application/json")
        .body(Full::new(body))?;
    sender.ready().await?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let answer = answer.into_body().collect().await?.to_bytes();
    ensure!(status == 201, "answered {status}: {}", String::from_utf8_lossy(&answer));
    Ok(())
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
