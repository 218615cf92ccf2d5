//! `herald queues …`: how full queues are, and their pauses and limits.

use anyhow::{bail, ensure};
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use herald_engine::{
    ALL_QUEUES, QueueChange, QueueLimits, change_queue,
    look::{self, Count, QueueView},
};
use herald_workflows::queues;
use serde_json::json;
use sqlx::PgPool;

use super::{
    Deed, Output,
    table::{age, aligned, or_dash},
};

#[derive(Debug, Subcommand)]
pub enum Queues {
    /// All queues: pauses, limits, tokens, runs by state. An estimate bears a ~.
    List {
        #[command(flatten)]
        output: Output,
    },
    /// Begin no runs of a queue, and let no timers of it go off, until it is resumed.
    Pause {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        deed: Deed,
        #[command(flatten)]
        output: Output,
    },
    /// Open a queue, also while all others are paused.
    Resume {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        deed: Deed,
        #[command(flatten)]
        output: Output,
    },
    /// Set all limits of a queue, over all workers. What is not said is not limited.
    Limit {
        name: String,
        /// Runs that hold a worker at once.
        #[arg(long, value_name = "N")]
        max_running: Option<u32>,
        /// Starts a second.
        #[arg(long, value_name = "PER_SECOND")]
        rate: Option<f64>,
        /// Starts that may come at once after a quiet time; by default as many as in a second.
        #[arg(long, value_name = "N", requires = "rate")]
        burst: Option<f64>,
        #[command(flatten)]
        deed: Deed,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Args)]
pub struct Which {
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    name: Option<String>,
    /// All queues.
    #[arg(long)]
    all: bool,
}

impl Queues {
    pub async fn carry_out(self, pool: &PgPool) -> anyhow::Result<()> {
        match self {
            Self::List { output } => {
                let queues = look::queues_and(pool, &queues::ALL.map(|queue| queue.0)).await?;
                output.print(&queues, table)
            }
            Self::Pause { which, deed, output } => change(pool, which.name(), QueueChange::Pause, deed, output).await,
            Self::Resume { which, deed, output } => change(pool, which.name(), QueueChange::Resume, deed, output).await,
            Self::Limit {
                name,
                max_running,
                rate,
                burst,
                deed,
                output,
            } => {
                let limits = QueueLimits {
                    max_running,
                    rate,
                    burst,
                };
                change(pool, name, QueueChange::Limit(limits), deed, output).await
            }
        }
    }
}

impl Which {
    fn name(self) -> String {
        self.name.unwrap_or_else(|| ALL_QUEUES.to_owned())
    }
}

async fn change(pool: &PgPool, name: String, change: QueueChange, deed: Deed, output: Output) -> anyhow::Result<()> {
    let known = queues::ALL.map(|queue| queue.0);
    ensure!(
        name == ALL_QUEUES || known.contains(&name.as_str()),
        "there is no queue {name:?}; known are: {}",
        known.join(", ")
    );
    match change_queue(pool, &name, change, &deed.actor()?).await {
        Ok(()) => {}
        Err(herald_engine::Error::Refused(why)) => bail!("{why}"),
        Err(error) => return Err(error.into()),
    }
    let what = match change {
        QueueChange::Pause => "paused",
        QueueChange::Resume => "open",
        QueueChange::Limit(_) => "limited",
    };
    let shown = if name == ALL_QUEUES { "every queue" } else { &name };
    output.print(&[json!({ "queue": name, "is": what })], |_| match change {
        QueueChange::Limit(limits) if limits == QueueLimits::default() => format!("{shown} has no limits"),
        _ => format!("{shown} is {what}"),
    })
}

fn table(queues: &[QueueView]) -> String {
    let now = Utc::now();
    let rows = queues.iter().map(|queue| {
        [
            queue.name.clone(),
            if queue.paused { "paused" } else { "open" }.to_owned(),
            or_dash(queue.limits.max_running, |max| max.to_string()),
            or_dash(queue.limits.rate, |rate| format!("{rate}/s")),
            or_dash(queue.limits.burst, |burst| burst.to_string()),
            or_dash(queue.tokens, |tokens| format!("{tokens:.1}")),
            or_dash(overdue_since(queue, now), |since| age(since, now)),
            counts(&queue.counts),
        ]
    });
    let head = ["QUEUE", "STATE", "MAX", "RATE", "BURST", "TOKENS", "OLDEST DUE", "RUNS"];
    aligned(head, rows)
}

/// The oldest instant that a worker has not attended to.
fn overdue_since(queue: &QueueView, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let due = queue.counts.iter().filter_map(|count| count.first_due);
    due.min().filter(|due| *due <= now)
}

fn counts(counts: &[Count]) -> String {
    if counts.is_empty() {
        return "none".to_owned();
    }
    let shown = counts.iter().map(|count| {
        let about = if count.estimated { "~" } else { "" };
        format!("{about}{} {}", count.runs, count.state)
    });
    shown.collect::<Vec<_>>().join(", ")
}
