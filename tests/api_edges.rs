//! What holds for every request to the API, whatever the route: limits, headers, liveness, the shape of errors.

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use crate::harness::Herald;

async fn herald() -> (Herald, Client) {
    // The client wants a provider of cryptography, though nothing here is encrypted. Another test may have set it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    (Herald::start_api_only(&json!({})).await, Client::new())
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
    assert_eq!(answer["errors"][0]["error"], "RequestEntityTooLarge");
    assert_eq!(answer["status_code"], 413);
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
