//! How fast SES may be called: a token bucket at the account's rate, which SES tells, and slower for a while after SES
//! has said "too fast". So several processes that share an account find their shares without knowing of one another.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use super::QUOTA_PAUSE;

/// Sends that came this much too early are let through: a bucket of a tenth of a second.
const SLACK: Duration = Duration::from_millis(100);

/// After SES has refused one for its rate, nothing is sent for so long.
const PAUSE: Duration = Duration::from_secs(1);

/// From a halved rate back to the whole one.
const RECOVERY: Duration = Duration::from_secs(60);

/// Never slower than one in ten seconds, however often SES refuses.
const SLOWEST: f64 = 0.1;

#[derive(Debug, Default)]
pub(super) struct Pace {
    state: Mutex<State>,
    /// Held by the first in the line, who alone looks when the next turn is. So a refusal slows all those that wait.
    first: tokio::sync::Mutex<()>,
    /// Whether SES has been asked for its limits and has not answered for the first time.
    asking: watch::Sender<bool>,
}

/// How long sends wait for SES' first word about its limits. It is asked as soon as the process starts: what had piled up by
/// then would otherwise leave all at once.
const FIRST_WORD: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
struct State {
    /// Sends a second that the account may make, once SES has told.
    limit: Option<f64>,
    /// What was left of it after the last refusal, and when that was.
    cut: Option<(f64, Instant)>,
    /// When the next send may begin.
    next: Option<Instant>,
    /// When somebody was told that the quota of the day is used up.
    told: Option<Instant>,
}

impl Pace {
    /// SES is asked for its limits.
    pub fn asks(&self) {
        self.asking.send_replace(true);
    }

    /// It has told them, or did not answer.
    pub fn has_asked(&self) {
        self.asking.send_replace(false);
    }

    /// Returns when it is the caller's turn to send.
    pub async fn turn(&self) {
        let mut asking = self.asking.subscribe();
        let _ = timeout(FIRST_WORD, asking.wait_for(|asking| !asking)).await;
        let _first = self.first.lock().await;
        loop {
            let turn = self.state().take_turn(Instant::now());
            match turn {
                Ok(()) => return,
                Err(turn) => sleep_until(turn).await,
            }
        }
    }

    /// SES takes so many a second. Says whether that is news.
    pub fn allow(&self, limit: f64) -> bool {
        let limit = Some(limit.max(SLOWEST));
        std::mem::replace(&mut self.state().limit, limit) != limit
    }

    /// SES has refused a send because of its rate. Says whether that is news: those that were under way together are
    /// refused together.
    pub fn refused(&self) -> bool {
        self.state().slow_down(Instant::now())
    }

    /// SES has refused a send because of the quota of the day. Says whether that is news.
    pub fn quota_is_news(&self) -> bool {
        let (mut state, now) = (self.state(), Instant::now());
        let is_news = state
            .told
            .is_none_or(|told| now.saturating_duration_since(told) >= QUOTA_PAUSE);
        if is_news {
            state.told = Some(now);
        }
        is_news
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes a turn, or says when to come again.
    fn take_turn(&mut self, now: Instant) -> Result<(), Instant> {
        let earliest = now.checked_sub(SLACK).unwrap_or(now);
        let turn = self.next.map_or(earliest, |next| next.max(earliest));
        if turn > now {
            return Err(turn);
        }
        let apart = self
            .rate(now)
            .map_or(Duration::ZERO, |rate| Duration::from_secs_f64(1.0 / rate));
        self.next = Some(turn + apart);
        Ok(())
    }

    /// Sends a second at present. None: as many as come.
    fn rate(&self, now: Instant) -> Option<f64> {
        let limit = self.limit?;
        let Some((left, at)) = self.cut else {
            return Some(limit);
        };
        let recovered = now.saturating_duration_since(at).as_secs_f64() / RECOVERY.as_secs_f64();
        Some((left + limit * recovered).clamp(SLOWEST, limit))
    }

    /// False where it has just been done.
    fn slow_down(&mut self, now: Instant) -> bool {
        if self
            .cut
            .is_some_and(|(_, at)| now.saturating_duration_since(at) < PAUSE)
        {
            return false;
        }
        if let Some(rate) = self.rate(now) {
            self.cut = Some((rate / 2.0, now));
        } else {
            self.cut = Some((SLOWEST, now));
        }
        self.next = Some(self.next.map_or(now, |next| next.max(now)) + PAUSE);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many turns there are within a time, asked for as fast as they come.
    fn turns(state: &mut State, from: Instant, within: Duration) -> usize {
        let mut now = from;
        let mut turns = 0;
        loop {
            match state.take_turn(now) {
                Ok(()) => turns += 1,
                Err(turn) if turn >= from + within => return turns,
                Err(turn) => now = turn,
            }
        }
    }

    #[test]
    fn sends_keep_to_the_rate_that_ses_told() {
        let now = Instant::now();
        let mut state = State {
            limit: Some(14.0),
            ..State::default()
        };
        // 14 a second, and what the slack lets through at first.
        let made = turns(&mut state, now, Duration::from_secs(10));
        assert!((140..=142).contains(&made), "{made}");
        // A quiet time is not saved up.
        let made = turns(&mut state, now + Duration::from_secs(3600), Duration::from_secs(10));
        assert!((140..=142).contains(&made), "{made}");
    }

    #[test]
    fn a_refusal_halves_the_rate_once_and_it_comes_back() {
        let now = Instant::now();
        let mut state = State {
            limit: Some(100.0),
            ..State::default()
        };
        assert!(state.slow_down(now));
        for _ in 0..50 {
            assert!(!state.slow_down(now));
        }
        assert_eq!(state.rate(now), Some(50.0));
        assert!(state.take_turn(now).is_err_and(|turn| turn >= now + PAUSE));
        assert_eq!(state.rate(now + RECOVERY / 2), Some(100.0));
        state.slow_down(now + PAUSE);
        assert!(state.rate(now + PAUSE).is_some_and(|rate| rate < 30.0));
    }

    #[test]
    fn as_long_as_no_rate_is_known_only_a_refusal_makes_a_pause() {
        let now = Instant::now();
        let mut state = State::default();
        for _ in 0..1000 {
            assert_eq!(state.take_turn(now), Ok(()));
        }
        state.slow_down(now);
        assert!(state.take_turn(now).is_err_and(|turn| turn >= now + PAUSE));
        assert_eq!(state.take_turn(now + PAUSE), Ok(()));
    }

    #[test]
    fn a_refusal_holds_up_those_that_wait_already() {
        let mut now = Instant::now();
        let mut state = State {
            limit: Some(10.0),
            ..State::default()
        };
        let promised = loop {
            match state.take_turn(now) {
                Ok(()) => {}
                Err(turn) => break turn,
            }
        };
        state.slow_down(now);
        let turn = state.take_turn(promised).unwrap_err();
        assert!(turn >= now + PAUSE);
        now = turn;
        assert_eq!(state.take_turn(now), Ok(()));
        let apart = state.take_turn(now).unwrap_err() - now;
        assert!(apart > Duration::from_millis(150), "{apart:?}");
    }
}
