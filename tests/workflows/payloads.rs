//! What runs have written is read for ever. `tests/payloads` keeps, workflow by workflow, whole journals as earlier versions
//! of the program wrote them; nothing in there is changed, only added to.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use crate::harness::{Client, Herald, eventually, http};

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
    live_through_everything(&herald).await;

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

/// Deliveries and callbacks of every kind, with every kind of trouble.
async fn live_through_everything(herald: &Herald) {
    crate::callbacks::tell_with_trouble(herald).await;
    let client = Client::live(herald);
    let delivered = client.send_text("07700900123").await;
    client.until(&delivered, "delivered").await;
    let late = format!("status=1&reference={delivered}&mobile=447700900123");
    let url = format!("{}/notifications/sms/firetext", herald.base_url);
    let form = "application/x-www-form-urlencoded";
    let answer = http()
        .post(url)
        .header("content-type", form)
        .body(late)
        .send()
        .await
        .unwrap();
    assert!(answer.status().is_success());

    let email = client.send_email("ada@example.com").await;
    client.until(&email, "delivered").await;
    let unknown = json!({"eventType": "Delivery", "notificationType": "Delivery", "mail": {"messageId": "nobody's", "destination": ["a@example.com"]}});
    assert_eq!(herald.post_ses(&unknown).await, 200);
    let complaint = json!({
        "eventType": "Complaint",
        "mail": {"messageId": "told by its tag", "tags": {"notification_id": [email]}},
        "complaint": {"feedbackId": "f-1", "complaintFeedbackType": "abuse", "timestamp": "2026-11-20T10:00:03.000Z"},
    });
    assert_eq!(herald.post_ses(&complaint).await, 200);

    // The clock starts it once a day.
    let house: Uuid = sqlx::query_scalar(
        "insert into engine.run (id, workflow, queue, state, due_at, input)
         values ($1, 'keep_house', 'periodic', 'ready', now(), '{}') returning id",
    )
    .bind(Uuid::now_v7())
    .fetch_one(&*herald.database)
    .await
    .unwrap();
    eventually("the house is kept", || async {
        let lives = "select exists (select from engine.run where id = $1)";
        let lives: bool = sqlx::query_scalar(lives)
            .bind(house)
            .fetch_one(&*herald.database)
            .await
            .unwrap();
        (!lives).then_some(())
    })
    .await;

    let tested = Client::test(herald);
    let text = tested.send_text("07700900003").await;
    tested.until(&text, "temporary-failure").await;
    let email = tested.send_email("perm-fail@simulator.notify").await;
    tested.until(&email, "permanent-failure").await;

    for fault in [
        json!({"status": 500}),
        json!({"hang": true, "accept": true, "missing_receipts": true, "times": 1}),
        json!({"reset_after_accept": true}),
    ] {
        for provider in ["firetext", "mmg"] {
            client.faults(provider, &fault).await;
        }
        let troubled = client.send_text("07700900123").await;
        eventually("trouble is recorded", || async {
            let failed: bool = sqlx::query_scalar(
                "select exists (select from engine.journal where run_id = $1::uuid and events::text like '%\"failed\"%')",
            )
            .bind(&troubled)
            .fetch_one(&*herald.database)
            .await
            .unwrap();
            failed.then_some(())
        })
        .await;
        for provider in ["firetext", "mmg"] {
            client.faults(provider, &json!([])).await;
        }
        let hurry = "update engine.run set due_at = now() where id = $1::uuid and state = 'sleeping'";
        eventually("it is delivered all the same", || async {
            sqlx::query(hurry)
                .bind(&troubled)
                .execute(&*herald.database)
                .await
                .unwrap();
            (client.get(&troubled).await["status"] == "delivered").then_some(())
        })
        .await;
    }
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
