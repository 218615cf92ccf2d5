//! golden/providers.json against the real clients, and what the contract says beyond it: what may have been taken.

mod documents;
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
use uuid::Uuid;

use server::{Answer, Request, Server};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/providers.json");
const ID: Uuid = Uuid::from_u128(0x1f6a_28d5_6d0d_4f5b_9a27_6f3f_7a2b_9ce1);
const RECEIPT_URL: &str = "https://callbacks.example.gov.uk/x?y=1";

/// Answers that Herald takes differently on purpose: whether they were a yes is unknown.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("mmg", "200 NaN", "NaN is no JSON, and not taken for a yes"),
    (
        "firetext",
        "200 number",
        "a body that is no object is no error of the program",
    ),
    (
        "firetext",
        "200 null",
        "a body that is no object is no error of the program",
    ),
    (
        "ses",
        "200 no MessageId",
        "a missing MessageId is no error of the program",
    ),
    ("ses", "200 not json", "an unreadable body is no error of the program"),
];

/// Emails that Herald writes differently on purpose.
const EMAIL_EXCEPTIONS: &[(&str, &str)] = &[(
    "custom sender name",
    "quotes within a sender's name are escaped, and what is not ASCII is encoded",
)];

fn cases() -> Vec<Value> {
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(GOLDEN).unwrap()).unwrap();
    golden["cases"].as_array().unwrap().clone()
}

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
async fn texts_go_out_as_recorded() {
    let mut compared = 0;
    for case in cases() {
        let recorded = &case["requests"][0];
        let provider = case["input"]["provider"].as_str().unwrap_or_default();
        if recorded.is_null() || provider == "ses" {
            continue;
        }
        let fields = if provider == "mmg" {
            &recorded["json"]
        } else {
            &recorded["form"]
        };
        let field = |firetext: &str, mmg: &str| {
            let name = if provider == "mmg" { mmg } else { firetext };
            fields[name].as_str().unwrap().to_owned()
        };
        let text = Text {
            to: field("to", "MSISDN"),
            from: field("from", "sender"),
            body: field("message", "msg"),
            reference: ID,
            international: fields["apiKey"] == "ftintkey",
        };
        let receipts = case["name"]
            .as_str()
            .unwrap()
            .contains("receipt url")
            .then(|| ReceiptUrl {
                url: RECEIPT_URL.into(),
                credentials: Some(("user".into(), "pass".into())),
            });
        let server = Server::start(Answer::success(provider)).await;
        let sent = sms_client(provider, server.address, receipts).send(&text).await;
        assert!(sent.is_ok(), "{sent:?}");
        assert_same_request(&server.requests()[0], recorded, &case["name"]);
        compared += 1;
    }
    assert_eq!(compared, 20);
}

fn assert_same_request(request: &Request, recorded: &Value, name: &Value) {
    for (header, value) in recorded["headers"].as_object().unwrap() {
        assert_eq!(request.header(header), value.as_str(), "{name}: {header}");
    }
    let with_id = |text: &str| text.replace("<id>", &ID.to_string());
    if let Some(order) = recorded["form_order"].as_array() {
        // Compared decoded, in order: `~` may stand as it is or as %7E.
        let expected: Vec<(String, String)> = order
            .iter()
            .map(|key| key.as_str().unwrap())
            .map(|key| (key.to_owned(), with_id(recorded["form"][key].as_str().unwrap())))
            .collect();
        assert_eq!(request.form(), expected, "{name}");
    } else {
        let body = String::from_utf8(request.body.clone()).unwrap();
        assert_eq!(body, with_id(&recorded["json"].to_string()), "{name}");
    }
}

