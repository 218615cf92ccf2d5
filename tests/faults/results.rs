//! The table of results, put together from the lines of the last run.

use std::{fmt::Write, fs, process::Command};

use super::report::{Line, lines, recorded};

#[test]
#[ignore = "the last step of: make faults"]
fn the_results_are_written_down() {
    let mut page = String::from(
        "# Faults, and what became of the messages\n\n\
         Written by `make faults`: each line is a test of `tests/faults/` that drives the built program's processes against a real\n\
         Postgres, with the stub's phone as the outside world. *Accepted* were answered with 201; *at the phone* is how many messages\n\
         arrived, repetitions included; *resent* is how many of those the journal holds a decision for, \"outcome unknown, send again\".\n\
         Every line passed the oracle of `tests/faults/oracle.rs` unless its verdict says otherwise. A line is of the last run of its\n\
         fault, which need not be the same run for all: *program* is the last commit that had changed what was tried then.\n\n",
    );
    writeln!(page, "{}\n", surroundings()).unwrap();
    let (oldest, newest) = recorded();
    writeln!(
        page,
        "Lines recorded from {} to {} UTC.\n",
        oldest.format("%F %R"),
        newest.format("%F %R")
    )
    .unwrap();
    page += "| fault | what was done | accepted | at the phone | resent | verdict | program | seen |\n|---|---|---|---|---|---|---|---|\n";
    let lines = lines();
    for line in &lines {
        writeln!(page, "{}", row(line)).unwrap();
    }
    fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/RESULTS.md"), page).unwrap();
    let failed = lines.iter().filter(|line| line.verdict == "FAILED").count();
    let skipped = lines.iter().filter(|line| line.verdict == "SKIPPED").count();
    println!(
        "{} faults, {failed} failed, {skipped} skipped: tests/faults/RESULTS.md",
        lines.len()
    );
}

fn row(line: &Line) -> String {
    let count = |count: Option<usize>| count.map_or_else(String::new, |count| count.to_string());
    let tally = line.tally.as_ref();
    format!(
        "| {} | {} | {} | {} | {} | {} | {} | {} |",
        line.number,
        line.done,
        count(tally.map(|tally| tally.accepted)),
        count(tally.map(|tally| tally.phone)),
        count(tally.map(|tally| tally.resent)),
        line.verdict,
        line.program,
        line.seen.join("; ").replace('|', "\\|").replace('\n', " "),
    )
}

fn surroundings() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!(
        "{}, on {cores} cores (load average at the end {}) with {} GB of memory; {}; {}; built for tests (not optimised).",
        chrono::Utc::now().format("%e %B %Y").to_string().trim(),
        load.split(' ').take(3).collect::<Vec<_>>().join(", "),
        memory.unwrap_or(0) / 1_000_000,
        said(Command::new(crate::harness::programs().join("postgres")).arg("--version")),
        said(Command::new("rustc").arg("--version")),
    )
}

fn said(command: &mut Command) -> String {
    let output = command.output();
    output.map_or_else(
        |_| "unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
