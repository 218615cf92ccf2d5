//! The real clients against what was recorded, and what the contract says beyond it: what may have been taken.

mod documents;
mod played;
mod recorded;
pub mod server;

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use herald_providers::{
    Accepted, Email, Outcome, ReceiptUrl, SendError, SmsClient, Text, Timeouts, callbacks, firetext, mmg, ses,
};
use mail_parser::MessageParser;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use uuid::Uuid;

use server::{Answer, Request, Server};

const ID: Uuid = Uuid::from_u128(0x1f6a_28d5_6d0d_4f5b_9a27_6f3f_7a2b_9ce1);
const RECEIPT_URL: &str = "https://callbacks.example.gov.uk/x?y=1";

fn timeouts() -> Timeouts {
    Timeouts {
        connect: Duration::from_millis(300),
        read: Duration::from_millis(600),
        total: Duration::from_secs(2),
    }
}

fn sms_client(provider: &str, address: SocketAddr, receipts: Option<ReceiptUrl>) -> SmsClient {
    let (url, timeouts) = (format!("http://{address}/send"), timeouts());
    if provider == "mmg" {
        let api_key = "mmgkey".into();
        SmsClient::Mmg(
            mmg::Client::new(mmg::Settings {
                url,
                api_key,
                receipts,
                timeouts,
            })
            .unwrap(),
        )
    } else {
        let settings = firetext::Settings {
            url,
            api_key: "ftkey".into(),
            international_api_key: "ftintkey".into(),
            receipts,
            timeouts,
        };
        SmsClient::Firetext(firetext::Client::new(settings).unwrap())
    }
}

async fn ses_client(address: SocketAddr) -> ses::Client {
    let settings = ses::Settings {
        region: "eu-west-1".into(),
        endpoint_url: Some(format!("http://{address}/ses")),
        configuration_set: None,
        credentials: Some(ses::AwsCredentials {
            access_key_id: "id".into(),
            secret_access_key: "secret".into(),
            session_token: None,
        }),
        timeouts: timeouts(),
    };
    ses::Client::new(settings).await.unwrap()
}

fn text() -> Text {
    Text {
        to: "447411000001".into(),
        from: "GOVUK".into(),
        body: "Hello".into(),
        reference: ID,
        international: false,
    }
}

fn email() -> Email {
    Email {
        to: "someone@example.com".into(),
        from_name: "Golden Plain".into(),
        from_address: "golden.plain@notify.tools".into(),
        reply_to: None,
        subject: "Hello".into(),
        plain_text: "Hello\n".into(),
        html: "<p>Hello</p>".into(),
        unsubscribe: None,
        reference: ID,
    }
}

async fn send(provider: &str, address: SocketAddr) -> Result<Accepted, SendError> {
    match provider {
        "ses" => ses_client(address).await.send(&email()).await,
        _ => sms_client(provider, address, None).send(&text()).await,
    }
}

/// Plays one answer to one send.
async fn outcome(provider: &str, answer: Answer) -> Result<Accepted, SendError> {
    let server = Server::start(answer).await;
    send(provider, server.address).await
}

fn xml_error(code: &str, message: &str) -> String {
    format!(
        "<ErrorResponse xmlns=\"http://ses.amazonaws.com/doc/2010-12-01/\"><Error><Type>Sender</Type>\
         <Code>{code}</Code><Message>{message}</Message></Error><RequestId>r</RequestId></ErrorResponse>"
    )
}

#[tokio::test]
async fn nothing_that_may_have_been_taken_counts_as_refused() {
    for provider in ["firetext", "mmg", "ses"] {
        let cut = Answer::Http {
            status: 200,
            headers: String::new(),
            body: "{\"code\":0}".into(),
            truncate: true,
        };
        for (answer, status) in [
            (Answer::Hang, Some(504)),
            (Answer::Close, None),
            (cut, Some(200)),
            (Answer::text(200, "OK"), Some(200)),
            (Answer::text(502, "x"), Some(502)),
            (Answer::text(504, "x"), Some(504)),
            (Answer::text(524, "x"), Some(524)),
        ] {
            let what = format!("{provider} {answer:?}");
            let error = outcome(provider, answer).await.unwrap_err();
            assert_eq!(error.outcome, Outcome::Unknown, "{what}: {error:?}");
            if provider != "ses" || status != Some(200) {
                assert_eq!(error.status, status, "{what}");
            }
            if status == Some(504) {
                assert_eq!(error.reason, "Gateway timeout", "{what}");
            }
        }
    }
}

