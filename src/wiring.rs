//! The one place where all parts meet.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, bail};
use herald_engine::{BatchLimits, Client};
use herald_providers::{SmsClient, callbacks, documents, firetext, mmg, ses, sns};
use herald_workflows::{Tools, keep_house::DAYS_AHEAD, retry, tools};
use sqlx::{
    Connection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::{
    config,
    pooler::{self, Sessions},
};

/// A pool on the configured database. It waits for a database that is still starting.
pub async fn pool() -> anyhow::Result<PgPool> {
    Ok(pool_and_sessions().await?.0)
}

async fn pool_and_sessions() -> anyhow::Result<(PgPool, Sessions)> {
    let pool = connect(&config::database_url()?, config::database_connections()?).await?;
    let sessions = pooler::check(&pool.connect_options()).await?;
    Ok((pool, sessions))
}

/// A pool on a database that has all that this version's statements name. On an older one they would fail in the middle
/// of a message, so the roles that work on messages do not start there.
pub async fn migrated_pool() -> anyhow::Result<PgPool> {
    Ok(migrated_pool_and_sessions().await?.0)
}

async fn migrated_pool_and_sessions() -> anyhow::Result<(PgPool, Sessions)> {
    let (pool, sessions) = pool_and_sessions().await?;
    let missing = herald_store::missing_migrations(&mut *pool.acquire().await?).await?;
    if missing > 0 {
        bail!("the database lacks {missing} migrations of this version: run `herald migrate` first");
    }
    Ok((pool, sessions))
}

/// The same, and one that says where LISTEN works.
pub async fn listening_pools() -> anyhow::Result<(PgPool, PgPool)> {
    let (pool, sessions) = migrated_pool_and_sessions().await?;
    let options = match config::direct_database_url() {
        Some(url) => options(&url, "DATABASE_DIRECT_URL")?,
        None if sessions == Sessions::Own => (*pool.connect_options()).clone(),
        None => bail!(
            "DATABASE_URL leads to a pooler in transaction mode, which cannot LISTEN: the setting DATABASE_DIRECT_URL must be a Postgres URL that leads past it"
        ),
    };
    let listening = PgPoolOptions::new().max_connections(1).connect_lazy_with(options);
    Ok((pool, listening))
}

fn options(url: &str, setting: &str) -> anyhow::Result<PgConnectOptions> {
    let options: PgConnectOptions = url
        .parse()
        .with_context(|| format!("the setting {setting} is malformed: it must be a Postgres URL"))?;
    Ok(options.application_name("herald").options([
        // Waiting for the outside never happens on a connection, so a statement that takes this long is lost.
        ("statement_timeout", "30s"),
        // Well below a lease: whoever waits for a lock holds rows that somebody else needs.
        ("lock_timeout", "2s"),
        ("idle_in_transaction_session_timeout", "60s"),
        // Every statement of ours goes by an index. A plan that was made while a table was empty must not scan it
        // when it is full: prepared statements keep their plans until the next ANALYZE.
        ("enable_seqscan", "off"),
        // A table of two rows has no index worth its name. The price that the line above puts on scanning it makes
        // Postgres compile the statement, which takes a tenth of a second of CPU each time.
        ("jit", "off"),
    ]))
}

pub async fn connect(url: &str, connections: u32) -> anyhow::Result<PgPool> {
    PgPoolOptions::new()
        .max_connections(connections)
        // A dead connection shows itself by an error, and everything that is written is repeated over that.
        .test_before_acquire(false)
        .acquire_timeout(Duration::from_secs(10))
        // A connection whose other end is gone without a word, and on which somebody has stopped waiting, must not keep
        // its place in the pool until TCP gives it up.
        .after_release(|conn, _| {
            Box::pin(async move {
                match tokio::time::timeout(Duration::from_secs(5), conn.ping()).await {
                    Ok(alive) => alive.map(|()| true),
                    Err(_) => Err(sqlx::Error::WorkerCrashed),
                }
            })
        })
        .connect_with(options(url, "DATABASE_URL")?)
        .await
        .context("cannot reach the database of DATABASE_URL")
}

/// Brings the database to this version of the program, ready for today.
pub async fn migrate(pool: &PgPool) -> anyhow::Result<()> {
    herald_store::migrate(pool).await?;
    Ok(herald_engine::make_partitions(pool, DAYS_AHEAD).await?)
}

pub async fn api_deps() -> anyhow::Result<herald_api::Deps> {
    let (settings, sns) = (config::api()?, config::sns()?);
    let documents = config::documents()?.map(documents::Client::new).transpose()?;
    let (pool, listening) = listening_pools().await?;
    if !sns.verify {
        tracing::warn!("anybody may post receipts of emails: SES_SNS_VERIFY is off");
    } else if sns.topics.is_empty() {
        tracing::warn!("receipts of emails are turned away: SES_SNS_TOPIC_ARNS is not set");
    }
    let firms = [
        ("Firetext", &settings.receipts.firetext),
        ("MMG", &settings.receipts.mmg),
    ];
    for (firm, _) in firms.iter().filter(|(_, credentials)| credentials.is_none()) {
        tracing::warn!(
            "anybody may post receipts of {firm}: {}_RECEIPT_CREDENTIALS is not set",
            firm.to_uppercase()
        );
    }
    Ok(herald_api::Deps {
        engine: Client::new(pool.clone(), BatchLimits::default()),
        arrivals: Client::new(pool.clone(), patient()),
        pool,
        listening,
        sealer: Arc::new(config::sealer()?),
        documents,
        sns: sns::Client::new(sns),
        settings,
    })
}

/// How long what nobody waits for is gathered.
pub const GATHER: Duration = Duration::from_millis(20);

/// For writes for which nobody waits: a flood of receipts costs few commits, and leaves the disk to texts.
pub fn patient() -> BatchLimits {
    BatchLimits {
        gather: GATHER,
        ..BatchLimits::default()
    }
}

pub async fn tools(pool: PgPool) -> anyhow::Result<Tools> {
    let config::Providers { firetext, mmg, ses } = config::providers()?;
    let sms = vec![
        SmsClient::Firetext(firetext::Client::new(firetext)?),
        SmsClient::Mmg(mmg::Client::new(mmg)?),
    ];
    let ses = ses::Client::new(ses).await?;
    let callbacks = callbacks::Client::new(config::callbacks()?)?;
    let sending = retry::sending(config::unknown_outcome_patience()?);
    let settings = config::api()?;
    let settings = tools::Settings {
        email_domain: settings.email_domain,
        api_host: settings.api_host,
        admin_host: settings.admin_host,
        sending,
        switching: config::switching()?,
        keep_days: config::keep_days()?,
        keep_undeliverable_days: config::keep_undeliverable_days()?,
    };
    let ways_out = (sms, ses, callbacks);
    Ok(Tools::new(pool, Arc::new(config::sealer()?), ways_out, settings))
}
