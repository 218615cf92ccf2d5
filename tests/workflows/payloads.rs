//! What runs have written is read for ever. `tests/payloads` keeps, workflow by workflow, whole journals as earlier versions
//! of the program wrote them; nothing in there is changed, only added to.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use herald_engine::Outcome;
use herald_message::{receipt::Provider, status::Status};
use herald_store::CallbackType;
use herald_workflows::{switch_providers::Occasion, switching::Rule};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use super::lives;
use crate::harness::{Herald, words};

/// One life of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Life {
    input: Value,
    /// The events of each checkpoint.
    journal: Vec<Value>,
    /// Names, keys and payloads.
    signals: Vec<(String, String, Value)>,
}

/// By workflow.
type Lives = BTreeMap<String, Vec<Life>>;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/payloads")
}

fn kept() -> Lives {
    let mut lives = Lives::new();
    for file in std::fs::read_dir(folder()).unwrap() {
        let path = file.unwrap().path();
        let workflow = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let content = std::fs::read_to_string(&path).unwrap();
        lives.insert(workflow, serde_json::from_str(&content).unwrap());
    }
    lives
}

#[tokio::test]
async fn every_journal_ever_written_is_still_played_from_each_of_its_positions() {
    let herald = Herald::start_without_workers().await;
    let mut positions = 0;
    for (workflow, lives) in kept() {
        for life in lives {
            // A run that has ended is played no more.
            for length in 0..life.journal.len() {
                insert(&herald.database, &workflow, &life, length).await;
                positions += 1;
            }
        }
    }
    assert!(positions > 20, "{positions}");
    let checked = herald.command(&["check-upgrade"]);
    let (out, err) = (
        String::from_utf8_lossy(&checked.stdout),
        String::from_utf8_lossy(&checked.stderr),
    );
    assert!(checked.status.success(), "{out}{err}");
    assert_eq!(out, format!("all {positions} live runs can go on\n"));
}

/// A run that stands after the first `length` checkpoints of this life.
async fn insert(pool: &PgPool, workflow: &str, life: &Life, length: usize) {
    let run = Uuid::now_v7();
    sqlx::query(
        "insert into engine.run (id, workflow, queue, state, due_at, epoch, input) values ($1, $2, 'send-sms', 'ready', now(), 1, $3)",
    )
    .bind(run)
    .bind(workflow)
    .bind(&life.input)
    .execute(pool)
    .await
    .unwrap();
    for (seq, events) in (1i32..).zip(&life.journal[..length]) {
        sqlx::query("insert into engine.journal (run_id, seq, epoch, events) values ($1, $2, 1, $3)")
            .bind(run)
            .bind(seq)
            .bind(events)
            .execute(pool)
            .await
            .unwrap();
    }
    for (name, key, payload) in &life.signals {
        sqlx::query("insert into engine.signal (run_id, name, key, payload) values ($1, $2, $3, $4)")
            .bind(run)
            .bind(name)
            .bind(key)
            .bind(payload)
            .execute(pool)
            .await
            .unwrap();
    }
}

/// Kinds of events that no story writes yet.
const UNWRITTEN: [&str; 1] = ["started"];

#[tokio::test]
async fn each_workflow_and_each_kind_of_event_is_among_what_is_kept() {
    let lives = kept();
    let known: BTreeSet<String> = lives.keys().cloned().collect();
    assert_eq!(known, registered());

    let herald = Herald::start_without_workers().await;
    let unreadable = Life {
        input: json!({}),
        journal: vec![json!([{"event": "from the future"}])],
        signals: Vec::new(),
    };
    insert(&herald.database, "keep_house", &unreadable, 1).await;
    let words = words(&herald.command(&["check-upgrade"]));
    let (_, kinds) = words.split_once("expected one of ").unwrap();
    let kinds: BTreeSet<&str> = kinds.split('`').skip(1).step_by(2).collect();
    let events = lives.values().flatten().flat_map(|life| &life.journal);
    let events = events.flat_map(|events| events.as_array().unwrap());
    let mut written: BTreeSet<&str> = events.map(|event| event["event"].as_str().unwrap()).collect();
    assert!(UNWRITTEN.iter().all(|kind| written.insert(kind)), "it is written");
    assert_eq!(written, kinds);
}

/// The names of all workflows that a worker can play, from their files.
fn registered() -> BTreeSet<String> {
    let stories = Path::new(env!("CARGO_MANIFEST_DIR")).join("workflows");
    let registry = std::fs::read_to_string(stories.join("lib.rs")).unwrap();
    let modules = registry.lines().filter_map(|line| line.trim().strip_prefix(".add::<"));
    let names = modules.map(|line| {
        let (module, _) = line.split_once("::").unwrap();
        let story = std::fs::read_to_string(stories.join(format!("{module}.rs"))).unwrap();
        let (_, name) = story.split_once("const NAME: &'static str = \"").unwrap();
        name.split_once('"').unwrap().0.to_owned()
    });
    names.collect()
}

