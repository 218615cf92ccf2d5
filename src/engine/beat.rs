//! Starts the runs of schedules. Any number of beats may run; each instant is decided once.
//!
//! A tick only says "look now": which instants are due is computed from what the database says is decided and the
//! time that it shows. The decisions, the runs that they start and the mark up to which all is decided are one commit,
//! under a lock on the schedule's row. So a beat with a wrong clock is early or late to look, and never to fire; and
//! one that was paused in the middle has decided nothing, or everything.

use std::{collections::HashSet, future::Future, pin::pin, time::Duration};

use apalis_cron::{CronScheduler, Tick};
use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt, future::join_all};
use sqlx::PgPool;
use uuid::Uuid;

use crate::{
    Calendar, Error, NewRun,
    schedule::{Decision, Schedule, plan},
    statements as sql,
};

/// The longest time between two looks: how late an instant is at most when the tick for it was missed.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// After that a look has failed: a connection that is silent must not silence the beat.
const LONGEST_LOOK: Duration = Duration::from_secs(60);

/// Keeps some schedules.
#[derive(Debug)]
pub struct Beat {
    pool: PgPool,
    schedules: Vec<(Schedule, Calendar)>,
}

/// What a look at a schedule found.
#[derive(Debug, Clone, Copy)]
struct Looked {
    /// The time until the next look that is needed, by the database's clock.
    next: Duration,
    more: bool,
}

impl Beat {
    /// # Errors
    /// [`Error::Schedule`] when an expression does not parse or never comes, or two schedules have one name.
    pub fn new(pool: PgPool, schedules: Vec<Schedule>) -> Result<Self, Error> {
        let mut names = HashSet::new();
        let with_calendar = |schedule: Schedule| {
            if !names.insert(schedule.name) {
                let why = "there are two of this name".to_owned();
                return Err(Error::Schedule {
                    name: schedule.name,
                    why,
                });
            }
            let calendar = schedule.calendar()?;
            Ok((schedule, calendar))
        };
        let schedules = schedules.into_iter().map(with_calendar).collect::<Result<_, _>>()?;
        Ok(Self { pool, schedules })
    }

    /// Keeps the schedules until `shutdown` is done, each on its own. What goes wrong is logged and tried again at the
    /// next tick.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let keeping = join_all(
            self.schedules
                .iter()
                .map(|(schedule, calendar)| self.keep(schedule, calendar)),
        );
        let forever = async {
            keeping.await;
            std::future::pending().await
        };
        tokio::select! {
            () = forever => {}
            () = shutdown => {}
        }
    }

    /// Decides about everything that is due now, and returns.
    ///
    /// # Errors
    /// Any error of the database or of a schedule's start; the schedules before it have been looked at.
    pub async fn look(&self) -> Result<(), Error> {
        for (schedule, calendar) in &self.schedules {
            while self.look_at(schedule, calendar).await?.more {}
        }
        Ok(())
    }

    async fn keep(&self, schedule: &Schedule, calendar: &Calendar) {
        loop {
            let looked = tokio::time::timeout(LONGEST_LOOK, self.look_at(schedule, calendar)).await;
            let next = match looked {
                Ok(Ok(looked)) => looked.next,
                Ok(Err(error)) => {
                    tracing::error!(schedule = schedule.name, %error, "could not look at a schedule");
                    LONGEST_WAIT
                }
                Err(_) => {
                    tracing::error!(schedule = schedule.name, "a look at a schedule took too long");
                    LONGEST_WAIT
                }
            };
            tick(calendar, next).await;
        }
    }

    async fn look_at(&self, schedule: &Schedule, calendar: &Calendar) -> Result<Looked, Error> {
        let mut transaction = self.pool.begin().await?;
        let conn = &mut *transaction;
        let (decided_until, now) = match sql::schedules::lock(conn, schedule.name).await? {
            Some(row) => row,
            None => {
                sql::schedules::begin(conn, schedule.name).await?;
                let row = sql::schedules::lock(conn, schedule.name).await?;
                row.ok_or(sqlx::Error::RowNotFound)?
            }
        };
        let plan = plan(calendar, schedule.catch_up, decided_until, now);
        if !plan.decisions.is_empty() {
            decide(conn, schedule, &plan.decisions).await?;
        }
        sql::schedules::decided(conn, schedule.name, plan.decided_until).await?;
        transaction.commit().await?;
        let next = if plan.more {
            Duration::ZERO
        } else {
            until_next(calendar, plan.decided_until.max(now), now)
        };
        Ok(Looked { next, more: plan.more })
    }
}