#[tokio::test]
async fn what_never_left_is_refused() {
    for provider in ["firetext", "mmg", "ses"] {
        let error = send(provider, server::closed_port().await).await.unwrap_err();
        assert_eq!((error.outcome, error.status), (Outcome::Refused, None), "{provider}");

        let full = server::full_backlog().await;
        let error = send(provider, full.address).await.unwrap_err();
        assert_eq!(
            (error.outcome, error.status, error.reason.as_str()),
            (Outcome::Refused, Some(504), "Gateway timeout"),
            "{provider}"
        );
    }
}

#[tokio::test]
async fn a_provider_that_is_too_busy_throttles() {
    let wait = |seconds| Outcome::Throttled {
        after: Some(Duration::from_secs(seconds)),
    };
    for (status, headers, expected) in [
        (429, "", Outcome::Throttled { after: None }),
        (429, "Retry-After: 7\r\n", wait(7)),
        (503, "Retry-After: 2\r\n", wait(2)),
        (503, "Retry-After: 999999\r\n", wait(3600)),
        (503, "Retry-After: 99999999999999999999999\r\n", wait(3600)),
        (503, "Retry-After: Fri, 31 Dec 9999 23:59:59 GMT\r\n", wait(3600)),
        (503, "Retry-After: Thu, 01 Jan 1970 00:00:00 GMT\r\n", Outcome::Refused),
        (503, "Retry-After: soon\r\n", Outcome::Refused),
        (503, "", Outcome::Refused),
        (500, "", Outcome::Refused),
    ] {
        let answer = Answer::Http {
            status,
            headers: headers.into(),
            body: "x".into(),
            truncate: false,
        };
        let error = outcome("firetext", answer).await.unwrap_err();
        assert_eq!((error.outcome, error.status), (expected, Some(status)));
    }
}

#[tokio::test]
async fn a_pause_can_be_asked_for_up_to_a_date_by_providers_and_services() {
    let asked = Duration::from_secs(100);
    let until = (chrono::Utc::now() + asked).format("%a, %d %b %Y %H:%M:%S GMT");
    let answer = Answer::Http {
        status: 503,
        headers: format!("Retry-After: {until}\r\n"),
        body: "x".into(),
        truncate: false,
    };
    let is_right = |after: Option<Duration>| (asked / 2..=asked).contains(&after.unwrap());
    for provider in ["firetext", "mmg"] {
        let outcome = outcome(provider, answer.clone()).await.unwrap_err().outcome;
        assert!(
            matches!(outcome, Outcome::Throttled { after } if is_right(after)),
            "{provider}: {outcome:?}"
        );
    }
    let service = Server::start(answer).await;
    let refusal = call_service(service.address).await.unwrap_err();
    assert!(
        matches!(refusal, callbacks::Refusal::Again { after, .. } if is_right(after)),
        "{refusal:?}"
    );
}

async fn call_service(address: SocketAddr) -> Result<(), callbacks::Refusal> {
    let client = callbacks::Client::new(callbacks::Settings { allow_private: true }).unwrap();
    let call = callbacks::Call {
        url: format!("http://{address}/"),
        bearer_token: "a token".into(),
        signing_key: None,
        id: ID,
        sequence: 1,
        body: "{}".into(),
    };
    client.call(&call).await
}

/// Answers `200 OK` and then never stops; tells how many bytes a caller took.
async fn endless(listener: TcpListener) -> usize {
    let (mut caller, _) = listener.accept().await.unwrap();
    server::read(&mut caller).await.unwrap();
    caller.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    let chunk = [b'x'; 1024];
    let mut written = 0;
    while caller.write_all(&chunk).await.is_ok() {
        written += chunk.len();
    }
    written
}

#[tokio::test]
async fn a_service_that_never_ends_its_answer_or_never_begins_one_holds_nobody_for_long() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, silent) = (listener.local_addr().unwrap(), Server::start(Answer::Hang).await);
    let since = std::time::Instant::now();
    let (told, written, hung) = tokio::join!(call_service(address), endless(listener), call_service(silent.address));
    assert_eq!(told, Ok(()), "the head of its answer said that it was told");
    assert!(
        written < 16 * 1024 * 1024,
        "{written} bytes were taken, buffers included"
    );
    let refusal = callbacks::Refusal::Again {
        why: "no answer in time".to_owned(),
        after: None,
    };
    assert_eq!(hung, Err(refusal));
    let took = since.elapsed();
    assert!((5..8).contains(&took.as_secs()), "{took:?}");
}