#[tokio::test]
async fn emails_say_the_same_as_recorded() {
    let (mut compared, mut exceptions) = (0, 0);
    for case in cases() {
        let recorded = &case["requests"][0]["json"];
        if recorded.is_null() || case["input"]["provider"] != "ses" {
            continue;
        }
        let input = &case["input"];
        let content = &recorded["Content"]["Simple"];
        let email = Email {
            to: input["to"].as_str().unwrap().to_lowercase(),
            from_name: input["custom_email_sender_name"]
                .as_str()
                .or(input["service_name"].as_str())
                .unwrap()
                .into(),
            from_address: format!("{}@notify.tools", input["email_sender_local_part"].as_str().unwrap()),
            reply_to: input["sender_or_reply_to"].as_str().map(str::to_owned),
            subject: content["Subject"]["Data"].as_str().unwrap().into(),
            plain_text: content["Body"]["Text"]["Data"].as_str().unwrap().into(),
            html: content["Body"]["Html"]["Data"].as_str().unwrap().into(),
            unsubscribe: input["unsub"].as_str().map(str::to_owned),
            reference: ID,
        };
        let server = Server::start(Answer::success("ses")).await;
        let sent = ses_client(server.address).await.send(&email).await.unwrap();
        assert_eq!(sent.reference.as_deref(), Some("ses-1"));
        let name = case["name"].as_str().unwrap();
        let request = &server.requests()[0];
        assert_eq!(facts(request), recorded_facts(recorded, &email), "{name}");
        let exception = EMAIL_EXCEPTIONS.iter().any(|(exception, _)| *exception == name);
        let from = sender(request);
        assert_eq!(recorded["FromEmailAddress"] == *from, !exception, "{name}: {from}");
        exceptions += usize::from(exception);
        compared += 1;
    }
    assert_eq!((compared, exceptions), (6, EMAIL_EXCEPTIONS.len()));
}

/// The recorded system spoke SES v2 (JSON); we speak v1 (a form with the whole message in it). The facts are the same.
fn recorded_facts(recorded: &Value, email: &Email) -> Value {
    let content = &recorded["Content"]["Simple"];
    let reply_to = recorded["ReplyToAddresses"][0].as_str();
    json!({
        "from_name": email.from_name,
        "from": email.from_address,
        "source": email.from_address,
        "to": recorded["Destination"]["ToAddresses"],
        "header_to": recorded["Destination"]["ToAddresses"][0],
        "reply_to": reply_to,
        "subject": content["Subject"]["Data"],
        "text": content["Body"]["Text"]["Data"],
        "html": content["Body"]["Html"]["Data"],
        "headers": content["Headers"],
        "tag": [ses::REFERENCE_TAG, ID.to_string()],
    })
}

fn field(request: &Request, name: &str) -> Option<String> {
    let mut form = request.form().into_iter();
    form.find(|(key, _)| key == name).map(|(_, value)| value)
}

fn raw_message(request: &Request) -> Vec<u8> {
    STANDARD.decode(field(request, "RawMessage.Data").unwrap()).unwrap()
}

/// As it stands in the message.
fn sender(request: &Request) -> String {
    let raw = raw_message(request);
    let message = MessageParser::default().parse(&raw).unwrap();
    message.header_raw("From").unwrap().trim().to_owned()
}

fn facts(request: &Request) -> Value {
    let field = |name: &str| field(request, name);
    assert_eq!(field("Action").as_deref(), Some("SendRawEmail"));
    let raw = raw_message(request);
    let message = MessageParser::default().parse(&raw).unwrap();
    let unix = |text: Option<std::borrow::Cow<'_, str>>| text.map(|text| text.replace("\r\n", "\n"));
    let header = |name: &str| message.header_raw(name).map(|value| value.trim().to_owned());
    let headers: Vec<Value> = ["List-Unsubscribe", "List-Unsubscribe-Post"]
        .into_iter()
        .filter_map(|name| header(name).map(|value| json!({"Name": name, "Value": value})))
        .collect();
    let from = message.from().and_then(|from| from.first()).unwrap();
    json!({
        "from_name": from.name(),
        "from": from.address(),
        "source": field("Source"),
        "to": [field("Destinations.member.1")],
        "header_to": message.to().and_then(|to| to.first()).and_then(|to| to.address()),
        "reply_to": message.reply_to().and_then(|to| to.first()).and_then(|to| to.address()),
        "subject": message.subject(),
        "text": unix(message.body_text(0)),
        "html": unix(message.body_html(0)),
        "headers": headers,
        "tag": [field("Tags.member.1.Name"), field("Tags.member.1.Value")],
    })
}

