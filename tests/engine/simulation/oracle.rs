//! What must be true whatever happened. It reads what is in the database and what the outside world saw; it believes
//! nothing that the engine says of itself.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, Utc};
use herald_engine::Action;
use serde_json::Value;
use uuid::Uuid;

use super::{
    chaos::{Chaos, Sent, scheduled},
    story::{Act, Play, STEPS},
};

mod calls;
mod firings;
mod terms;

use firings::Firing;

/// One broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    pub promise: Promise,
    pub of: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Promise {
    /// Every accepted run ends, once, and for a reason of its own.
    Ends,
    /// The journal is complete and in the order of the claims.
    Journal,
    /// A note that is on record is there once, and no other.
    EffectOnce,
    /// No call is made before its intent is on record.
    Intent,
    /// No second call without a decision on record.
    NotBlindlyTwice,
    /// Attempts stay within their policy and their times.
    WithinPolicy,
    /// Of signals the first is kept, and received once.
    Signal,
    /// Nothing that waits waits too short a time.
    Patience,
    /// What was cancelled or paused before the intent of a call was on record is not called.
    Control,
    /// Each instant of a schedule is decided once, and starts one run or none.
    Schedule,
    /// Of a key no more runs stand ready or are on a worker than its limit says.
    Room,
    /// What has expired is not attempted, and nothing expires before its time.
    Expiry,
}

struct Recorded {
    seq: i32,
    epoch: i64,
    at: i64,
    op: i64,
    event: Value,
}

#[derive(Clone)]
struct SignalThere {
    key: String,
    n: i64,
    op: i64,
    payload: Value,
}

pub struct Oracle<'a> {
    chaos: &'a Chaos,
    names: HashMap<Uuid, String>,
    journals: BTreeMap<Uuid, Vec<Recorded>>,
    signals: HashMap<Uuid, Vec<SignalThere>>,
    notes: HashMap<(Uuid, String), usize>,
    firings: Vec<Firing>,
    left: HashMap<Uuid, (String, Option<String>)>,
    plays: BTreeMap<Uuid, Play>,
    complaints: Vec<Complaint>,
}

impl<'a> Oracle<'a> {
    /// What is wrong after all is over; nothing, if all is well.
    pub async fn ask(chaos: &'a Chaos, names: HashMap<Uuid, String>) -> Vec<Complaint> {
        let mut oracle = Self::read(chaos, names).await;
        oracle.instants_are_decided_once();
        oracle.find_plays();
        oracle.runs_end();
        oracle.keys_are_not_crowded();
        let journals = std::mem::take(&mut oracle.journals);
        for (run, journal) in &journals {
            oracle.journal_is_whole(*run, journal);
            oracle.effects_happen_once(*run, journal);
            oracle.waits_are_long_enough(*run, journal);
            oracle.signals_are_received_once(*run, journal);
            oracle.calls_are_decided(*run, journal);
            oracle.nothing_expires_early_or_late(*run, journal);
        }
        oracle.journals = journals;
        oracle.nothing_happens_without_a_record();
        oracle.accepted_signals_are_kept();
        oracle.complaints
    }

    async fn read(chaos: &'a Chaos, names: HashMap<Uuid, String>) -> Self {
        let mut oracle = Self {
            chaos,
            names,
            journals: BTreeMap::new(),
            signals: HashMap::new(),
            notes: HashMap::new(),
            firings: firings::read(chaos).await,
            left: HashMap::new(),
            plays: BTreeMap::new(),
            complaints: Vec::new(),
        };
        let rows: Vec<(Uuid, i32, i64, DateTime<Utc>, i64, Value)> = sqlx::query_as(
            "select run_id, seq, epoch, at, op, events from engine.journal where op between $1 and $2 order by run_id, seq",
        )
        .bind(chaos.first_op)
        .bind(chaos.op)
        .fetch_all(&chaos.pool)
        .await
        .unwrap();
        for (run, seq, epoch, at, op, events) in rows {
            let at = at.timestamp_micros();
            let Value::Array(events) = events else {
                panic!("events are an array")
            };
            let recorded = events.into_iter().map(|event| Recorded {
                seq,
                epoch,
                at,
                op,
                event,
            });
            oracle.journals.entry(run).or_default().extend(recorded);
        }
        oracle.read_the_rest().await;
        oracle
    }

