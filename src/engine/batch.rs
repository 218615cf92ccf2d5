//! One batch, one transaction. The order of its statements matters:
//! lock the runs, drop those whose lease is lost, then effects, starts, signals, journal, the runs' next state, and
//! last the keys that have become free.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use serde_json::Value;
use sqlx::{PgConnection, PgPool, types::Json};
use uuid::Uuid;

use crate::{
    Error,
    effect::{self, AnyEffect, EffectError},
    journal::Event,
    statements::{self as sql, JournalRows, LockedRun, Parked},
    submission::{Checkpoint, Control, Item, NewRun, NewSignal, Submitted, Then},
    workflow::Queue,
};

/// Whether an earlier try may have been committed although its acknowledgement was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trial {
    First,
    Repeated,
}

const MOMENT: Duration = Duration::from_millis(100);

/// What to do about a lock that somebody keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Locks {
    /// It is waited for as long as the connection's settings say.
    Awaited,
    /// It is waited for a moment only.
    Tried,
}

type Answer = Result<Submitted, Error>;

/// What came of a batch.
pub(crate) struct Written {
    /// In the order of the items.
    pub answers: Vec<Answer>,
    /// Queues in which something is due now.
    pub due: HashSet<String>,
}

/// Writes the batch.
pub(crate) async fn write(pool: &PgPool, items: &[Item], trial: Trial, locks: Locks) -> Result<Written, EffectError> {
    let mut transaction = pool.begin().await?;
    let conn = &mut *transaction;
    if locks == Locks::Tried {
        sql::wait_for_locks(conn, MOMENT).await?;
    }
    let mut batch = Batch::lock(conn, items, trial).await?;
    if trial == Trial::Repeated {
        batch.drop_written(conn).await?;
    }
    batch.drop_lost();
    batch.apply_effects(conn).await?;
    batch.start_runs(conn).await?;
    batch.send_signals(conn).await?;
    batch.write_journal(conn).await?;
    batch.move_runs(conn).await?;
    batch.promote(conn).await?;
    let Batch { answers, due, .. } = batch;
    transaction.commit().await?;
    Ok(Written { answers, due })
}

struct Batch<'a> {
    items: &'a [Item],
    trial: Trial,
    /// Which items are still to be written.
    live: Vec<bool>,
    answers: Vec<Answer>,
    locked: HashMap<Uuid, LockedRun>,
    /// Queues in which something becomes due at once.
    due: HashSet<String>,
    /// Keys of which a run may have become ready.
    keys: HashSet<String>,
}

impl<'a> Batch<'a> {
    async fn lock(conn: &mut PgConnection, items: &'a [Item], trial: Trial) -> sqlx::Result<Self> {
        let checkpoints = items.iter().filter_map(|item| item.submission.checkpoint.as_ref());
        let signals = items.iter().flat_map(|item| &item.submission.signals);
        let ids: Vec<Uuid> = checkpoints
            .map(|checkpoint| checkpoint.run)
            .chain(signals.map(|s| s.run))
            .collect();
        let locked = if ids.is_empty() {
            Vec::new()
        } else {
            sql::lock(conn, &ids).await?
        };
        Ok(Self {
            items,
            trial,
            live: vec![true; items.len()],
            answers: items.iter().map(|_| Ok(Submitted::default())).collect(),
            locked: locked.into_iter().map(|run| (run.id, run)).collect(),
            due: HashSet::new(),
            keys: HashSet::new(),
        })
    }

