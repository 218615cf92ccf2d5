//! Receipts posted to the built program change rows, and are told to services, as Notify's are (golden/receipts.json). The
//! rows here have no delivery that waits for them, as after the take-over of a Notify database.

use base64::{Engine, prelude::BASE64_STANDARD};
use herald_store::sealed::{Key, Sealer, context};
use serde_json::{Value, json};
use sqlx::Row;
use uuid::Uuid;

use crate::{
    callbacks::{calls, endpoint, lane},
    harness::{Client, Herald, SEALING_KEYS, SERVICE, database, eventually, http},
};

/// Case numbers where Herald differs on purpose, and why.
const EXCEPTIONS: [(usize, &str); 4] = [
    (117, "a body that is no JSON is refused with 400, not 500"),
    (118, "a JSON list is refused with 400, not 500"),
    (170, "a complaint that is told twice is one complaint"),
    (179, "a bounce without a destination is a bounce all the same"),
];

struct Case<'a> {
    number: usize,
    golden: &'a Value,
    id: Uuid,
    reference: String,
}

#[tokio::test]
async fn receipts_change_rows_as_notify_does() {
    let herald = Herald::start_all().await;
    endpoint(&herald, lane(SERVICE), "callbacks").await;
    let golden: Value = serde_json::from_str(include_str!("golden/receipts.json")).unwrap();
    let mut cases = Vec::new();
    for (number, golden) in golden["cases"].as_array().unwrap().iter().enumerate() {
        let case = Case {
            number,
            golden,
            id: Uuid::now_v7(),
            reference: Uuid::new_v4().to_string(),
        };
        insert(&herald, &case).await;
        cases.push(case);
    }
    let http = http();
    let mut differences = Vec::new();
    let mut heard = 0;
    let steps = cases
        .iter()
        .map(|case| case.golden["steps"].as_array().unwrap().len())
        .max()
        .unwrap();
    for step in 0..steps {
        for case in &cases {
            let Some(golden) = case.golden["steps"].get(step) else {
                continue;
            };
            differences.extend(post(&http, &herald, case, golden).await);
        }
        until_settled(&herald).await;
        let calls = calls(&herald, "callbacks").await;
        let told: Vec<Value> = calls[heard..].iter().map(body).collect();
        heard = calls.len();
        for case in &cases {
            let Some(golden) = case.golden["steps"].get(step) else {
                continue;
            };
            differences.extend(compare(&herald, case, &golden["result"]).await);
            differences.extend(compare_told(&told, case, &golden["result"]));
        }
    }
    assert!(heard > 100, "{heard}");
    let differ = |exception: usize| differences.iter().any(|(number, _)| *number == exception);
    let agree: Vec<_> = EXCEPTIONS.iter().filter(|(number, _)| !differ(*number)).collect();
    assert!(agree.is_empty(), "no exceptions any more: {agree:?}");
    differences.retain(|(number, _)| !EXCEPTIONS.iter().any(|(exception, _)| exception == number));
    assert!(
        differences.is_empty(),
        "{} differ:\n{differences:#?}",
        differences.len()
    );
}

async fn insert(herald: &Herald, case: &Case<'_>) {
    let row = &case.golden["notification"];
    let text = row["type"] == "sms";
    let sealer = Sealer::new(Key::parse(SEALING_KEYS).unwrap(), Vec::new());
    let personalisation = sealer.seal(context::PERSONALISATION, r#"{"name": "Jo"}"#);
    sqlx::query(
        r#"insert into notifications (id, "to", service_id, template_id, template_version, created_at, key_type,
               notification_type, billable_units, notification_status, sent_by, reference, international, phone_prefix,
               _personalisation)
           select $1, $2, service_id, id, version, now() at time zone 'utc', $3, template_type::text::notification_type,
               $4, $5, $6, $7, $8, $9, $10
           from templates where template_type::text = $11"#,
    )
    .bind(case.id)
    .bind(if text { "07411000001" } else { "a@example.com" })
    .bind(row["key_type"].as_str().unwrap_or("normal"))
    .bind(i32::try_from(row["billable_units"].as_i64().unwrap_or(1)).unwrap())
    .bind(row["status"].as_str())
    .bind(row["sent_by"].as_str())
    .bind(&case.reference)
    .bind(row["international"].as_bool().unwrap_or(false))
    .bind(row["phone_prefix"].as_str())
    .bind(personalisation.as_str())
    .bind(row["type"].as_str())
    .execute(&*herald.database)
    .await
    .unwrap();
}

