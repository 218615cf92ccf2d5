//! The engines that are compared. Each runs in processes of its own that speak the same few lines:
//!
//! - `prepare URL` makes the tables; `fill URL WORK RUNS` enqueues runs; both simply end.
//! - `offer URL RATE SECONDS` enqueues jobs at an even pace and ends with the line `offered RUNS SECONDS`.
//! - `work URL WORK CONCURRENCY` says `ready`, waits for the line `go`, works, says `handled RUNS` about every 20 ms,
//!   and when its standard input ends says `latency P50 P95 P99` (in ms, enqueued to
//!   started, of stories from the answer until the next step began) and ends.
//!
//! A job carries the microsecond at which it was offered; its handler then takes 1 ms. Zero: it returns at once.

mod apalis;
mod awa;
mod graphile;
mod herald;
mod scripts;
mod serve;
mod tally;
mod underway;

use std::{future::Future, path::PathBuf};

use anyhow::{Context, bail};
use clap::ValueEnum;
use futures::{FutureExt, future::BoxFuture};
use tokio::process::Command;

pub use self::serve::Verb;
use self::{scripts::Script, serve::serve};

/// What is in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Work {
    Jobs,
    /// Five steps, and a wait for a signal after the second, which is sent [`serve::ANSWERS_AFTER`] that step.
    Stories,
}

impl Work {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Jobs => "jobs",
            Self::Stories => "stories",
        }
    }
}

/// An engine that this program is linked with.
pub trait Peer: Sized + Send + Sync + 'static {
    fn prepare(url: &str) -> impl Future<Output = anyhow::Result<()>> + Send;

    fn connect(url: &str, concurrency: usize) -> impl Future<Output = anyhow::Result<Self>> + Send;

    /// Enqueues runs that were not offered at any particular time, by the engine's fast path.
    fn fill(&self, work: Work, runs: usize) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Enqueues one job; many are under way at once.
    fn enqueue(&self, offered_at: i64) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Works until it is dropped.
    fn work(&self, work: Work, concurrency: usize) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// What the contest knows of an engine.
pub struct Contestant {
    pub name: &'static str,
    pub program: Program,
    /// The loads that it takes part in.
    pub loads: &'static str,
    /// Of jobs enqueued before the workers start, and five times as many as of stories, so that a slow one ends within a minute.
    pub runs_at_most: usize,
    /// SQL: whether there is any run that is not over, of those that these loads enqueue; `{runs}` stands for how many
    /// there are.
    pub unfinished: &'static str,
    /// How it was set up, beside its defaults.
    pub settings: &'static str,
}

pub enum Program {
    /// Linked in; the package's name in Cargo.lock.
    Rust(&'static str, fn(Verb) -> BoxFuture<'static, anyhow::Result<()>>),
    Script(Script),
}

pub const ALL: &[Contestant] = &[
    herald::CALLS,
    herald::CALLING_JOBS,
    herald::ANSWERS,
    awa::AWA,
    graphile::GRAPHILE,
    apalis::APALIS,
    underway::UNDERWAY,
    scripts::PG_BOSS,
    scripts::ABSURD,
    scripts::DBOS,
];

impl Contestant {
    pub fn version(&self) -> anyhow::Result<String> {
        match &self.program {
            Program::Rust(package, _) => {
                let lock = include_str!("../../Cargo.lock");
                let line = format!("name = \"{package}\"\nversion = \"");
                let rest = lock
                    .split_once(&line)
                    .with_context(|| format!("{package} is not in Cargo.lock"))?
                    .1;
                Ok(rest.split('"').next().unwrap_or_default().to_owned())
            }
            Program::Script(script) => script.version(),
        }
    }

    /// Installs what the engine's process needs.
    pub async fn install(&self) -> anyhow::Result<()> {
        match &self.program {
            Program::Rust(..) => Ok(()),
            Program::Script(script) => script.install().await,
        }
    }

    /// A process of the engine, without its arguments.
    pub fn command(&self) -> anyhow::Result<Command> {
        match &self.program {
            Program::Rust(..) => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["peer", self.name]);
                Ok(command)
            }
            Program::Script(script) => script.command(),
        }
    }
}

/// The folder of builds, which is not under version control.
pub fn target() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target")
}

/// Does what another process of this program asked for.
pub async fn act(name: &str, verb: Verb) -> anyhow::Result<()> {
    let contestant = ALL
        .iter()
        .find(|peer| peer.name == name)
        .with_context(|| format!("there is no peer {name:?}"))?;
    match &contestant.program {
        Program::Rust(_, act) => act(verb).await,
        Program::Script(_) => bail!("{name} is a script"),
    }
}

fn linked<P: Peer>(verb: Verb) -> BoxFuture<'static, anyhow::Result<()>> {
    serve::<P>(verb).boxed()
}
