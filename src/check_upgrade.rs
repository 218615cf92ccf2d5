//! `herald check-upgrade`: whether every live run can go on under this version of the program. To be run, with a
//! worker's settings, before the version is deployed: nothing is written, and nobody is called.

use std::io::{Write, stderr, stdout};

use anyhow::bail;
use herald_engine::WouldPark;

use crate::wiring;

pub async fn check_upgrade() -> anyhow::Result<()> {
    let pool = wiring::pool().await?;
    let registry = herald_workflows::registry(wiring::tools(pool.clone()).await?);
    let mut parked = 0;
    let tell = |WouldPark { run, workflow, why }| {
        parked += 1;
        // Nobody who listens is no reason to stop: the result is the exit code as well.
        let _ = writeln!(stdout(), "{run} {workflow}: {why}");
    };
    let progress = |played: usize| {
        if played.is_multiple_of(10_000) {
            let _ = writeln!(stderr(), "{played} runs checked");
        }
    };
    let played = herald_engine::check_upgrade(&pool, registry, tell, progress).await?;
    if parked > 0 {
        bail!("{parked} of {played} live runs would be parked by this version, until another one takes them");
    }
    Ok(writeln!(stdout(), "all {played} live runs can go on")?)
}
