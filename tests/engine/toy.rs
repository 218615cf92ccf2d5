//! Toy workflows, and what a test of them stands on.

mod world;

use std::time::Duration;

use herald_engine::{
    Backoff, BatchLimits, Client, Effect, EffectResult, Failure, NewRun, NewSignal, OnUnknown, Proof, Queue, Registry,
    RetryPolicy, Run, Signal, Submission, Worker, WorkerSettings, Workflow,
};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgPool, postgres::PgConnectOptions};
use tokio::task::JoinHandle;
use uuid::Uuid;

pub use world::{Ending, World};

use crate::harness::{Database, database, eventually};

pub const QUEUE: Queue = Queue("toys");
pub const SECOND_QUEUE: Queue = Queue("answers");

/// Calls out, writes, waits for an answer, calls out again, writes.
#[derive(Debug, Serialize, Deserialize)]
pub struct Errand {
    pub patience_ms: u64,
    pub on_unknown: Unknown,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub enum Unknown {
    Repeat,
    GiveUp,
    /// For this many milliseconds.
    Await(u64),
}

impl Errand {
    pub fn simple() -> Self {
        Self {
            patience_ms: 600_000,
            on_unknown: Unknown::Repeat,
        }
    }

    pub fn awaiting(patience_ms: u64) -> Self {
        Self {
            on_unknown: Unknown::Await(patience_ms),
            ..Self::simple()
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Answer(pub String);

impl Signal for Answer {
    const NAME: &'static str = "answer";
    const QUEUE: Queue = SECOND_QUEUE;
}

impl Workflow for Errand {
    type Tools = World;
    const NAME: &'static str = "errand";
    const QUEUE: Queue = QUEUE;

    async fn run(self, run: &mut Run, world: &World) -> Result<(), Failure> {
        let policy = self.policy();
        let id = run.id();
        let first = run
            .attempt("first", &policy, |past| world.prepare("first", id, past.len()))
            .await?;
        run.commit(
            "noted",
            Note::new(id, &format!("first {}", first.answer.as_deref().unwrap_or("unseen"))),
        )?;
        let answer = run.wait_for::<Answer>(Duration::from_millis(self.patience_ms)).await?;
        let second = run
            .attempt("second", &policy, |past| world.prepare("second", id, past.len()))
            .await?;
        let told = answer.map_or("none".to_owned(), |answer| answer.0);
        run.commit(
            "ended",
            Note::new(
                id,
                &format!("answer {told}, second {}", second.answer.as_deref().unwrap_or("unseen")),
            ),
        )
    }
}

/// Sleeps, notes it, and starts another.
#[derive(Debug, Serialize, Deserialize)]
pub struct Nap {
    pub ms: u64,
    /// How many naps it starts, one after the other.
    pub more: u32,
}

impl Workflow for Nap {
    type Tools = World;
    const NAME: &'static str = "nap";
    const QUEUE: Queue = QUEUE;

    async fn run(self, run: &mut Run, _: &World) -> Result<(), Failure> {
        let id = run.id();
        run.commit("before", Note::new(id, "asleep"))?;
        run.sleep("nap", Duration::from_millis(self.ms), QUEUE).await?;
        run.commit("after", Note::new(id, "awake"))?;
        if self.more > 0 {
            run.start(
                "another",
                &Self {
                    more: self.more - 1,
                    ..self
                },
            )?;
        }
        Ok(())
    }
}

/// Calls out twice, one call after the other.
#[derive(Debug, Serialize, Deserialize)]
pub struct TwoCalls {}

impl Workflow for TwoCalls {
    type Tools = World;
    const NAME: &'static str = "two_calls";
    const QUEUE: Queue = QUEUE;

    async fn run(self, run: &mut Run, world: &World) -> Result<(), Failure> {
        let (policy, id) = (Errand::simple().policy(), run.id());
        for step in ["first", "second"] {
            run.attempt(step, &policy, |past| world.prepare(step, id, past.len()))
                .await?;
        }
        Ok(())
    }
}

impl Errand {
    pub fn policy(&self) -> RetryPolicy {
        let on_unknown = match self.on_unknown {
            Unknown::Repeat => OnUnknown::Repeat,
            Unknown::GiveUp => OnUnknown::GiveUp,
            Unknown::Await(ms) => OnUnknown::AwaitThenRepeat {
                signal: Answer::NAME,
                patience: Duration::from_millis(ms),
                queue: SECOND_QUEUE,
                proves: |_, answer| {
                    if answer == "stray" { Proof::None } else { Proof::Done }
                },
            },
        };
        let backoff = Backoff {
            first: Duration::ZERO,
            then: Duration::from_secs(3600),
            jitter: 0.0,
        };
        RetryPolicy {
            attempts: 3,
            backoff,
            queue: QUEUE,
            on_unknown,
        }
    }
}

/// A row in the test's own table.
pub struct Note {
    run: Uuid,
    words: String,
}

impl Note {
    pub fn new(run: Uuid, words: &str) -> Self {
        Self {
            run,
            words: words.to_owned(),
        }
    }
}

impl Effect for Note {
    async fn apply(batch: &[&Self], conn: &mut PgConnection) -> EffectResult {
        let runs: Vec<Uuid> = batch.iter().map(|note| note.run).collect();
        let words: Vec<String> = batch.iter().map(|note| note.words.clone()).collect();
        sqlx::query("insert into note (run, words) select * from unnest($1::uuid[], $2::text[])")
            .bind(runs)
            .bind(words)
            .execute(conn)
            .await?;
        Ok(())
    }
}

/// A row for all that were applied in one go.
pub struct LastNote(pub Note);

impl Effect for LastNote {
    const LAST: bool = true;

    async fn apply(batch: &[&Self], conn: &mut PgConnection) -> EffectResult {
        let all: Vec<&str> = batch.iter().map(|last| last.0.words.as_str()).collect();
        let note = Note::new(batch[0].0.run, &all.join(" and "));
        Note::apply(&[&note], conn).await
    }
}

/// A worker, until it is killed or let go of.
#[must_use = "it dies when it is let go of"]
pub struct ToyWorker {
    database: PgPool,
    /// The name of its connections.
    name: String,
    alive: std::sync::mpsc::Sender<()>,
    life: JoinHandle<()>,
}

impl ToyWorker {
    /// Its sudden death. When this returns, what the database was doing for it is over too.
    pub async fn kill(self) {
        drop(self.alive);
        self.life.await.unwrap();
        eventually("the database has done with a dead worker", || async {
            sqlx::query_scalar("select count(*) = 0 from pg_stat_activity where application_name = $1")
                .bind(&self.name)
                .fetch_one(&self.database)
                .await
                .is_ok_and(|over: bool| over)
                .then_some(())
        })
        .await;
    }
}

/// A database, a client, and workers to come and go.
pub struct Toys {
    pub database: Database,
    pub client: Client,
    pub world: World,
}

impl Toys {
    pub async fn new() -> Self {
        let database = database().await;
        sqlx::query("create table note (run uuid not null, words text not null check (words <> 'bad'))")
            .execute(&*database)
            .await
            .unwrap();
        let client = Client::new(database.clone(), BatchLimits::default());
        Self {
            database,
            client,
            world: World::default(),
        }
    }

    /// A worker with short leases.
    pub fn worker(&self) -> ToyWorker {
        self.worker_by(&self.database.url)
    }

    /// A worker that reaches the database by this address.
    pub fn worker_by(&self, url: &str) -> ToyWorker {
        self.worker_of(
            url,
            Registry::new(self.world.clone())
                .add::<Errand>()
                .add::<Nap>()
                .add::<TwoCalls>(),
        )
    }

    /// A worker that knows these stories.
    pub fn worker_of(&self, url: &str, registry: Registry<World>) -> ToyWorker {
        let settings = WorkerSettings {
            lease: Duration::from_secs(1),
            deaths: 2,
            concurrency: 8,
            ..WorkerSettings::default()
        };
        let name = format!("toy {}", Uuid::now_v7());
        let options: PgConnectOptions = url.parse().unwrap();
        let options = options.application_name(&name);
        // A runtime of its own dies with everything that runs in it, its connections included.
        let (alive, dead) = std::sync::mpsc::channel::<()>();
        let life = tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            runtime.spawn(async move {
                let pool = PgPool::connect_with(options).await.unwrap();
                let client = Client::new(pool.clone(), BatchLimits::default());
                let worker = Worker {
                    listening: pool.clone(),
                    pool,
                    client,
                    queues: vec![QUEUE, SECOND_QUEUE],
                    settings,
                };
                worker.run(registry, std::future::pending()).await.unwrap();
            });
            let _ = dead.recv();
            runtime.shutdown_timeout(Duration::from_secs(30));
        });
        ToyWorker {
            database: self.database.clone(),
            name,
            alive,
            life,
        }
    }

    pub async fn start<W: Workflow>(&self, workflow: &W) -> Uuid {
        self.start_as(NewRun::of(workflow).unwrap()).await
    }

    pub async fn start_as(&self, new: NewRun) -> Uuid {
        let run = Uuid::now_v7();
        let submission = Submission::new().start(new.with_id(run));
        self.client.submit(submission).await.unwrap();
        run
    }

    /// How many runs are in this state.
    pub async fn count(&self, state: &str) -> i64 {
        sqlx::query_scalar("select count(*) from engine.run where state = $1")
            .bind(state)
            .fetch_one(&*self.database)
            .await
            .unwrap()
    }

    pub async fn until_count(&self, state: &str, runs: i64) {
        eventually(&format!("{runs} runs are {state}"), || async {
            (self.count(state).await == runs).then_some(())
        })
        .await;
    }

    pub async fn answer(&self, run: Uuid, key: &str, words: &str) {
        let signal = NewSignal::to(run, key, &Answer(words.to_owned())).unwrap();
        self.client.submit(Submission::new().signal(signal)).await.unwrap();
    }

    pub async fn notes(&self, run: Uuid) -> Vec<String> {
        sqlx::query_scalar("select words from note where run = $1")
            .bind(run)
            .fetch_all(&*self.database)
            .await
            .unwrap()
    }

    /// State, attempt, last error; nothing when the run has ended.
    pub async fn row(&self, run: Uuid) -> Option<(String, i32, Option<String>)> {
        sqlx::query_as("select state, attempt, last_error from engine.run where id = $1")
            .bind(run)
            .fetch_optional(&*self.database)
            .await
            .unwrap()
    }

    pub async fn until(&self, run: Uuid, state: &str) {
        eventually(&format!("the run is {state}"), || async {
            let row = self.row(run).await;
            (row.as_ref().map_or("over", |row| &row.0) == state).then_some(())
        })
        .await;
    }

    /// As [`Self::until`], while no back-off lasts.
    pub async fn hurry_until(&self, run: Uuid, state: &str) {
        eventually(&format!("the run is {state}"), || async {
            let hurry = "update engine.run set due_at = now() where id = $1 and state = 'sleeping'";
            sqlx::query(hurry).bind(run).execute(&*self.database).await.unwrap();
            let row = self.row(run).await;
            (row.as_ref().map_or("over", |row| &row.0) == state).then_some(())
        })
        .await;
    }

    /// The kinds of events in the journal, in order.
    pub async fn events(&self, run: Uuid) -> Vec<String> {
        sqlx::query_scalar(
            "select e ->> 'event' from engine.journal, jsonb_array_elements(events) with ordinality as x (e, n)
             where run_id = $1 order by seq, n",
        )
        .bind(run)
        .fetch_all(&*self.database)
        .await
        .unwrap()
    }
}
