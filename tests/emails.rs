//! What becomes of an email with each refusal of SES, at the built program, and what its log says of that.

use serde_json::{Value, json};

use crate::harness::{Client, Herald, eventually};

/// Names a person, so it stands in no log.
const PERSON: &str = "ada.lovelace";

/// All that the program itself says.
const LEVELS: &str = "info,herald_engine=debug,herald_providers=debug,herald_workflows=debug,herald=debug";

const THROTTLED: &str = "SES refuses emails because there are too many a second";
const OVER_QUOTA: &str = "SES refuses emails because the quota of the day is used up";

/// The refusal repeats the address, as SES does.
fn refusal(code: &str, message: &str, times: u32) -> Value {
    json!({"status": 400, "code": code, "message": format!("{message} {PERSON}@example.com"), "times": times})
}

/// Why each attempt of a message has failed, in order.
async fn failures(herald: &Herald, id: &str) -> Vec<String> {
    let why = "select e ->> 'why' from engine.journal, jsonb_array_elements(events) e
        where run_id = $1::uuid and e ->> 'event' = 'failed' order by seq";
    sqlx::query_scalar(why)
        .bind(id)
        .fetch_all(&*herald.database)
        .await
        .unwrap()
}

/// When its next attempt is due, in seconds, once it has failed and waits for that.
async fn until_it_backs_off(herald: &Herald, id: &str) -> f64 {
    let left = "select extract(epoch from due_at - now())::float8 from engine.run
        where id = $1::uuid and state = 'sleeping' and queue = 'retry-email'";
    eventually("the email is to be sent again", || async {
        sqlx::query_scalar(left)
            .bind(id)
            .fetch_optional(&*herald.database)
            .await
            .unwrap()
    })
    .await
}

async fn it_is_due(herald: &Herald, id: &str) {
    let due = "update engine.run set due_at = now() where id = $1::uuid and state = 'sleeping'";
    let due = sqlx::query(due).bind(id).execute(&*herald.database).await.unwrap();
    assert_eq!(due.rows_affected(), 1);
}

/// The lines with these words, and how severe they are.
fn told(log: &str, words: &str) -> Vec<String> {
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines
        .filter(|line| line["fields"]["message"] == words)
        .map(|line| line["level"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn each_refusal_of_ses_is_told_as_it_deserves_and_never_with_an_address() {
    let herald = Herald::start_without_workers().await;
    let client = Client::live(&herald);
    let log = std::env::temp_dir().join(format!("herald-log-{}", uuid::Uuid::new_v4()));
    let _worker = herald.worker_logging(&log, &[("HERALD_LOG", LEVELS)]);
    let logged = || std::fs::read_to_string(&log).unwrap();
    let send = async || client.send_email(&format!("{PERSON}@example.com")).await;

    let too_fast = refusal("Throttling", "Maximum sending rate exceeded.", 1);
    client.faults("ses", &too_fast).await;
    let throttled = send().await;
    until_it_backs_off(&herald, &throttled).await;
    it_is_due(&herald, &throttled).await;
    client.until(&throttled, "delivered").await;
    assert_eq!(client.phone(&throttled).await.len(), 1);
    let why = ["Request refused: maximum sending rate exceeded (400)"];
    assert_eq!(failures(&herald, &throttled).await, why);
    assert_eq!(told(&logged(), THROTTLED), ["WARN"]);

    let over = refusal("Throttling", "Daily message quota exceeded.", 2);
    client.faults("ses", &over).await;
    let over_quota = [send().await, send().await];
    for id in &over_quota {
        let left = until_it_backs_off(&herald, id).await;
        assert!(left > 800.0, "it is tried again in {left} s, when nothing has changed");
    }
    assert_eq!(told(&logged(), OVER_QUOTA), ["ERROR"], "once for all");
    for id in &over_quota {
        it_is_due(&herald, id).await;
        client.until(id, "delivered").await;
        assert_eq!(failures(&herald, id).await.len(), 1);
    }

    let invalid = refusal(
        "InvalidParameterValue",
        "Local address contains control or whitespace:",
        1,
    );
    client.faults("ses", &invalid).await;
    let bad = send().await;
    client.until(&bad, "technical-failure").await;
    let why = ["Request refused: InvalidParameterValue (400)"];
    assert_eq!(failures(&herald, &bad).await, why);
    eventually("its run has failed, and is not tried again", || async {
        let state = "select state from engine.run where id = $1::uuid";
        let state: Option<String> = sqlx::query_scalar(state)
            .bind(&bad)
            .fetch_optional(&*herald.database)
            .await
            .unwrap();
        (state? == "failed").then_some(())
    })
    .await;
    assert!(client.phone(&bad).await.is_empty());

    let logged = logged();
    std::fs::remove_file(&log).unwrap();
    assert!(logged.lines().count() > 10, "there is a log to look at: {logged}");
    assert!(logged.contains(&bad), "its failure is told: {logged}");
    let named: Vec<&str> = logged.lines().filter(|line| line.contains(PERSON)).collect();
    assert!(named.is_empty(), "{named:#?}");
}