/// Posts the callback; compares the answer where Notify's was recorded.
async fn post(http: &reqwest::Client, herald: &Herald, case: &Case<'_>, step: &Value) -> Option<(usize, String)> {
    let callback = expand(&step["callback"], case);
    let provider = callback["provider"].as_str().unwrap();
    let path = if provider == "ses" {
        "email/ses".to_owned()
    } else {
        format!("sms/{provider}")
    };
    let mut request = http.post(format!("{}/notifications/{path}", herald.base_url));
    if let Some(form) = callback["form"].as_object() {
        let fields: Vec<(&String, &str)> = form
            .iter()
            .map(|(name, value)| (name, value.as_str().unwrap()))
            .collect();
        request = request.form(&fields);
    } else if let Some(raw) = callback["raw"].as_str() {
        request = request.header("Content-Type", "application/json").body(raw.to_owned());
    } else if let Some(raw) = callback["raw_base64"].as_str() {
        request = request.body(BASE64_STANDARD.decode(raw).unwrap());
    } else if callback["envelope"]["Type"].is_string() {
        request = request.json(&herald.signed(callback["envelope"].clone()));
    } else if callback.get("envelope").is_some() {
        request = request.json(&callback["envelope"]);
    } else if callback.get("message").is_some() {
        let envelope = json!({"Type": "Notification", "Message": callback["message"].to_string()});
        request = request.json(&herald.signed(envelope));
    } else {
        request = request.json(&callback["json"]);
    }
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let body: Value = answer.json().await.unwrap_or_default();
    let expected = step.get("http")?;
    let same = expected["status"] == status && expected.get("json").is_none_or(|json| *json == body);
    (!same).then(|| (case.number, format!("answered {status} {body}, not {expected}")))
}

fn expand(value: &Value, case: &Case<'_>) -> Value {
    let id = case.id.to_string();
    let text = value
        .to_string()
        .replace("<id no hyphens>", &case.id.simple().to_string())
        .replace("<id>", &id)
        .replace("<ID>", &id.to_uppercase())
        .replace("<ref>", &case.reference);
    let now = |minus: i64| {
        (chrono::Utc::now() - chrono::TimeDelta::seconds(minus))
            .format("%Y-%m-%dT%H:%M:%S.000Z")
            .to_string()
    };
    let tokens = regex::Regex::new(r"<now-(\d+)s>").unwrap();
    let text = tokens.replace_all(&text, |captures: &regex::Captures| now(captures[1].parse().unwrap()));
    serde_json::from_str(&text).unwrap()
}

/// Every receipt has had its effect; what is left looks for emails that nobody sent.
async fn until_settled(herald: &Herald) {
    eventually("every receipt is settled", || async {
        let busy: i64 = sqlx::query_scalar(
            "select count(*) from engine.run
             where not (workflow in ('find_email', 'record_complaint') and state = 'sleeping')",
        )
        .fetch_one(&*herald.database)
        .await
        .unwrap();
        (busy == 0).then_some(())
    })
    .await;
}

async fn compare(herald: &Herald, case: &Case<'_>, expected: &Value) -> Option<(usize, String)> {
    let row = sqlx::query(
        "select notification_status, sent_by, billable_units, updated_at is not null from notifications where id = $1",
    )
    .bind(case.id)
    .fetch_one(&*herald.database)
    .await
    .unwrap();
    let complaints: Value = sqlx::query_scalar(
        r#"select coalesce(jsonb_agg(jsonb_build_object(
               'ses_feedback_id', ses_feedback_id, 'complaint_type', complaint_type,
               'complaint_date', to_char(complaint_date, 'YYYY-MM-DD"T"HH24:MI:SS'))), '[]')
           from complaints where notification_id = $1"#,
    )
    .bind(case.id)
    .fetch_one(&*herald.database)
    .await
    .unwrap();
    let found = json!({
        "complaints": complaints,
        "status": row.get::<String, _>(0),
        "sent_by": row.get::<Option<String>, _>(1),
        "billable_units": row.get::<i32, _>(2),
        "updated": row.get::<bool, _>(3),
    });
    let different = found
        .as_object()
        .unwrap()
        .iter()
        .any(|(name, value)| expected.get(name).unwrap_or(&json!([])) != value);
    different.then(|| {
        (
            case.number,
            format!("became {found}, not {expected} ({})", case.golden["group"]),
        )
    })
}

fn body(call: &Value) -> Value {
    serde_json::from_str(call["body"].as_str().unwrap()).unwrap()
}

/// Of delivery statuses: once, with the status that the row has become.
fn compare_told(told: &[Value], case: &Case<'_>, expected: &Value) -> Option<(usize, String)> {
    let id = case.id.to_string();
    let told: Vec<&Value> = told
        .iter()
        .filter(|body| body["id"] == *id)
        .map(|body| &body["status"])
        .collect();
    let queued = expected["service_callbacks_queued"].as_array().unwrap();
    let statuses = queued.iter().filter(|task| *task == "send-delivery-status");
    let expected: Vec<&Value> = statuses.map(|_| &expected["status"]).collect();
    (told != expected).then(|| (case.number, format!("its service was told {told:?}, not {expected:?}")))
}

