//! The stub seen from outside: the real clients send through it, a server of a few lines takes its receipts.

use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use herald_message::receipt::ses::Notice;
use herald_message::receipt::sns::Envelope;
use herald_message::receipt::{self, Receipt};
use herald_message::status::Status;
use herald_providers::{Accepted, Email, Outcome, SendError, SmsClient, Text, Timeouts, firetext, mmg, ses};
use herald_stub::Settings;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::providers::server::{Answer, Server};

struct World {
    base: String,
    http: reqwest::Client,
    receiver: Server,
    sms: [SmsClient; 2],
    ses: ses::Client,
}

impl World {
    async fn start() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let receiver = Server::start(Answer::text(200, "{}")).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let mut settings = Settings {
            api_url: Some(format!("http://{}", receiver.address)),
            receipt_delay: Duration::from_millis(5)..=Duration::from_millis(10),
            ..Settings::default()
        };
        change(&mut settings);
        tokio::spawn(herald_stub::serve(listener, settings, pending::<()>()));
        let sms = sms_clients(&base);
        let ses = ses_client(&base).await;
        let http = reqwest::Client::new();
        Self {
            base,
            http,
            receiver,
            sms,
            ses,
        }
    }

    async fn fault(&self, provider: &str, fault: Value) -> (u16, Value) {
        let url = format!("{}/faults/{provider}", self.base);
        let answer = self.http.put(url).json(&fault).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.http.get(format!("{}{path}", self.base)).send().await.unwrap();
        answer.json().await.unwrap()
    }

    async fn phone(&self) -> Vec<Value> {
        self.get("/phone").await["messages"].as_array().unwrap().clone()
    }

    /// The receipts as Herald would read them, once so many have come.
    async fn receipts(&self, count: usize) -> Vec<Receipt> {
        let wait = async {
            while self.receiver.requests().len() < count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), wait).await.unwrap();
        let read = |body: &[u8]| match receipt::mmg::parse(body).or_else(|_| receipt::firetext::parse(body)) {
            Ok(callback) => Some(callback.receipt),
            Err(_) => match notice(body) {
                Notice::Receipt { receipt, .. } => Some(receipt),
                Notice::Complaint(_) => None,
            },
        };
        let requests = self.receiver.requests();
        requests.iter().filter_map(|request| read(&request.body)).collect()
    }

    async fn statuses(&self, count: usize) -> Vec<Option<Status>> {
        let receipts = self.receipts(count).await;
        receipts.into_iter().map(|receipt| receipt.status).collect()
    }
}

fn notice(body: &[u8]) -> Notice {
    receipt::ses::read(&Envelope::parse(body).unwrap()).unwrap()
}

fn sms_clients(base: &str) -> [SmsClient; 2] {
    let timeouts = Timeouts {
        total: Duration::from_millis(700),
        ..Timeouts::default()
    };
    let firetext = firetext::Settings {
        url: format!("{base}/firetext"),
        api_key: "k".into(),
        international_api_key: "i".into(),
        receipts: None,
        timeouts,
    };
    let mmg = mmg::Settings {
        url: format!("{base}/mmg"),
        api_key: "k".into(),
        receipts: None,
        timeouts,
    };
    [
        SmsClient::Firetext(firetext::Client::new(firetext).unwrap()),
        SmsClient::Mmg(mmg::Client::new(mmg).unwrap()),
    ]
}

async fn ses_client(base: &str) -> ses::Client {
    let settings = ses::Settings {
        region: "eu-west-1".into(),
        endpoint_url: Some(format!("{base}/ses")),
        configuration_set: None,
        credentials: Some(ses::AwsCredentials {
            access_key_id: "id".into(),
            secret_access_key: "secret".into(),
            session_token: None,
        }),
        timeouts: Timeouts::default(),
    };
    ses::Client::new(settings).await.unwrap()
}

fn text(to: &str) -> Text {
    Text {
        to: to.into(),
        from: "GOVUK".into(),
        body: "Croeso i'r tŷ & more".into(),
        reference: Uuid::new_v4(),
        international: false,
    }
}

fn email(to: &str) -> Email {
    Email {
        to: to.into(),
        from_name: "Tŷ \"Golden\"".into(),
        from_address: "golden@notify.tools".into(),
        reply_to: None,
        subject: "Your tŷ".into(),
        plain_text: "Dear Siân,\n\nlong line ".repeat(40),
        html: "<p>Dear Siân</p>".into(),
        unsubscribe: None,
        reference: Uuid::new_v4(),
    }
}

fn outcome(sent: Result<Accepted, SendError>) -> Outcome {
    sent.unwrap_err().outcome
}

