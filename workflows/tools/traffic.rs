//! What this process sees of providers, added up until it is shared with all others.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use herald_message::status::Status;
use herald_providers::{SendError, Timing};
use herald_store::providers::Traffic;
use tokio::{sync::mpsc, time::Instant};

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

/// How long further errors of a provider are only added up.
const MINUTE: Duration = Duration::from_secs(60);

/// What the log tells of providers' errors and rate limits: of each the first one at once, and then a line a minute for all
/// that came meanwhile, however long an outage lasts.
#[derive(Default)]
pub(super) struct Warnings(HashMap<String, (Instant, Warning)>);

#[derive(Debug, Default, PartialEq)]
pub(super) struct Warning {
    pub provider: String,
    pub requests: i64,
    pub errors: i64,
    /// Those of the errors that are the provider's own fault.
    pub faults: i64,
    pub last_error: String,
}

impl Warnings {
    /// What is to be told now, after this has been seen.
    pub fn due(&mut self, seen: &[Seen], now: Instant) -> Vec<Warning> {
        let mut due = Vec::new();
        for Seen {
            traffic, last_error, ..
        } in seen
        {
            let Some(last_error) = last_error else { continue };
            let (next, warning) = self
                .0
                .entry(traffic.provider.clone())
                .or_insert_with(|| (now, Warning::default()));
            warning.requests += traffic.requests;
            warning.errors += traffic.errors;
            warning.faults += traffic.faults;
            if now >= *next {
                *next = now + MINUTE;
                due.push(Warning {
                    provider: traffic.provider.clone(),
                    last_error: last_error.clone(),
                    ..std::mem::take(warning)
                });
            }
        }
        due
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing(provider: &str) -> Seen {
        Seen {
            traffic: Traffic {
                provider: provider.to_owned(),
                requests: 50,
                errors: 40,
                faults: 30,
                ..Traffic::default()
            },
            last_error: Some("HTTP 503".to_owned()),
            for_a_person: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_hour_of_errors_is_a_line_a_minute_and_the_first_one_comes_at_once() {
        let mut warnings = Warnings::default();
        let mut lines = Vec::new();
        for second in 0..3_600 {
            let seen = ["firetext", "mmg"].map(failing);
            let due = warnings.due(&seen, Instant::now());
            assert_eq!(due.len(), if second % 60 == 0 { 2 } else { 0 }, "{second}");
            lines.extend(due);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let of_mmg = lines.iter().filter(|line| line.provider == "mmg");
        let told: i64 = of_mmg.map(|line| line.requests).sum();
        assert_eq!(
            told,
            50 * (3_600 - 59),
            "those of the last minute are told with the next error"
        );
        let well = Seen {
            last_error: None,
            ..failing("mmg")
        };
        assert_eq!(warnings.due(&[well], Instant::now()), []);
    }
}
