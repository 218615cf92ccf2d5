//! The built program, its processes started as production starts them.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, ensure};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpStream,
    process::{Child, Command},
};

use crate::{database::Database, load};

pub const SERVICE: &str = "c1f0a1f6-6a57-4a4a-9d0e-6f3d9c1d7a11";
pub const SECRET: &str = "7b0c6a0e-52f4-4c3b-9f60-1f6f0b8a2c41";
pub const TEMPLATE: &str = "0d2d7f4c-7c0e-4f7e-8f3d-0a8f4b0c2e21";
pub const EMAIL_TEMPLATE: &str = "5b8f5f5e-1c43-4b8e-9b56-7d1e2a9c4f31";
const SEALING_KEYS: &str = "bench:ZGV2ZWxvcG1lbnQtb25seS1ub3QtYS1zZWNyZXQtISE=";

pub struct Herald {
    pub database: Database,
    pub port: u16,
    stub_port: u16,
    url: String,
    _processes: Vec<Child>,
}

impl Herald {
    /// Postgres, migrated and filled, and the API.
    pub async fn start() -> anyhow::Result<Self> {
        let Postgres { url, tcp_url, server } = Postgres::start().await?;
        let (port, stub_port) = (free_port()?, free_port()?);
        let mut herald = Self {
            database: Database::connect(&tcp_url).await?,
            port,
            stub_port,
            url,
            _processes: vec![server],
        };
        ensure!(herald.role(&["migrate"]).status().await?.success(), "could not migrate");
        let seed = root().join("src/dev.json");
        ensure!(
            herald.role(&["seed"]).arg(seed).status().await?.success(),
            "could not fill the database"
        );
        let api = herald.role(&["api"]).env("PORT", port.to_string()).spawn()?;
        herald._processes.push(api);
        until_open(port).await?;
        Ok(herald)
    }

    /// Receipts come after so many milliseconds, such as `100-300`.
    pub async fn start_workers(&self, receipt_delay: &str) -> anyhow::Result<Vec<Child>> {
        let mut stub = self.role(&["stub"]);
        stub.env("PORT", self.stub_port.to_string())
            .env("STUB_RECEIPT_DELAY_MS", receipt_delay);
        let stub = stub.spawn()?;
        until_open(self.stub_port).await?;
        let sending = self
            .role(&["worker", "--queues", "send-sms,send-email,research"])
            .spawn()?;
        let receipts = self
            .role(&["worker", "--queues", "retry,retry-email,receipts"])
            .spawn()?;
        Ok(vec![stub, sending, receipts])
    }

    /// Makes a provider fail as the stub's faults say; none: it works again.
    pub async fn set_faults(&self, provider: &str, faults: &serde_json::Value) -> anyhow::Result<()> {
        load::put(self.stub_port, &format!("/faults/{provider}"), faults).await
    }

    fn role(&self, arguments: &[&str]) -> Command {
        let stub = format!("http://127.0.0.1:{}", self.stub_port);
        let api = format!("http://127.0.0.1:{}", self.port);
        let mut command = program(arguments);
        command
            .env("DATABASE_URL", &self.url)
            .env("HERALD_SEALING_KEYS", SEALING_KEYS)
            .env("HERALD_API_URL", &api)
            .env("FIRETEXT_URL", format!("{stub}/firetext"))
            .env("FIRETEXT_API_KEY", "bench")
            .env("FIRETEXT_RECEIPT_URL", format!("{api}/notifications/sms/firetext"))
            .env("MMG_URL", format!("{stub}/mmg"))
            .env("MMG_API_KEY", "bench")
            .env("MMG_RECEIPT_URL", format!("{api}/notifications/sms/mmg"))
            .env("SES_STUB_URL", format!("{stub}/ses"))
            .env("SES_SNS_TOPIC_ARNS", "arn:aws:sns:eu-west-1:000000000000:ses-callbacks")
            .env("SES_SNS_CERTIFICATE_HOSTS", format!("127.0.0.1:{}", self.stub_port))
            .env("AWS_ACCESS_KEY_ID", "bench")
            .env("AWS_SECRET_ACCESS_KEY", "bench");
        command
    }
}

/// A private cluster with Postgres' own safety: fsync and synchronous_commit are on. It ends with its process.
pub struct Postgres {
    /// Reaches it over its socket.
    pub url: String,
    /// Reaches it over the loopback, with a password.
    pub tcp_url: String,
    pub server: Child,
}

impl Postgres {
    pub async fn start() -> anyhow::Result<Self> {
        let dir = std::env::temp_dir().join(format!("herald-bench-{}", std::process::id()));
        let mut server = program(&["postgres", "--temporary", "--dir"])
            .arg(&dir)
            .stdout(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(server.stdout.take().context("its output")?).lines();
        let url = lines.next_line().await?.context("the database's address")?;
        let tcp_url = lines.next_line().await?.context("the database's other address")?;
        Ok(Self { url, tcp_url, server })
    }
}

/// Seconds of CPU that all processes of this machine have used so far, idle time left out.
pub fn cpu_seconds() -> f64 {
    const TICKS: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields: Vec<f64> = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .filter_map(|n| n.parse().ok())
        .collect();
    let idle = fields.get(3).unwrap_or(&0.0) + fields.get(4).unwrap_or(&0.0);
    (fields.iter().take(8).sum::<f64>() - idle) / TICKS
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// It ends with its standard input, which ends with this process. The variable HERALD_PROGRAM names another build.
fn program(arguments: &[&str]) -> Command {
    let built = root().join("target/release/herald");
    let mut command = Command::new(std::env::var_os("HERALD_PROGRAM").map_or(built, PathBuf::from));
    command
        .args(arguments)
        .env("HERALD_SUPERVISED", "1")
        .env("HERALD_LOG", "warn")
        .stdin(Stdio::piped());
    command
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

async fn until_open(port: u16) -> anyhow::Result<()> {
    for _ in 0..600 {
        if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("nothing listens on port {port}")
}
