//! A Redis of a test's own, on a free port.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
};

use redis::aio::MultiplexedConnection;

use super::{cluster::GUARD, eventually};

pub struct Redis {
    pub url: String,
    server: Child,
}

impl Redis {
    pub async fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let port_text = port.to_string();
        let server = Command::new("bash")
            .args([
                "-c",
                GUARD,
                "redis",
                "redis-server",
                "--port",
                &port_text,
                "--bind",
                "127.0.0.1",
            ])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(std::env::temp_dir())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let redis = Self {
            url: format!("redis://127.0.0.1:{port}/0"),
            server,
        };
        eventually("Redis answers", || async { redis.try_connect().await.ok() }).await;
        redis
    }

    pub async fn connect(&self) -> MultiplexedConnection {
        self.try_connect().await.unwrap()
    }

    /// Sends a signal, such as `-STOP`, to the server.
    pub fn signal(&self, signal: &str) {
        let id = self.server.id().to_string();
        let sent = Command::new("pkill").args([signal, "-P", &id, "redis-server"]).status();
        assert!(sent.unwrap().success());
    }

    async fn try_connect(&self) -> redis::RedisResult<MultiplexedConnection> {
        redis::Client::open(self.url.as_str())?
            .get_multiplexed_async_connection()
            .await
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = Command::new("pkill")
            .args(["-KILL", "-P", &self.server.id().to_string()])
            .status();
        let _ = self.server.wait();
    }
}
