//! Weights of providers at the built program: moved by the clock, and set by people.

mod slowness;

use serde_json::{Value, json};

use crate::harness::{Client, Herald, eventually, free_port, http};

/// Weights of the providers of texts, by name.
async fn weights(herald: &Herald) -> (i32, i32) {
    let weights = "select priority from provider_details where notification_type = 'sms' order by identifier";
    let weights: Vec<i32> = sqlx::query_scalar(weights).fetch_all(&*herald.database).await.unwrap();
    (weights[0], weights[1])
}

async fn execute(herald: &Herald, sql: &'static str) {
    sqlx::raw_sql(sql).execute(&*herald.database).await.unwrap();
}

/// Reasons of all moves so far, and the rules behind them, by time and name.
async fn moves(herald: &Herald) -> Vec<(String, i32, String, String)> {
    sqlx::query_as(
        "select identifier, priority, reason, numbers ->> 'rule' from provider_details_history
         where version > 1 order by updated_at, identifier",
    )
    .fetch_all(&*herald.database)
    .await
    .unwrap()
}

fn printed(herald: &Herald, arguments: &[&str]) -> String {
    let output = herald.command(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn objects(herald: &Herald, arguments: &[&str]) -> Vec<Value> {
    let lines = printed(herald, &[arguments, &["--json"]].concat());
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn refusal(herald: &Herald, arguments: &[&str]) -> String {
    let output = herald.command(arguments);
    assert!(!output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn the_beat_tends_weights_back_once_they_were_left_alone_for_a_quarter_of_an_hour() {
    let herald = Herald::start_without_workers().await;
    execute(
        &herald,
        "update provider_details set priority = case identifier when 'mmg' then 100 else 0 end,
             updated_at = (now() at time zone 'utc') - interval '16 minutes'
         where notification_type = 'sms';
         insert into engine.schedule values ('tend_providers_back', now() - interval '6 minutes')",
    )
    .await;
    let (_worker, _beats) = (herald.worker(), [herald.beat(), herald.beat()]);
    eventually("a step back is taken", || async {
        (weights(&herald).await == (10, 90)).then_some(())
    })
    .await;
    let (reason, rule) = ("Adjusted back to resting point".to_owned(), "resting_points".to_owned());
    assert_eq!(
        moves(&herald).await,
        [
            ("firetext".to_owned(), 10, reason.clone(), rule.clone()),
            ("mmg".to_owned(), 90, reason, rule)
        ]
    );
    let answer =
        "select e -> 'answer' from engine.firing f join engine.journal j using (run_id), jsonb_array_elements(events) e
                  where f.schedule = 'tend_providers_back' and e ->> 'event' = 'done'";
    let answer = eventually("the run is over", || async {
        let answers: Vec<Value> = sqlx::query_scalar(answer).fetch_all(&*herald.database).await.unwrap();
        answers.into_iter().find(|answer| !answer.is_null())
    })
    .await;
    assert_eq!(
        answer,
        json!({"rule": "resting_points", "weights": {"firetext": 10, "mmg": 90}})
    );
}

#[tokio::test]
async fn what_providers_did_is_seen_by_whoever_looks() {
    let herald = Herald::start_all().await;
    let client = Client::live(&herald);
    client.faults("firetext", &json!({"status": 500})).await;
    for _ in 0..6 {
        let id = client.send_text("07700900123").await;
        client.until(&id, "delivered").await;
    }
    let email = client.send_email("ada@example.com").await;
    client.until(&email, "delivered").await;
    eventually("all of it was shared", || async {
        let seen = objects(&herald, &["providers", "list"]);
        let of = |name: &str| seen.iter().find(|seen| seen["provider"] == name).unwrap()["last_minute"].clone();
        let (firetext, mmg, ses) = (of("firetext"), of("mmg"), of("ses"));
        assert_eq!(firetext["errors"], firetext["requests"]);
        assert_eq!(firetext["faults"], firetext["requests"]);
        let shared = mmg["requests"] == 6
            && ses["requests"] == 1
            && [&mmg, &ses].iter().all(|of| {
                of["errors"] == 0
                    && ["took_ms", "raw_ms", "waited_ms", "receipt_after_ms"]
                        .iter()
                        .all(|ms| of[ms].is_i64())
            });
        shared.then_some(())
    })
    .await;
    let table = printed(&herald, &["providers", "list"]);
    assert!(table.starts_with("PROVIDER") && table.lines().count() == 4, "{table}");
}

#[tokio::test]
async fn a_provider_that_fails_loses_its_texts_and_the_move_tells_why() {
    let herald = Herald::start_all().await;
    let client = Client::live(&herald);
    client.faults("firetext", &json!({"status": 500})).await;
    eventually("texts have left Firetext", || async {
        client.send_text("07700900123").await;
        (weights(&herald).await == (0, 100)).then_some(())
    })
    .await;
    let rule = "outage".to_owned();
    let (up, down) = (
        "Increased due to reduced reliability in other provider".to_owned(),
        "Reduced due to reduced reliability".to_owned(),
    );
    assert_eq!(
        moves(&herald).await,
        [
            ("firetext".to_owned(), 0, down, rule.clone()),
            ("mmg".to_owned(), 100, up, rule)
        ]
    );
    let numbers = "select numbers from provider_details_history where identifier = 'firetext' and version = 2";
    let numbers: Value = sqlx::query_scalar(numbers).fetch_one(&*herald.database).await.unwrap();
    let before = &numbers["firetext"]["last_minute"];
    assert!(
        before["faults"].as_i64() >= Some(5) && before["faults"] == before["requests"],
        "{numbers}"
    );
    assert_eq!(numbers["mmg"]["last_minute"]["faults"], 0, "{numbers}");
}

#[tokio::test]
async fn more_errors_in_a_minute_than_are_allowed_cost_a_provider_a_step() {
    let herald = Herald::start_without_workers().await;
    execute(
        &herald,
        "update provider_details set updated_at = (now() at time zone 'utc') - interval '2 minutes'",
    )
    .await;
    // Notify's rule alone, with a smaller number.
    let rule = [("PROVIDER_ERRORS_A_MINUTE", "3"), ("PROVIDER_OUTAGE_FAULTS", "1000000")];
    let _worker = herald.worker_with("all", &rule);
    let client = Client::live(&herald);
    // Who has taken one does not fail altogether.
    eventually("Firetext has taken a text", || async {
        let id = client.send_text("07700900123").await;
        client.until(&id, "delivered").await;
        (client.phone(&id).await[0]["provider"] == "firetext").then_some(())
    })
    .await;
    client.faults("firetext", &json!({"status": 500, "times": 4})).await;
    eventually("a step is taken", || async {
        client.send_text("07700900123").await;
        (weights(&herald).await != (49, 51)).then_some(())
    })
    .await;
    let rule = "errors".to_owned();
    let (up, down) = (
        "Increased due to reduced reliability in other provider".to_owned(),
        "Reduced due to reduced reliability".to_owned(),
    );
    assert_eq!(
        moves(&herald).await,
        [
            ("firetext".to_owned(), 39, down, rule.clone()),
            ("mmg".to_owned(), 61, up, rule)
        ]
    );
    let numbers = "select numbers -> 'firetext' -> 'last_minute' -> 'errors' from provider_details_history
                   where identifier = 'firetext' and version = 2";
    let errors: Value = sqlx::query_scalar(numbers).fetch_one(&*herald.database).await.unwrap();
    assert_eq!(errors, 4, "three were allowed");
}

#[tokio::test]
async fn while_every_provider_fails_there_is_one_alert_in_the_status_and_the_list_until_one_is_well() {
    let herald = Herald::start_without_workers().await;
    let _worker = herald.worker_with("all", &[("PROVIDER_OUTAGE_ALERT_SECONDS", "2")]);
    let client = Client::live(&herald);
    let alerts = async || {
        let answer = http().get(format!("{}/_status", herald.base_url)).send().await.unwrap();
        assert_eq!(answer.status(), 200, "this process is well");
        answer.json::<Value>().await.unwrap()["alerts"].clone()
    };
    assert_eq!(alerts().await, Value::Null);
    client.faults("firetext", &json!({"status": 500})).await;
    client.faults("mmg", &json!({"reset_before": true})).await;
    eventually("the alert is raised", || async {
        client.send_text("07700900123").await;
        (alerts().await == json!(["sms_failing"])).then_some(())
    })
    .await;
    let metrics = free_port();
    let _beat = herald.role_with(&["beat"], &[("METRICS_PORT", &metrics.to_string())]);
    eventually("the metric tells it, and where texts go", || async {
        let page = http().get(format!("http://127.0.0.1:{metrics}/metrics")).send().await;
        let page = page.ok()?.text().await.ok()?;
        let is_told = |line: &str| page.lines().any(|found| found == line);
        let told = [
            r#"alert{name="sms_failing"} 1"#,
            r#"alert{name="email_failing"} 0"#,
            r#"provider_priority{provider_name="firetext"} 49"#,
        ];
        told.into_iter().all(is_told).then_some(())
    })
    .await;
    let table = printed(&herald, &["providers", "list"]);
    assert_eq!(table.matches("ALERT sms_failing since").count(), 1, "{table}");
    assert_eq!(weights(&herald).await, (49, 51), "there is nowhere to go");

    client.faults("firetext", &json!({})).await;
    client.faults("mmg", &json!({})).await;
    eventually("the alert is over", || async {
        for _ in 0..5 {
            client.send_text("07700900123").await;
        }
        (alerts().await == Value::Null).then_some(())
    })
    .await;
    assert!(!printed(&herald, &["providers", "list"]).contains("ALERT"));
}

#[tokio::test]
async fn without_credentials_for_ses_nothing_leaves_and_somebody_is_called() {
    let herald = Herald::start_without_workers().await;
    let nowhere = [
        ("AWS_ACCESS_KEY_ID", ""),
        ("AWS_SECRET_ACCESS_KEY", ""),
        ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
        ("AWS_CONFIG_FILE", "/dev/null"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ];
    let _worker = herald.worker_with("all", &nowhere);
    let client = Client::live(&herald);
    client.send_email("ada@example.com").await;
    let failed = "select e ->> 'outcome', e ->> 'why' from engine.journal, jsonb_array_elements(events) e
                  where e ->> 'event' = 'failed'";
    let failed: (String, String) = eventually("an attempt has failed", || async {
        sqlx::query_as(failed).fetch_optional(&*herald.database).await.unwrap()
    })
    .await;
    let why = "Request failed: credentials could not be had".to_owned();
    assert_eq!(failed, ("refused".to_owned(), why));
    eventually("people are told", || async {
        let list = objects(&herald, &["providers", "list"]);
        list.iter().any(|seen| seen["alert"] == "ses_refuses_us").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_key_that_firetext_refuses_calls_somebody_until_firetext_is_disabled() {
    let herald = Herald::start_all().await;
    let client = Client::live(&herald);
    let revoked = json!({"status": 200, "accept": false, "code": "1", "message": "Authentication error"});
    client.faults("firetext", &revoked).await;
    let is_raised = || {
        let list = objects(&herald, &["providers", "list"]);
        list.iter().any(|seen| seen["alert"] == "firetext_refuses_us")
    };
    eventually("people are told, and texts leave Firetext", || async {
        client.send_text("07700900123").await;
        (weights(&herald).await == (0, 100) && is_raised()).then_some(())
    })
    .await;
    let disable = ["providers", "disable", "firetext", "--reason", "the key is revoked"];
    assert_eq!(printed(&herald, &disable), "firetext is disabled\n");
    eventually("the alert is over", || async {
        client.send_text("07700900123").await;
        (!is_raised()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn people_set_weights_and_no_rule_moves_them_until_they_lift_that() {
    let herald = Herald::start_without_workers().await;
    let because = ["--reason", "Firetext asks for less"];
    let deed = |arguments: &[&str]| printed(&herald, &[&["providers"], arguments, &because].concat());
    assert_eq!(deed(&["set-priority", "firetext", "30"]), "firetext is pinned at 30\n");
    assert_eq!(weights(&herald).await, (30, 70));
    // A return is long due, and yet.
    execute(
        &herald,
        "update provider_details set updated_at = (now() at time zone 'utc') - interval '1 hour';
         insert into engine.schedule values ('tend_providers_back', now() - interval '6 minutes')",
    )
    .await;
    let (_worker, _beat) = (herald.worker(), herald.beat());
    let looked =
        "select count(*) from engine.firing f join engine.journal j using (run_id), jsonb_array_elements(events) e
                  where f.schedule = 'tend_providers_back' and e ->> 'event' = 'finished'";
    let looks = async |enough: i64| {
        eventually("the beat has looked", || async {
            let looks: i64 = sqlx::query_scalar(looked).fetch_one(&*herald.database).await.unwrap();
            (looks >= enough).then_some(())
        })
        .await;
    };
    looks(1).await;
    assert_eq!(weights(&herald).await, (30, 70));
    let list = objects(&herald, &["providers", "list"]);
    let firetext = list.iter().find(|seen| seen["provider"] == "firetext").unwrap();
    assert_eq!(
        (&firetext["pinned"], &firetext["weight"], &firetext["resting_point"]),
        (&json!(true), &json!(30), &json!(49))
    );
    assert_eq!(
        (&firetext["by"], &firetext["reason"]),
        (&json!("ada"), &json!(because[1]))
    );

    assert_eq!(deed(&["lift", "firetext"]), "firetext is left to the rules\n");
    assert_eq!(deed(&["disable", "mmg"]), "mmg is disabled\n");
    let refused = |arguments: &[&str]| refusal(&herald, &[&["providers"], arguments, &because].concat());
    assert!(refused(&["disable", "firetext"]).contains("the last active provider"));
    assert!(refused(&["disable", "mmg"]).contains("disabled already"));
    assert!(refused(&["lift", "mmg"]).contains("enable it"));
    assert!(refused(&["lift", "firetext"]).contains("is not pinned"));
    assert!(refused(&["set-priority", "firetext", "101"]).contains("0..=100"));
    assert!(refused(&["enable", "o2"]).contains("known are: ses, firetext, mmg"));
    assert!(refusal(&herald, &["providers", "lift", "firetext"]).contains("--reason"));
    let client = Client::live(&herald);
    let id = client.send_text("07700900123").await;
    client.until(&id, "delivered").await;
    assert_eq!(client.phone(&id).await[0]["provider"], "firetext");
    assert_eq!(deed(&["enable", "mmg"]), "mmg is enabled\n");

    let history = objects(&herald, &["providers", "history", "mmg"]);
    let active: Vec<bool> = history
        .iter()
        .map(|version| version["active"].as_bool().unwrap())
        .collect();
    assert_eq!(active, [true, false, true, true], "{history:?}");
    assert_eq!(history[0]["numbers"]["wish"], "enabled");
    assert!(printed(&herald, &["providers", "history"]).contains("Firetext asks for less"));
}
