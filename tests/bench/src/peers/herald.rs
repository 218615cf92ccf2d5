//! Herald's engine, by its public API, on the pool that the program makes for it.

use std::time::Duration;

use anyhow::Context;
use futures::FutureExt;
use herald_engine::{
    Attempted, Backoff, BatchLimits, Client, Failure, NewRun, NewSignal, OnUnknown, Prepared, Queue, Registry,
    RetryPolicy, Run, Signal, Submission, Worker, WorkerSettings, Workflow,
};
use serde::{Deserialize, Serialize};
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{
    Contestant, Peer, Program, Work, linked,
    serve::ANSWERS_AFTER,
    tally::{TALLY, now},
};

/// Each step of a story is a call to the outside world, its intent journaled first; a job's answer is known without a call.
pub const CALLS: Contestant = Contestant {
    name: "herald",
    program: Program::Rust("herald-engine", linked::<Herald<false, true>>),
    loads: "abcde",
    runs_at_most: usize::MAX,
    unfinished: UNFINISHED,
    settings: "the program's pool of 16 connections; an offered job: one step, its answer journaled; story: five attempts with a call each",
};

/// The step of an offered job is a call too.
pub const CALLING_JOBS: Contestant = Contestant {
    name: "herald with a call",
    program: Program::Rust("herald-engine", linked::<Herald<true, true>>),
    loads: "b",
    runs_at_most: usize::MAX,
    unfinished: UNFINISHED,
    settings: "as herald; an offered job: one attempt with a call, its intent journaled first, timed until the call",
};

/// Each step of a story knows its answer without a call.
pub const ANSWERS: Contestant = Contestant {
    name: "herald without calls",
    program: Program::Rust("herald-engine", linked::<Herald<false, false>>),
    loads: "c",
    runs_at_most: usize::MAX,
    unfinished: UNFINISHED,
    settings: "as herald; story: five attempts with known answers, which need no intent",
};

/// The runs of load (d) that only wait are due in days.
const UNFINISHED: &str =
    "select exists (select from engine.run where queue = 'bench' and due_at < now() + interval '1 hour')";

const QUEUE: Queue = Queue("bench");

/// By whether jobs, and the steps of stories, are calls.
pub struct Herald<const JOB_CALLS: bool, const STEPS_CALL: bool> {
    pool: PgPool,
    client: Client,
}

impl<const JOB_CALLS: bool, const STEPS_CALL: bool> Peer for Herald<JOB_CALLS, STEPS_CALL> {
    async fn prepare(url: &str) -> anyhow::Result<()> {
        let pool = pool(url).await?;
        herald_store::migrate(&pool).await?;
        Ok(herald_engine::make_partitions(&pool, 7).await?)
    }

    async fn connect(url: &str, _: usize) -> anyhow::Result<Self> {
        let pool = pool(url).await?;
        let client = Client::new(pool.clone(), BatchLimits::default());
        Ok(Self { pool, client })
    }

    async fn fill(&self, work: Work, runs: usize) -> anyhow::Result<()> {
        const AT_ONCE: usize = 1000;
        for first in (0..runs).step_by(AT_ONCE) {
            let mut submission = Submission::new();
            for _ in first..runs.min(first + AT_ONCE) {
                submission = submission.start(match work {
                    Work::Jobs => NewRun::of(&Job::<JOB_CALLS> { offered_at: 0 })?,
                    Work::Stories => NewRun::of(&Story::<STEPS_CALL> {})?,
                });
            }
            self.client.submit(submission).await?;
        }
        Ok(())
    }

    async fn enqueue(&self, offered_at: i64) -> anyhow::Result<()> {
        let job = NewRun::of(&Job::<JOB_CALLS> { offered_at })?;
        self.client.submit(Submission::new().start(job)).await?;
        Ok(())
    }

    async fn work(&self, _: Work, concurrency: usize) -> anyhow::Result<()> {
        let (asked, questions) = mpsc::unbounded_channel();
        tokio::spawn(answer(self.client.clone(), questions));
        let worker = Worker {
            pool: self.pool.clone(),
            listening: self.pool.clone(),
            client: self.client.clone(),
            queues: vec![QUEUE],
            settings: WorkerSettings {
                concurrency,
                ..WorkerSettings::default()
            },
        };
        let registry = Registry::new(Outside { asked })
            .add::<Job<JOB_CALLS>>()
            .add::<Story<STEPS_CALL>>();
        worker.run(registry, std::future::pending()).await.context("the worker")
    }
}