    /// Checkpoints that are in the journal already were committed by an earlier try: they are answered as done.
    async fn drop_written(&mut self, conn: &mut PgConnection) -> sqlx::Result<()> {
        #[cfg(feature = "simulation")]
        if crate::simulation::sabotage().repetition {
            return Ok(());
        }
        // One without events has no row of its own there; that it was written shows by the run being somebody else's.
        let checkpoints: Vec<(usize, &Checkpoint)> = self
            .checkpoints()
            .filter(|(_, checkpoint)| !checkpoint.events.is_empty())
            .collect();
        let runs: Vec<Uuid> = checkpoints.iter().map(|(_, checkpoint)| checkpoint.run).collect();
        let seqs: Vec<i32> = checkpoints.iter().map(|(_, checkpoint)| checkpoint.seq).collect();
        let epochs: Vec<i64> = checkpoints
            .iter()
            .map(|(_, checkpoint)| checkpoint.claim.epoch)
            .collect();
        let written: HashSet<(Uuid, i64)> = sql::already_written(conn, &runs, &seqs, &epochs)
            .await?
            .into_iter()
            .collect();
        // With its epoch: a process that lost a run and got it back may bring both lives of it in one batch.
        let done: Vec<(usize, &Checkpoint)> = checkpoints
            .into_iter()
            .filter(|(_, checkpoint)| written.contains(&(checkpoint.run, checkpoint.claim.epoch)))
            .collect();
        let there = signals_there(conn, done.iter().map(|(_, checkpoint)| *checkpoint)).await?;
        for (i, checkpoint) in done {
            self.live[i] = false;
            let held = self.locked.get(&checkpoint.run).filter(|run| holds(run, checkpoint));
            self.answers[i] = match (held, &checkpoint.then) {
                (Some(run), then) => Ok(goes_on(run, then, &there)),
                (None, Then::Continue) => Err(Error::LeaseLost),
                // It was parked, or it has ended.
                (None, _) => Ok(Submitted::default()),
            };
        }
        Ok(())
    }

    /// The fence: a checkpoint whose epoch is not the run's any more changes nothing.
    fn drop_lost(&mut self) {
        for (i, item) in self.items.iter().enumerate() {
            let Some(checkpoint) = &item.submission.checkpoint else {
                continue;
            };
            let held = self
                .locked
                .get(&checkpoint.run)
                .is_some_and(|run| holds(run, checkpoint));
            #[cfg(feature = "simulation")]
            let held = held || (crate::simulation::sabotage().fence && self.locked.contains_key(&checkpoint.run));
            if self.live[i] && !held {
                self.live[i] = false;
                self.answers[i] = Err(Error::LeaseLost);
            }
        }
    }

    async fn apply_effects(&mut self, conn: &mut PgConnection) -> Result<(), EffectError> {
        let effects: Vec<&[AnyEffect]> = self
            .live_items()
            .map(|(_, item)| item.submission.effects.as_slice())
            .collect();
        effect::apply_all(&effects, conn).await
    }

    async fn start_runs(&mut self, conn: &mut PgConnection) -> sqlx::Result<()> {
        let starts: Vec<(usize, &NewRun)> = self
            .live_items()
            .flat_map(|(i, item)| item.submission.starts.iter().map(move |run| (i, run)))
            .collect();
        let keyed: Vec<(&NewRun, &String)> = starts
            .iter()
            .filter_map(|(_, run)| Some((*run, run.once.as_ref()?)))
            .collect();
        let mut refused = HashSet::new();
        if !keyed.is_empty() {
            let workflows: Vec<String> = keyed.iter().map(|(run, _)| run.workflow.to_owned()).collect();
            let keys: Vec<String> = keyed.iter().map(|(_, key)| (*key).clone()).collect();
            let ids: Vec<Uuid> = keyed.iter().map(|(run, _)| run.id).collect();
            let taken: HashSet<Uuid> = sql::take_keys(conn, &workflows, &keys, &ids)
                .await?
                .into_iter()
                .collect();
            refused = ids.into_iter().filter(|id| !taken.contains(id)).collect();
        }
        for (i, run) in &starts {
            if refused.contains(&run.id)
                && let Ok(submitted) = &mut self.answers[*i]
            {
                submitted.duplicates.push(run.id);
            }
        }
        let new: Vec<&NewRun> = starts
            .into_iter()
            .map(|(_, run)| run)
            .filter(|run| !refused.contains(&run.id))
            .collect();
        self.insert_runs(conn, &new).await
    }

    async fn insert_runs(&mut self, conn: &mut PgConnection, runs: &[&NewRun]) -> sqlx::Result<()> {
        let mut runs = runs.to_vec();
        if self.trial == Trial::Repeated && !runs.is_empty() {
            // What an earlier try started may have been played to its end since then; its journal tells.
            let ids: Vec<Uuid> = runs.iter().map(|run| run.id).collect();
            let begun = sql::have_journals(conn, &ids).await?;
            runs.retain(|run| !begun.contains(&run.id));
        }
        if runs.is_empty() {
            return Ok(());
        }
        self.due.extend(
            runs.iter()
                .filter(|run| run.after.is_zero())
                .map(|run| run.queue.0.to_owned()),
        );
        self.keys
            .extend(runs.iter().filter_map(|run| Some(run.key.as_ref()?.name.clone())));
        sql::insert_runs(conn, &runs).await
    }

