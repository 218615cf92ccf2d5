//! What operators see and do: by commands of the built program, and by the internal API.

use serde_json::{Value, json};

use crate::harness::{Admin, Client, Herald, SERVICE, eventually};

/// What a command printed, which must have succeeded.
fn printed(herald: &Herald, arguments: &[&str]) -> String {
    let output = herald.command(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The objects that a command printed with `--json`.
fn objects(herald: &Herald, arguments: &[&str]) -> Vec<Value> {
    let lines = printed(herald, &[arguments, &["--json"]].concat());
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Why a command failed.
fn refusal(herald: &Herald, arguments: &[&str]) -> String {
    let output = herald.command(arguments);
    assert!(!output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

async fn audited(herald: &Herald) -> i64 {
    let count = sqlx::query_scalar("select count(*) from engine.audit");
    count.fetch_one(&*herald.database).await.unwrap()
}

#[tokio::test]
async fn a_system_that_starts_paused_moves_nothing_until_its_queues_are_opened_one_by_one() {
    let herald = Herald::start_without_workers().await;
    printed(&herald, &["migrate", "--start-paused"]);
    let _worker = herald.worker();
    let client = Client::live(&herald);
    let text = client.send_text("07700900123").await;
    let email = client.send_email("ada@example.com").await;
    let shown = objects(&herald, &["runs", "show", &text]);
    assert_eq!(shown[0]["live"]["standstill"]["kind"], "queue_paused", "{shown:?}");
    assert!(printed(&herald, &["runs", "show", &text]).contains("the queue send-sms is paused"));

    let open = |queue: &'static str| printed(&herald, &["queues", "resume", queue, "--reason", "it looks well"]);
    assert_eq!(open("send-email"), "send-email is open\n");
    eventually("the email has left", || async {
        (client.phone(&email).await.len() == 1).then_some(())
    })
    .await;
    // The same worker had every chance to send the text as well.
    assert_eq!(client.get(&text).await["status"], "created");
    assert!(client.phone(&text).await.is_empty());
    let queues = objects(&herald, &["queues", "list"]);
    let queue = |name: &str| queues.iter().find(|queue| queue["name"] == name).unwrap();
    assert_eq!(queue("send-sms")["paused"], true);
    assert_eq!(queue("send-sms")["counts"][0]["state"], "ready");
    assert_eq!(queue("send-sms")["counts"][0]["runs"], 1);
    assert_eq!(queue("send-email")["paused"], false);
    assert_eq!(queue("retry")["paused"], true);

    open("send-sms");
    eventually("the text has left", || async {
        (client.phone(&text).await.len() == 1).then_some(())
    })
    .await;
    let (_, audit) = Admin::new(&herald).get("/engine/audit?limit=2").await;
    assert_eq!(audit["entries"][0]["target"], json!({"queue": "send-sms"}));
    assert_eq!(audit["entries"][0]["actor"], "ada");
    assert_eq!(audit["entries"][0]["reason"], "it looks well");
    let (_, audit) = Admin::new(&herald)
        .get(&format!("/engine/audit?before={}", audit["next"]))
        .await;
    assert_eq!(audit["entries"][0]["action"], "pause_queue");
    assert_eq!(audit["entries"][0]["target"], json!({"queue": "*"}));
    assert_eq!(audit["next"], Value::Null);
}

#[tokio::test]
async fn a_text_that_is_cancelled_in_time_never_reaches_the_phone() {
    let herald = Herald::start_all().await;
    let (client, admin) = (Client::live(&herald), Admin::new(&herald));
    let reason = json!({"reason": "wrong numbers"});
    assert_eq!(admin.post("/engine/queues/send-sms/pause", &reason).await.0, 200);
    let (cancelled, sent) = (
        client.send_text("07700900123").await,
        client.send_text("07700900124").await,
    );
    let cancel = format!("/engine/runs/{cancelled}/cancel");
    assert_eq!(admin.post(&cancel, &reason).await, (200, json!({"changed": 1})));
    let (status, again) = admin.post(&cancel, &reason).await;
    assert_eq!(status, 409, "{again}");
    assert_eq!(
        again["message"],
        "cancel makes no sense for a run that is ready and cancelled"
    );

    admin.post("/engine/queues/send-sms/resume", &reason).await;
    client.until(&cancelled, "cancelled").await;
    client.until(&sent, "delivered").await;
    assert!(client.phone(&cancelled).await.is_empty());
    let (_, run) = admin.get(&format!("/engine/runs/{cancelled}")).await;
    assert_eq!(
        (&run["state"], &run["live"]),
        (&json!("cancelled"), &Value::Null),
        "{run}"
    );
    let (_, audit) = admin.get("/engine/audit").await;
    let entry = &audit["entries"][1];
    assert_eq!(entry["actor"], "notify-admin (user ada)");
    assert_eq!(entry["reason"], "wrong numbers");
    assert_eq!(entry["target"], json!({"ids": [cancelled]}));
}

#[tokio::test]
async fn runs_are_listed_paused_resumed_and_redriven_by_selection() {
    let herald = Herald::start_without_workers().await;
    let client = Client::live(&herald);
    let mut texts = Vec::new();
    for number in ["07700900123", "07700900124", "07700900125"] {
        texts.push(client.send_text(number).await);
    }
    client.send_email("ada@example.com").await;
    let ids = |arguments: &[&str]| -> Vec<Value> {
        objects(&herald, arguments)
            .into_iter()
            .map(|run| run["id"].clone())
            .collect()
    };
    assert_eq!(ids(&["runs", "list", "--queue", "send-sms"]), texts);
    assert_eq!(
        ids(&["runs", "list", "--after", &texts[0], "--limit", "1"]),
        [texts[1].as_str()]
    );

    let pause = ["runs", "pause", "--workflow", "deliver_sms", "--reason", "a look first"];
    assert_eq!(
        objects(&herald, &[&pause[..], &["--dry-run"]].concat()),
        [json!({"would_change": 3})]
    );
    assert_eq!(audited(&herald).await, 0);
    assert_eq!(printed(&herald, &pause), "3 runs are paused\n");
    let listed = printed(&herald, &["runs", "list"]);
    assert_eq!(listed.matches("people paused it: a look first").count(), 3, "{listed}");
    let resume = ["runs", "resume", &texts[0], "--reason", "fine"];
    assert_eq!(printed(&herald, &resume), "1 run is resumed\n");
    assert!(refusal(&herald, &resume).contains("1 of 1 left as they are"));

    sqlx::query(
        "update engine.run set state = 'failed', due_at = 'infinity', last_error = 'a 503' where id::text = $1",
    )
    .bind(&texts[0])
    .execute(&*herald.database)
    .await
    .unwrap();
    let dead = printed(&herald, &["runs", "dead"]);
    assert!(dead.lines().count() == 2 && dead.contains("a 503"), "{dead}");
    let admin = Admin::new(&herald);
    let (_, failed) = admin.get("/engine/runs?state=failed&limit=1").await;
    assert_eq!(failed["runs"][0]["standstill"]["kind"], "failed");
    assert_eq!(failed["next"], failed["runs"][0]["id"]);
    let selection = json!({"selection": {"error": "503"}, "reason": "it is back"});
    let redriven = admin.post("/engine/runs/redrive", &selection).await;
    assert_eq!(redriven, (200, json!({"changed": 1})));
    let texts_of = json!({"selection": {"queue": "send-sms"}, "reason": "a look first"});
    for (deed, changed) in [("resume", 2), ("pause", 3), ("resume", 3)] {
        let done = admin.post(&format!("/engine/runs/{deed}"), &texts_of).await;
        assert_eq!(done, (200, json!({"changed": changed})), "{deed}");
    }
    for (deed, paused) in [("pause", true), ("resume", false)] {
        let reason = json!({"reason": "a look first"});
        let (status, _) = admin.post(&format!("/engine/queues/all/{deed}"), &reason).await;
        assert_eq!(status, 200, "{deed}");
        let (_, queues) = admin.get("/engine/queues").await;
        let are: Vec<_> = queues["queues"]
            .as_array()
            .unwrap()
            .iter()
            .map(|queue| queue["paused"].clone())
            .collect();
        assert!(!are.is_empty() && are.iter().all(|is| *is == json!(paused)), "{queues}");
    }
    let all = json!({"all": true, "reason": "the end"});
    assert_eq!(
        admin.post("/engine/runs/cancel", &all).await,
        (200, json!({"changed": 4}))
    );
}

#[tokio::test]
async fn a_run_tells_its_whole_story() {
    let herald = Herald::start_all().await;
    let (client, admin) = (Client::live(&herald), Admin::new(&herald));
    let firms = ["firetext", "mmg"];
    for firm in firms {
        client.faults(firm, &json!({"status": 503})).await;
    }
    let text = client.send_text("07700900123").await;
    let path = format!("/engine/runs/{text}");
    let backs_off = eventually("it backs off for a while", || async {
        let (_, run) = admin.get(&path).await;
        (run["live"]["state"] == "sleeping" && run["live"]["attempt"] == 2).then_some(run["live"].clone())
    })
    .await;
    assert_eq!(backs_off["standstill"]["kind"], "back_off");
    assert_eq!(backs_off["standstill"]["until"], backs_off["due_at"]);
    for firm in firms {
        client.faults(firm, &json!({})).await;
    }
    sqlx::query("update engine.run set due_at = now()")
        .execute(&*herald.database)
        .await
        .unwrap();
    let run = eventually("it ends", || async {
        let (_, run) = admin.get(&path).await;
        (run["state"] == "finished").then_some(run)
    })
    .await;

    let timeline = run["timeline"].as_array().unwrap();
    let of = |kinds: &[&str]| -> Vec<&Value> {
        let wanted = |entry: &&Value| kinds.contains(&entry["kind"].as_str().unwrap());
        timeline.iter().filter(wanted).collect()
    };
    assert!(
        timeline.is_sorted_by_key(|entry| entry["at"].as_str().unwrap()),
        "{run}"
    );
    let attempts: Vec<(&str, u64)> = of(&["intent", "failed", "done"])
        .iter()
        .map(|entry| {
            (
                entry["kind"].as_str().unwrap(),
                entry["details"]["attempt"].as_u64().unwrap(),
            )
        })
        .collect();
    let refused = |attempt| [("intent", attempt), ("failed", attempt)];
    let expected = [refused(1), refused(2), [("intent", 3), ("done", 3)]].concat();
    assert_eq!(attempts, expected, "{run}");
    for answered in of(&["failed", "done"]) {
        assert!(
            answered["step"] == "send" && answered["details"]["took_ms"].is_u64(),
            "{answered}"
        );
    }
    // Each attempt by a claim of its own, and another that takes up the receipt.
    let claims = of(&["claimed"]);
    let epochs: Vec<u64> = claims.iter().map(|claim| claim["epoch"].as_u64().unwrap()).collect();
    assert!(epochs.len() >= 3 && epochs.is_sorted_by(|a, b| a < b), "{run}");
    for entry in timeline.iter().filter(|entry| !entry["epoch"].is_null()) {
        let claim = claims.iter().find(|claim| claim["epoch"] == entry["epoch"]).unwrap();
        assert!(
            claim["owner"].is_string() && claim["owner"] == entry["owner"],
            "{entry}"
        );
    }
    let [waiting, signal, received] = ["waiting", "signal", "received"].map(|kind| of(&[kind])[0]);
    assert!(waiting["details"]["patience_ms"].as_u64() > Some(0), "{waiting}");
    assert!(
        waiting["step"] == signal["step"] && signal["step"] == received["step"],
        "{run}"
    );
    assert_eq!(timeline.last().unwrap()["kind"], "finished");
}

#[tokio::test]
async fn a_list_says_where_to_go_on_though_nothing_fits_so_far() {
    let herald = Herald::start_without_workers().await;
    let (client, admin) = (Client::live(&herald), Admin::new(&herald));
    let text = client.send_text("07700900123").await;
    sqlx::query(
        "insert into engine.run (id, workflow, queue, state, due_at, waits_for, input)
         select ('01900000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, 'deliver_sms', 'receipts', 'waiting',
             now() + interval '1 day', 'receipt', '{}'
         from generate_series(1, 12000) n",
    )
    .execute(&*herald.database)
    .await
    .unwrap();
    let path = format!("/engine/runs?tenant={SERVICE}");
    let (_, first) = admin.get(&path).await;
    assert_eq!(
        first,
        json!({"next": "01900000-0000-7000-8000-000000010000", "runs": []})
    );
    let (_, last) = admin
        .get(&format!("{path}&after={}", first["next"].as_str().unwrap()))
        .await;
    assert_eq!((&last["runs"][0]["id"], &last["next"]), (&json!(text), &Value::Null));

    let of_service = ["--tenant", SERVICE];
    let listed = objects(&herald, &[&["runs", "list"], &of_service[..]].concat());
    assert!(listed.len() == 1 && listed[0]["id"] == text.as_str(), "{listed:?}");
    let pause = [&["runs", "pause", "--reason", "a look first"], &of_service[..]].concat();
    let dry = objects(&herald, &[&pause[..], &["--dry-run"]].concat());
    assert_eq!(dry, [json!({"would_change": 1})]);
    assert_eq!(printed(&herald, &pause), "1 run is paused\n");
    assert_eq!(audited(&herald).await, 1);
}

#[tokio::test]
async fn only_the_administration_pages_get_in() {
    let herald = Herald::start_api_only(&json!({})).await;
    let token = |message: &str| json!({"result": "error", "message": {"token": [message]}});
    let not_allowed = token("Unauthorized: not allowed to perform this action");
    let path = "/engine/queues";
    let missing = token("Unauthorized: authentication token must be provided");
    assert_eq!(Admin::nobody(&herald).get(path).await, (401, missing));
    let service = Admin::of(&herald, "c1f0a1f6-6a57-4a4a-9d0e-6f3d9c1d7a11", "the first secret");
    assert_eq!(service.get(path).await, (401, not_allowed.clone()));
    let wrong = Admin::of(&herald, "notify-admin", "another secret");
    assert_eq!(wrong.get(path).await, (403, token("Invalid token: API key not found")));
    let body = json!({"reason": "mischief"});
    assert_eq!(wrong.post("/engine/queues/all/pause", &body).await.0, 403);
    assert_eq!(
        Admin::of(&herald, "notify-admin", "the second secret")
            .get(path)
            .await
            .0,
        200
    );
    assert_eq!(audited(&herald).await, 0);

    let closed = Herald::start_api_without_admin_keys().await;
    assert_eq!(Admin::new(&closed).get(path).await, (401, not_allowed.clone()));
    assert_eq!(
        Admin::of(&closed, "notify-admin", "").get(path).await,
        (401, not_allowed)
    );
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_in_clear_words_and_changes_nothing() {
    let herald = Herald::start_api_only(&json!({})).await;
    let admin = Admin::new(&herald);
    let nobody = "/engine/runs/c1f0a1f6-6a57-4a4a-9d0e-6f3d9c1d7a11";
    let (long, fine) = (json!({"reason": "x".repeat(501)}), json!({"reason": "a reason"}));
    let selected = |selection: Value| json!({"selection": selection, "reason": "a reason"});
    let posted = [
        (&*format!("{nobody}/cancel"), &fine, 404, "No result found"),
        ("/engine/runs/1/cancel", &fine, 404, "No result found"),
        (
            "/engine/runs/1/cancel",
            &json!({"reason": " "}),
            400,
            r#""reason":["Must be from 1 to 500"#,
        ),
        (
            "/engine/runs/1/cancel",
            &long,
            400,
            r#""reason":["Must be from 1 to 500"#,
        ),
        (
            "/engine/runs/1/cancel",
            &json!({"reason": "\0"}),
            400,
            "null characters",
        ),
        (
            "/engine/runs/1/cancel",
            &json!({}),
            400,
            r#""_schema":["missing field `reason`"#,
        ),
        ("/engine/runs/cancel", &fine, 400, r#""selection":["It says nothing"#),
        (
            "/engine/runs/cancel",
            &selected(json!({"ids": []})),
            400,
            "set all to true",
        ),
        (
            "/engine/runs/cancel",
            &selected(json!({"ids": [1]})),
            400,
            r#""selection.ids[0]":["#,
        ),
        (
            "/engine/runs/cancel",
            &selected(json!({"state": "dead"})),
            400,
            "Must be one of: ready,",
        ),
        (
            "/engine/runs/cancel",
            &selected(json!({"stat": "x"})),
            400,
            "unknown field `stat`",
        ),
        ("/engine/queues/letters/pause", &fine, 404, "known are: all, send-sms,"),
    ];
    for (path, body, status, words) in posted {
        let (code, answer) = admin.post(path, body).await;
        assert!(
            code == status && answer.to_string().contains(words),
            "{path} {body}: {code} {answer}"
        );
        assert_eq!(answer["result"], "error");
    }
    let burst = json!({"burst": 5, "reason": "a reason"});
    let (code, answer) = admin.put("/engine/queues/send-sms/limits", &burst).await;
    assert_eq!(
        (code, &answer["message"]),
        (400, &json!({"limits": ["burst needs a rate"]}))
    );
    assert_eq!(admin.get(nobody).await.0, 404);
    for query in [
        "limit=251",
        "limit=0",
        "tenant=x",
        "created_after=noon",
        "state=dead",
        "queue=%00",
    ] {
        let (code, answer) = admin.get(&format!("/engine/runs?{query}")).await;
        let field = query.split('=').next().unwrap();
        assert!(
            code == 400 && answer["message"][field].is_array(),
            "{query}: {code} {answer}"
        );
    }

    let reason = ["--reason", "a reason"];
    let refused = |arguments: &[&str]| refusal(&herald, &[arguments, &reason].concat());
    assert!(refused(&["runs", "cancel"]).contains("say --all"));
    assert!(refused(&["runs", "cancel", "--all", "--queue", "retry"]).contains("--all goes without"));
    assert!(refused(&["queues", "pause", "letters"]).contains("known are: send-sms, "));
    assert!(refused(&["queues", "limit", "send-sms", "--rate", "0"]).contains("rate must be from"));
    assert!(refusal(&herald, &["queues", "pause", "--all"]).contains("--reason"));
    assert_eq!(audited(&herald).await, 0);
}

#[tokio::test]
async fn limits_of_a_queue_are_set_and_shown_and_taken_away() {
    let herald = Herald::start_api_only(&json!({})).await;
    let admin = Admin::new(&herald);
    let limits = json!({"max_running": 20, "rate": 2.5, "reason": "Firetext asks for less"});
    assert_eq!(admin.put("/engine/queues/send-sms/limits", &limits).await.0, 200);
    let list = printed(&herald, &["queues", "list"]);
    let line = list.lines().find(|line| line.starts_with("send-sms")).unwrap();
    let cells: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(cells, ["send-sms", "open", "20", "2.5/s", "2.5", "2.5", "-", "none"]);
    assert_eq!(
        printed(&herald, &["queues", "limit", "send-sms", "--reason", "enough"]),
        "send-sms has no limits\n"
    );
    let (_, queues) = admin.get("/engine/queues").await;
    let queue = queues["queues"]
        .as_array()
        .unwrap()
        .iter()
        .find(|queue| queue["name"] == "send-sms");
    assert_eq!(
        queue.unwrap()["limits"],
        json!({"burst": null, "max_running": null, "rate": null})
    );
    assert_eq!(audited(&herald).await, 2);
}
