//! What is to be measured, as the command line says.

use anyhow::{Context, bail, ensure};

use crate::peers::{self, Contestant};

pub const USAGE: &str = "[--loads a,b,c,d,e] [--peers herald,awa,…] [--rounds 3] [--runs 100000] [--seconds 5]";

pub struct Settings {
    /// Letters, in order.
    pub loads: String,
    pub peers: Vec<&'static Contestant>,
    pub rounds: usize,
    /// Of a burn-down.
    pub runs: usize,
    /// Of each offered rate.
    pub seconds: usize,
    /// Whether everything is measured, as the kept results must.
    pub whole: bool,
}

impl Settings {
    pub fn parse(arguments: &[String]) -> anyhow::Result<Self> {
        let mut settings = Self {
            loads: "abcde".to_owned(),
            peers: peers::ALL.iter().collect(),
            rounds: 3,
            runs: 100_000,
            seconds: 5,
            whole: true,
        };
        for pair in arguments.chunks(2) {
            let [name, value] = pair else {
                bail!("{} has no value; say {USAGE}", pair.concat())
            };
            let number = || {
                value
                    .parse()
                    .ok()
                    .filter(|number| *number > 0)
                    .context("it must be a number above 0")
            };
            match name.as_str() {
                "--loads" => {
                    settings.loads = value.replace(',', "");
                    ensure!(
                        settings.loads.chars().all(|c| ('a'..='e').contains(&c)),
                        "the loads are a, b, c, d and e"
                    );
                }
                "--peers" => settings.peers = chosen(value)?,
                "--rounds" => settings.rounds = number().context("--rounds")?,
                "--runs" => settings.runs = number().context("--runs")?,
                "--seconds" => settings.seconds = number().context("--seconds")?,
                _ => bail!("{name} is not known; say {USAGE}"),
            }
            settings.whole &= matches!(name.as_str(), "--rounds" | "--seconds") && settings.rounds >= 3;
        }
        Ok(settings)
    }

    pub fn peer(&self, name: &str) -> Option<&'static Contestant> {
        self.peers.iter().copied().find(|peer| peer.name == name)
    }
}

fn chosen(names: &str) -> anyhow::Result<Vec<&'static Contestant>> {
    let known = || peers::ALL.iter().map(|peer| peer.name).collect::<Vec<_>>().join(", ");
    let find = |name: &str| peers::ALL.iter().find(|peer| peer.name == name);
    names
        .split(',')
        .map(|name| find(name).with_context(|| format!("{name:?} is none of: {}", known())))
        .collect()
}