#[tokio::test]
async fn the_phone_shows_what_was_sent_in_order() {
    let world = World::start().await;
    let mut expected = Vec::new();
    for (client, to) in world.sms.iter().zip(["447411000001", "447411000002"]) {
        let text = text(to);
        client.send(&text).await.unwrap();
        expected.push((text.reference.to_string(), to, text.body, client.name()));
    }
    let email = email("jo@example.com");
    let accepted = world.ses.send(&email).await.unwrap();
    expected.push((email.reference.to_string(), "jo@example.com", email.plain_text, "ses"));

    let phone = world.phone().await;
    assert_eq!(phone.len(), expected.len());
    for (message, (reference, to, content, provider)) in phone.iter().zip(&expected) {
        assert_eq!(message["reference"], **reference);
        assert_eq!(message["to"], **to);
        assert_eq!(message["content"], **content);
        assert_eq!(message["provider"], **provider);
        assert!(message["at"].is_string());
    }
    assert_eq!(phone[2]["subject"], "Your tŷ");

    for reference in [&email.reference.to_string(), &accepted.reference.unwrap()] {
        let found = world.get(&format!("/phone?reference={reference}")).await;
        assert_eq!(found["messages"], json!([phone[2]]));
    }
    let count = world.get("/phone/count").await;
    assert_eq!(count["messages"], 3);
    world.http.delete(format!("{}/phone", world.base)).send().await.unwrap();
    assert!(world.phone().await.is_empty());
}

#[tokio::test]
async fn magic_recipients_decide_the_receipts() {
    use Status::{Delivered, Pending, PermanentFailure, TemporaryFailure};
    for (firetext, to, expected) in [
        (true, "447411000001", vec![Delivered]),
        (true, "447700900002", vec![PermanentFailure]),
        (true, "447700900003", vec![Pending, PermanentFailure]),
        (false, "447411000001", vec![Delivered]),
        (false, "447700900002", vec![PermanentFailure]),
        (false, "447700900003", vec![TemporaryFailure]),
    ] {
        let world = World::start().await;
        world.sms[usize::from(!firetext)].send(&text(to)).await.unwrap();
        let receipts = world.receipts(expected.len()).await;
        let statuses: Vec<_> = receipts.iter().map(|receipt| receipt.status.unwrap()).collect();
        assert_eq!(statuses, expected, "{to}");
        assert!(receipts.iter().all(|receipt| receipt.at.is_some()));
        let decided = receipts.iter().fold(Status::Sending, |status, receipt| {
            receipt::decide(status, None, receipt).unwrap()
        });
        assert_eq!(decided == TemporaryFailure, to.ends_with("900003"));
    }
    for (to, expected) in [
        ("jo@example.com", Delivered),
        ("perm-fail@simulator.notify", PermanentFailure),
        ("temp-fail@simulator.notify", TemporaryFailure),
    ] {
        let world = World::start().await;
        world.ses.send(&email(to)).await.unwrap();
        assert_eq!(world.statuses(1).await, [Some(expected)]);
    }
}

#[tokio::test]
async fn every_fault_looks_to_the_client_as_it_should() {
    let throttled = |seconds: Option<u64>| Outcome::Throttled {
        after: seconds.map(Duration::from_secs),
    };
    for (fault, expected, taken) in [
        (json!({"status": 500}), Outcome::Refused, 0),
        (json!({"status": 503}), Outcome::Refused, 0),
        (json!({"status": 429, "retry_after": 3}), throttled(Some(3)), 0),
        (json!({"status": 502, "accept": true}), Outcome::Unknown, 1),
        (json!({"body": "oops"}), Outcome::Unknown, 1),
        (json!({"hang": true}), Outcome::Unknown, 1),
        (json!({"hang": true, "accept": false}), Outcome::Unknown, 0),
        (json!({"latency_ms": 900}), Outcome::Unknown, 0),
        (json!({"reset_before": true}), Outcome::Unknown, 0),
        (json!({"reset_after_accept": true}), Outcome::Unknown, 1),
        (json!({"truncate": true}), Outcome::Unknown, 1),
    ] {
        for client in 0..2 {
            let world = World::start().await;
            let client = &world.sms[client];
            assert_eq!(world.fault(client.name(), fault.clone()).await, (200, fault.clone()));
            let what = format!("{} {fault}", client.name());
            assert_eq!(outcome(client.send(&text("447411000001")).await), expected, "{what}");
            assert_eq!(world.phone().await.len(), taken, "{what}");
        }
    }
}

#[tokio::test]
async fn ses_faults_are_told_in_its_own_words() {
    let throttled = Outcome::Throttled { after: None };
    for (fault, expected) in [
        (json!({"status": 400}), throttled),
        (
            json!({"status": 400, "code": "Throttling", "message": "Daily message quota exceeded."}),
            Outcome::Throttled {
                after: Some(Duration::from_secs(900)),
            },
        ),
        (json!({"status": 400, "code": "InvalidParameterValue"}), Outcome::Never),
        (json!({"status": 503}), Outcome::Refused),
        (json!({"reset_after_accept": true}), Outcome::Unknown),
        (json!({"truncate": true}), Outcome::Unknown),
    ] {
        let world = World::start().await;
        world.fault("ses", fault.clone()).await;
        assert_eq!(
            outcome(world.ses.send(&email("jo@example.com")).await),
            expected,
            "{fault}"
        );
    }
}