/// Records decisions and starts the runs of those that fire.
async fn decide(conn: &mut sqlx::PgConnection, schedule: &Schedule, decisions: &[Decision]) -> Result<(), Error> {
    let starts = decisions.iter().map(|decision| match decision.skipped {
        None => (schedule.start)(decision.planned_at).map(Some),
        Some(_) => Ok(None),
    });
    let starts: Vec<Option<NewRun>> = starts.collect::<Result<_, _>>()?;
    let ids: Vec<Option<Uuid>> = starts.iter().map(|run| run.as_ref().map(|run| run.id)).collect();
    let new: HashSet<_> = sql::schedules::decide(conn, schedule.name, decisions, &ids)
        .await?
        .into_iter()
        .collect();
    let decided = decisions.iter().zip(&starts);
    let runs: Vec<&NewRun> = decided
        .filter(|(decision, _)| new.contains(&decision.planned_at))
        .filter_map(|(_, run)| run.as_ref())
        .collect();
    let skipped = new.len() - runs.len();
    if skipped > 0 {
        tracing::warn!(
            schedule = schedule.name,
            skipped,
            "missed instants of a schedule were skipped"
        );
    }
    if runs.is_empty() {
        return Ok(());
    }
    sql::insert_runs(conn, &runs).await?;
    let keys: Vec<String> = runs
        .iter()
        .filter_map(|run| Some(run.key.as_ref()?.name.clone()))
        .collect();
    sql::promote(conn, &keys).await?;
    let queues: HashSet<_> = runs.iter().map(|run| run.queue.0.to_owned()).collect();
    Ok(sql::notify(conn, &queues.into_iter().collect::<Vec<_>>()).await?)
}

/// From `now` to the first instant after `after`, or as long as a beat may wait.
fn until_next(calendar: &Calendar, after: DateTime<Utc>, now: DateTime<Utc>) -> Duration {
    let latest = now + LONGEST_WAIT;
    let next = calendar.between(after, latest).next().unwrap_or(latest);
    (next - now).to_std().unwrap_or(LONGEST_WAIT)
}

/// Returns when it is time to look again: at the next tick of this machine's clock, or after `next`, which corrects a
/// clock that is not the database's. The scheduler is a new one each time: one whose tick is past (this machine
/// slept, or its clock jumped) says so for ever.
async fn tick(calendar: &Calendar, next: Duration) {
    let mut ticks = pin!(CronScheduler::new(Ticks(calendar)).into_stream());
    tokio::select! {
        _ = ticks.next() => {}
        () = tokio::time::sleep(next) => {}
    }
}

/// The instants of a calendar by this machine's clock, and half a minute where none comes sooner.
#[derive(Debug)]
struct Ticks<'a>(&'a Calendar);

impl apalis_cron::Schedule<Utc> for Ticks<'_> {
    fn next_tick(&mut self, _: &Utc) -> Option<Tick<Utc>> {
        let now = Utc::now();
        let next = now + TimeDelta::from_std(until_next(self.0, now, now)).unwrap_or(TimeDelta::MAX);
        // Rounded up: whole seconds are what a tick has, and one in the past would be an error.
        u64::try_from(next.timestamp() + i64::from(next.timestamp_subsec_nanos() > 0))
            .ok()
            .map(Tick::new)
    }
}
