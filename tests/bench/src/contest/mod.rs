//! `herald-bench peers`: every trial once a round, engines taking turns, medians of the rounds; all on one private
//! Postgres with fsync and synchronous_commit on, which shares the machine with whoever is measured.

mod databases;
mod measure;
mod processes;
mod report;
mod settings;

use std::collections::HashMap;

use anyhow::Context;

pub use self::settings::Settings;
use self::{
    databases::{Base, Databases},
    measure::{Figures, Load},
};
use crate::{
    herald::Postgres,
    peers::{Contestant, Work},
};

/// One thing that is measured, once a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Trial {
    /// The contestant's name.
    pub peer: &'static str,
    pub base: Base,
    pub load: Load,
}

/// What came of each trial, a result a round. An error is a result too.
pub type Results = HashMap<Trial, Vec<Result<Figures, String>>>;

pub async fn run(settings: &Settings) -> anyhow::Result<()> {
    let mut report = report::Report::new();
    let Postgres {
        tcp_url,
        server: _server,
        ..
    } = Postgres::start().await?;
    let databases = Databases::connect(&tcp_url).await?;
    report.conditions(&databases, &settings.peers).await?;
    let trials = trials(settings);
    let mut results = Results::new();
    let bases = prepare(&databases, &trials, &settings.peers).await;
    for round in 1..=settings.rounds {
        for trial in &trials {
            let peer = settings.peer(trial.peer).context("a trial of a contestant")?;
            let figures = match &bases[&(trial.peer, trial.base)] {
                Ok(()) => measure::measure(&databases, peer, trial, settings)
                    .await
                    .map_err(|error| format!("{error:#}")),
                Err(error) => Err(error.clone()),
            };
            report::progress(round, trial, &figures);
            results.entry(*trial).or_default().push(figures);
        }
        // What is known so far, in case that the rest is not waited for.
        report.keep(settings, &results, round)?;
    }
    report.print();
    Ok(())
}

/// Each trial once, though several loads want it; those with the same load follow each other.
fn trials(settings: &Settings) -> Vec<Trial> {
    let mut trials = Vec::new();
    for letter in settings.loads.iter().copied() {
        for (load, base) in loads(letter) {
            for peer in settings.peers.iter().filter(|peer| peer.loads.contains(letter)) {
                let trial = Trial {
                    peer: peer.name,
                    base,
                    load,
                };
                if !trials.contains(&trial) {
                    trials.push(trial);
                }
            }
        }
    }
    trials
}

/// The loads of one letter, without those of other letters that it is compared with.
pub fn loads(letter: char) -> Vec<(Load, Base)> {
    let offered = [20, 500, 2000].map(|rate| Load::Offered { rate });
    let burn_down = Load::BurnDown {
        processes: 1,
        concurrency: 64,
    };
    let loads: Vec<Load> = match letter {
        'a' => vec![burn_down],
        'b' => offered.to_vec(),
        'c' => vec![Load::Stories],
        'd' => [burn_down].into_iter().chain(offered).chain([Load::Stories]).collect(),
        'e' => vec![
            burn_down,
            Load::BurnDown {
                processes: 4,
                concurrency: 16,
            },
        ],
        _ => Vec::new(),
    };
    let bases: &[Base] = if letter == 'd' {
        &[Base::Empty, Base::Full]
    } else {
        &[Base::Empty]
    };
    loads
        .into_iter()
        .flat_map(|load| bases.iter().map(move |base| (load, *base)))
        .collect()
}

/// Installs the contestants and makes the databases that the trials copy. What fails is told in the tables.
async fn prepare(
    databases: &Databases,
    trials: &[Trial],
    peers: &[&'static Contestant],
) -> HashMap<(&'static str, Base), Result<(), String>> {
    let mut bases = HashMap::new();
    for peer in peers {
        let prepared = async {
            peer.install().await.context("could not be installed")?;
            databases.prepare(peer).await.context("could not be prepared")
        };
        let prepared = prepared.await.map_err(|error| format!("{error:#}"));
        if trials
            .iter()
            .any(|trial| trial.peer == peer.name && trial.base == Base::Full)
        {
            eprintln!("filling the full database of {}", peer.name);
            let full = match &prepared {
                Ok(()) => databases.prepare_full(peer).await.map_err(|error| format!("{error:#}")),
                Err(error) => Err(error.clone()),
            };
            bases.insert((peer.name, Base::Full), full);
        }
        bases.insert((peer.name, Base::Empty), prepared);
    }
    bases
}

impl Load {
    pub const fn work(self) -> Work {
        match self {
            Self::Stories => Work::Stories,
            Self::BurnDown { .. } | Self::Offered { .. } => Work::Jobs,
        }
    }
}
