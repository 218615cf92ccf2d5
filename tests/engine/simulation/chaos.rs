//! One seed: a few runs, a few processes, and a driver that lets them do, in any order, what they could do at any time,
//! and lets happen to them what can happen. In the end a healthy process brings everything to its end.

use std::{collections::HashMap, fmt::Write as _, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use herald_engine::{
    Beat, NewRun, NewSignal, Registry, Submission, WorkerSettings,
    simulation::{self, Fate, Process, Reply, Sabotage},
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

use super::story::{Act, Answer, Ending, Outside, Play, QUEUES};

mod beat;
mod calm;
mod clock;
mod people;
mod terms;

pub use beat::{EVERY, MOST, scheduled};
pub use people::Deed;
pub use terms::{Seen, Terms};

/// The first moment of virtual time, in microseconds.
const DAWN: i64 = 1_577_836_800_000_000;
const LEASE: Duration = Duration::from_secs(10);

pub struct Chaos {
    pub rng: StdRng,
    pub pool: PgPool,
    pub outside: Outside,
    registry: Arc<Registry<Outside>>,
    /// What has passed by every process' monotonic clock.
    passed: Duration,
    /// How far the database's clock is from that, in microseconds.
    astray: i64,
    /// How far it may be set back in one step.
    back: i64,
    /// The greatest distance it went back in all.
    pub went_back: i64,
    /// The number of the first operation; those of the worlds in one database are far apart.
    pub first_op: i64,
    pub op: i64,
    processes: Vec<Actor>,
    /// The process that takes requests from outside; it plays no runs.
    door: Process,
    pub started: Vec<Started>,
    pub sent: Vec<Sent>,
    pub claimed: Vec<Claim>,
    /// What people did to runs, in order.
    pub deeds: Vec<Deed>,
    /// Keys of which too many ran at once.
    pub crowds: Vec<String>,
    /// Beats remember nothing, so this one stands for any number of them.
    beat: Beat,
    /// What the database's clock showed when a beat looked.
    pub looks: Vec<DateTime<Utc>>,
    pub trace: Vec<String>,
    pub names: HashMap<Uuid, String>,
}

struct Actor {
    name: u32,
    process: Process,
    paused: bool,
}

/// A run that somebody wanted to start.
pub struct Started {
    pub run: Uuid,
    pub play: Play,
    pub terms: Terms,
    pub seen: Option<Seen>,
    reply: Reply,
    pub accepted: bool,
}

/// A signal that somebody wanted to send.
pub struct Sent {
    pub run: Uuid,
    pub key: String,
    pub payload: u64,
    /// The run that is to be started if the other is no more.
    pub otherwise: Option<(Uuid, Play)>,
    reply: Reply,
    pub accepted: bool,
}

pub struct Claim {
    pub run: Uuid,
    pub epoch: i64,
    pub op: i64,
    /// By the processes' clock.
    pub passed: Duration,
}

impl Chaos {
    /// `round` counts the worlds in one database.
    pub fn new(pool: PgPool, seed: u64, round: u32, sabotage: Sabotage) -> Self {
        simulation::set_sabotage(sabotage);
        simulation::set_id_world(u64::from(round));
        simulation::set_id_time(DAWN.unsigned_abs() / 1_000);
        let mut rng = StdRng::seed_from_u64(seed);
        let outside = Outside::new(rng.random());
        let registry = Arc::new(Registry::new(outside.clone()).add::<Play>());
        let door = process(&pool, &registry);
        let beat = Beat::new(pool.clone(), vec![beat::schedule()]).unwrap();
        let first_op = i64::from(round) * 1_000_000;
        let back = if rng.random_bool(0.25) { 5_000_000 } else { 0 };
        let mut chaos = Self {
            rng,
            pool,
            outside,
            registry,
            passed: Duration::ZERO,
            astray: 0,
            back,
            went_back: 0,
            first_op,
            op: first_op,
            processes: Vec::new(),
            door,
            started: Vec::new(),
            sent: Vec::new(),
            claimed: Vec::new(),
            deeds: Vec::new(),
            crowds: Vec::new(),
            beat,
            looks: Vec::new(),
            trace: Vec::new(),
            names: HashMap::new(),
        };
        for name in 0..chaos.rng.random_range(2..=3) {
            chaos.open_process(name);
        }
        chaos
    }

    /// Chaos, then peace. False when no peace could be made.
    pub async fn play(&mut self) -> bool {
        for table in ["run", "schedule", "firing"] {
            let forget = AssertSqlSafe(format!("delete from engine.{table}"));
            sqlx::query(forget).execute(&self.pool).await.unwrap();
        }
        let runs: Vec<Uuid> = (0..self.rng.random_range(2..=4))
            .map(|_| simulation::fresh_id().unwrap())
            .collect();
        for run in &runs {
            self.name(*run);
        }
        for run in &runs {
            let play = Play::drawn(&mut self.rng, &runs, true);
            self.start(*run, play);
        }
        self.look().await;
        self.open_the_door().await;
        for _ in 0..self.rng.random_range(40..120) {
            self.step().await;
        }
        self.calm().await
    }

    fn open_process(&mut self, name: u32) {
        let process = process(&self.pool, &self.registry);
        self.processes.push(Actor {
            name,
            process,
            paused: false,
        });
    }

    fn start(&mut self, run: Uuid, play: Play) {
        let terms = Terms::drawn(&mut self.rng);
        let new = terms.apply(NewRun::of(&play).unwrap().with_id(run));
        let mut line = format!("start {run} {play:?} {terms:?}");
        for (run, name) in &self.names {
            line = line.replace(&run.to_string(), name);
        }
        self.tell(line);
        let reply = self.door.submit(Submission::new().start(new));
        self.started.push(Started {
            run,
            play,
            terms,
            seen: None,
            reply,
            accepted: false,
        });
    }

    /// One thing happens.
    async fn step(&mut self) {
        let millis = self.rng.random_range(0..100);
        self.pass(Duration::from_millis(millis));
        match self.rng.random_range(0..100) {
            0..45 => self.work().await,
            45..57 => self.claim().await,
            57..72 => self.end_call(),
            72..79 => self.wait().await,
            79..81 => self.look().await,
            81..86 => self.open_the_door().await,
            86..89 => self.signal(),
            89..92 => self.renew().await,
            92..94 => self.pause_or_wake(),
            94..97 => self.control().await,
            97..99 => self.kill().await,
            _ => self.set_clock(),
        }
        self.look_for_crowds().await;
    }

    /// A process goes on with its runs, and perhaps writes a batch.
    async fn work(&mut self) {
        let busy = |process: &Process| !process.held().is_empty() || process.gathered() + process.batches() > 0;
        let Some(which) = self.awake(busy) else {
            return self.claim().await;
        };
        self.note_moment();
        let notices = self.rng.random_bool(0.7);
        let actor = &mut self.processes[which];
        if notices {
            actor.process.give_up(self.passed);
        }
        let polled = poll_some(&mut actor.process, &mut self.rng);
        let some = actor.process.gathered();
        if some > 0 && self.rng.random_bool(0.8) {
            actor.process.form_batch(self.rng.random_range(1..=some));
        }
        let batches = actor.process.batches();
        let name = actor.name;
        self.tell(format!("p{name} works {polled} gathered {some} batches {batches}"));
        if batches > 0 {
            let batch = self.rng.random_range(0..batches);
            let fate = self.fate();
            self.tell(format!("p{name} writes batch {batch}: {fate:?}"));
            self.tick().await;
            self.processes[which].process.write(batch, fate).await;
        }
    }

    fn fate(&mut self) -> Fate {
        match self.rng.random_range(0..20) {
            0 | 1 => Fate::AnswerLost,
            2 => Fate::NeverArrived,
            _ => Fate::Answered,
        }
    }

    async fn claim(&mut self) {
        let Some(which) = self.awake(|_| true) else { return };
        let queue = QUEUES[self.rng.random_range(0..QUEUES.len())];
        self.tick().await;
        let (picky, whole) = (self.rng.random_bool(0.2), self.rng.random_bool(0.3));
        // With little room, more is due than fits.
        let most = if self.rng.random_bool(0.3) {
            self.rng.random_range(1..=4)
        } else {
            usize::MAX
        };
        let (actor, rng) = (&mut self.processes[which], &mut self.rng);
        let keep = |_| !picky || rng.random_bool(0.5);
        let claim = actor.process.claim(queue, self.passed, whole, most, keep);
        let claimed = claim.await.unwrap();
        let mut line = format!("p{} claims {}:", actor.name, queue.0);
        for (run, epoch, kept) in claimed {
            self.note_claim(run, epoch);
            let kept = if kept { "" } else { " and gives it back" };
            write!(line, " {}/{epoch}{kept}", self.name(run)).unwrap();
        }
        self.tell(line);
    }

    fn note_claim(&mut self, run: Uuid, epoch: i64) {
        self.claimed.push(Claim {
            run,
            epoch,
            op: self.op,
            passed: self.passed,
        });
    }

    /// The outside world answers a call, whether or not anybody is there to hear it.
    fn end_call(&mut self) {
        let mut inside = self.outside.lock();
        inside.open.retain(|(_, ending)| !ending.is_closed());
        if inside.open.is_empty() {
            return;
        }
        let call = self.rng.random_range(0..inside.open.len());
        let (attempt, call) = inside.open.remove(call);
        drop(inside);
        let ending = match self.rng.random_range(0..20) {
            0..=10 => Ending::Yes,
            11..=13 => Ending::Again(None),
            14 => Ending::Again(Some(self.rng.random_range(0..30_000))),
            15 => Ending::Never,
            16..=18 => Ending::Unknown,
            _ => Ending::Panic,
        };
        let name = self.name(attempt.run);
        self.tell(format!(
            "{name} {} attempt {} ends: {ending:?}",
            attempt.step, attempt.attempt
        ));
        let _ = call.send(ending);
    }

    /// Time passes: a little, to the next moment at which something is due, or longer than a lease.
    async fn wait(&mut self) {
        let length = match self.rng.random_range(0..10) {
            0..=2 => Duration::from_millis(self.rng.random_range(0..3_000)),
            3 => LEASE + Duration::from_secs(1),
            _ => self.until_due().await.unwrap_or_default(),
        };
        self.pass(length);
        self.tell(format!("{length:?} pass"));
    }

    /// How long it is until the next run is due.
    async fn until_due(&mut self) -> Option<Duration> {
        let next = "select min(due_at) from engine.run where state <> 'failed' and due_at < 'infinity'";
        let next: Option<DateTime<Utc>> = sqlx::query_scalar(next).fetch_one(&self.pool).await.unwrap();
        let micros = next?.timestamp_micros() - self.clock() + 1;
        Some(Duration::from_micros(micros.max(0).unsigned_abs()))
    }

    /// Requests from outside are written.
    async fn open_the_door(&mut self) {
        let some = self.door.gathered();
        if some > 0 {
            self.door.form_batch(self.rng.random_range(1..=some));
        }
        if self.door.batches() == 0 {
            return;
        }
        let batch = self.rng.random_range(0..self.door.batches());
        let fate = self.fate();
        self.tell(format!("the door writes batch {batch}: {fate:?}"));
        self.tick().await;
        self.door.write(batch, fate).await;
        self.see_what_is_started().await;
        self.read_replies();
    }

    fn read_replies(&mut self) {
        for start in &mut self.started {
            start.accepted |= start.reply.get().is_some_and(|reply| reply.is_ok());
        }
        for sent in &mut self.sent {
            sent.accepted |= sent.reply.get().is_some_and(|reply| reply.is_ok());
        }
    }

    /// Somebody answers a run: early, once more, late.
    fn signal(&mut self) {
        let run = self.started.choose(&mut self.rng).unwrap().run;
        let key = self.rng.random_range(0..3).to_string();
        let payload = self.rng.random_range(1..1_000_000);
        let name = self.name(run);
        self.tell(format!("signal {key} to {name}: {payload}"));
        let mut signal = NewSignal::to(run, &key, &Answer(payload)).unwrap();
        let mut otherwise = None;
        if self.rng.random_bool(0.3) {
            let play = Play { acts: vec![Act::Note] };
            let new = NewRun::of(&play).unwrap();
            let id = simulation::fresh_id().unwrap();
            signal = signal.or_start(new.with_id(id));
            otherwise = Some((id, play));
        }
        let reply = self.door.submit(Submission::new().signal(signal));
        self.sent.push(Sent {
            run,
            key,
            payload,
            otherwise,
            reply,
            accepted: false,
        });
    }

    async fn renew(&mut self) {
        let Some(which) = self.awake(|_| true) else { return };
        let answered = self.rng.random_bool(0.9);
        self.tick().await;
        let actor = &mut self.processes[which];
        let renewed = actor.process.renew(self.passed, answered).await.unwrap();
        let line = format!("p{} renews {renewed}, answered: {answered}", actor.name);
        self.tell(line);
    }

    /// A process stands still for a while, and then goes on as if nothing had happened.
    fn pause_or_wake(&mut self) {
        let which = self.rng.random_range(0..self.processes.len());
        let actor = &mut self.processes[which];
        actor.paused = !actor.paused;
        let line = format!("p{} paused: {}", actor.name, actor.paused);
        self.tell(line);
    }

    /// A process dies suddenly, perhaps in the middle of a write, and another one is started.
    async fn kill(&mut self) {
        let which = self.rng.random_range(0..self.processes.len());
        if self.processes[which].process.batches() > 0 && self.rng.random_bool(0.5) {
            self.tick().await;
            self.processes[which].process.write(0, Fate::AnswerLost).await;
        }
        let died = self.processes.remove(which).name;
        let name = self
            .processes
            .iter()
            .map(|actor| actor.name)
            .max()
            .unwrap_or(died)
            .max(died)
            + 1;
        self.open_process(name);
        self.tell(format!("p{died} dies, p{name} is born"));
    }

    /// One of the processes that are not paused.
    fn awake(&mut self, fit: impl Fn(&Process) -> bool) -> Option<usize> {
        let awake: Vec<usize> = (0..self.processes.len())
            .filter(|which| !self.processes[*which].paused && fit(&self.processes[*which].process))
            .collect();
        awake.choose(&mut self.rng).copied()
    }

    /// A name that does not depend on the world's number.
    pub fn name(&mut self, run: Uuid) -> String {
        let next = format!("r{}", self.names.len());
        self.names.entry(run).or_insert(next).clone()
    }

    fn tell(&mut self, what: String) {
        let line = format!(
            "{:4} {:>11.3}s {what}",
            self.op - self.first_op,
            self.passed.as_secs_f64()
        );
        self.trace.push(line);
    }
}

/// Goes on with one of its runs, or with all of them. Returns how many it let go of.
fn poll_some(process: &mut Process, rng: &mut StdRng) -> usize {
    let held = process.held().len();
    if held == 0 {
        return 0;
    }
    if rng.random_bool(0.5) {
        return usize::from(process.poll(rng.random_range(0..held)));
    }
    (0..held).rev().filter(|run| process.poll(*run)).count()
}

fn process(pool: &PgPool, registry: &Arc<Registry<Outside>>) -> Process {
    let settings = WorkerSettings {
        lease: LEASE,
        deaths: 5,
        concurrency: 64,
        ..WorkerSettings::default()
    };
    Process::new(pool.clone(), registry.clone(), &QUEUES, settings)
}
