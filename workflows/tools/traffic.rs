//! What this process sees of providers, added up until it is shared with all others.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use herald_message::status::Status;
use herald_providers::{SendError, Timing};
use herald_store::providers::Traffic;
use tokio::sync::mpsc;

use crate::measures::Measures;

/// More names than there are providers: a bound on what may pile up here.
const MOST: usize = 16;

/// Of one provider, since it was last taken.
#[derive(Default)]
pub(super) struct Seen {
    pub traffic: Traffic,
    /// What went wrong last, without personal data.
    pub last_error: Option<String>,
    /// What went wrong and does not pass by itself.
    pub for_a_person: Option<String>,
}

pub(super) struct Counter {
    seen: Mutex<Vec<Seen>>,
    /// Rings when there is something to take.
    bell: mpsc::Sender<()>,
}

impl Counter {
    pub fn new() -> (Arc<Self>, mpsc::Receiver<()>) {
        let (bell, rings) = mpsc::channel(1);
        let counter = Self {
            seen: Mutex::default(),
            bell,
        };
        (Arc::new(counter), rings)
    }

    pub fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn count(&self, provider: &str, add: impl FnOnce(&mut Seen)) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match seen.iter().position(|seen| seen.traffic.provider == provider) {
            Some(known) => add(&mut seen[known]),
            None if seen.len() < MOST => {
                let mut new = Seen::default();
                provider.clone_into(&mut new.traffic.provider);
                add(&mut new);
                seen.push(new);
            }
            None => {}
        }
        drop(seen);
        // One ring is enough until somebody comes.
        let _ = self.bell.try_send(());
    }
}

impl Measures for Counter {
    fn called(&self, provider: &str, timing: Timing, error: Option<&SendError>) {
        self.count(provider, |seen| {
            let traffic = &mut seen.traffic;
            traffic.requests += 1;
            traffic.took_ms += millis(timing.whole);
            if let Some(raw) = timing.raw {
                traffic.answers += 1;
                traffic.raw_ms += millis(raw);
            }
            if let Some(error) = error {
                traffic.errors += 1;
                traffic.faults += i64::from(error.is_fault());
                seen.last_error = Some(super::sending::in_words(error));
                if error.needs_a_person() {
                    seen.for_a_person = Some(super::sending::in_words(error));
                }
            }
        });
    }

    fn sent(&self, provider: &str, waited: Duration) {
        self.count(provider, |seen| {
            seen.traffic.sends += 1;
            seen.traffic.waited_ms += millis(waited);
        });
    }

    fn receipted(&self, provider: &str, _: Status, after: Duration) {
        self.count(provider, |seen| {
            seen.traffic.receipts += 1;
            seen.traffic.receipts_ms += millis(after);
        });
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