#[tokio::test]
async fn answers_are_taken_as_recorded() {
    let (mut agreed, mut exceptions, mut differences) = (0, 0, Vec::new());
    for case in cases().iter().filter(|case| case.get("answer").is_some()) {
        let provider = case["provider"].as_str().unwrap();
        let name = case["name"].as_str().unwrap();
        let server = Server::start(recorded_answer(provider, &case["answer"])).await;
        let sent = send(provider, server.address).await;
        let got = kind(&sent);
        let recorded = match case["classified"]["exception"].as_str() {
            None => "success",
            Some("AwsSesClientThrottlingSendRateException") => "throttled",
            Some("EmailClientNonRetryableException") => "never",
            Some("SmsClientResponseException" | "AwsSesClientException") => "again",
            // The recorded program stumbled over the answer.
            Some(_) => "error",
        };
        // The recorded SDK tried three times within itself; ours leaves that to the engine.
        assert_eq!(server.requests().len(), 1, "{provider} {name}");
        let exception = EXCEPTIONS.iter().any(|(p, n, _)| (*p, *n) == (provider, name));
        if exception {
            assert_eq!(sent.unwrap_err().outcome, Outcome::Unknown, "{provider} {name}");
            exceptions += 1;
        }
        if (got == recorded) == exception {
            differences.push(format!("{provider} {name}: got {got}, recorded {recorded}"));
        } else if !exception {
            agreed += 1;
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert_eq!((agreed, exceptions), (46, EXCEPTIONS.len()));
}

fn kind(sent: &Result<Accepted, SendError>) -> &'static str {
    match sent.as_ref().map_err(|error| error.outcome) {
        Ok(_) => "success",
        // SMS: the recorded client knew no throttling and tried again like after any error.
        Err(Outcome::Throttled { .. }) if sent.as_ref().is_err_and(|e| !e.reason.contains("sending rate")) => "again",
        Err(Outcome::Throttled { .. }) => "throttled",
        Err(Outcome::Never) => "never",
        Err(Outcome::Refused | Outcome::Unknown) => "again",
    }
}

/// The recorded answer; errors of SES in the XML of the API that we speak.
fn recorded_answer(provider: &str, answer: &Value) -> Answer {
    if answer == "success" {
        return Answer::success(provider);
    }
    if answer["close"] == true {
        return Answer::Close;
    }
    let status = u16::try_from(answer["status"].as_u64().unwrap()).unwrap();
    let body = answer["body"].as_str().unwrap();
    let body = match answer["headers"]["x-amzn-ErrorType"].as_str() {
        Some(code) => {
            let json: Value = serde_json::from_str(body).unwrap();
            xml_error(code, json["message"].as_str().unwrap())
        }
        None if (provider, body) == ("ses", "{}") => "<SendRawEmailResponse \
            xmlns=\"http://ses.amazonaws.com/doc/2010-12-01/\"><SendRawEmailResult></SendRawEmailResult>\
            </SendRawEmailResponse>"
            .to_owned(),
        None => body.to_owned(),
    };
    Answer::Http {
        status,
        headers: String::new(),
        body,
        truncate: answer["truncate"] == true,
    }
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
    let call = callbacks::Call {
        url: format!("http://{}/", service.address),
        bearer_token: "a token".into(),
        signing_key: None,
        id: ID,
        sequence: 1,
        body: "{}".into(),
    };
    let client = callbacks::Client::new(callbacks::Settings { allow_private: true }).unwrap();
    let refusal = client.call(&call).await.unwrap_err();
    assert!(
        matches!(refusal, callbacks::Refusal::Again { after, .. } if is_right(after)),
        "{refusal:?}"
    );
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
    }
    for provider in ["firetext", "mmg"] {
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
    let quota = xml_error("Throttling", "Daily message quota exceeded.");
    assert!(
        outcome("ses", Answer::text(454, &quota))
            .await
            .unwrap_err()
            .needs_a_person()
    );
}
