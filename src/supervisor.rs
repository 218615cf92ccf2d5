//! Keeps child processes running: starts again whichever dies, slower each time, and stops them all together.

use std::{ffi::OsString, process::Stdio, time::Duration};

use tokio::{
    process::{Child, ChildStdin, Command},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::shutdown::SUPERVISED;

/// One process of this program, as production would start it.
#[derive(Debug, Clone)]
pub struct Role {
    pub arguments: Vec<String>,
    pub environment: Vec<(String, OsString)>,
}

const GRACE: Duration = Duration::from_secs(30);

/// Runs the roles until `stop` is done, then ends them.
pub async fn supervise(roles: Vec<Role>, stop: CancellationToken) {
    let mut running = JoinSet::new();
    for role in roles {
        running.spawn(keep_running(role, stop.clone()));
    }
    while running.join_next().await.is_some() {}
}

async fn keep_running(role: Role, stop: CancellationToken) {
    let mut pause = Duration::from_millis(200);
    while !stop.is_cancelled() {
        let started = Instant::now();
        match spawn(&role) {
            Ok(mut child) => {
                // Waiting for a child would close its input, and with it ask it to stop.
                let input = child.stdin.take();
                tokio::select! {
                    ended = child.wait() => {
                        let how = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
                        tracing::warn!(role = %role.arguments.join(" "), %how, "ended; starting it again");
                    }
                    () = stop.cancelled() => return end(child, input).await,
                }
            }
            Err(error) => tracing::error!(%error, role = %role.arguments.join(" "), "could not be started"),
        }
        // A role that ran for a while died of something new.
        pause = if started.elapsed() > Duration::from_secs(10) {
            Duration::from_millis(200)
        } else {
            pause * 2
        };
        pause = pause.min(Duration::from_secs(5));
        stop.run_until_cancelled(sleep(pause)).await;
    }
}

fn spawn(role: &Role) -> std::io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .args(&role.arguments)
        .envs(role.environment.iter().map(|(name, value)| (name, value)))
        .env(SUPERVISED, "1")
        .stdin(Stdio::piped())
        // Ctrl-C is for the supervisor, which then ends its children in order.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// Closing its standard input asks a child to stop.
async fn end(mut child: Child, input: Option<ChildStdin>) {
    drop(input);
    if timeout(GRACE, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}
