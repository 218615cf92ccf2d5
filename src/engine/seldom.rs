//! What others can make happen as often as they like gets one line a minute in the log.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

const SILENCE: Duration = Duration::from_secs(60);

/// Of one kind of happening.
pub struct Seldom(Mutex<Untold>);

struct Untold {
    times: u64,
    last_told: Option<Instant>,
}

impl Default for Seldom {
    fn default() -> Self {
        Self::new()
    }
}

impl Seldom {
    pub const fn new() -> Self {
        Self(Mutex::new(Untold {
            times: 0,
            last_told: None,
        }))
    }

    /// It has happened. Where it is to be told: how often it has since it was told last.
    pub fn happened(&self) -> Option<u64> {
        let mut untold = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        untold.times += 1;
        if untold.last_told.is_some_and(|told| now - told < SILENCE) {
            return None;
        }
        untold.last_told = Some(now);
        Some(std::mem::take(&mut untold.times))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_is_told_at_once_and_a_flood_once_a_minute_with_its_size() {
        let seldom = Seldom::new();
        assert_eq!(seldom.happened(), Some(1));
        for _ in 0..600 {
            tokio::time::advance(Duration::from_millis(99)).await;
            assert_eq!(seldom.happened(), None);
        }
        tokio::time::advance(SILENCE).await;
        assert_eq!(seldom.happened(), Some(601));
        tokio::time::advance(SILENCE).await;
        assert_eq!(seldom.happened(), Some(1));
    }
}
