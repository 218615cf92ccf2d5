//! `herald templates …`: for how long the messages of a template are wanted. Notify's clients cannot say it themselves.

use anyhow::ensure;
use clap::Subcommand;
use herald_api::LONGEST_EXPIRY;
use herald_engine::audit;
use herald_store::templates;
use serde_json::json;
use sqlx::PgPool;
use uuid::Uuid;

use super::{Deed, Output, table::aligned};

#[derive(Debug, Subcommand)]
pub enum Templates {
    /// Templates whose messages are wanted for some time only.
    List {
        #[command(flatten)]
        output: Output,
    },
    /// Send no message of a template that is older than this, such as a one-time code that has expired, unless its request
    /// says `expires_in` itself. It holds for messages that are accepted from then on.
    SetExpiry {
        /// The template's id.
        template: Uuid,
        #[arg(value_parser = clap::value_parser!(i32).range(1..=i64::from(LONGEST_EXPIRY)))]
        seconds: i32,
        #[command(flatten)]
        deed: Deed,
        #[command(flatten)]
        output: Output,
    },
    /// Send messages of a template however old they are, as long as they are tried at all.
    ClearExpiry {
        /// The template's id.
        template: Uuid,
        #[command(flatten)]
        deed: Deed,
        #[command(flatten)]
        output: Output,
    },
}

impl Templates {
    pub async fn carry_out(self, pool: &PgPool) -> anyhow::Result<()> {
        match self {
            Self::List { output } => list(pool, output).await,
            Self::SetExpiry {
                template,
                seconds,
                deed,
                output,
            } => change(pool, template, Some(seconds), deed, output).await,
            Self::ClearExpiry { template, deed, output } => change(pool, template, None, deed, output).await,
        }
    }
}

async fn list(pool: &PgPool, output: Output) -> anyhow::Result<()> {
    let expiring = templates::expiring(&mut *pool.acquire().await?).await?;
    output.print(&expiring, |expiring| {
        let rows = expiring.iter().map(|template| {
            [
                template.id.to_string(),
                template.service_id.to_string(),
                format!("{} s", template.expires_in),
                template.name.clone(),
            ]
        });
        aligned(["TEMPLATE", "SERVICE", "EXPIRES IN", "NAME"], rows)
    })
}

async fn change(pool: &PgPool, id: Uuid, seconds: Option<i32>, deed: Deed, output: Output) -> anyhow::Result<()> {
    let actor = deed.actor()?;
    let mut transaction = pool.begin().await?;
    let is_there = templates::set_expiry(&mut transaction, id, seconds).await?;
    ensure!(is_there, "there is no template {id}");
    let target = json!({"template": id, "expires_in": seconds});
    audit(&mut transaction, &actor, "set_expiry", &target, 1).await?;
    transaction.commit().await?;
    output.print(&[target], |_| match seconds {
        Some(seconds) => format!("messages of template {id} are wanted for {seconds} s from now on"),
        None => format!("messages of template {id} do not expire from now on"),
    })
}
