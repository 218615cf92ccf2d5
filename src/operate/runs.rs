//! `herald runs …`: where runs stand, and cancelling, pausing, resuming and redriving one or a selection.

use std::io::{Write, stderr};

use anyhow::{bail, ensure};
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand, builder::PossibleValuesParser};
use herald_engine::{
    Action, Selection, control,
    look::{self, Entry, LiveView, RunView, STATES},
};
use serde_json::json;
use sqlx::PgPool;
use uuid::Uuid;

use super::{
    Deed, Output,
    table::{aligned, instant, or_dash, plain},
};

/// The most ids in a selection, all of which are recorded.
const MOST_IDS: usize = 1000;

#[derive(Debug, Subcommand)]
pub enum Runs {
    /// Live runs, oldest first, and why each does not run now.
    List {
        #[command(flatten)]
        selected: Selected,
        #[command(flatten)]
        page: Page,
    },
    /// Runs that have failed, or that no worker can read, and why.
    Dead {
        #[command(flatten)]
        selected: Selected,
        #[command(flatten)]
        page: Page,
    },
    /// One run: where it stands, why it does not run now, and what happened to it. A notification's run has its id.
    Show {
        id: Uuid,
        #[command(flatten)]
        output: Output,
    },
    /// End runs: they call nobody any more, and a message that was not sent is cancelled.
    Cancel(Change),
    /// Keep runs from calling anybody until they are resumed.
    Pause(Change),
    /// End the pause of runs.
    Resume(Change),
    /// Try runs again that have failed, or that no worker could read.
    Redrive(Change),
}

/// Live runs that fit everything that is said.
#[derive(Debug, Args)]
pub struct Selected {
    #[arg(long)]
    workflow: Option<String>,
    #[arg(long)]
    queue: Option<String>,
    #[arg(long, value_parser = PossibleValuesParser::new(STATES))]
    state: Option<String>,
    /// Whose runs: the service's id.
    #[arg(long)]
    tenant: Option<Uuid>,
    /// Words in the last error.
    #[arg(long, value_name = "WORDS")]
    error: Option<String>,
    /// Such as 2026-11-21T10:00:00Z.
    #[arg(long, value_name = "TIME")]
    created_after: Option<DateTime<Utc>>,
    #[arg(long, value_name = "TIME")]
    created_before: Option<DateTime<Utc>>,
}

#[derive(Debug, Args)]
pub struct Page {
    /// Only runs with greater ids: the last one of the page before.
    #[arg(long, value_name = "ID")]
    after: Option<Uuid>,
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub struct Change {
    /// These runs, as far as the rest of the selection allows.
    ids: Vec<Uuid>,
    #[command(flatten)]
    selected: Selected,
    /// Every live run.
    #[arg(long)]
    all: bool,
    /// Change nothing; say how many runs it would be.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    deed: Deed,
    #[command(flatten)]
    output: Output,
}

impl Runs {
    pub async fn carry_out(self, pool: &PgPool) -> anyhow::Result<()> {
        match self {
            Self::List { selected, page } => {
                let runs = live(pool, &selected.selection(Vec::new()), &page).await?;
                page.output.print(&runs, list)
            }
            Self::Dead { selected, page } => {
                let runs = dead(pool, &selected.selection(Vec::new()), &page).await?;
                page.output.print(&runs, list_of_dead)
            }
            Self::Show { id, output } => match look::run(pool, id).await? {
                Some(run) => output.print(&[run], |runs| runs.iter().map(story).collect()),
                None => bail!("nothing is known of a run {id}"),
            },
            Self::Cancel(what) => change(pool, Action::Cancel, what).await,
            Self::Pause(what) => change(pool, Action::Pause, what).await,
            Self::Resume(what) => change(pool, Action::Resume, what).await,
            Self::Redrive(what) => change(pool, Action::Redrive, what).await,
        }
    }
}

impl Selected {
    fn selection(self, ids: Vec<Uuid>) -> Selection {
        Selection {
            ids,
            workflow: self.workflow,
            queue: self.queue,
            state: self.state,
            tenant: self.tenant,
            error: self.error,
            created_after: self.created_after,
            created_before: self.created_before,
            unbegun: false,
        }
    }
}

async fn change(pool: &PgPool, action: Action, what: Change) -> anyhow::Result<()> {
    let given = what.ids.len();
    ensure!(given <= MOST_IDS, "at most {MOST_IDS} ids at once");
    let selection = what.selected.selection(what.ids);
    if selection.is_everything() != what.all {
        ensure!(
            what.all,
            "nothing is selected, which means every live run: say --all if that is meant"
        );
        bail!("--all goes without ids and selection");
    }
    if what.dry_run {
        let runs = look::would_change(pool, action, &selection).await?;
        return what.output.print(&[json!({ "would_change": runs })], |_| {
            format!("{} would be {}", number(runs), past(action))
        });
    }
    let actor = what.deed.actor()?;
    let changed = control(pool, action, &selection, &actor, |so_far| {
        let _ = writeln!(stderr(), "{so_far} runs so far");
    })
    .await?;
    what.output.print(&[json!({ "changed": changed })], |_| {
        let runs = i64::try_from(changed).unwrap_or(i64::MAX);
        format!(
            "{} {} {}",
            number(runs),
            if runs == 1 { "is" } else { "are" },
            past(action)
        )
    })?;
    ensure!(
        changed >= given,
        "{} of {given} left as they are: not known, or in a state in which it makes no sense (herald runs show ID)",
        given - changed
    );
    Ok(())
}

fn number(runs: i64) -> String {
    format!("{runs} {}", if runs == 1 { "run" } else { "runs" })
}

fn past(action: Action) -> &'static str {
    match action {
        Action::Cancel => "cancelled",
        Action::Pause => "paused",
        Action::Resume => "resumed",
        Action::Redrive => "redriven",
    }
}

