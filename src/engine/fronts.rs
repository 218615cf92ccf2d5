//! Where the workers of a queue have got to, as a process that gives turns knows it. Turns count from there: where workers
//! are slower than what is started, or were away, the clock is ahead of them, and whoever came by it would wait behind all
//! whose turns have come meanwhile.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use sqlx::PgPool;
use tokio::time::Instant;

use crate::{
    statements::{self as sql, Front},
    submission::Priority,
};

/// How long a look is believed that found the workers keeping up, and one that found them behind: they go on, and claim
/// nothing for a while that gets its turn where they were more than a quarter of a second ago (see `frontier.rs`).
const BELIEVED: Duration = Duration::from_secs(1);
const BELIEVED_BEHIND: Duration = Duration::from_millis(100);

/// How long those who want a turn wait for a look. Without an answer they take what is known.
const PATIENCE: Duration = Duration::from_millis(250);

/// A look goes over all that may be behind, dead index entries included, after this many times as long as that took the last
/// time; in between it begins where the workers were found.
const SPARING: u32 = 50;

/// Runs of one queue and one priority.
type Class = (&'static str, Priority);

/// Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Fronts {
    pool: PgPool,
    looks: Arc<Mutex<HashMap<Class, Look>>>,
}

#[derive(Debug)]
struct Look {
    began: Instant,
    done: Shared<BoxFuture<'static, ()>>,
    known: Known,
}

/// What the last look that was answered has shown.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    /// None where the workers keep up.
    front: Option<Instant>,
    /// By the database's clock, nothing is behind that.
    seen: Option<DateTime<Utc>>,
    /// When the last look over everything ended, and how long it took.
    whole: Option<(Instant, Duration)>,
}

impl Look {
    fn is_believed(&self, now: Instant) -> bool {
        let believed = if self.known.front.is_some() {
            BELIEVED_BEHIND
        } else {
            BELIEVED
        };
        self.done.peek().is_none() || now - self.began < believed
    }
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
        let (began, done) = self.look(class);
        let _ = tokio::time::timeout_at(began + PATIENCE, done).await;
        let looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        looks.get(&class).and_then(|look| look.known.front)
    }

    /// The look that is believed, or a new one.
    fn look(&self, class: Class) -> (Instant, Shared<BoxFuture<'static, ()>>) {
        let now = Instant::now();
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let before = looks.get(&class);
        if let Some(look) = before.filter(|look| look.is_believed(now)) {
            return (look.began, look.done.clone());
        }
        let known = before.map(|look| look.known).unwrap_or_default();
        // A task of its own: it ends whether or not somebody waits for it.
        let task = tokio::spawn(self.clone().learn(class, known));
        let done = task.map(|_| ()).boxed().shared();
        let look = Look {
            began: now,
            done: done.clone(),
            known,
        };
        looks.insert(class, look);
        (now, done)
    }

    async fn learn(self, class: Class, known: Known) {
        match self.ask(class, known).await {
            Ok(known) => {
                let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(look) = looks.get_mut(&class) {
                    look.known = known;
                }
            }
            Err(error) => tracing::warn!(%error, queue = class.0, "could not see how far the workers are"),
        }
    }

    async fn ask(&self, (queue, priority): Class, known: Known) -> sqlx::Result<Known> {
        let mut conn = self.pool.acquire().await?;
        let began = Instant::now();
        let since = match known.whole {
            Some((ended, took)) if began - ended < took * SPARING => known.seen,
            _ => None,
        };
        let Front { behind, seen } = sql::front(&mut conn, queue, priority.advance(), since).await?;
        let now = Instant::now();
        Ok(Known {
            front: behind.and_then(|seconds| now.checked_sub(Duration::try_from_secs_f64(seconds).ok()?)),
            seen: Some(seen),
            whole: if since.is_none() {
                Some((now, now - began))
            } else {
                known.whole
            },
        })
    }
}
