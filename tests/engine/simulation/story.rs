//! What the simulated runs do, drawn from the seed, and the outside world that they call.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use herald_engine::{
    AttemptError, Backoff, Effect, EffectResult, Failure, NewSignal, OnUnknown, Prepared, Proof, Queue, RetryPolicy,
    Run, Signal, Workflow,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use tokio::sync::oneshot;
use uuid::Uuid;

pub const QUEUES: [Queue; 2] = [Queue("plays"), Queue("answers")];

/// The names of the acts, in order.
pub const STEPS: [&str; 7] = ["s0", "s1", "s2", "s3", "s4", "s5", "s6"];

/// A story is a list of acts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Play {
    pub acts: Vec<Act>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Act {
    Call(Call),
    Note,
    /// For an answer, so many milliseconds at most.
    Wait(u64),
    Sleep(u64),
    Child(Play),
    /// Sends an answer to another run.
    Tell(Uuid),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Call {
    pub attempts: u32,
    pub backoff_ms: u64,
    pub on_unknown: Unknown,
    /// The story goes on when the call has failed for good.
    pub tolerated: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Unknown {
    Repeat,
    GiveUp,
    /// Repeat when no answer has come for so many milliseconds.
    Await(u64),
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Answer(pub u64);

impl Signal for Answer {
    const NAME: &'static str = "answer";
    const QUEUE: Queue = QUEUES[1];
}

impl Workflow for Play {
    type Tools = Outside;
    const NAME: &'static str = "play";
    const QUEUE: Queue = QUEUES[0];

    async fn run(self, run: &mut Run, outside: &Outside) -> Result<(), Failure> {
        for (act, step) in self.acts.into_iter().zip(STEPS) {
            let id = run.id();
            match act {
                Act::Call(call) => call.make(run, step, outside).await?,
                Act::Note => run.commit(step, Note { run: id, step })?,
                Act::Wait(ms) => {
                    run.wait_for::<Answer>(Duration::from_millis(ms)).await?;
                }
                Act::Sleep(ms) => run.sleep(step, Duration::from_millis(ms), QUEUES[0]).await?,
                Act::Child(play) => run.start(step, &play)?,
                Act::Tell(peer) => run.signal(step, NewSignal::to(peer, format!("{id} {step}"), &Answer(0))?)?,
            }
        }
        Ok(())
    }
}

impl Call {
    async fn make(&self, run: &mut Run, step: &'static str, outside: &Outside) -> Result<(), Failure> {
        let id = run.id();
        let policy = self.policy();
        let prepare = |past: Vec<_>| {
            let attempt = u32::try_from(past.len()).unwrap() + 1;
            outside.prepare(Attempt { run: id, step, attempt }, self.backoff_ms)
        };
        match run.attempt(step, &policy, prepare).await {
            Err(Failure::Step(_)) if self.tolerated => Ok(()),
            other => other.map(drop),
        }
    }

    fn policy(&self) -> RetryPolicy {
        let pause = Duration::from_millis(self.backoff_ms);
        RetryPolicy {
            attempts: self.attempts,
            backoff: Backoff {
                first: pause,
                then: pause,
                jitter: 0.0,
            },
            queue: QUEUES[0],
            on_unknown: match self.on_unknown {
                Unknown::Repeat => OnUnknown::Repeat,
                Unknown::GiveUp => OnUnknown::GiveUp,
                Unknown::Await(ms) => OnUnknown::AwaitThenRepeat {
                    signal: Answer::NAME,
                    patience: Duration::from_millis(ms),
                    queue: QUEUES[1],
                    proves: |_, answer| match answer.as_u64().unwrap_or(0) % 4 {
                        2 => Proof::None,
                        3 => Proof::InVain,
                        _ => Proof::Done,
                    },
                },
            },
        }
    }
}

impl Play {
    /// Some acts, in any order. A child has no children.
    pub fn drawn(rng: &mut StdRng, peers: &[Uuid], children: bool) -> Self {
        let acts = (0..rng.random_range(2..=STEPS.len()))
            .map(|_| match rng.random_range(0..12) {
                0..=3 => Act::Call(Call::drawn(rng)),
                4..=6 => Act::Note,
                7 | 8 => Act::Wait(rng.random_range(1..60_000)),
                9 => Act::Sleep(rng.random_range(1..30_000)),
                10 if children => Act::Child(Self::drawn(rng, peers, false)),
                _ => Act::Tell(peers[rng.random_range(0..peers.len())]),
            })
            .collect();
        Self { acts }
    }
}

impl Call {
    fn drawn(rng: &mut StdRng) -> Self {
        Self {
            attempts: rng.random_range(1..=4),
            backoff_ms: if rng.random_bool(0.3) {
                0
            } else {
                rng.random_range(1..20_000)
            },
            on_unknown: match rng.random_range(0..4) {
                0 | 1 => Unknown::Repeat,
                2 => Unknown::GiveUp,
                _ => Unknown::Await(rng.random_range(1..40_000)),
            },
            tolerated: rng.random_bool(0.7),
        }
    }
}

/// A row in the test's own table.
struct Note {
    run: Uuid,
    step: &'static str,
}

impl Effect for Note {
    async fn apply(batch: &[&Self], conn: &mut PgConnection) -> EffectResult {
        let runs: Vec<Uuid> = batch.iter().map(|note| note.run).collect();
        let steps: Vec<&str> = batch.iter().map(|note| note.step).collect();
        sqlx::query("insert into note (run, step) select * from unnest($1::uuid[], $2::text[])")
            .bind(runs)
            .bind(steps)
            .execute(conn)
            .await?;
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Attempt {
    pub run: Uuid,
    pub step: &'static str,
    pub attempt: u32,
}

/// A call that reached the outside world.
#[derive(Debug, Clone, Copy)]
pub struct Made {
    pub attempt: Attempt,
    /// The driver's operation in which it was made.
    pub op: i64,
    /// The latest time that the database's clock has shown by then, in microseconds.
    pub latest: i64,
}

/// How a call ends.
#[derive(Debug, Clone, Copy)]
pub enum Ending {
    Yes,
    /// After so many milliseconds, or by the policy.
    Again(Option<u64>),
    Never,
    Unknown,
    Panic,
}

/// The outside world: it notes every call, and the driver decides when and how each one ends. Cheap to clone.
#[derive(Clone)]
pub struct Outside(Arc<Mutex<Inside>>);

pub struct Inside {
    rng: StdRng,
    /// Attempts fail before their call, or need none.
    pub whims: bool,
    pub op: i64,
    pub latest: i64,
    pub made: Vec<Made>,
    pub open: Vec<(Attempt, oneshot::Sender<Ending>)>,
    /// How long the attempts that had no effect asked to be left alone, in milliseconds.
    pub delays: Vec<(Attempt, u64)>,
}

impl Outside {
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Inside {
            rng: StdRng::seed_from_u64(seed),
            whims: true,
            op: 0,
            latest: 0,
            made: Vec::new(),
            open: Vec::new(),
            delays: Vec::new(),
        })))
    }

    pub fn lock(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap()
    }

    async fn prepare(&self, attempt: Attempt, backoff: u64) -> Result<Prepared<'_, u32, u32>, AttemptError> {
        let plan = attempt.attempt;
        let mut inside = self.lock();
        let whim = if inside.whims {
            inside.rng.random_range(0..12)
        } else {
            11
        };
        match whim {
            0 => {
                inside.delays.push((attempt, backoff));
                Err(AttemptError::again("not ready"))
            }
            1 => Ok(Prepared::Done { plan, answer: 0 }),
            _ => Ok(Prepared::Call {
                plan,
                call: self.call(attempt, backoff),
            }),
        }
    }

    fn call(&self, attempt: Attempt, backoff: u64) -> BoxFuture<'_, Result<u32, AttemptError>> {
        async move {
            let (ending, ended) = oneshot::channel();
            {
                let mut inside = self.lock();
                let (op, latest) = (inside.op, inside.latest);
                inside.made.push(Made { attempt, op, latest });
                inside.open.push((attempt, ending));
            }
            match ended.await {
                Ok(Ending::Yes) => Ok(attempt.attempt),
                Ok(Ending::Again(after)) => {
                    self.lock().delays.push((attempt, after.unwrap_or(backoff)));
                    let after = after.map(Duration::from_millis);
                    let why = "busy".to_owned();
                    Err(AttemptError::Again { why, after })
                }
                Ok(Ending::Never) => Err(AttemptError::never("refused for ever")),
                Ok(Ending::Unknown) => Err(AttemptError::unknown("no answer")),
                // Without the hook, which would print it.
                Ok(Ending::Panic) => std::panic::resume_unwind(Box::new("the play broke")),
                Err(_) => std::future::pending().await,
            }
        }
        .boxed()
    }
}
