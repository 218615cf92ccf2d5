//! golden/providers.json against the real clients.

use super::*;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/providers.json");

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
