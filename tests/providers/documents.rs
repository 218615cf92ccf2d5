//! What goes to the document-download service, and what its answers mean.

use std::net::SocketAddr;

use herald_providers::documents::{Client, Document, Settings, UploadError};
use serde_json::json;
use uuid::Uuid;

use super::server::{self, Answer, Server};
use super::timeouts;

const SERVICE: Uuid = Uuid::from_u128(0x5d3e_f37f_052e_4a37_bc6a_6a65_d2f2_3780);
const LINK: &str = "https://documents.example.gov.uk/d/abc/def?key=a_b-c~d";

fn client(address: SocketAddr, base: &str) -> Client {
    let settings = Settings {
        url: format!("http://{address}{base}"),
        api_key: "secret-key".into(),
        timeouts: timeouts(),
    };
    Client::new(settings).unwrap()
}

fn document() -> Document {
    Document {
        content: "YSxiCg==".to_owned(),
        is_csv: false,
        confirmation_email: Some("ada@example.com".to_owned()),
        retention_period: "4 weeks".to_owned(),
        filename: Some("ada.csv".to_owned()),
    }
}

fn uploaded(link: &str) -> Answer {
    Answer::text(
        201,
        &json!({"status": "ok", "document": {"id": "x", "url": link}}).to_string(),
    )
}

async fn outcome(answer: Answer) -> Result<String, UploadError> {
    let server = Server::start(answer).await;
    client(server.address, "").upload(SERVICE, &document()).await
}

#[tokio::test]
async fn a_file_goes_out_with_what_was_said_about_it_and_nothing_else() {
    let least = Document {
        confirmation_email: None,
        filename: None,
        ..document()
    };
    for (document, base, body) in [
        (
            document(),
            "/api/",
            r#"{"document":"YSxiCg==","is_csv":false,"confirmation_email":"ada@example.com","retention_period":"4 weeks","filename":"ada.csv"}"#,
        ),
        (
            least,
            "",
            r#"{"document":"YSxiCg==","is_csv":false,"retention_period":"4 weeks"}"#,
        ),
    ] {
        let server = Server::start(uploaded(LINK)).await;
        let link = client(server.address, base).upload(SERVICE, &document).await;
        assert_eq!(link, Ok(LINK.to_owned()));
        let request = &server.requests()[0];
        let path = format!("{}/services/{SERVICE}/documents", base.trim_end_matches('/'));
        assert_eq!(request.line(), format!("POST {path} HTTP/1.1"));
        assert_eq!(request.header("authorization"), Some("Bearer secret-key"));
        assert_eq!(request.header("content-type"), Some("application/json"));
        assert_eq!(String::from_utf8_lossy(&request.body), body);
    }
}

#[tokio::test]
async fn a_refusal_is_told_in_the_services_words() {
    let virus = json!({"error": "File did not pass the virus scan"}).to_string();
    let page = "<html>413 Request Entity Too Large</html>";
    let long = json!({"error": "é".repeat(5000)}).to_string();
    let cut = "é".repeat(1000);
    for (answer, words) in [
        (Answer::text(400, &virus), "File did not pass the virus scan"),
        (Answer::text(413, &virus), "File did not pass the virus scan"),
        (Answer::text(413, page), "The file is too large"),
        (Answer::text(400, &long), cut.as_str()),
    ] {
        assert_eq!(outcome(answer).await, Err(UploadError::Refused(words.to_owned())));
    }
}

#[tokio::test]
async fn without_a_link_or_a_refusal_the_service_is_unavailable() {
    let told = json!({"error": "ada@example.com has no right to ada.csv"}).to_string();
    let cut = Answer::Http {
        status: 201,
        headers: String::new(),
        body: json!({"document": {"url": LINK}}).to_string(),
        truncate: true,
    };
    let elsewhere = Answer::Http {
        status: 307,
        headers: "Location: http://example.com/\r\n".to_owned(),
        body: String::new(),
        truncate: false,
    };
    let mut answers = vec![Answer::Hang, Answer::Close, cut, elsewhere];
    answers.extend([401, 403, 404, 429, 500, 502, 503].map(|status| Answer::text(status, &told)));
    answers.extend([Answer::text(400, "no JSON"), Answer::text(400, r#"{"error": ""}"#)]);
    answers.extend(["", "OK", "{}", r#"{"document": {"url": 5}}"#].map(|body| Answer::text(200, body)));
    answers.extend([
        uploaded("/relative"),
        uploaded("javascript:alert(1)"),
        uploaded("ftp://example.com/x"),
        uploaded("https://"),
        uploaded("https://example.com/a b"),
        uploaded("https://example.com/\n\n# A headline"),
        uploaded(&format!("https://example.com/{}", "x".repeat(2000))),
        uploaded(&"x".repeat(100_000)),
    ]);
    for answer in answers {
        let what = format!("{answer:?}").chars().take(200).collect::<String>();
        let error = outcome(answer).await.unwrap_err();
        assert!(matches!(error, UploadError::Unavailable(_)), "{what}: {error}");
        let told = format!("{error} {error:?}");
        assert!(!told.contains("ada") && !told.contains("secret"), "{what}: {told}");
    }
    let nobody = client(server::closed_port().await, "");
    let error = nobody.upload(SERVICE, &document()).await.unwrap_err();
    assert!(error.to_string().ends_with("could not connect"), "{error}");
    let error = outcome(Answer::Hang).await.unwrap_err();
    assert!(error.to_string().ends_with("Gateway timeout"), "{error}");
}
