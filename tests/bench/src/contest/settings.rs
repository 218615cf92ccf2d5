//! What is to be measured, as the command line says.

use anyhow::Context;
use clap::{Args, value_parser};

use crate::peers::{self, Contestant};

const LOADS: [char; 5] = ['a', 'b', 'c', 'd', 'e'];
const RUNS: u64 = 100_000;

#[derive(Args)]
pub struct Settings {
    /// Burn-down (a), offered rates (b), stories (c), a full database (d), four processes (e)
    #[arg(long, value_delimiter = ',', default_values_t = LOADS, value_parser = letter)]
    pub loads: Vec<char>,
    /// Engines
    #[arg(long, value_delimiter = ',', default_values = peers::ALL.iter().map(|peer| peer.name), value_parser = named)]
    pub peers: Vec<&'static Contestant>,
    /// Everything is measured so often, and medians are shown
    #[arg(long, default_value_t = 3, value_parser = value_parser!(u64).range(1..))]
    pub rounds: u64,
    /// Runs of a burn-down
    #[arg(long, default_value_t = RUNS, value_parser = value_parser!(u64).range(1..))]
    pub runs: u64,
    /// Seconds of each offered rate
    #[arg(long, default_value_t = 5, value_parser = value_parser!(u64).range(1..))]
    pub seconds: u64,
}

impl Settings {
    pub fn peer(&self, name: &str) -> Option<&'static Contestant> {
        self.peers.iter().copied().find(|peer| peer.name == name)
    }

    /// Whether everything is measured, as the kept results must.
    pub fn is_whole(&self) -> bool {
        self.loads == LOADS && self.peers.len() == peers::ALL.len() && self.rounds >= 3 && self.runs == RUNS
    }
}

fn letter(word: &str) -> anyhow::Result<char> {
    let letter = word.parse().ok().filter(|letter| LOADS.contains(letter));
    letter.with_context(|| format!("the loads are {}", LOADS.map(String::from).join(", ")))
}

fn named(name: &str) -> anyhow::Result<&'static Contestant> {
    let known = || peers::ALL.iter().map(|peer| peer.name).collect::<Vec<_>>().join(", ");
    let found = peers::ALL.iter().find(|peer| peer.name == name);
    found.with_context(|| format!("the engines are: {}", known()))
}
