//! What one worker process has done so far.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Every handler of the process counts here: engines differ in what they hand to a handler.
pub static TALLY: Tally = Tally::new();

pub struct Tally {
    handled: AtomicU64,
    /// Milliseconds from a job's offer to its start, or from an answer to a story's next step.
    latencies: Mutex<Vec<f64>>,
}

impl Tally {
    const fn new() -> Self {
        Self {
            handled: AtomicU64::new(0),
            latencies: Mutex::new(Vec::new()),
        }
    }

    /// The handler of every engine's job.
    pub async fn handle(&self, offered_at: i64) {
        if offered_at > 0 {
            self.began(offered_at);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.count();
    }

    /// What was asked for at that microsecond has begun.
    pub fn began(&self, asked_at: i64) {
        let latency = (now() - asked_at) as f64 / 1000.0;
        self.latencies
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(latency);
    }

    /// A run is over.
    pub fn count(&self) {
        self.handled.fetch_add(1, Ordering::Relaxed);
    }

    pub fn handled(&self) -> u64 {
        self.handled.load(Ordering::Relaxed)
    }

    /// The median, and the 95th and 99th of a hundred.
    pub fn latency(&self) -> [f64; 3] {
        let mut latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        latencies.sort_by(f64::total_cmp);
        let last = latencies.len().saturating_sub(1);
        [0.5, 0.95, 0.99].map(|share| {
            latencies
                .get((last as f64 * share) as usize)
                .copied()
                .unwrap_or(f64::NAN)
        })
    }
}

/// Microseconds since 1970: all processes of the machine share this clock.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
