//! `herald check-upgrade`: whether every live run can go on under this version of the program. To be run, with a
//! worker's settings, before the version is deployed: nothing is written, and nobody is called.

use std::io::{Write, stderr, stdout};

use anyhow::bail;
use herald_engine::{WouldPark, look};
use herald_workflows::queues;
use sqlx::PgPool;

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
    let waiting = in_unknown_queues(&pool).await?;
    if parked > 0 {
        bail!("{parked} of {played} live runs would be parked by this version, until another one takes them");
    }
    if waiting {
        bail!("no worker of this version looks at some queues: until they are empty, one of another version has to");
    }
    Ok(writeln!(stdout(), "all {played} live runs can go on")?)
}

/// Lists the queues of live runs that no worker of this version works on: a newer version's, before a roll-back.
async fn in_unknown_queues(pool: &PgPool) -> anyhow::Result<bool> {
    let mut any = false;
    for queue in look::queues(pool).await? {
        let live = queue.counts.iter().filter(|count| count.state != "failed");
        let live: i64 = live.map(|count| count.runs).sum();
        if live > 0 && queues::named(&queue.name).is_none() {
            any = true;
            let _ = writeln!(
                stdout(),
                "{live} runs are in the queue {:?}, which is not known here",
                queue.name
            );
        }
    }
    Ok(any)
}
