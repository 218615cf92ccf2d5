//! The command line.

use std::{
    io::{BufRead, Write, stderr, stdin, stdout},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, anyhow, bail};
use clap::{Parser, Subcommand, ValueEnum};
use herald_engine::Queue;
use herald_workflows::queues;
use serde_json::Value;

use crate::{
    check_upgrade, config, dev, operate,
    postgres::{Cluster, Durability},
    roles, seed, shutdown, token, try_input, wiring,
};

/// Government-grade notifications as durable workflows.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Run everything on this machine, ready to send, with a private Postgres and a fake outside world.
    Dev {
        /// Pause all queues before any worker runs.
        #[arg(long)]
        start_paused: bool,
        /// Call the service back, at the fake outside world: from now on, in this database.
        #[arg(long)]
        callbacks: bool,
    },
    /// Serve the REST API.
    Api,
    /// Play the runs of some queues.
    Worker {
        /// Queues to work on, or `all`: send-sms, send-email, research, retry, retry-email, receipts,
        /// service-callbacks, service-callbacks-retry, periodic.
        #[arg(long, value_delimiter = ',', required = true)]
        queues: Vec<String>,
    },
    /// Do recurring work. Any number of beats may run.
    Beat,
    /// Bring the database to this version of the program.
    Migrate {
        /// Pause all queues in the same go: a restored database comes up with nothing moving.
        #[arg(long)]
        start_paused: bool,
    },
    /// Look at runs, and cancel, pause, resume or redrive them.
    #[command(subcommand)]
    Runs(operate::Runs),
    /// Look at queues, and pause, open or limit them.
    #[command(subcommand)]
    Queues(operate::Queues),
    /// Look at what services could not be told of, and tell it once more.
    #[command(subcommand)]
    Callbacks(operate::Callbacks),
    /// Look at providers and why texts moved between them, and set, disable or enable them.
    #[command(subcommand)]
    Providers(operate::Providers),
    /// Look at how long the messages of templates are wanted, and set it.
    #[command(subcommand)]
    Templates(operate::Templates),
    /// Play every live run through its recorded past and list those that this version would park. Nothing is written, and
    /// nobody is called; needs a worker's settings.
    CheckUpgrade,
    /// Run the fake outside world: Firetext, MMG, SES, a phone that counts, and services that are called back.
    Stub,
    /// Print the OpenAPI document of an API.
    Openapi { api: Spec },
    /// Fill the database from a fixture. Repeating it changes nothing.
    Seed { file: PathBuf },
    /// Print a bearer token for an API key; it holds for thirty seconds.
    Token {
        /// As Notify shows it: name-serviceid-secret. With --admin a secret of the administration pages; by default
        /// the first of the setting INTERNAL_CLIENT_API_KEYS.
        #[arg(required_unless_present = "admin")]
        key: Option<String>,
        /// For the internal API.
        #[arg(long)]
        admin: bool,
    },
    /// Show what numbers, addresses or templates become: JSON lines in, JSON lines out.
    Try { what: Tried },
    /// Run a private Postgres in a folder until this process is stopped, and print how to reach it.
    Postgres {
        /// The cluster's folder; made if it is not there.
        #[arg(long)]
        dir: PathBuf,
        /// Never flush to disk: faster, and lost in a crash of the machine. For tests.
        #[arg(long)]
        careless: bool,
        /// Remove the folder at the end.
        #[arg(long)]
        temporary: bool,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Spec {
    Public,
    Internal,
    /// What services receive.
    Callbacks,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Tried {
    /// {"input", "settings": {"international", "landline"}}
    Phone,
    /// {"input"}
    EmailAddress,
    /// {"content", "personalisation", "service_name", "prefix_sms"}
    Sms,
    /// {"subject", "content", "personalisation"}
    Email,
}

pub fn run() -> ExitCode {
    let done = match Cli::parse().role {
        Role::Openapi { api: Spec::Public } => print(&herald_api::public_spec()),
        Role::Openapi { api: Spec::Internal } => print(&herald_api::internal_spec()),
        Role::Openapi { api: Spec::Callbacks } => print(&herald_api::callbacks_spec()),
        Role::Token { key, admin: true } => token::of_admin(key.as_deref()).and_then(|token| print(&token)),
        Role::Token { key, admin: false } => token::of(&key.unwrap_or_default()).and_then(|token| print(&token)),
        Role::Try { what } => try_lines(what),
        role => play_on_runtime(role),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line, whatever is in the error.
            let line = format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ");
            let _ = writeln!(stderr(), "herald: {line}");
            ExitCode::FAILURE
        }
    }
}

fn play_on_runtime(role: Role) -> anyhow::Result<()> {
    // What these have to say is for people: `herald dev` one banner, commands their results.
    let default = if matches!(
        role,
        Role::Dev { .. }
            | Role::Runs(_)
            | Role::Queues(_)
            | Role::Callbacks(_)
            | Role::Providers(_)
            | Role::Templates(_)
    ) {
        "warn"
    } else {
        "info,sqlx=warn,hyper=warn,aws=warn"
    };
    tracing_subscriber::fmt()
        .with_env_filter(config::log_filter(default)?)
        .with_writer(stderr)
        .json()
        .init();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(play(role))
}

async fn play(role: Role) -> anyhow::Result<()> {
    match role {
        Role::Dev {
            start_paused,
            callbacks,
        } => dev::dev(start_paused, callbacks).await,
        Role::Api => roles::api().await,
        Role::Worker { queues } => roles::worker(known_queues(&queues)?).await,
        Role::Beat => roles::beat().await,
        Role::Stub => roles::stub().await,
        Role::CheckUpgrade => check_upgrade::check_upgrade().await,
        Role::Migrate { start_paused } => migrate(start_paused).await,
        Role::Runs(command) => command.carry_out(&wiring::pool().await?).await,
        Role::Queues(command) => command.carry_out(&wiring::pool().await?).await,
        Role::Callbacks(command) => command.carry_out(&wiring::pool().await?).await,
        Role::Providers(command) => command.carry_out(&wiring::pool().await?).await,
        Role::Templates(command) => command.carry_out(&wiring::pool().await?).await,
        Role::Seed { file } => seed::load_file(&wiring::pool().await?, &file, &config::sealer()?).await,
        Role::Postgres {
            dir,
            careless,
            temporary,
        } => postgres(dir, careless, temporary).await,
        Role::Openapi { .. } | Role::Token { .. } | Role::Try { .. } => Ok(()),
    }
}

async fn migrate(start_paused: bool) -> anyhow::Result<()> {
    let pool = wiring::pool().await?;
    wiring::migrate(&pool).await?;
    if start_paused {
        operate::start_paused(&pool, "herald migrate --start-paused").await?;
        print("All queues are paused. Open one: herald queues resume NAME --reason WORDS")?;
    }
    Ok(())
}

async fn postgres(dir: PathBuf, careless: bool, temporary: bool) -> anyhow::Result<()> {
    let durability = if careless { Durability::None } else { Durability::Full };
    let cluster = Cluster::start(&dir, durability).await?;
    print(&format!("{}\n{}", cluster.url, cluster.tcp_url))?;
    shutdown::requested().await;
    cluster.stop().await;
    if temporary {
        std::fs::remove_dir_all(&dir)?;
    }
    Ok(())
}

fn known_queues(names: &[String]) -> anyhow::Result<Vec<Queue>> {
    if names == ["all"] {
        return Ok(queues::ALL.to_vec());
    }
    let known = queues::ALL.map(|queue| queue.0).join(", ");
    names
        .iter()
        .map(|name| queues::named(name).ok_or_else(|| anyhow!("there is no queue {name:?}; known are: {known}")))
        .collect()
}

fn try_lines(what: Tried) -> anyhow::Result<()> {
    let become_what = match what {
        Tried::Phone => try_input::phone,
        Tried::EmailAddress => try_input::email_address,
        Tried::Sms => try_input::sms,
        Tried::Email => try_input::email,
    };
    for (number, line) in stdin().lock().lines().enumerate() {
        let line = line?;
        let input: Value = serde_json::from_str(&line).with_context(|| format!("line {} is not JSON", number + 1))?;
        if !input.is_object() {
            bail!("line {} is not a JSON object", number + 1);
        }
        print(&become_what(&input).to_string())?;
    }
    Ok(())
}

pub fn print(text: &str) -> anyhow::Result<()> {
    Ok(writeln!(stdout(), "{text}")?)
}