    /// Wakes the runs that wait for the signals. A run's row is locked before its signal is written, so a run that
    /// begins to wait at the same time sees either the signal or, later, the wake-up.
    async fn send_signals(&mut self, conn: &mut PgConnection) -> sqlx::Result<()> {
        let signals: Vec<&NewSignal> = self
            .live_items()
            .flat_map(|(_, item)| &item.submission.signals)
            .collect();
        let ending: HashSet<Uuid> = self
            .checkpoints()
            .filter(|(_, checkpoint)| matches!(checkpoint.then, Then::Finish | Then::Fail { .. }))
            .map(|(_, checkpoint)| checkpoint.run)
            .collect();
        let listens = |id: &Uuid| self.locked.get(id).is_some_and(|run| run.state != "failed") && !ending.contains(id);
        let (known, unknown): (Vec<&NewSignal>, Vec<&NewSignal>) = signals
            .into_iter()
            .partition(|signal| signal.otherwise.is_none() || listens(&signal.run));
        if !known.is_empty() {
            sql::insert_signals(conn, &known).await?;
        }
        let starts: Vec<&NewRun> = unknown.iter().filter_map(|signal| signal.otherwise.as_ref()).collect();
        self.insert_runs(conn, &starts).await?;
        let woken: Vec<&LockedRun> = known
            .iter()
            .filter_map(|signal| {
                self.locked
                    .get(&signal.run)
                    .filter(|run| run.waits_for.as_deref() == Some(signal.name))
            })
            .collect();
        if !woken.is_empty() {
            let ids: Vec<Uuid> = woken.iter().map(|run| run.id).collect();
            let queues: Vec<String> = woken.iter().map(|run| run.queue.clone()).collect();
            self.keys.extend(woken.iter().filter_map(|run| run.key.clone()));
            sql::wake_waiting(conn, &ids).await?;
            self.due.extend(queues);
        }
        Ok(())
    }

    async fn write_journal(&mut self, conn: &mut PgConnection) -> sqlx::Result<()> {
        let checkpoints: Vec<&Checkpoint> = self
            .checkpoints()
            .map(|(_, checkpoint)| checkpoint)
            .filter(|checkpoint| !checkpoint.events.is_empty())
            .collect();
        if checkpoints.is_empty() {
            return Ok(());
        }
        let mut rows = JournalRows::default();
        for checkpoint in checkpoints {
            rows.runs.push(checkpoint.run);
            rows.seqs.push(checkpoint.seq);
            rows.epochs.push(checkpoint.claim.epoch);
            rows.owners.push(checkpoint.claim.owner);
            rows.claimed_at.push(checkpoint.claim.at);
            rows.events.push(Json(&checkpoint.events));
        }
        sql::insert_journal(conn, &rows).await
    }

    async fn move_runs(&mut self, conn: &mut PgConnection) -> sqlx::Result<()> {
        let there = signals_there(conn, self.checkpoints().map(|(_, checkpoint)| checkpoint)).await?;
        let mut parked = Parked::default();
        let (mut finished, mut further) = (Vec::new(), Vec::new());
        for (i, checkpoint) in self.checkpoints().collect::<Vec<_>>() {
            let run = &self.locked[&checkpoint.run];
            let goes_on = goes_on(run, &checkpoint.then, &there);
            if goes_on.signal.is_some() || goes_on.control.is_some() {
                self.answers[i] = Ok(goes_on);
                continue;
            }
            match &checkpoint.then {
                Then::Continue => {
                    if run.deaths > 0 && checkpoint.events.iter().any(Event::is_progress) {
                        further.push(checkpoint.run);
                    }
                    continue;
                }
                Then::Finish => finished.push(checkpoint.run),
                then => parked.add(checkpoint.run, then, &run.queue),
            }
            self.keys.extend(run.key.clone());
        }
        if !parked.ids.is_empty() {
            sql::park(conn, &parked).await?;
        }
        if !further.is_empty() {
            sql::forget_deaths(conn, &further).await?;
        }
        if !finished.is_empty() {
            sql::finish(conn, &finished).await?;
        }
        Ok(())
    }

