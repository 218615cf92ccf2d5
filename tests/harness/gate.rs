//! A gate between a process and Postgres: the network as a test wants it. Connections can go half-open, where bytes
//! vanish and nobody is told, and the way can be slow and lossy.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, UnixStream},
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

/// A lost packet comes again after this time: the first retransmission of TCP, more or less.
const RETRANSMISSION: Duration = Duration::from_millis(300);

#[derive(Debug, Clone, Copy, Default)]
struct Weather {
    /// Connections up to this number are half-open, for ever.
    deaf_up_to: usize,
    /// Of those, these end with a reset: their other end is back, and knows nothing of them.
    reset_up_to: usize,
    /// No connection carries anything, and new ones get no further than here.
    shut: bool,
    /// One way.
    latency: Duration,
    loss: f64,
}

pub struct Gate {
    /// Reaches the same database through the gate.
    pub url: String,
    weather: watch::Sender<Weather>,
    accepted: Arc<AtomicUsize>,
}

impl Gate {
    /// `url` names a socket: `postgres://user@localhost:port/database?host=folder`.
    pub async fn before(url: &str) -> Self {
        let (start, folder) = url.split_once("?host=").unwrap();
        let (start, database) = start.rsplit_once('/').unwrap();
        let (user, port) = start.rsplit_once(':').unwrap();
        let socket = format!("{}/.s.PGSQL.{port}", folder.replace("%2F", "/"));
        let user = user.trim_end_matches("localhost");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{user}{}/{database}?sslmode=disable", listener.local_addr().unwrap());
        let (weather, seen) = watch::channel(Weather::default());
        let accepted = Arc::new(AtomicUsize::new(0));
        let counted = accepted.clone();
        tokio::spawn(async move {
            for number in 1.. {
                let Ok((client, _)) = listener.accept().await else {
                    return;
                };
                counted.store(number, Ordering::Relaxed);
                let _ = client.set_nodelay(true);
                let Ok(server) = UnixStream::connect(&socket).await else {
                    continue;
                };
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::spawn(pass(number, from_client, to_server, seen.clone()));
                tokio::spawn(pass(number, from_server, to_client, seen.clone()));
            }
        });
        Self { url, weather, accepted }
    }

    /// From here on nothing passes, and nobody is told.
    pub fn shut(&self) {
        self.weather.send_modify(|weather| weather.shut = true);
        self.deafen();
    }

    /// New connections pass again; those of before are reset.
    pub fn open(&self) {
        self.deafen();
        self.weather.send_modify(|weather| {
            weather.shut = false;
            weather.reset_up_to = weather.deaf_up_to;
        });
    }

    /// The connections of now become half-open; new ones pass.
    pub fn deafen(&self) {
        let accepted = self.accepted.load(Ordering::Relaxed);
        self.weather.send_modify(|weather| weather.deaf_up_to = accepted);
    }

    /// One way takes so long, and this share of what is sent has to be sent again.
    pub fn slow_down(&self, latency: Duration, loss: f64) {
        self.weather.send_modify(|weather| {
            weather.latency = latency;
            weather.loss = loss;
        });
    }
}

async fn pass(
    number: usize,
    mut from: impl AsyncRead + Unpin,
    to: impl AsyncWrite + Unpin + Send + 'static,
    mut weather: watch::Receiver<Weather>,
) {
    let (sender, chunks) = mpsc::unbounded_channel();
    let writing = tokio::spawn(deliver(to, chunks));
    let mut buffer = vec![0; 64 * 1024];
    let mut due = Instant::now();
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let now = *weather.borrow();
        if now.shut || number <= now.deaf_up_to {
            // The bytes are lost, and so is this connection; it stays open towards both ends until it is reset.
            let _ = weather.wait_for(|weather| number <= weather.reset_up_to).await;
            break;
        }
        let lost = now.loss > 0.0 && rand_share() < now.loss;
        let delay = now.latency + if lost { RETRANSMISSION } else { Duration::ZERO };
        // What is sent later never overtakes.
        due = due.max(Instant::now() + delay);
        if sender.send((due, buffer[..read].to_vec())).is_err() {
            break;
        }
    }
    drop(sender);
    let _ = writing.await;
}

async fn deliver(mut to: impl AsyncWrite + Unpin, mut chunks: mpsc::UnboundedReceiver<(Instant, Vec<u8>)>) {
    while let Some((due, chunk)) = chunks.recv().await {
        sleep_until(due).await;
        if to.write_all(&chunk).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

/// From 0 to 1.
fn rand_share() -> f64 {
    f64::from(u16::from_be_bytes([
        uuid::Uuid::new_v4().as_bytes()[0],
        uuid::Uuid::new_v4().as_bytes()[1],
    ])) / 65536.0
}
