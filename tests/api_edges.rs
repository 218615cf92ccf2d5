//! What holds for every request to the API, whatever the route: limits, headers, liveness, the shape of errors.

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::harness::{Herald, SMS_TEMPLATE, http, live_token};

async fn herald() -> (Herald, Client) {
    (Herald::start_api_only(&json!({})).await, http())
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let (herald, http) = herald().await;
    let url = format!("{}/notifications/sms/mmg", herald.base_url);
    let answer = http
        .post(url)
        .body("x".repeat(2 * 1024 * 1024 + 1))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert_eq!(answer["result"], "error");
}

#[tokio::test]
async fn every_answer_bears_the_ids_of_its_trace() {
    let (herald, http) = herald().await;
    let answer = http
        .get(format!("{}/nowhere", herald.base_url))
        .header("X-B3-TraceId", "abc")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.headers()["x-b3-traceid"], "abc");
    assert_eq!(answer.headers()["x-b3-spanid"].len(), 16);
    assert_eq!(answer.headers()["access-control-allow-origin"], "*");
}

#[tokio::test]
async fn the_status_tells_the_version_of_the_database_and_liveness_does_not_ask_it() {
    let (herald, http) = herald().await;
    let get = async |path: &str| {
        let answer = http.get(format!("{}{path}", herald.base_url)).send().await.unwrap();
        serde_json::from_str::<Value>(&answer.text().await.unwrap()).unwrap()
    };
    assert_eq!(get("/_status?simple").await, json!({ "status": "ok" }));
    for path in ["/", "/_status"] {
        let status = get(path).await;
        assert_eq!(status["status"], "ok");
        assert!(
            status["db_version"]
                .as_str()
                .is_some_and(|version| version.starts_with("2026")),
            "{status}"
        );
    }
}

#[tokio::test]
async fn the_status_tells_which_build_it_is() {
    let (herald, http) = herald().await;
    let status: Value = http
        .get(format!("{}/_status", herald.base_url))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(status["git_commit"], env!("HERALD_GIT_COMMIT"));
    let is_commit = |text: &str| text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let (commit, time) = (
        status["git_commit"].as_str().unwrap(),
        status["build_time"].as_str().unwrap(),
    );
    let told = is_commit(commit) && chrono::DateTime::parse_from_rfc3339(time).is_ok();
    assert!(told || commit == "unknown", "{status}");
}

#[tokio::test]
async fn only_services_that_are_live_are_counted_and_their_organisations_once() {
    let golden: Value = serde_json::from_str(include_str!("golden/api_v2.json")).unwrap();
    let herald = Herald::start_api_only(&golden["fixture"]).await;
    let change = "
        with numbered as (select id, row_number() over (order by id) as number from services)
        update services s
        set active = n.number <> 1, restricted = n.number = 2, count_as_live = n.number <> 3 and n.number <= 7,
            organisation_id = case when n.number <= 5 then uuid_nil when n.number = 6 then s.id end
        from numbered n, (select '00000000-0000-0000-0000-000000000000'::uuid) t (uuid_nil)
        where n.id = s.id";
    sqlx::query(change).execute(&*herald.database).await.unwrap();
    let url = format!("{}/_status/live-service-and-organisation-counts", herald.base_url);
    let counts: Value = http().get(url).send().await.unwrap().json().await.unwrap();
    // Of the first seven, three are not live; two of the other four share an organisation, and one has none.
    assert_eq!(counts, json!({"organisations": 2, "services": 4}));
}

#[tokio::test]
async fn a_kind_of_notification_that_does_not_exist_is_not_found() {
    let (herald, http) = herald().await;
    let answer = http
        .post(format!("{}/v2/notifications/pigeon", herald.base_url))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert_eq!(answer["result"], "error");
}

#[tokio::test]
async fn the_api_documents_itself() {
    let (herald, http) = herald().await;
    let document = http
        .get(format!("{}/openapi.json", herald.base_url))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert_eq!(document, herald_api::public_spec());
    let page = http
        .get(format!("{}/docs", herald.base_url))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(page.contains("sendSms"));
}

/// An API with the development seed.
async fn seeded() -> Herald {
    let fixture: Value = serde_json::from_str(include_str!("../src/dev.json")).unwrap();
    Herald::start_api_only(&fixture).await
}

async fn rows(herald: &Herald) -> i64 {
    sqlx::query_scalar("select count(*) from notifications")
        .fetch_one(&*herald.database)
        .await
        .unwrap()
}

#[tokio::test]
async fn what_is_refused_leaves_no_row() {
    let (herald, client) = (seeded().await, http());
    let long = "9".repeat(1_000_000);
    let nul = json!({"phone_number": "07700900123", "template_id": SMS_TEMPLATE, "reference": "a\0b"});
    let bodies = [
        nul.to_string(),
        format!("{{\"phone_number\": {long}}}"),
        format!("{{\"phone_number\": 1e{long}}}"),
        format!("{{\"phone_number\": \"{long}\"}}"),
        format!("{}1{}", "[".repeat(500_000), "]".repeat(500_000)),
        "\u{fffd}".repeat(1000),
        "{".to_owned(),
    ];
    for body in bodies {
        let start = body.chars().take(60).collect::<String>();
        let request = client.post(format!("{}/v2/notifications/sms", herald.base_url));
        let answer = request.bearer_auth(live_token()).body(body).send().await.unwrap();
        assert_eq!(answer.status(), 400, "{start}");
        let errors: Value = answer.json().await.unwrap();
        assert!(errors["errors"][0]["message"].is_string(), "{start}: {errors}");
    }
    assert_eq!(rows(&herald).await, 0);
}

#[tokio::test]
async fn a_client_that_never_finishes_its_body_is_told_so() {
    let herald = seeded().await;
    let mut stream = TcpStream::connect(herald.base_url.strip_prefix("http://").unwrap())
        .await
        .unwrap();
    let head = format!(
        "POST /v2/notifications/sms HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: 1000\r\n\r\n{{",
        live_token()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let read = stream.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..read]);
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert_eq!(rows(&herald).await, 0);
}