/// A receipt about one notification, as its provider would post it.
fn receipt(herald: &Herald, provider: &str, id: &str) -> reqwest::RequestBuilder {
    let post = |path: &str| http().post(format!("{}/notifications/{path}", herald.base_url));
    match provider {
        "firetext" => post("sms/firetext").form(&[("status", "0"), ("reference", id)]),
        "mmg" => post("sms/mmg").json(&json!({"CID": id, "status": "3"})),
        _ => {
            let message = json!({"notificationType": "Delivery", "mail": {"messageId": id}}).to_string();
            post("email/ses").json(&herald.signed(json!({"Type": "Notification", "Message": message})))
        }
    }
}

#[tokio::test]
async fn a_provider_that_has_credentials_must_show_them_with_each_receipt() {
    let herald = Herald::start_without_api(database().await).await;
    let settings = [
        ("FIRETEXT_RECEIPT_CREDENTIALS", "firetext:one secret"),
        ("MMG_RECEIPT_CREDENTIALS", "mmg:another: secret"),
        ("SES_RECEIPT_CREDENTIALS", "ses:a third secret"),
    ];
    let _api = herald.api_with(&settings).await;
    let accepted = async || -> i64 {
        let all = "select (select count(*) from engine.run) + (select count(*) from engine.signal)";
        sqlx::query_scalar(all).fetch_one(&*herald.database).await.unwrap()
    };
    let pairs = settings.map(|(_, pair)| pair.split_once(':').unwrap());
    for (turn, (provider, password)) in pairs.into_iter().enumerate() {
        let id = Uuid::now_v7().to_string();
        let before = accepted().await;
        let status = async |name: &str, password: Option<&str>| {
            let request = receipt(&herald, provider, &id).basic_auth(name, password);
            request.send().await.unwrap().status().as_u16()
        };
        let without = receipt(&herald, provider, &id).send().await.unwrap();
        assert_eq!(without.status(), 401, "{provider}");
        assert!(without.headers().contains_key("www-authenticate"), "{provider}");
        let (other, others) = pairs[(turn + 1) % pairs.len()];
        for (name, password) in [
            (provider, None),
            (provider, Some("wrong")),
            (provider, Some(others)),
            ("wrong", Some(password)),
            (other, Some(others)),
        ] {
            assert_eq!(status(name, password).await, 403, "{provider}: {name} {password:?}");
        }
        assert_eq!(accepted().await, before, "{provider}: nothing of it is kept");
        assert_eq!(status(provider, Some(password)).await, 200, "{provider}");
        assert!(accepted().await > before, "{provider}: it is kept");
    }
}

#[tokio::test]
async fn what_is_unknown_in_a_receipt_is_told_once_a_message_however_often_it_is_posted() {
    let herald = Herald::start_without_api(database().await).await;
    let logs = ["api", "worker"].map(|role| std::env::temp_dir().join(format!("herald-{role}-{}", Uuid::new_v4())));
    let warnings = [("HERALD_LOG", "warn")];
    let _api = herald.api_logging(&logs[0], &warnings).await;
    let _worker = herald.worker_logging(&logs[1], &warnings);
    let alone = ["providers", "set-priority", "firetext", "100", "--reason", "a test"];
    assert!(herald.command(&alone).status.success());
    let client = Client::live(&herald);
    client.faults("firetext", &json!({"missing_receipts": true})).await;
    let [of_status, of_code] = [
        client.send_text("07700900123").await,
        client.send_text("07700900123").await,
    ];
    let nobodys = Uuid::now_v7().to_string();
    let post = async |fields: [(&str, &str); 3]| {
        let url = format!("{}/notifications/sms/firetext", herald.base_url);
        let answer = http().post(url).form(&fields).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    };
    for id in [&of_status, &of_code] {
        client.until(id, "sending").await;
    }
    for round in 0..3 {
        for status in ["8", "9", "10"] {
            post([("status", status), ("code", ""), ("reference", &of_status)]).await;
            post([("status", status), ("code", ""), ("reference", &nobodys)]).await;
        }
        post([("status", "1"), ("code", "777"), ("reference", &of_code)]).await;
        if round == 0 {
            client.until(&of_status, "technical-failure").await;
            client.until(&of_code, "permanent-failure").await;
        }
    }
    until_settled(&herald).await;
    let [api, worker] = logs.map(|log| {
        let lines = std::fs::read_to_string(&log).unwrap();
        std::fs::remove_file(log).unwrap();
        lines
    });
    let api = api.lines().filter(|line| !line.contains("anybody may post receipts"));
    assert_eq!(api.collect::<Vec<_>>(), [""; 0]);
    let lines: Vec<&str> = worker.lines().collect();
    assert_eq!(lines.len(), 2, "{worker}");
    let is_told = |words: [&str; 3]| lines.iter().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(
        is_told(["ERROR", "Firetext callback failed: status ", &of_status]),
        "{worker}"
    );
    assert!(is_told(["WARN", "777", &of_code]), "{worker}");
}