#[tokio::test]
async fn faults_end_after_their_times_and_follow_one_another() {
    let world = World::start().await;
    let client = &world.sms[1];
    world
        .fault("mmg", json!([{"status": 500, "times": 2}, {"status": 502, "times": 1}]))
        .await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(
            client
                .send(&text("447411000001"))
                .await
                .map_or_else(|error| error.status, |_| None),
        );
    }
    assert_eq!(statuses, [Some(500), Some(500), Some(502), None]);
    assert_eq!(world.get("/faults/mmg").await, json!({}));

    world.fault("mmg", json!({"status": 500})).await;
    world.fault("mmg", json!({})).await;
    client.send(&text("447411000001")).await.unwrap();
    let (status, answer) = world.fault("mmg", json!({"latency": 3})).await;
    assert_eq!(status, 400);
    assert!(answer["error"].as_str().unwrap().contains("latency_ms"), "{answer}");
    assert_eq!(world.fault("mmg", json!({"status": 99})).await.0, 400);
    assert_eq!(world.fault("reach", json!({})).await.0, 404);
}

#[tokio::test]
async fn receipts_can_go_wrong() {
    use Status::{Delivered, Pending};
    let (delivered, pending) = (Some(Delivered), Some(Pending));
    for (fault, expected) in [
        (json!({"duplicate_receipts": 2}), vec![delivered; 3]),
        (json!({"receipts_out_of_order": true}), vec![delivered, pending]),
        (json!({"receipt_status": "pending"}), vec![pending]),
        (json!({"receipt_status": "77", "receipt_delay_ms": 1}), vec![None]),
    ] {
        let world = World::start().await;
        world.fault("firetext", fault.clone()).await;
        world.sms[0].send(&text("447411000001")).await.unwrap();
        assert_eq!(world.statuses(expected.len()).await, expected, "{fault}");
    }
}

#[tokio::test]
async fn a_receipt_can_be_missing_or_too_early() {
    let world = World::start().await;
    world
        .fault(
            "ses",
            json!([{"missing_receipts": true, "times": 1}, {"receipt_before_answer": true}]),
        )
        .await;
    world.ses.send(&email("jo@example.com")).await.unwrap();
    let second = world.ses.send(&email("jo@example.com")).await.unwrap();
    let requests = world.receiver.requests();
    assert_eq!(requests.len(), 1);
    match notice(&requests[0].body) {
        Notice::Receipt { reference, .. } => assert_eq!(Some(reference), second.reference),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_receipt_waits_until_somebody_takes_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    drop(listener);
    let world = World::with(|settings| settings.api_url = Some(format!("http://{address}"))).await;
    world.sms[0].send(&text("447411000001")).await.unwrap();
    // Somebody listens only after the stub has met a closed door.
    while world.get("/receipts").await["attempts"] == 0 {}
    let _api = Server::start_on(TcpListener::bind(address).await.unwrap(), Answer::text(200, "{}"));
    while world.get("/receipts").await["posted"] == 0 {}
    assert_eq!(world.get("/receipts").await["waiting"], 0);
}

#[tokio::test]
async fn the_phone_keeps_the_newest() {
    let world = World::with(|settings| settings.phone_capacity = 2).await;
    let texts = [text("1"), text("2"), text("3")];
    for text in &texts {
        world.sms[0].send(text).await.unwrap();
    }
    let to: Vec<Value> = world
        .phone()
        .await
        .iter()
        .map(|message| message["to"].clone())
        .collect();
    assert_eq!(to, ["2", "3"]);
    let forgotten = world.get(&format!("/phone?reference={}", texts[0].reference)).await;
    assert_eq!(forgotten["messages"], json!([]));
    let kept = world.get(&format!("/phone?reference={}", texts[2].reference)).await;
    assert_eq!(kept["messages"][0]["to"], "3");
}

#[tokio::test]
async fn a_key_brings_files_a_link_gets_them_and_the_newest_are_kept() {
    let world = World::with(|settings| settings.document_bytes = 5).await;
    let url = format!("{}/documents/services/{}/documents", world.base, Uuid::new_v4());
    let upload = |content: &str| {
        let body = json!({"document": STANDARD.encode(content), "is_csv": false});
        world.http.post(&url).json(&body)
    };
    assert_eq!(upload("abc").send().await.unwrap().status(), 401);
    let mut links = Vec::new();
    for content in ["abc", "de", "f"] {
        let answer = upload(content).bearer_auth("key").send().await.unwrap();
        assert_eq!(answer.status(), 201);
        let answer: Value = answer.json().await.unwrap();
        links.push(answer["document"]["url"].as_str().unwrap().to_owned());
    }
    let mut got = Vec::new();
    for link in links {
        let answer = world.http.get(link).send().await.unwrap();
        got.push((answer.status().as_u16(), answer.text().await.unwrap()));
    }
    let expected = [(404, ""), (200, "de"), (200, "f")];
    assert_eq!(got, expected.map(|(status, content)| (status, content.to_owned())));
    assert_eq!(world.get("/documents").await["uploads"], 4);
}
