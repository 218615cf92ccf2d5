//! One line a fault, printed at its end and kept under `target/`, from where the table of results is put together.

use std::{fs, panic::AssertUnwindSafe, path::PathBuf, process::Command, sync::Mutex};

use chrono::{DateTime, Utc};
use futures::FutureExt;
use serde::{Deserialize, Serialize};

use super::oracle::Tally;

/// What is known of one fault.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Line {
    /// In the list of faults.
    pub number: String,
    /// What was done.
    pub done: String,
    pub tally: Option<Tally>,
    pub verdict: String,
    /// What else was seen.
    pub seen: Vec<String>,
    /// The last commit that changed the program which was tried.
    #[serde(default)]
    pub program: String,
}

/// How a fault ended that did not fail.
pub enum Verdict {
    Passed,
    /// It could not be tried here, and why.
    Skipped(String),
}

pub struct Report(Mutex<Line>);

impl Report {
    /// What was counted; the last count stands.
    pub fn tally(&self, tally: Tally) {
        self.0.lock().unwrap().tally = Some(tally);
    }

    pub fn note(&self, seen: impl Into<String>) {
        self.0.lock().unwrap().seen.push(seen.into());
    }
}

/// Plays a fault and reports it, however it ends.
#[expect(
    clippy::print_stdout,
    reason = "the line is what whoever runs the faults wants to see"
)]
pub async fn fault(number: &str, done: &str, play: impl AsyncFnOnce(&Report) -> Verdict) {
    let report = Report(Mutex::new(Line {
        number: number.to_owned(),
        done: done.to_owned(),
        tally: None,
        verdict: "FAILED".to_owned(),
        seen: Vec::new(),
        program: program(),
    }));
    let mut interrupted = report.0.lock().unwrap().clone();
    interrupted.seen.push("it did not come to its end".to_owned());
    keep(&interrupted);
    let ended = AssertUnwindSafe(play(&report)).catch_unwind().await;
    let mut line = report.0.into_inner().unwrap();
    match &ended {
        Ok(Verdict::Passed) => "passed".clone_into(&mut line.verdict),
        Ok(Verdict::Skipped(why)) => {
            "SKIPPED".clone_into(&mut line.verdict);
            line.seen.push(why.clone());
        }
        Err(panic) => {
            let words = panic.downcast_ref::<String>().map(String::as_str);
            let words = words.or_else(|| panic.downcast_ref::<&str>().copied());
            let words = words.unwrap_or("a panic without words").split_whitespace();
            line.seen.insert(0, words.collect::<Vec<_>>().join(" "));
        }
    }
    keep(&line);
    println!("{line}");
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            number, done, verdict, ..
        } = self;
        write!(f, "fault {number}: {done} | ")?;
        if let Some(tally) = &self.tally {
            write!(
                f,
                "accepted {}, at the phone {}, resent on record {} | ",
                tally.accepted, tally.phone, tally.resent
            )?;
        }
        write!(f, "{verdict}")?;
        if !self.seen.is_empty() {
            write!(f, " | {}", self.seen.join("; "))?;
        }
        Ok(())
    }
}

fn program() -> String {
    let git = |arguments: &[&str]| {
        let sources = ["Cargo.toml", "Cargo.lock", "src", "workflows", "migrations", ":!*.md"];
        let told = Command::new("git").args(arguments).arg("--").args(sources).output();
        told.map_or_else(
            |_| String::new(),
            |told| String::from_utf8_lossy(&told.stdout).trim().to_owned(),
        )
    };
    let commit = git(&["log", "-1", "--format=%h"]);
    let changes = git(&["status", "--porcelain"]);
    if changes.is_empty() {
        commit
    } else {
        format!("{commit} and changes")
    }
}

fn keep(line: &Line) {
    let dir = folder();
    fs::create_dir_all(&dir).unwrap();
    let file = dir.join(format!("{}.json", line.number));
    fs::write(file, serde_json::to_string_pretty(line).unwrap()).unwrap();
}

/// Where the lines are kept: one file a fault.
fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("faults")
}

/// When the oldest and the newest line were kept: they are from one run only if this is its time.
pub fn recorded() -> (DateTime<Utc>, DateTime<Utc>) {
    let files = fs::read_dir(folder()).into_iter().flatten().flatten();
    let times = files.map(|file| DateTime::from(file.metadata().unwrap().modified().unwrap()));
    let mut times: Vec<DateTime<Utc>> = times.collect();
    times.sort();
    let of = |time: Option<&DateTime<Utc>>| time.copied().unwrap_or_else(Utc::now);
    (of(times.first()), of(times.last()))
}

/// Every line kept, in the order of the list.
pub fn lines() -> Vec<Line> {
    let files = fs::read_dir(folder()).into_iter().flatten().flatten();
    let mut lines: Vec<Line> = files
        .map(|file| serde_json::from_str(&fs::read_to_string(file.path()).unwrap()).unwrap())
        .collect();
    lines.sort_by_key(|line| {
        let digits = line.number.trim_end_matches(char::is_alphabetic);
        (digits.parse::<u32>().unwrap(), line.number.clone())
    });
    lines
}
