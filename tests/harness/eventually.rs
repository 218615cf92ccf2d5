//! Waiting for a state of the system that nothing signals.

use std::{future::Future, time::Duration};

use tokio::time::{interval, timeout};

const PATIENCE: Duration = Duration::from_secs(60);

/// Looks again and again until `look` finds something.
///
/// # Panics
/// After a minute, saying what was waited for.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, look: impl FnMut() -> F) -> T {
    eventually_within(PATIENCE, what, look).await
}

/// As [`eventually`], with a patience of its own.
///
/// # Panics
/// After `patience`, saying what was waited for.
pub async fn eventually_within<T, F: Future<Output = Option<T>>>(
    patience: Duration,
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let looking = async {
        let mut ticks = interval(Duration::from_millis(10));
        loop {
            ticks.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    };
    timeout(patience, looking)
        .await
        .unwrap_or_else(|_| panic!("waited in vain for {} s until {what}", patience.as_secs()))
}
