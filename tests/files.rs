//! Files of emails, at the built program: from the request to the bytes behind the link in the inbox.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::harness::{Client, EMAIL_TEMPLATE, Herald, http, live_token};

/// As large as a file may be.
const MOST_BYTES: usize = 2 * 1024 * 1024;

/// The outside world, the API, and a template of two placeholders; with workers if anything is to arrive.
async fn herald(workers: bool) -> Herald {
    let herald = if workers {
        Herald::start_all().await
    } else {
        Herald::start_without_workers().await
    };
    for table in ["templates", "templates_history"] {
        let change = format!("update {table} set content = '((one))' || E'\\n\\n' || '((two))' where id = $1::uuid");
        let changed = sqlx::query(sqlx::AssertSqlSafe(change))
            .bind(EMAIL_TEMPLATE)
            .execute(&*herald.database)
            .await;
        assert_eq!(changed.unwrap().rows_affected(), 1);
    }
    herald
}

async fn send(herald: &Herald, to: &str, one: Value, two: Value) -> (u16, Value) {
    send_values(herald, to, json!({"one": one, "two": two})).await
}

async fn send_values(herald: &Herald, to: &str, personalisation: Value) -> (u16, Value) {
    let body = json!({"email_address": to, "template_id": EMAIL_TEMPLATE, "personalisation": personalisation});
    let url = format!("{}/v2/notifications/email", herald.base_url);
    let answer = http()
        .post(url)
        .bearer_auth(live_token())
        .json(&body)
        .send()
        .await
        .unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

fn file(content: &[u8]) -> Value {
    json!({"file": BASE64_STANDARD.encode(content)})
}

/// The two links that an email consists of.
fn links(answer: &Value) -> Vec<&str> {
    answer["content"]["body"].as_str().unwrap().split("\n\n").collect()
}

async fn documents(herald: &Herald) -> Value {
    let url = format!("{}/documents", herald.stub_url);
    http().get(url).send().await.unwrap().json().await.unwrap()
}

async fn rows(herald: &Herald) -> i64 {
    sqlx::query_scalar("select count(*) from notifications")
        .fetch_one(&*herald.database)
        .await
        .unwrap()
}

#[tokio::test]
async fn an_email_takes_links_to_its_files_to_the_inbox() {
    let herald = herald(true).await;
    let contents = [
        (0..=255).cycle().take(MOST_BYTES).collect::<Vec<u8>>(),
        b"a,b\n".to_vec(),
    ];
    let mut second = file(&contents[1]);
    second["filename"] = "numbers.csv".into();
    second["confirm_email_before_download"] = false.into();
    second["retention_period"] = "4 weeks".into();
    let (status, answer) = send(&herald, "Ada@example.com", file(&contents[0]), second).await;
    assert_eq!(status, 201, "{answer}");
    for (link, content) in links(&answer).into_iter().zip(&contents) {
        let got = http().get(link).send().await.unwrap().bytes().await.unwrap();
        assert!(got == content, "{link} leads to {} bytes", got.len());
    }

    let client = Client::live(&herald);
    let id = answer["id"].as_str().unwrap();
    client.until(id, "delivered").await;
    let inbox = client.phone(id).await;
    assert_eq!(inbox.len(), 1);
    let text = inbox[0]["content"].as_str().unwrap();
    assert!(links(&answer).iter().all(|link| text.contains(link)), "{text}");

    let told = documents(&herald).await;
    assert_eq!(told["uploads"], 2);
    let terms = |filename: Value| {
        let mut documents = told["documents"].as_array().unwrap().iter();
        let found = documents.find(|document| document["filename"] == filename).unwrap();
        [
            found["is_csv"].clone(),
            found["confirmation_email"].clone(),
            found["retention_period"].clone(),
        ]
    };
    assert_eq!(
        terms(Value::Null),
        [json!(false), json!("Ada@example.com"), json!("26 weeks")]
    );
    assert_eq!(
        terms(json!("numbers.csv")),
        [json!(false), Value::Null, json!("4 weeks")]
    );

    let (count, bytes): (i32, i32) =
        sqlx::query_as("select document_download_count, octet_length(_personalisation) from notifications")
            .fetch_one(&*herald.database)
            .await
            .unwrap();
    assert_eq!(count, 2);
    assert!(bytes < 1000, "the row holds {bytes} bytes of what should be links");
}

#[tokio::test]
async fn a_file_that_is_refused_refuses_the_email() {
    let herald = herald(false).await;
    let client = Client::live(&herald);
    let infected = json!({"status": 400, "message": "File did not pass the virus scan", "times": 1});
    let large = vec![0; MOST_BYTES + 1];
    for (fault, one, two, message) in [
        (infected, file(b"x"), file(b"y"), "File did not pass the virus scan"),
        (json!({}), file(b"x"), file(&large), "File is larger than 2 MB"),
        (
            json!({}),
            file(b"x"),
            json!({"file": "é"}),
            "Document is not base64 encoded",
        ),
    ] {
        client.faults("documents", &fault).await;
        let (status, answer) = send(&herald, "ada@example.com", one, two).await;
        let error = json!({"error": "BadRequestError", "message": message});
        assert_eq!(answer, json!({"errors": [error], "status_code": 400}));
        assert_eq!(status, 400);
    }
    assert_eq!(rows(&herald).await, 0);
}

#[tokio::test]
async fn without_the_document_service_emails_with_files_wait_at_the_client() {
    let herald = herald(false).await;
    let client = Client::live(&herald);
    for fault in [
        json!({"status": 500}),
        json!({"status": 401}),
        json!({"reset_before": true}),
        json!({"body": r#"{"document": {"url": "/nowhere"}}"#}),
    ] {
        client.faults("documents", &fault).await;
        let (status, answer) = send(&herald, "ada@example.com", file(b"x"), "y".into()).await;
        assert_eq!(
            (status, &answer["errors"][0]["error"]),
            (503, &json!("ServiceUnavailable"))
        );
        assert_eq!(answer["status_code"], 503, "{answer}");
    }
    assert_eq!(rows(&herald).await, 0);
    // Others are not held up.
    assert_eq!(send(&herald, "ada@example.com", "x".into(), "y".into()).await.0, 201);
    client.faults("documents", &json!({})).await;
    assert_eq!(send(&herald, "ada@example.com", file(b"x"), "y".into()).await.0, 201);
    let counts: Vec<Option<i32>> =
        sqlx::query_scalar("select document_download_count from notifications order by created_at")
            .fetch_all(&*herald.database)
            .await
            .unwrap();
    assert_eq!(counts, [None, Some(1)]);
}

#[tokio::test]
async fn nothing_is_uploaded_for_a_simulated_recipient_or_a_wrong_request() {
    let herald = herald(false).await;
    let simulated = "simulate-delivered@notifications.service.gov.uk";
    let (status, answer) = send(&herald, simulated, file(b"x"), file(b"y")).await;
    assert_eq!(status, 201, "{answer}");
    for link in links(&answer) {
        assert!(link.ends_with("/documents/test-document"), "{link}");
    }
    let mut wrong = file(b"x");
    wrong["filename"] = "no extension".into();
    assert_eq!(send(&herald, "ada@example.com", file(b"x"), wrong).await.0, 400);
    let names = ["one", "two"].map(str::to_owned).into_iter();
    let many = names.chain((3..=21).map(|number| number.to_string()));
    let many = many.map(|name| (name, file(b"x"))).collect::<Value>();
    let (status, answer) = send_values(&herald, "ada@example.com", many).await;
    let message = &answer["errors"][0]["message"];
    assert_eq!(
        (status, message),
        (400, &json!("You cannot send more than 20 files in one email"))
    );
    assert_eq!(documents(&herald).await["uploads"], 0);
    assert_eq!(rows(&herald).await, 0);
}
