//! Where the workers of a queue have got to, as a process that gives turns knows it. Turns count from there: where workers
//! are slower than what is started, or were away, the clock is ahead of them, and whoever came by it would wait behind all
//! whose turns have come meanwhile.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use tokio::{
    sync::watch,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    seldom::Seldom,
    statements::{self as sql, Front},
    submission::Priority,
};

/// How long workers that kept up are believed to, before they are looked at again...
const BELIEVED: Duration = Duration::from_secs(1);

/// ...and before whoever wants a turn waits for that look.
const BELIEVED_MEANWHILE: Duration = Duration::from_secs(5);

/// How long workers that were behind are believed to be where they were: they go on, and claim nothing for a while that gets
/// its turn where they were more than a quarter of a second ago (see `frontier.rs`).
const BELIEVED_BEHIND: Duration = Duration::from_millis(100);

/// How long a look is waited for. Without an answer, what is known counts for [`REMEMBERED`].
const PATIENCE: Duration = Duration::from_millis(250);
const REMEMBERED: Duration = Duration::from_secs(10);

/// What a look may take.
const LONGEST: Duration = Duration::from_secs(2);

/// A look goes over all that may be behind, dead index entries included, after this many times as long as that took the last
/// time; in between it begins where the workers were found. Only what people resume turns up behind that.
const SPARING: u32 = 1_000;

/// How far back a look goes at most, and where it begins if the way from there was too long the last time.
pub(crate) const REACH: Duration = Duration::from_secs(12 * 60 * 60);
const SHORT_REACH: Duration = Duration::from_secs(60);

/// Runs of one queue and one priority.
pub(crate) type Class = (&'static str, Priority);

static FAILED: Seldom = Seldom::new();

/// Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Fronts {
    pool: PgPool,
    looks: Arc<Mutex<HashMap<Class, Look>>>,
}

#[derive(Debug, Default)]
struct Look {
    known: Option<Known>,
    /// When the last look over everything ended, and how long it took, answered or not.
    whole: Option<(Instant, Duration)>,
    under_way: Option<UnderWay>,
}

/// What the last look that was answered has shown.
#[derive(Debug, Clone, Copy)]
struct Known {
    at: Instant,
    /// None where the workers keep up.
    front: Option<Instant>,
    /// By the database's clock, nothing is behind that.
    seen: DateTime<Utc>,
}

#[derive(Debug, Clone)]
struct UnderWay {
    began: Instant,
    /// Its sender goes with the look.
    over: watch::Receiver<()>,
}

impl Fronts {
    pub fn new(pool: PgPool) -> Self {
        Self {
            pool,
            looks: Arc::default(),
        }
    }

    /// The earliest turn that is not taken, if the workers are behind. Asks the database now and then; many who ask at once
    /// share one answer.
    pub async fn of(&self, class: Class) -> Option<Instant> {
        let UnderWay { began, mut over } = match self.known(class) {
            Ok(front) => return front,
            Err(under_way) => under_way,
        };
        // An error says that the look is over.
        let _ = timeout_at(began + PATIENCE, over.changed()).await;
        let known = self.looks().get(&class).and_then(|look| look.known)?;
        known.front.filter(|_| known.at.elapsed() < REMEMBERED)
    }

    /// What is believed, or else the look that will tell. Starts one where it is time for it.
    fn known(&self, class: Class) -> Result<Option<Instant>, UnderWay> {
        let now = Instant::now();
        let mut looks = self.looks();
        let look = looks.entry(class).or_default();
        let (at, front) = look.known.map_or((None, None), |known| (Some(known.at), known.front));
        let believed = |time: Duration| at.is_some_and(|at| now - at < time);
        if believed(if front.is_some() { BELIEVED_BEHIND } else { BELIEVED }) {
            return Ok(front);
        }
        let under_way = look.under_way.take().filter(|look| look.over.has_changed().is_ok());
        let under_way = under_way.unwrap_or_else(|| {
            let (running, over) = watch::channel(());
            // A task of its own: it ends whether or not somebody waits for it.
            tokio::spawn(self.clone().learn(class, running));
            UnderWay { began: now, over }
        });
        look.under_way = Some(under_way.clone());
        if front.is_none() && believed(BELIEVED_MEANWHILE) {
            return Ok(None);
        }
        Err(under_way)
    }

    async fn learn(self, class: Class, _running: watch::Sender<()>) {
        let (since, reach) = self.since(class);
        let began = Instant::now();
        let asked = timeout(LONGEST, self.ask(class, since, reach)).await;
        let now = Instant::now();
        let mut looks = self.looks();
        let look = looks.entry(class).or_default();
        if since.is_none() && reach == REACH {
            look.whole = Some((now, now - began));
        }
        let error = match asked {
            Ok(Ok(Front { behind, seen })) => {
                let ago = behind.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                look.known = Some(Known {
                    at: now,
                    front: ago.and_then(|ago| now.checked_sub(ago)),
                    seen,
                });
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer from the database".to_owned(),
        };
        if let Some(times) = FAILED.happened() {
            tracing::warn!(error, times, queue = class.0, "could not see how far the workers are");
        }
    }

    /// Where the next look begins: at an instant, or so long before the present.
    fn since(&self, class: Class) -> (Option<DateTime<Utc>>, Duration) {
        let looks = self.looks();
        let Some(look) = looks.get(&class) else {
            return (None, REACH);
        };
        match (look.whole, look.known) {
            (Some((ended, took)), known) if ended.elapsed() < took * SPARING => match known {
                Some(known) => (Some(known.seen), REACH),
                None => (None, SHORT_REACH),
            },
            _ => (None, REACH),
        }
    }

    async fn ask(
        &self,
        (queue, priority): Class,
        since: Option<DateTime<Utc>>,
        reach: Duration,
    ) -> sqlx::Result<Front> {
        let mut conn = self.pool.acquire().await?;
        sql::front(&mut conn, queue, priority.advance(), since, reach).await
    }

    fn looks(&self) -> MutexGuard<'_, HashMap<Class, Look>> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use sqlx::postgres::PgPoolOptions;
    use tokio::{net::TcpListener, time::sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_database_that_says_nothing_is_waited_for_a_moment_a_look_and_asked_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("postgres://herald@{}/herald", listener.local_addr().unwrap());
        let fronts = Fronts::new(PgPoolOptions::new().connect_lazy(&url).unwrap());
        let class = ("q", Priority::Normal);
        let waited = async || {
            let began = Instant::now();
            assert_eq!(fronts.of(class).await, None);
            began.elapsed().as_millis()
        };
        for _ in 0..3 {
            assert_eq!(waited().await / 10, PATIENCE.as_millis() / 10);
            assert_eq!(waited().await / 10, 0, "nobody waits for the same look any more");
            sleep(LONGEST).await;
        }
    }
}
