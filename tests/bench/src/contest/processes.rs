//! The contestants' processes, and the lines that they say (see [`crate::peers`]).

use std::{
    fs::File,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    task::JoinHandle,
    time::timeout,
};

use crate::peers::{self, Contestant, Work};

/// A verb that ends by itself may take so long.
const PATIENCE: Duration = Duration::from_secs(300);

/// A process that works until it is stopped.
pub struct Worker {
    process: Child,
    input: ChildStdin,
    name: &'static str,
    handled: Arc<AtomicU64>,
    /// Milliseconds, once it has been stopped.
    latency: JoinHandle<Option<[f64; 3]>>,
}

impl Worker {
    /// Returns when it is connected and waits to be told to go.
    pub async fn start(peer: &Contestant, url: &str, work: Work, concurrency: usize) -> anyhow::Result<Self> {
        let mut process = command(peer, &["work", url, work.word(), &concurrency.to_string()])?.spawn()?;
        let input = process.stdin.take().context("its input")?;
        let mut lines = BufReader::new(process.stdout.take().context("its output")?).lines();
        loop {
            match timeout(PATIENCE, lines.next_line())
                .await
                .context("a worker did not become ready")??
            {
                Some(line) if line == "ready" => break,
                Some(_) => {}
                None => bail!("a worker ended at once: {}", last_words(peer.name)),
            }
        }
        let handled = Arc::new(AtomicU64::new(0));
        let latency = tokio::spawn(listen(lines, handled.clone()));
        Ok(Self {
            process,
            input,
            name: peer.name,
            handled,
            latency,
        })
    }

    pub async fn go(&mut self) -> anyhow::Result<()> {
        Ok(self.input.write_all(b"go\n").await?)
    }

    /// How many runs it has handled, unless it has died.
    pub fn handled(&mut self) -> anyhow::Result<u64> {
        if let Some(status) = self.process.try_wait()? {
            bail!("a worker ended ({status}): {}", last_words(self.name));
        }
        Ok(self.handled.load(Ordering::Relaxed))
    }

    /// Ends it; its latencies where it has any.
    pub async fn stop(self) -> anyhow::Result<Option<[f64; 3]>> {
        let Self {
            mut process,
            input,
            latency,
            ..
        } = self;
        drop(input);
        let latency = timeout(Duration::from_secs(20), latency)
            .await
            .context("a worker did not end")??;
        if timeout(Duration::from_secs(5), process.wait()).await.is_err() {
            process.kill().await?;
        }
        Ok(latency)
    }
}

async fn listen(mut lines: tokio::io::Lines<BufReader<ChildStdout>>, handled: Arc<AtomicU64>) -> Option<[f64; 3]> {
    let mut latency = None;
    while let Ok(Some(line)) = lines.next_line().await {
        match *line.split(' ').collect::<Vec<_>>().as_slice() {
            ["handled", runs] => handled.store(runs.parse().unwrap_or(0), Ordering::Relaxed),
            ["latency", p50, p95, p99] => latency = [p50, p95, p99].map(|ms| ms.parse().unwrap_or(f64::NAN)).into(),
            _ => {}
        }
    }
    latency.filter(|[p50, ..]| p50.is_finite())
}

/// Runs a verb that ends by itself.
pub async fn finish(peer: &Contestant, arguments: &[&str]) -> anyhow::Result<()> {
    output(peer, arguments).await.map(drop)
}

/// Offers jobs; how many, and for how many seconds.
pub async fn offer(peer: &Contestant, url: &str, rate: usize, seconds: u64) -> anyhow::Result<(u64, f64)> {
    let said = output(peer, &["offer", url, &rate.to_string(), &seconds.to_string()]).await?;
    let line = said
        .lines()
        .find_map(|line| line.strip_prefix("offered "))
        .context("nothing was offered")?;
    let (runs, seconds) = line.split_once(' ').context("offered for how long?")?;
    Ok((runs.parse()?, seconds.parse()?))
}

async fn output(peer: &Contestant, arguments: &[&str]) -> anyhow::Result<String> {
    let verb = arguments.first().copied().unwrap_or_default();
    let running = command(peer, arguments)?.spawn()?.wait_with_output();
    let output = timeout(PATIENCE, running)
        .await
        .with_context(|| format!("{verb} took too long"))??;
    ensure!(output.status.success(), "{verb} failed: {}", last_words(peer.name));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn command(peer: &Contestant, arguments: &[&str]) -> anyhow::Result<Command> {
    let mut command = peer.command()?;
    let log = File::options().create(true).append(true).open(log(peer.name))?;
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .kill_on_drop(true);
    Ok(command)
}

/// The last line that a contestant's processes wrote to their common log.
fn last_words(name: &str) -> String {
    let log = std::fs::read_to_string(log(name)).unwrap_or_default();
    let last = log
        .lines()
        .rfind(|line| !line.trim().is_empty())
        .unwrap_or("it said nothing");
    last.trim().chars().take(200).collect()
}

fn log(name: &str) -> std::path::PathBuf {
    peers::target().join(format!("{name}.log"))
}
