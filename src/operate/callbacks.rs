//! `herald callbacks …`: what services are still to be told or could not be told of, and telling it once more.

use std::io::{Write, stderr};

use anyhow::{Context, bail, ensure};
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand, builder::PossibleValuesParser};
use herald_store::{
    CallbackType,
    callbacks::{self, EventView, Selection},
};
use herald_workflows::callbacks::replay;
use serde_json::json;
use sqlx::PgPool;
use uuid::Uuid;

use super::{
    Deed, Output,
    table::{aligned, instant, or_dash},
};

/// The most ids in a selection, all of which are recorded.
const MOST_IDS: usize = 1000;

#[derive(Debug, Subcommand)]
pub enum Callbacks {
    /// Events that services could not be told of, by service and number, and why.
    List {
        /// Those that still wait instead.
        #[arg(long)]
        waiting: bool,
        #[command(flatten)]
        selected: Selected,
        /// Only what follows this event: the last one of the page before.
        #[arg(long, value_name = "ID")]
        after: Option<Uuid>,
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
        #[command(flatten)]
        output: Output,
    },
    /// Tell services once more of what they could not be told of, each of them in order.
    Replay {
        /// These events, as far as the rest of the selection allows.
        ids: Vec<Uuid>,
        #[command(flatten)]
        selected: Selected,
        /// Every undeliverable event.
        #[arg(long)]
        all: bool,
        /// Change nothing; say how many events it would be.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        deed: Deed,
        #[command(flatten)]
        output: Output,
    },
}

/// Events that fit everything that is said.
#[derive(Debug, Args)]
pub struct Selected {
    /// The service's id.
    #[arg(long, value_name = "ID")]
    service: Option<Uuid>,
    #[arg(long = "type", value_name = "TYPE", value_parser = PossibleValuesParser::new(CallbackType::ALL.map(CallbackType::as_str)))]
    callback_type: Option<String>,
    /// Such as 2026-11-21T10:00:00Z.
    #[arg(long, value_name = "TIME")]
    created_after: Option<DateTime<Utc>>,
    #[arg(long, value_name = "TIME")]
    created_before: Option<DateTime<Utc>>,
}

impl Selected {
    fn selection(self, ids: Vec<Uuid>) -> anyhow::Result<Selection> {
        Ok(Selection {
            ids,
            service_id: self.service,
            callback_type: self.callback_type.map(|text| text.parse()).transpose()?,
            created_after: self.created_after,
            created_before: self.created_before,
        })
    }
}

impl Callbacks {
    pub async fn carry_out(self, pool: &PgPool) -> anyhow::Result<()> {
        match self {
            Self::List {
                waiting,
                selected,
                after,
                limit,
                output,
            } => {
                let selection = selected.selection(Vec::new())?;
                let mut conn = pool.acquire().await?;
                let page = callbacks::list(&mut conn, &selection, waiting, after, limit).await?;
                let events = page.context("--after: there is no such event any more, begin again")?;
                output.print(&events, table)
            }
            Self::Replay {
                ids,
                selected,
                all,
                dry_run,
                deed,
                output,
            } => {
                let given = ids.len();
                ensure!(given <= MOST_IDS, "at most {MOST_IDS} ids at once");
                let selection = selected.selection(ids)?;
                if selection.is_everything() != all {
                    ensure!(
                        all,
                        "nothing is selected, which means every undeliverable event: say --all if that is meant"
                    );
                    bail!("--all goes without ids and selection");
                }
                if dry_run {
                    let events = callbacks::count(&mut *pool.acquire().await?, &selection).await?;
                    return output.print(&[json!({ "would_change": events })], |_| {
                        format!("{} would be replayed", number(events))
                    });
                }
                let replayed = replay(pool, &selection, &deed.actor()?, |so_far| {
                    let _ = writeln!(stderr(), "{so_far} events so far");
                })
                .await?;
                output.print(&[json!({ "changed": replayed })], |_| {
                    let events = i64::try_from(replayed).unwrap_or(i64::MAX);
                    format!("{} replayed", number(events))
                })?;
                ensure!(
                    replayed >= given,
                    "{} of {given} left as they are: not known, or not undeliverable",
                    given - replayed
                );
                Ok(())
            }
        }
    }
}

fn number(events: i64) -> String {
    format!("{events} {}", if events == 1 { "event" } else { "events" })
}

fn table(events: &[EventView]) -> String {
    let rows = events.iter().map(|event| {
        [
            event.id.to_string(),
            event.service_id.to_string(),
            event.sequence.to_string(),
            event.callback_type.to_string(),
            instant(event.created_at),
            event.attempts.to_string(),
            or_dash(event.last_error.clone(), |error| error),
        ]
    });
    aligned(
        [
            "EVENT",
            "SERVICE",
            "NUMBER",
            "TYPE",
            "CREATED",
            "FAILURES",
            "LAST ERROR",
        ],
        rows,
    )
}
