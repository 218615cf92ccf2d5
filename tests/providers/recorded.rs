//! The answers of golden/providers.json against the real clients: how each is classified.

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

pub fn cases() -> Vec<Value> {
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(GOLDEN).unwrap()).unwrap();
    golden["cases"].as_array().unwrap().clone()
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
pub fn recorded_answer(provider: &str, answer: &Value) -> Answer {
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
