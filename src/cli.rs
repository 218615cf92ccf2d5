//! The command line.

use std::{io::Write, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::{
    postgres::{Cluster, Durability},
    shutdown,
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

pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(play(cli.role)),
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "herald: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn play(role: Role) -> anyhow::Result<()> {
    match role {
        Role::Postgres {
            dir,
            careless,
            temporary,
        } => {
            let durability = if careless { Durability::None } else { Durability::Full };
            let cluster = Cluster::start(&dir, durability).await?;
            writeln!(std::io::stdout(), "{}\n{}", cluster.url, cluster.tcp_url)?;
            shutdown::requested().await;
            cluster.stop().await;
            if temporary {
                std::fs::remove_dir_all(&dir)?;
            }
            Ok(())
        }
    }
}