/// Whatever the kept journals happen to hold of them.
#[test]
fn the_words_that_journals_may_hold_are_still_read_and_written_as_they_were() {
    frozen::<Provider>(&["firetext", "mmg", "ses"]);
    frozen::<Status>(&[
        "created",
        "sending",
        "sent",
        "delivered",
        "pending",
        "failed",
        "technical-failure",
        "temporary-failure",
        "permanent-failure",
        "pending-virus-check",
        "validation-failed",
        "virus-scan-failed",
        "returned-letter",
        "cancelled",
    ]);
    frozen::<CallbackType>(&["delivery_status", "complaint", "returned_letter", "inbound_sms"]);
    frozen::<Occasion>(&["slow_delivery", "resting_points"]);
    frozen::<Rule>(&["outage", "errors", "slow_delivery", "resting_points"]);
    frozen::<Outcome>(&["refused", "never", "unknown"]);
}

fn frozen<T: Serialize + DeserializeOwned>(words: &[&str]) {
    for word in words {
        let read: T = serde_json::from_value(json!(word)).unwrap();
        assert_eq!(serde_json::to_value(read).unwrap(), json!(word));
    }
}

#[tokio::test]
async fn whatever_is_written_today_is_among_what_is_kept() {
    let herald = Herald::start_all().await;
    sqlx::raw_sql(
        "create table input (run uuid, workflow text, input jsonb);
         create function keep_input() returns trigger language plpgsql as
             'begin insert into input values (new.id, new.workflow, new.input); return null; end';
         create trigger keep_input after insert on engine.run for each row execute function keep_input();",
    )
    .execute(&*herald.database)
    .await
    .unwrap();
    lives::live_through_everything(&herald).await;

    let known: BTreeSet<String> = forms(&kept());
    let today = written(&herald.database).await;
    let new: Vec<String> = forms(&today).difference(&known).cloned().collect();
    if !new.is_empty() && std::env::var_os("HERALD_KEEP_PAYLOADS").is_some() {
        keep(&today, &known);
    }
    assert!(
        new.is_empty(),
        "these forms are not among tests/payloads yet; HERALD_KEEP_PAYLOADS=1 adds them: {new:#?}"
    );
}

async fn written(pool: &PgPool) -> Lives {
    let runs: Vec<(Uuid, String, Value)> = sqlx::query_as("select run, workflow, input from input")
        .fetch_all(pool)
        .await
        .unwrap();
    let mut lives = Lives::new();
    for (run, workflow, input) in runs {
        let journal = sqlx::query_scalar("select events from engine.journal where run_id = $1 order by seq")
            .bind(run)
            .fetch_all(pool)
            .await
            .unwrap();
        let signals = sqlx::query_as("select name, key, payload from engine.signal where run_id = $1 order by n")
            .bind(run)
            .fetch_all(pool)
            .await
            .unwrap();
        lives.entry(workflow).or_default().push(Life {
            input,
            journal,
            signals,
        });
    }
    lives
}

/// What each event, input and signal looks like: their keys, without values.
fn forms(lives: &Lives) -> BTreeSet<String> {
    let mut forms = BTreeSet::new();
    for (workflow, lives) in lives {
        for life in lives {
            forms.insert(format!("{workflow} input {}", form(&life.input)));
            for event in life.journal.iter().flat_map(|events| events.as_array().unwrap()) {
                let (kind, step) = (&event["event"], event["step"].as_str().unwrap_or_default());
                forms.insert(format!("{workflow} {kind} {step} {}", form(event)));
            }
            for (name, _, payload) in &life.signals {
                forms.insert(format!("{workflow} signal {name} {}", form(payload)));
            }
        }
    }
    forms
}

fn form(value: &Value) -> String {
    match value {
        Value::Object(object) => {
            let mut keys: Vec<String> = object
                .iter()
                .map(|(key, value)| format!("{key}{}", form(value)))
                .collect();
            keys.sort();
            format!("{{{}}}", keys.join(" "))
        }
        Value::Array(items) => format!("[{}]", items.first().map(form).unwrap_or_default()),
        _ => String::new(),
    }
}

/// Adds the lives that show something new.
fn keep(today: &Lives, known: &BTreeSet<String>) {
    let (mut all, mut known) = (kept(), known.clone());
    for (workflow, lives) in today {
        for life in lives {
            let forms = forms(&Lives::from([(workflow.clone(), vec![life.clone()])]));
            if forms.difference(&known).next().is_some() {
                known.extend(forms);
                all.entry(workflow.clone()).or_default().push(life.clone());
            }
        }
    }
    for (workflow, lives) in all {
        let file = folder().join(format!("{workflow}.json"));
        let content = serde_json::to_string_pretty(&lives).unwrap();
        std::fs::write(file, content + "\n").unwrap();
    }
}
