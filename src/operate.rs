//! Commands of operators: look at runs, queues, callbacks, providers and templates, and lay hands on them. What is changed
//! leaves a row with who it was and why. Results go to standard output, as text for people or as JSON, one object a line;
//! progress to standard error.

mod callbacks;
mod providers;
mod queues;
mod runs;
mod table;
mod templates;

pub use callbacks::Callbacks;
pub use providers::Providers;
pub use queues::Queues;
pub use runs::Runs;
pub use templates::Templates;

use anyhow::Context;
use clap::Args;
use herald_engine::{ALL_QUEUES, Actor, QueueChange, change_queue};
use serde::Serialize;
use sqlx::PgPool;

use crate::{cli::print, config};

/// Pauses all queues, so that nothing moves before somebody has looked.
pub async fn start_paused(pool: &PgPool, command: &str) -> anyhow::Result<()> {
    let actor = Actor {
        name: config::user().unwrap_or_else(|| "herald".to_owned()),
        reason: command.to_owned(),
    };
    Ok(change_queue(pool, ALL_QUEUES, QueueChange::Pause, &actor).await?)
}

/// Who changes something, and why.
#[derive(Debug, Args)]
pub struct Deed {
    /// Why; it is kept for ever.
    #[arg(long, value_name = "WORDS", value_parser = reason)]
    reason: String,
    /// Who does it; by default the account that runs this.
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

impl Deed {
    fn actor(self) -> anyhow::Result<Actor> {
        let name = self.by.or_else(config::user).context("say who does it: --by NAME")?;
        Ok(Actor {
            name,
            reason: self.reason,
        })
    }
}

fn reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > herald_api::LONGEST_REASON {
        return Err(format!(
            "it must be from 1 to {} characters long",
            herald_api::LONGEST_REASON
        ));
    }
    Ok(text.to_owned())
}

/// How a result is printed.
#[derive(Debug, Clone, Copy, Args)]
pub struct Output {
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
}

impl Output {
    /// Prints all of them, as JSON or else as `text` has it.
    fn print<T: Serialize>(self, items: &[T], text: impl FnOnce(&[T]) -> String) -> anyhow::Result<()> {
        if !self.json {
            return print(text(items).trim_end());
        }
        items.iter().try_for_each(|item| print(&serde_json::to_string(item)?))
    }
}