#[tokio::test]
async fn ses_errors_are_told_apart_without_repeating_addresses() {
    let throttled = Outcome::Throttled { after: None };
    let much_later = Outcome::Throttled {
        after: Some(Duration::from_secs(900)),
    };
    for (status, code, message, expected) in [
        (
            400,
            "InvalidParameterValue",
            "Local address contains control: jo@x",
            Outcome::Never,
        ),
        (400, "Throttling", "Maximum sending rate exceeded.", throttled),
        (454, "Throttling", "Daily message quota exceeded.", much_later),
        (
            400,
            "MessageRejected",
            "Email address is not verified: jo@x",
            Outcome::Refused,
        ),
        (400, "MailFromDomainNotVerifiedException", "x", Outcome::Refused),
        (403, "SignatureDoesNotMatch", "x", Outcome::Refused),
        (500, "InternalFailure", "x", Outcome::Refused),
        (503, "ServiceUnavailable", "x", Outcome::Refused),
    ] {
        let error = outcome("ses", Answer::text(status, &xml_error(code, message)))
            .await
            .unwrap_err();
        assert_eq!((error.outcome, error.status), (expected, Some(status)), "{code}");
        assert!(!error.reason.contains('@'), "{error:?}");
        assert_eq!(error.reason.contains("quota"), message.contains("quota"));
    }
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    let body = format!("{{\"code\":0,\"x\":\"{}\"}}", "x".repeat(70_000));
    for provider in ["firetext", "mmg"] {
        let error = outcome(provider, Answer::text(200, &body)).await.unwrap_err();
        assert_eq!((error.outcome, error.status), (Outcome::Unknown, Some(200)));
    }
}

#[tokio::test]
async fn the_pace_of_ses_is_learnt_from_ses() {
    let told = |rate: &str| {
        Answer::text(
            200,
            &format!(
                "<GetSendQuotaResponse xmlns=\"http://ses.amazonaws.com/doc/2010-12-01/\"><GetSendQuotaResult>\
                 <Max24HourSend>50000.0</Max24HourSend><MaxSendRate>{rate}</MaxSendRate>\
                 <SentLast24Hours>0.0</SentLast24Hours></GetSendQuotaResult></GetSendQuotaResponse>"
            ),
        )
    };
    let server = Server::start(told("14.0")).await;
    let client = ses_client(server.address).await;
    assert_eq!(client.learn_pace().await.unwrap(), 14.0);
    assert_eq!(server.requests()[0].form()[0], ("Action".into(), "GetSendQuota".into()));
    let denied = Server::start(Answer::text(403, &xml_error("AccessDenied", "jo@example.com may not"))).await;
    let error = ses_client(denied.address).await.learn_pace().await.unwrap_err();
    assert_eq!(error.reason, "Request refused: AccessDenied");
}

#[tokio::test]
async fn each_call_tells_how_long_it_took_as_a_whole_and_without_our_own_part() {
    for provider in ["firetext", "mmg", "ses"] {
        let taken = outcome(provider, Answer::success(provider)).await.unwrap().timing;
        let parts = taken.connected.unwrap() + taken.raw.unwrap();
        assert!(parts <= taken.whole, "{provider}: {taken:?}");

        let refused = outcome(provider, Answer::text(500, "x")).await.unwrap_err();
        assert!(refused.timing.raw.is_some(), "{provider}: {refused:?}");

        let hung = outcome(provider, Answer::Hang).await.unwrap_err().timing;
        assert!(hung.whole >= timeouts().read, "{provider}: {hung:?}");
        assert!(hung.connected.is_some() && hung.raw.is_none(), "{provider}: {hung:?}");

        let nobody = send(provider, server::closed_port().await).await.unwrap_err();
        assert_eq!(nobody.timing.connected, None, "nothing has left");
    }
}

#[tokio::test]
async fn trouble_of_the_provider_is_told_from_trouble_with_a_message_and_from_what_needs_a_person() {
    let refusal = r#"{"code":5,"description":"Message too long"}"#;
    let revoked = r#"{"code":1,"description":"Authentication error"}"#;
    for (status, body, is_fault, needs_a_person) in [
        (500, "x", true, false),
        (502, "x", true, false),
        (401, "x", true, true),
        (429, "x", false, false),
        (400, "x", false, false),
        (200, refusal, false, false),
        (200, revoked, true, true),
        (200, "<html>Back soon</html>", true, false),
    ] {
        let error = outcome("firetext", Answer::text(status, body)).await.unwrap_err();
        let told = (error.is_fault(), error.needs_a_person());
        assert_eq!(told, (is_fault, needs_a_person), "{error:?}");
    }
    for answer in [Answer::Close, Answer::Hang] {
        assert!(outcome("mmg", answer).await.unwrap_err().is_fault());
    }
    let later = Answer::Http {
        status: 503,
        headers: "Retry-After: 120\r\n".to_owned(),
        body: "x".to_owned(),
        truncate: false,
    };
    assert!(
        outcome("mmg", later).await.unwrap_err().is_fault(),
        "it says when to come back"
    );
    let quota = xml_error("Throttling", "Daily message quota exceeded.");
    assert!(
        outcome("ses", Answer::text(454, &quota))
            .await
            .unwrap_err()
            .needs_a_person()
    );
}
