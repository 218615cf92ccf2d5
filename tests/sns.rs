//! Which messages of SNS are believed. Two of the signatures here were made by OpenSSL with the stub's key, over a text
//! that was put together by hand.

use herald_message::receipt::sns::Envelope;
use herald_providers::sns::{Client, Refusal, Settings};
use herald_stub::sns::{CERTIFICATE, CERTIFICATE_PATH, TOPIC, signed};
use serde_json::{Value, json};

use crate::providers::server::{Answer, Server, closed_port};

const SHA_1: &str = "nSHb2wEiv9a7Mkni+hBcwnVW29cx1QhkLF2/4pIDXLZag3bfSXLoU4al9ETPauZMdus15NygDI+ZdQ2+KVnveBeu3ZUdDroE+wFuthHZLIi2JzWUqOy/Pkl4ZzjhHIccI4ftLmTStzw20cSiLoSX6EaQQcq84JcJu62A0WtleZM3aYuV9HV3PSUeEpjJYtbGbeCLhFB3/dGgJDT4OgvG00hPH8QLWRQe6IKDaA+fsh5lfwL9eZaoe80ophAAq1sU5SIBthTpzfy371yXW7Q8eE6bw+UqStB/cCi/eeE2SuXHL84YnJy1cA6mXt7lgV5LjCDuHD8LMrJU3eCNb/+Vww==";
const SHA_256: &str = "h9NJ3o5i2RAw7n4WVa7ulwEa9Xuo4dgjYS7QcHwhYQ4fZdpBGb8eKDyu7wpkdYMBwIAlVW/YdKhThrp1va1fOmFuThAjf5ROyv8eGMUW67Kpa0rV6DjtG9D+T0O4NyIU3TItFpUqTgPDe9yoUbKFwh90yHtztVgjlIQVxe+u0bG9Cz2naODc1KxU80lbdcvVAmj333V+uJyi7RtZ976JpnXnW32UnZ7p8l3TDWh+aHap5A35SAj8molSATPP6CKtRDIwhQ5hXyvKmDOapP5iply9fI7WE8Xu4AqSaJmhBF75yMMKbzskIdQLoQ0Xin29i1j3LhuJPF9Ksnt2QKqOgA==";

fn client(server: &Server) -> Client {
    Client::new(Settings {
        topics: vec![TOPIC.to_owned()],
        verify: true,
        hosts: vec![server.address.to_string()],
        ..Settings::default()
    })
}

async fn check(client: &Client, envelope: &Value) -> Result<(), Refusal> {
    client
        .check(&Envelope::parse(envelope.to_string().as_bytes()).unwrap())
        .await
}

fn by_openssl(server: &Server, version: &str, signature: &str) -> Value {
    json!({
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": TOPIC,
        "Subject": "My First Message",
        "Message": r#"{"notificationType":"Delivery"}"#,
        "Timestamp": "2026-11-20T10:00:00.000Z",
        "SignatureVersion": version,
        "Signature": signature,
        "SigningCertURL": url(server),
    })
}

fn url(server: &Server) -> String {
    format!("http://{}{CERTIFICATE_PATH}", server.address)
}

#[tokio::test]
async fn a_right_signature_of_either_version_is_believed_and_its_certificate_fetched_once() {
    let server = Server::start(Answer::text(200, CERTIFICATE)).await;
    let client = client(&server);
    for (version, signature) in [("1", SHA_1), ("2", SHA_256)] {
        assert_eq!(check(&client, &by_openssl(&server, version, signature)).await, Ok(()));
    }
    let subscription = json!({
        "Type": "SubscriptionConfirmation", "Token": "t", "SubscribeURL": "https://sns.eu-west-1.amazonaws.com/",
    });
    assert_eq!(check(&client, &signed(subscription, &url(&server))).await, Ok(()));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn whatever_is_changed_in_a_signed_message_makes_it_a_forgery() {
    let server = Server::start(Answer::text(200, CERTIFICATE)).await;
    let client = client(&server);
    for version in ["1", "2"] {
        let right = by_openssl(&server, version, if version == "1" { SHA_1 } else { SHA_256 });
        for (field, value) in [
            ("Message", json!(r#"{"notificationType":"Bounce"}"#)),
            ("MessageId", json!("22b80b92-fdea-4c2c-8f9d-bdfb0c7bf325")),
            ("Subject", json!(null)),
            ("Subject", json!("My second message")),
            ("Timestamp", json!("2026-11-20T10:00:01.000Z")),
            ("Type", json!("UnsubscribeConfirmation")),
            ("TopicArn", json!("arn:aws:sns:eu-west-1:999999999999:ses-callbacks")),
            ("TopicArn", json!(null)),
            ("SignatureVersion", json!(if version == "1" { "2" } else { "1" })),
            ("SignatureVersion", json!("3")),
            ("SignatureVersion", json!(null)),
            ("Signature", json!(SHA_1.replace('n', "m"))),
            ("Signature", json!("")),
            ("Signature", json!("!")),
            ("Signature", json!(null)),
            ("SigningCertURL", json!(null)),
            (
                "SigningCertURL",
                json!("https://evil.example/SimpleNotificationService-1.pem"),
            ),
            ("SigningCertURL", json!(format!("http://{}/other.pem", server.address))),
        ] {
            let mut changed = right.clone();
            changed[field] = value.clone();
            let verdict = check(&client, &changed).await;
            assert!(
                matches!(verdict, Err(Refusal::Forged(_))),
                "{field} {value}: {verdict:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_certificate_that_cannot_be_had_now_is_not_a_forgery() {
    for (answer, forged) in [
        (Answer::text(500, ""), false),
        (Answer::Close, false),
        (Answer::text(200, &"x".repeat(100_000)), false),
        (Answer::text(404, ""), true),
        (Answer::text(200, "no certificate"), true),
        (
            Answer::Http {
                status: 302,
                headers: "Location: /SimpleNotificationService-stub.pem\r\n".to_owned(),
                body: String::new(),
                truncate: false,
            },
            true,
        ),
    ] {
        let server = Server::start(answer.clone()).await;
        let verdict = check(&client(&server), &by_openssl(&server, "2", SHA_256)).await;
        assert_eq!(
            matches!(verdict, Err(Refusal::Forged(_))),
            forged,
            "{answer:?}: {verdict:?}"
        );
        assert!(verdict.is_err());
        assert_eq!(
            server.requests().len(),
            1,
            "redirects are not followed, and nothing is tried again"
        );
    }
    let address = closed_port().await;
    let client = Client::new(Settings {
        topics: vec![TOPIC.to_owned()],
        verify: true,
        hosts: vec![address.to_string()],
        ..Settings::default()
    });
    let envelope = signed(
        json!({"Type": "Notification"}),
        &format!("http://{address}{CERTIFICATE_PATH}"),
    );
    assert!(matches!(check(&client, &envelope).await, Err(Refusal::Later(_))));
}
