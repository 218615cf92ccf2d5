//! The tables, for people: printed, and kept in RESULTS.md when everything was measured.

use std::{fmt::Write as _, path::Path};

use anyhow::Context;

use super::{Results, Settings, Trial, databases::Base, databases::Databases, loads, measure::Figures, measure::Load};
use crate::{machine, peers::Contestant};

pub struct Report {
    conditions: String,
    tables: String,
}

/// What the others are compared with.
const MEASURE: &str = "herald";

const HEAD: &str = "| engine | runs | runs/s | × herald | after a fifth | p50 ms | p95 ms | p99 ms | commits/run | WAL bytes/run | row versions/run | dead rows left |
|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|";

impl Report {
    pub fn new() -> Self {
        let (cores, load) = machine();
        let conditions = format!(
            "# Herald's engine and its peers\n\n\
             Made by `cargo run --release -- peers` in `tests/bench` on {}; not to be edited.\n\n\
             - {cores} cores, shared by producers, workers and Postgres; load average before: {load}\n\
             - medians, the engines taking turns within each round; ratios above 1 are more runs a second than Herald's\n\
             - every trial on a fresh copy of the engine's own database in one cluster, after `vacuum analyze` and `checkpoint`\n\
             - after a fifth: runs a second of a burn-down once a fifth of it is done, without the start of its workers\n\
             - p50, p95 and p99: from a job's enqueueing to its start; of stories from the answer's sending until the next step began\n\
             - commits, WAL and row versions are Postgres' own counts, from the workers' start to their end, theirs while idle included\n",
            chrono::Utc::now().format("%Y-%m-%d %H:%M UTC"),
        );
        Self {
            conditions,
            tables: String::new(),
        }
    }

    pub async fn conditions(&mut self, databases: &Databases, peers: &[&'static Contestant]) -> anyhow::Result<()> {
        let mut settings = Vec::new();
        for name in [
            "fsync",
            "synchronous_commit",
            "shared_buffers",
            "max_wal_size",
            "wal_compression",
        ] {
            settings.push(format!("{name} {}", databases.setting(name).await?));
        }
        let version = databases.setting("server_version").await?;
        writeln!(self.conditions, "- Postgres {version}: {}", settings.join(", "))?;
        for peer in peers {
            writeln!(
                self.conditions,
                "- {} {}: {}",
                peer.name,
                peer.version()?,
                peer.settings
            )?;
        }
        println!("{}", self.conditions);
        Ok(())
    }

    /// Makes the tables of the rounds so far.
    pub fn keep(&mut self, settings: &Settings, results: &Results, rounds: u64) -> anyhow::Result<()> {
        self.tables = format!(
            "- {rounds} of {} rounds; load average after the last: {}\n",
            settings.rounds,
            machine().1
        );
        for letter in settings.loads.iter().copied() {
            writeln!(self.tables, "\n## ({letter}) {}", title(letter))?;
            for (load, base) in loads(letter) {
                self.table(settings, results, letter, load, base)?;
            }
            let absent: Vec<&str> = settings
                .peers
                .iter()
                .filter(|peer| !peer.loads.contains(letter))
                .map(|peer| peer.name)
                .collect();
            if !absent.is_empty() {
                writeln!(self.tables, "\nNot in this load: {}.", absent.join(", "))?;
            }
        }
        if settings.is_whole() {
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("RESULTS.md");
            let text = format!("{}{}", self.conditions, self.tables);
            std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
        }
        Ok(())
    }

    pub fn print(&self) {
        println!("{}", self.tables);
    }

    fn table(
        &mut self,
        settings: &Settings,
        results: &Results,
        letter: char,
        load: Load,
        base: Base,
    ) -> anyhow::Result<()> {
        writeln!(self.tables, "\n{}\n\n{HEAD}", subtitle(load, base))?;
        let trial = |peer, base| Trial { peer, base, load };
        // A full database is compared with the same engine's empty one.
        let measure = results
            .get(&trial(MEASURE, Base::Empty))
            .and_then(|rounds| median(load, rounds));
        for peer in settings.peers.iter().filter(|peer| peer.loads.contains(letter)) {
            let Some(rounds) = results.get(&trial(peer.name, base)) else {
                continue;
            };
            let failures: Vec<&String> = rounds.iter().filter_map(|round| round.as_ref().err()).collect();
            let failed = match failures.as_slice() {
                [] => String::new(),
                [first, ..] => format!(
                    " ({} of {} rounds failed: {})",
                    failures.len(),
                    rounds.len(),
                    first.replace('|', "/")
                ),
            };
            match median(load, rounds) {
                Some(figures) => {
                    let ratio = measure.map_or("–".to_owned(), |herald| format!("{:.2}", figures.rate / herald.rate));
                    let [p50, p95, p99] = figures
                        .latency
                        .map_or(["–"; 3].map(str::to_owned), |ms| ms.map(|ms| format!("{ms:.1}")));
                    let steady = figures.steady.map_or("–".to_owned(), |rate| format!("{rate:.0}"));
                    let Figures {
                        runs, rate, used, dead, ..
                    } = figures;
                    writeln!(
                        self.tables,
                        "| {}{failed} | {runs} | {rate:.0} | {ratio} | {steady} | {p50} | {p95} | {p99} | {:.3} | {:.0} | {:.2} | {dead} |",
                        peer.name, used.commits, used.wal, used.versions,
                    )?;
                }
                None => writeln!(self.tables, "| {}{failed} ||||||||||||", peer.name)?,
            }
        }
        Ok(())
    }
}

/// Of the rounds that did not fail the one in the middle by speed; by latency where the speed was given.
fn median(load: Load, rounds: &[Result<Figures, String>]) -> Option<Figures> {
    let mut figures: Vec<Figures> = rounds.iter().flatten().copied().collect();
    let key = |figures: &Figures| match (load, figures.latency) {
        (Load::Offered { .. }, Some([p50, ..])) => p50,
        _ => figures.rate,
    };
    figures.sort_by(|a, b| key(a).total_cmp(&key(b)));
    figures.get(figures.len() / 2).copied()
}

fn title(letter: char) -> &'static str {
    match letter {
        'a' => "burn-down of jobs that do nothing and are enqueued already",
        'b' => "jobs of 1 ms offered at an even rate: enqueued to started",
        'c' => "runs of five steps with a wait for a signal after the second",
        'd' => "Herald with 1,000,000 waiting and 5,000,000 finished runs in place, against an empty database",
        _ => "(a) by one process and by four",
    }
}

fn subtitle(load: Load, base: Base) -> String {
    let load = match load {
        Load::BurnDown { processes, concurrency } => {
            format!("Burn-down, processes × runs at once: {processes} × {concurrency}")
        }
        Load::Offered { rate: 20 } => "Idle: 20 a second, one every 50 ms".to_owned(),
        Load::Offered { rate } => format!("{rate} a second"),
        Load::Stories => "One process, 64 runs at once, the signal sent 50 ms after the second step".to_owned(),
    };
    if base == Base::Full {
        format!("{load}; full database")
    } else {
        load
    }
}

pub fn progress(round: u64, trial: &Trial, figures: &Result<Figures, String>) {
    let Trial { peer, base, load } = trial;
    match figures {
        Ok(figures) => {
            let latency = figures
                .latency
                .map_or(String::new(), |[p50, ..]| format!(", p50 {p50:.1} ms"));
            eprintln!(
                "round {round}: {peer} {load:?} {base:?}: {:.0} runs/s{latency}",
                figures.rate
            );
        }
        Err(error) => eprintln!("round {round}: {peer} {load:?} {base:?}: {error}"),
    }
}