async fn pool(url: &str) -> anyhow::Result<PgPool> {
    let options: PgConnectOptions = url.parse()?;
    let options = options.options([
        ("statement_timeout", "30s"),
        ("lock_timeout", "2s"),
        ("idle_in_transaction_session_timeout", "60s"),
        ("enable_seqscan", "off"),
        ("jit", "off"),
    ]);
    let pool = PgPoolOptions::new().max_connections(16).test_before_acquire(false);
    Ok(pool
        .acquire_timeout(Duration::from_secs(10))
        .connect_with(options)
        .await?)
}

#[derive(Serialize, Deserialize)]
struct Job<const CALLS: bool> {
    offered_at: i64,
}

impl<const CALLS: bool> Workflow for Job<CALLS> {
    type Tools = Outside;
    const NAME: &'static str = "job";
    const QUEUE: Queue = QUEUE;

    async fn run(self, run: &mut Run, _: &Outside) -> Result<(), Failure> {
        let handle = TALLY.handle(self.offered_at);
        if self.offered_at == 0 {
            handle.await;
            return Ok(());
        }
        run.attempt("millisecond", &policy(), |_| async move {
            Ok(if CALLS {
                let call = handle.map(Ok).boxed();
                Prepared::Call { plan: (), call }
            } else {
                handle.await;
                Prepared::Done { plan: (), answer: () }
            })
        })
        .await
        .map(|_: Attempted<(), ()>| ())
    }
}

fn policy() -> RetryPolicy {
    RetryPolicy {
        attempts: 3,
        backoff: Backoff {
            first: Duration::from_secs(1),
            then: Duration::from_secs(1),
            jitter: 0.0,
        },
        queue: QUEUE,
        on_unknown: OnUnknown::Repeat,
    }
}

#[derive(Serialize, Deserialize)]
struct Story<const CALLS: bool> {}

impl<const CALLS: bool> Workflow for Story<CALLS> {
    type Tools = Outside;
    const NAME: &'static str = "story";
    const QUEUE: Queue = QUEUE;

    async fn run(self, run: &mut Run, outside: &Outside) -> Result<(), Failure> {
        let id = run.id();
        step::<CALLS>(run, "first", || {}).await?;
        step::<CALLS>(run, "ask", || outside.ask(id)).await?;
        let answer = run.wait_for::<Answer>(Duration::from_secs(600)).await?;
        let sent_at = answer.map_or(0, |answer| answer.sent_at);
        step::<CALLS>(run, "third", || TALLY.began(sent_at)).await?;
        step::<CALLS>(run, "fourth", || {}).await?;
        step::<CALLS>(run, "fifth", || TALLY.count()).await?;
        Ok(())
    }
}

async fn step<const CALLS: bool>(
    run: &mut Run,
    name: &'static str,
    deed: impl Fn() + Send + Sync,
) -> Result<Attempted<(), ()>, Failure> {
    let deed = &deed;
    run.attempt(name, &policy(), |_| async move {
        Ok(if CALLS {
            let call = async move {
                deed();
                Ok(())
            };
            Prepared::Call {
                plan: (),
                call: call.boxed(),
            }
        } else {
            deed();
            Prepared::Done { plan: (), answer: () }
        })
    })
    .await
}

#[derive(Serialize, Deserialize)]
struct Answer {
    sent_at: i64,
}

impl Signal for Answer {
    const NAME: &'static str = "answer";
    const QUEUE: Queue = QUEUE;
}

/// Whoever is asked answers a little later.
struct Outside {
    asked: mpsc::UnboundedSender<Uuid>,
}

impl Outside {
    fn ask(&self, run: Uuid) {
        // Nobody listens only while the process ends.
        let _ = self.asked.send(run);
    }
}

async fn answer(client: Client, mut questions: mpsc::UnboundedReceiver<Uuid>) {
    while let Some(run) = questions.recv().await {
        let client = client.clone();
        tokio::spawn(async move {
            tokio::time::sleep(ANSWERS_AFTER).await;
            let signal = NewSignal::to(run, "answer", &Answer { sent_at: now() })?;
            client.submit(Submission::new().signal(signal)).await?;
            anyhow::Ok(())
        });
    }
}
