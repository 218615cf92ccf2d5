//! When a process has to stop: Ctrl-C, TERM, or, for a child of `herald dev`, the end of its parent.

use tokio::{
    io::{AsyncReadExt, stdin},
    signal::unix::{SignalKind, signal},
};

/// Set for children of a supervisor. Their standard input is a pipe that nobody writes to: it ends with the parent,
/// however the parent ends.
pub const SUPERVISED: &str = "HERALD_SUPERVISED";

/// Resolves when the process has to stop.
pub async fn requested() {
    let mut terminate = signal(SignalKind::terminate()).expect("a handler for TERM can be set");
    let mut interrupt = signal(SignalKind::interrupt()).expect("a handler for INT can be set");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = parent_gone() => {}
    }
}

async fn parent_gone() {
    if std::env::var_os(SUPERVISED).is_none() {
        return std::future::pending().await;
    }
    let mut buffer = [0; 64];
    let mut input = stdin();
    while input.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
}