    async fn read_the_rest(&mut self) {
        let (first, last, pool) = (self.chaos.first_op, self.chaos.op, &self.chaos.pool);
        let signals: Vec<(Uuid, String, i64, i64, Value)> = sqlx::query_as(
            "select run_id, key, n, op, payload from engine.signal where op between $1 and $2 order by n",
        )
        .bind(first)
        .bind(last)
        .fetch_all(pool)
        .await
        .unwrap();
        for (run, key, n, op, payload) in signals {
            self.signals
                .entry(run)
                .or_default()
                .push(SignalThere { key, n, op, payload });
        }
        let notes: Vec<(Uuid, String)> = sqlx::query_as("select run, step from note where op between $1 and $2")
            .bind(first)
            .bind(last)
            .fetch_all(pool)
            .await
            .unwrap();
        for note in notes {
            *self.notes.entry(note).or_default() += 1;
        }
        let left: Vec<(Uuid, String, Option<String>)> = sqlx::query_as("select id, state, last_error from engine.run")
            .fetch_all(pool)
            .await
            .unwrap();
        self.left = left
            .into_iter()
            .map(|(run, state, error)| (run, (state, error)))
            .collect();
    }

    /// The stories of the runs that must exist: those accepted, and the children on record.
    fn find_plays(&mut self) {
        for started in &self.chaos.started {
            if started.accepted || self.journals.contains_key(&started.run) {
                self.plays.insert(started.run, started.play.clone());
            }
        }
        for (run, play) in self.chaos.sent.iter().filter_map(|sent| sent.otherwise.as_ref()) {
            if self.journals.contains_key(run) {
                self.plays.insert(*run, play.clone());
            }
        }
        for run in self.firings.iter().filter_map(|firing| firing.run) {
            self.plays.insert(run, scheduled());
        }
        let mut children = Vec::new();
        for (run, play) in &self.plays {
            for recorded in self.journals.get(run).into_iter().flatten() {
                if let Some(child) = recorded.event["run"].as_str()
                    && recorded.is("started")
                    && let Some(Act::Child(play)) = act_of(play, recorded.step())
                {
                    children.push((child.parse().unwrap(), play.clone()));
                }
            }
        }
        self.plays.extend(children);
    }

    fn runs_end(&mut self) {
        for run in self.journals.keys().copied().collect::<Vec<_>>() {
            if !self.plays.contains_key(&run) {
                self.complain(Promise::Ends, run, "has a journal, and nobody started it");
            }
        }
        for (run, play) in self.plays.clone() {
            let journal = self.journals.remove(&run).unwrap_or_default();
            self.run_ends(run, &play, &journal);
            self.journals.insert(run, journal);
        }
    }

