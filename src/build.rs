//! Tells the program which build it is: `HERALD_GIT_COMMIT`, and `HERALD_BUILD_TIME` in seconds since 1970 or in the
//! words of whoever builds. Both depend on what is built, not on when: the same commit makes the same program.

use std::{env, path::Path, process::Command};

const UNKNOWN: &str = "unknown";

fn main() {
    for name in ["GIT_COMMIT", "BUILD_TIME", "SOURCE_DATE_EPOCH"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let is_ours = git(&["rev-parse", "--show-prefix"]).is_some_and(|prefix| prefix.is_empty());
    let git = |arguments: &[&str]| if is_ours { git(arguments) } else { None };
    if is_ours {
        watch();
    }
    let commit = git(&["rev-parse", "HEAD"]).or_else(|| given("GIT_COMMIT"));
    let time = given("SOURCE_DATE_EPOCH").or_else(|| given("BUILD_TIME"));
    let time = time.or_else(|| git(&["log", "-1", "--format=%ct"]));
    println!(
        "cargo:rustc-env=HERALD_GIT_COMMIT={}",
        commit.as_deref().unwrap_or(UNKNOWN)
    );
    println!(
        "cargo:rustc-env=HERALD_BUILD_TIME={}",
        time.as_deref().unwrap_or(UNKNOWN)
    );
}

/// Cargo builds anew for ever where a file that it is to watch does not exist, so only those that do are named. Git's
/// log of HEAD grows with every commit and checkout; without one, the branches themselves are watched.
fn watch() {
    let path_of = |name| git(&["rev-parse", "--git-path", name]).filter(|path| Path::new(path).exists());
    let log = path_of("logs/HEAD");
    let branches = [path_of("refs/heads"), path_of("packed-refs")].into_iter().flatten();
    let branches: Vec<String> = if log.is_some() { Vec::new() } else { branches.collect() };
    for path in path_of("HEAD").into_iter().chain(log).chain(branches) {
        println!("cargo:rerun-if-changed={path}");
    }
}

/// What git says in this folder, on one line. None: there is no git, or it has nothing to say.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// What the builder says, on one line.
fn given(name: &str) -> Option<String> {
    let text = env::var(name).ok()?;
    let line = text.lines().next()?.trim();
    (!line.is_empty()).then(|| line.to_owned())
}