    /// Where a run of a key has stopped running, or one was added, the next may be ready.
    async fn promote(&mut self, conn: &mut PgConnection) -> sqlx::Result<()> {
        if !self.keys.is_empty() {
            let keys: Vec<String> = self.keys.drain().collect();
            self.due.extend(sql::promote(conn, &keys).await?);
        }
        Ok(())
    }

    fn live_items(&self) -> impl Iterator<Item = (usize, &'a Item)> {
        let (items, live) = (self.items, &self.live);
        items.iter().enumerate().filter(move |(i, _)| live[*i])
    }

    fn checkpoints(&self) -> impl Iterator<Item = (usize, &'a Checkpoint)> {
        self.live_items()
            .filter_map(|(i, item)| Some((i, item.submission.checkpoint.as_ref()?)))
    }
}

/// Whether the claim that wrote the checkpoint still holds the run.
fn holds(run: &LockedRun, checkpoint: &Checkpoint) -> bool {
    run.epoch == checkpoint.claim.epoch && run.state == "running"
}

/// Signals that runs want to wait for and that are there already, with their numbers.
async fn signals_there(
    conn: &mut PgConnection,
    checkpoints: impl Iterator<Item = &Checkpoint>,
) -> sqlx::Result<HashMap<Uuid, (i64, Value)>> {
    let (mut runs, mut names, mut after) = (Vec::new(), Vec::new(), Vec::new());
    for checkpoint in checkpoints {
        if let Then::Wait { signal, after_n, .. } = &checkpoint.then {
            runs.push(checkpoint.run);
            names.push(signal.clone());
            after.push(*after_n);
        }
    }
    if runs.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = sql::waiting_signals(conn, &runs, &names, &after).await?;
    Ok(rows.into_iter().map(|row| (row.run_id, (row.n, row.payload))).collect())
}

/// What a run that keeps its lease is told.
fn goes_on(run: &LockedRun, then: &Then, there: &HashMap<Uuid, (i64, Value)>) -> Submitted {
    Submitted {
        signal: there
            .get(&run.id)
            .filter(|_| matches!(then, Then::Wait { .. }))
            .cloned(),
        control: held_back(run, then),
        ..Submitted::default()
    }
}

/// What people want of the run, if that stands against what it wants. A cancelled run neither calls out nor waits: its
/// story is told so. A paused one calls nobody; it may park, and is then kept from being due.
fn held_back(run: &LockedRun, then: &Then) -> Option<Control> {
    let control = Control::named(run.control.as_deref()?)?;
    match (control, then) {
        (_, Then::Continue) | (Control::Cancelled, Then::Wait { .. } | Then::Sleep { died: false, .. }) => {
            Some(control)
        }
        _ => None,
    }
}

/// How long a run that nobody could read is left alone. A newer version of the program may know it.
const UNTIL_LOOKED_AT_AGAIN: f64 = 60.0;

impl Parked {
    fn add(&mut self, run: Uuid, then: &Then, current: &str) {
        let (state, queue, delay, signal, attempt, error, died) = match then {
            Then::Wait {
                signal,
                patience,
                queue,
                ..
            } => (
                "waiting",
                Some(queue),
                patience.as_secs_f64(),
                Some(signal.clone()),
                0,
                None,
                false,
            ),
            Then::Sleep {
                delay,
                queue,
                attempt,
                last_error,
                died,
            } => (
                "sleeping",
                Some(queue),
                delay.as_secs_f64(),
                None,
                *attempt,
                last_error.clone(),
                *died,
            ),
            Then::Park { why } => ("parked", None, UNTIL_LOOKED_AT_AGAIN, None, 0, Some(why.clone()), false),
            Then::Fail { why } => ("failed", None, f64::INFINITY, None, 0, Some(why.clone()), false),
            Then::Continue | Then::Finish => return,
        };
        self.ids.push(run);
        self.states.push(state.to_owned());
        self.queues
            .push(queue.map_or(current, |queue: &Queue| queue.0).to_owned());
        self.delays.push(delay);
        self.signals.push(signal);
        self.attempts.push(i32::try_from(attempt).unwrap_or(i32::MAX));
        self.errors.push(error);
        self.died.push(died);
    }
}