    fn run_ends(&mut self, run: Uuid, play: &Play, journal: &[Recorded]) {
        let left = self.left.get(&run).map(|(state, _)| state.clone());
        let ends = journal
            .iter()
            .filter(|r| r.is("finished") || r.is("gave_up") || r.is("cancelled"));
        let ends: Vec<&Recorded> = ends.collect();
        let (last, put_away) = match ends[..] {
            [last] => (last, false),
            [gave_up, last] if gave_up.is("gave_up") && last.is("cancelled") => (last, true),
            _ => {
                let what = format!("ended {} times, and is {left:?}", ends.len());
                return self.complain(Promise::Ends, run, &what);
            }
        };
        if !journal.last().is_some_and(|newest| std::ptr::eq(newest, last)) {
            return self.complain(Promise::Ends, run, "went on after its end");
        }
        if last.is("finished") {
            if let Some(state) = left {
                self.complain(Promise::Ends, run, &format!("is {state} after its end"));
            }
            let waits = play.acts.iter().filter(|act| matches!(act, Act::Wait(_))).count();
            let waited = journal
                .iter()
                .filter(|r| r.step() == "answer" && (r.is("received") || r.is("timed_out")));
            if waited.count() != waits {
                self.complain(Promise::Ends, run, "finished with a wrong number of waits");
            }
            for (act, step) in play.acts.iter().zip(STEPS) {
                if !matches!(act, Act::Wait(_)) && !journal.iter().any(|r| r.step() == step && r.ends(act)) {
                    self.complain(Promise::Ends, run, &format!("finished without {step}"));
                }
            }
        } else if last.is("gave_up") {
            let why = last.event["why"].as_str().unwrap_or_default();
            let known = ["gave up after", "refused for ever", "is unknown", "its worker died"];
            let expired = why.contains("expired") && self.is_perishable(run);
            if !(expired || known.iter().any(|known| why.contains(known))) || left.as_deref() != Some("failed") {
                self.complain(Promise::Ends, run, &format!("gave up because {why:?}, and is {left:?}"));
            }
        } else if !self.is_cancelled(run) || left.is_some() {
            let what = format!("learnt that it is cancelled, and is {left:?}; after it failed: {put_away}");
            self.complain(Promise::Ends, run, &what);
        }
    }

    fn is_cancelled(&self, run: Uuid) -> bool {
        let mut deeds = self.chaos.deeds.iter();
        deeds.any(|deed| deed.run == run && deed.action == Action::Cancel)
    }

    fn journal_is_whole(&mut self, run: Uuid, journal: &[Recorded]) {
        let mut before: Option<&Recorded> = None;
        for recorded in journal {
            let (seq, epoch, op) = before.map_or((0, 0, 0), |b| (b.seq, b.epoch, b.op));
            if recorded.seq > seq + 1 {
                self.complain(Promise::Journal, run, &format!("{} follows {seq}", recorded.seq));
            }
            if recorded.epoch < epoch || recorded.op < op {
                let what = format!("{} of epoch {} comes after epoch {epoch}", recorded.seq, recorded.epoch);
                self.complain(Promise::Journal, run, &what);
            }
            before = Some(recorded);
        }
    }

    fn effects_happen_once(&mut self, run: Uuid, journal: &[Recorded]) {
        for step in STEPS {
            let recorded = journal.iter().filter(|r| r.is("committed") && r.step() == step).count();
            let there = self.notes.remove(&(run, step.to_owned())).unwrap_or(0);
            if recorded > 1 || there != recorded {
                let what = format!("{step} is on record {recorded} times, and happened {there} times");
                self.complain(Promise::EffectOnce, run, &what);
            }
        }
    }

    fn nothing_happens_without_a_record(&mut self) {
        for (run, step) in std::mem::take(&mut self.notes).into_keys() {
            self.complain(Promise::EffectOnce, run, &format!("{step} happened without a record"));
        }
    }

    /// By the database's clock; where that was set back, so much less.
    fn waits_are_long_enough(&mut self, run: Uuid, journal: &[Recorded]) {
        let mut until: HashMap<&str, i64> = HashMap::new();
        for recorded in journal {
            if recorded.is("waiting") {
                let patience = recorded.event["patience_ms"].as_i64().unwrap() * 1_000;
                until.insert(recorded.step(), recorded.at + patience);
            }
            if recorded.is("timed_out") || recorded.is("resent") {
                let Some(until) = until.remove(recorded.step()) else {
                    continue;
                };
                if recorded.at + self.chaos.went_back < until {
                    let early = until - recorded.at;
                    self.complain(
                        Promise::Patience,
                        run,
                        &format!("{} ended {early} us early", recorded.step()),
                    );
                }
            }
        }
    }

