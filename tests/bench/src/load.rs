//! Closed-loop load: each connection sends its next request when the last one is answered.

use std::{
    sync::{Arc, Mutex, PoisonError},
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

const JSON: &str = "application/json";

/// A request that is made over and over.
#[derive(Clone)]
pub struct Ask {
    /// As it stands in the table.
    pub name: &'static str,
    method: Method,
    path: String,
    content_type: &'static str,
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

    /// The provider's word that a text has arrived.
    pub fn receipt(id: &str, sent_by: &str) -> Self {
        if sent_by == "mmg" {
            let body = json!({"CID": id, "MSISDN": "447700900123", "status": "3", "substatus": "5"});
            return Self {
                expected: StatusCode::OK,
                ..Self::post("receipt", "/notifications/sms/mmg", &body)
            };
        }
        Self {
            name: "receipt",
            method: Method::POST,
            path: "/notifications/sms/firetext".to_owned(),
            content_type: "application/x-www-form-urlencoded",
            body: format!("mobile=447700900123&status=0&time=2026-11-21+09:30:00&reference={id}").into(),
            expected: StatusCode::OK,
        }
    }

    fn post(name: &'static str, path: &str, body: &Value) -> Self {
        Self {
            name,
            method: Method::POST,
            path: path.to_owned(),
            content_type: JSON,
            body: body.to_string().into(),
            expected: StatusCode::CREATED,
        }
    }

    fn get(name: &'static str, path: String) -> Self {
        Self {
            name,
            method: Method::GET,
            path,
            content_type: JSON,
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
    let ask = ask.clone();
    run(herald, connections, None, move || {
        (Instant::now() < until).then(|| ask.clone())
    })
    .await
}

pub async fn so_many(herald: &Herald, ask: &Ask, connections: usize, requests: usize) -> anyhow::Result<Load> {
    each(herald, vec![ask.clone(); requests], connections).await
}

/// Each of these once.
pub async fn each(herald: &Herald, asks: Vec<Ask>, connections: usize) -> anyhow::Result<Load> {
    let asks = Mutex::new(asks);
    run(herald, connections, None, move || next(&asks)).await
}

/// Each of these once, at a steady rate, if the program keeps up with it.
pub async fn paced(herald: &Herald, asks: Vec<Ask>, connections: usize, per_second: f64) -> anyhow::Result<Load> {
    let asks = Mutex::new(asks);
    let pause = Duration::from_secs_f64(connections as f64 / per_second);
    run(herald, connections, Some(pause), move || next(&asks)).await
}

fn next(asks: &Mutex<Vec<Ask>>) -> Option<Ask> {
    asks.lock().unwrap_or_else(PoisonError::into_inner).pop()
}

/// `pause`: between the beginnings of a connection's requests.
async fn run(
    herald: &Herald,
    connections: usize,
    pause: Option<Duration>,
    next: impl Fn() -> Option<Ask> + Send + Sync + 'static,
) -> anyhow::Result<Load> {
    let next = Arc::new(next);
    let began = Instant::now();
    let mut running = JoinSet::new();
    for place in 0..connections {
        let (next, port) = (next.clone(), herald.port);
        running.spawn(async move {
            if let Some(pause) = pause {
                tokio::time::sleep(pause * u32::try_from(place)? / u32::try_from(connections)?).await;
            }
            send_while(port, pause, &*next).await
        });
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

async fn send_while(
    port: u16,
    pause: Option<Duration>,
    next: &(dyn Fn() -> Option<Ask> + Send + Sync),
) -> anyhow::Result<Vec<f64>> {
    let mut turns = pause.map(tokio::time::interval);
    let mut sender = connect(port).await?;
    let (mut token, mut signed) = (token()?, Instant::now());
    let mut latencies = Vec::new();
    while let Some(ask) = next() {
        if let Some(turns) = &mut turns {
            turns.tick().await;
        }
        if signed.elapsed() > Duration::from_secs(10) {
            (token, signed) = (self::token()?, Instant::now());
        }
        let began = Instant::now();
        send(&mut sender, &token, &ask).await?;
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
        .header("content-type", ask.content_type)
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

/// A JSON document, put to somebody on this machine.
pub async fn put(port: u16, path: &str, body: &Value) -> anyhow::Result<()> {
    let ask = Ask {
        name: "put",
        method: Method::PUT,
        path: path.to_owned(),
        content_type: JSON,
        body: body.to_string().into(),
        expected: StatusCode::OK,
    };
    send(&mut connect(port).await?, "", &ask).await?;
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