/// A whole page, unless there are no more: in as many looks as that takes.
async fn live(pool: &PgPool, selection: &Selection, page: &Page) -> anyhow::Result<Vec<LiveView>> {
    let mut found = look::runs(pool, selection, page.after, page.limit).await?;
    let mut runs = found.runs;
    while let Some(after) = found.next
        && runs.len() < page.limit.into()
    {
        found = look::runs(pool, selection, Some(after), page.limit).await?;
        runs.append(&mut found.runs);
    }
    runs.truncate(page.limit.into());
    Ok(runs)
}

/// Of both states a page, and of these the first.
async fn dead(pool: &PgPool, selection: &Selection, page: &Page) -> anyhow::Result<Vec<LiveView>> {
    let mut runs = Vec::new();
    for state in ["failed", "parked"] {
        if selection.state.as_deref().is_none_or(|wanted| wanted == state) {
            let selection = Selection {
                state: Some(state.to_owned()),
                ..selection.clone()
            };
            runs.extend(live(pool, &selection, page).await?);
        }
    }
    runs.sort_by_key(|run| run.id);
    runs.truncate(page.limit.into());
    Ok(runs)
}

fn list(runs: &[LiveView]) -> String {
    let rows = runs.iter().map(|run| {
        [
            run.id.to_string(),
            run.workflow.clone(),
            run.queue.clone(),
            run.state.clone(),
            instant(run.created_at),
            run.standstill.why.clone(),
        ]
    });
    aligned(
        [
            "RUN",
            "WORKFLOW",
            "QUEUE",
            "STATE",
            "CREATED",
            "WHY IT DOES NOT RUN NOW",
        ],
        rows,
    )
}

fn list_of_dead(runs: &[LiveView]) -> String {
    let rows = runs.iter().map(|run| {
        [
            run.id.to_string(),
            run.workflow.clone(),
            run.queue.clone(),
            run.state.clone(),
            instant(run.created_at),
            or_dash(run.last_error.clone(), |error| error),
        ]
    });
    aligned(["RUN", "WORKFLOW", "QUEUE", "STATE", "CREATED", "REASON"], rows)
}

fn story(run: &RunView) -> String {
    let mut lines = vec![format!(
        "{} {}: {}",
        run.workflow.as_deref().unwrap_or("run"),
        run.id,
        run.state
    )];
    if let Some(live) = &run.live {
        lines.extend(standing(live));
    }
    let happened = run.timeline.iter().map(|entry| {
        [
            entry.at.format("%Y-%m-%d %H:%M:%S%.3fZ").to_string(),
            entry.kind.clone(),
            or_dash(entry.step.clone(), |step| step),
            or_dash(entry.epoch, |epoch| epoch.to_string()),
            details(entry),
        ]
    });
    format!(
        "{}\n\n{}",
        lines.join("\n"),
        aligned(["AT", "WHAT", "STEP", "CLAIM", "DETAILS"], happened)
    )
}

fn standing(run: &LiveView) -> Vec<String> {
    let mut lines = vec![
        format!(
            "  why it does not run now: {} ({})",
            plain(&run.standstill.why),
            run.standstill.kind
        ),
        format!("  queue: {}", run.queue),
        format!("  created: {}", instant(run.created_at)),
    ];
    let mut say =
        |what: &str, value: Option<String>| lines.extend(value.map(|value| format!("  {what}: {}", plain(&value))));
    say("until", run.standstill.until.map(instant));
    say("tenant", run.tenant.map(|tenant| tenant.to_string()));
    say("key", run.key.clone());
    say("start by", run.start_by.map(instant));
    say("expires", run.expires_at.map(instant));
    say(
        "attempts that failed",
        (run.attempt > 0).then(|| run.attempt.to_string()),
    );
    say("deaths of workers", (run.deaths > 0).then(|| run.deaths.to_string()));
    say("last error", run.last_error.clone());
    lines
}

/// What the columns do not tell already.
fn details(entry: &Entry) -> String {
    if entry.kind == "claimed" {
        return or_dash(entry.owner, |owner| format!("by worker {owner}"));
    }
    let Some(details) = entry.details.as_object() else {
        return String::new();
    };
    let rest = details
        .iter()
        .filter(|(name, _)| !["event", "step"].contains(&name.as_str()));
    rest.map(|(name, value)| format!("{name}={value}"))
        .collect::<Vec<_>>()
        .join(" ")
}