    fn signals_are_received_once(&mut self, run: Uuid, journal: &[Recorded]) {
        let signals = self.signals.remove(&run).unwrap_or_default();
        let mut last = 0;
        for recorded in journal {
            if recorded.is("received") {
                let n = recorded.event["n"].as_i64().unwrap();
                let kept = signals.iter().find(|signal| signal.n == n);
                if kept.is_none_or(|kept| kept.payload != recorded.event["payload"]) || n <= last {
                    self.complain(Promise::Signal, run, &format!("received {n}, after {last}"));
                }
                last = n;
            }
            // What was there when the run was claimed is not overlooked.
            if recorded.is("timed_out") && recorded.step() == "answer" {
                let claimed = self.chaos.claimed.iter();
                let claimed = claimed.filter(|claim| claim.run == run && claim.epoch == recorded.epoch);
                let claimed = claimed.map(|claim| claim.op).min().unwrap_or(0);
                if let Some(lost) = signals.iter().find(|signal| signal.n > last && signal.op < claimed) {
                    self.complain(Promise::Signal, run, &format!("signal {} was overlooked", lost.n));
                }
            }
        }
        self.signals.insert(run, signals);
    }

    fn accepted_signals_are_kept(&mut self) {
        let otherwise = |sent: &&Sent| {
            sent.otherwise
                .as_ref()
                .is_some_and(|(run, _)| self.journals.contains_key(run))
        };
        let sent = self.chaos.sent.iter().filter(|sent| sent.accepted && !otherwise(sent));
        let mut wanted: HashSet<(Uuid, String)> = sent.map(|sent| (sent.run, sent.key.clone())).collect();
        for (run, journal) in &self.journals {
            for told in journal.iter().filter(|r| r.is("signalled")) {
                let peer = told.event["run"].as_str().unwrap().parse().unwrap();
                wanted.insert((peer, format!("{run} {}", told.step())));
            }
        }
        for (run, signals) in self.signals.clone() {
            for signal in signals {
                let sent = |sent: &&Sent| sent.run == run && sent.key == signal.key;
                let mut sent = self.chaos.sent.iter().filter(sent).peekable();
                if sent.peek().is_some() && !sent.any(|sent| signal.payload == sent.payload) {
                    self.complain(
                        Promise::Signal,
                        run,
                        &format!("signal {} is not as it was sent", signal.key),
                    );
                }
            }
        }
        for (run, key) in wanted {
            let kept = self
                .signals
                .get(&run)
                .into_iter()
                .flatten()
                .any(|signal| signal.key == key);
            if !kept {
                self.complain(Promise::Signal, run, &format!("signal {key} is lost"));
            }
        }
    }

    fn complain(&mut self, promise: Promise, run: Uuid, what: &str) {
        let name = self.names.get(&run).map_or("a run without a name", String::as_str);
        let of = format!("{name}: {what}");
        self.complaints.push(Complaint { promise, of });
    }
}

impl Recorded {
    fn is(&self, kind: &str) -> bool {
        self.event["event"] == kind
    }

    fn step(&self) -> &str {
        self.event["step"].as_str().unwrap_or_default()
    }

    /// Whether this is the end of such an act.
    fn ends(&self, act: &Act) -> bool {
        match act {
            Act::Call(_) => ["done", "confirmed", "failed", "expired"]
                .iter()
                .any(|end| self.is(end)),
            Act::Note => self.is("committed"),
            // On record under the name of its signal.
            Act::Wait(_) => false,
            Act::Sleep(_) => self.is("timed_out"),
            Act::Child(_) => self.is("started"),
            Act::Tell(_) => self.is("signalled"),
        }
    }
}

fn act_of<'a>(play: &'a Play, step: &str) -> Option<&'a Act> {
    let which = STEPS.iter().position(|name| *name == step)?;
    play.acts.get(which)
}
