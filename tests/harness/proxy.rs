//! Stands between a process and Postgres, and loses the acknowledgement of every other COMMIT: the server has
//! committed, the client's connection breaks.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream, UnixStream},
};

pub struct LossyProxy {
    /// Reaches the same database through the proxy.
    pub url: String,
    lost: Arc<AtomicUsize>,
}

impl LossyProxy {
    /// `url` names a socket: `postgres://user@localhost:port/database?host=folder`.
    pub async fn before(url: &str) -> Self {
        let (start, folder) = url.split_once("?host=").unwrap();
        let (start, database) = start.rsplit_once('/').unwrap();
        let (user, port) = start.rsplit_once(':').unwrap();
        let socket = format!("{}/.s.PGSQL.{port}", folder.replace("%2F", "/"));
        let user = user.trim_end_matches("localhost");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{user}{}/{database}?sslmode=disable", listener.local_addr().unwrap());
        let (commits, lost) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counted = lost.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = UnixStream::connect(&socket).await.unwrap();
                tokio::spawn(pass(client, server, commits.clone(), counted.clone()));
            }
        });
        Self { url, lost }
    }

    /// How many acknowledgements were lost.
    pub fn lost(&self) -> usize {
        self.lost.load(Ordering::Relaxed)
    }
}

async fn pass(client: TcpStream, server: UnixStream, commits: Arc<AtomicUsize>, lost: Arc<AtomicUsize>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let answers = tokio::spawn(async move {
        let _ = copy(&mut from_server, &mut to_client).await;
        from_server
    });
    let mut buffer = vec![0; 256 * 1024];
    while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
        let is_commit = buffer[..read].windows(6).any(|window| window == b"COMMIT");
        if is_commit && commits.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
            // From here on nothing reaches the client; the server carries the commit out, and ends with the stream.
            answers.abort();
            let _ = answers.await;
            let _ = to_server.write_all(&buffer[..read]).await;
            lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if to_server.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
