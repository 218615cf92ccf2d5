//! Emails through moto's SES, which was written by others than our stub's: what the stub forgives, moto may not.

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use herald_providers::{Email, Outcome, Timeouts, ses};
use mail_parser::MessageParser;
use serde_json::Value;
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::harness::{Client, Herald, eventually, http};

struct Moto {
    server: Child,
    url: String,
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Moto {
    async fn start() -> Self {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients/bin/moto_server");
        assert!(program.exists(), "moto is not installed: make target/clients/ready");
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let moto = Self {
            server,
            url: format!("http://127.0.0.1:{port}"),
        };
        eventually("moto listens", || async {
            TcpStream::connect(("127.0.0.1", port)).await.ok()
        })
        .await;
        moto
    }

    /// A call of SES that our client does not make. Moto looks at the service in the signature, not at the signature.
    async fn call(&self, action: &str, name: &str, value: &str) {
        let signed =
            "AWS4-HMAC-SHA256 Credential=id/20261120/eu-west-1/ses/aws4_request, SignedHeaders=host, Signature=0";
        let call = http().post(&self.url).header("Authorization", signed);
        let answer = call.form(&[("Action", action), (name, value)]).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    }

    /// The emails that it has taken.
    async fn taken(&self) -> Vec<Value> {
        let data = http().get(format!("{}/moto-api/data.json", self.url)).send().await;
        let data: Value = data.unwrap().json().await.unwrap();
        data["ses"]["RawMessage"].as_array().cloned().unwrap_or_default()
    }

    async fn client(&self) -> ses::Client {
        let settings = ses::Settings {
            region: "eu-west-1".into(),
            endpoint_url: Some(self.url.clone()),
            configuration_set: None,
            credentials: Some(ses::AwsCredentials {
                access_key_id: "id".into(),
                secret_access_key: "secret".into(),
                session_token: None,
            }),
            timeouts: Timeouts {
                read: Duration::from_secs(30),
                total: Duration::from_secs(30),
                ..Timeouts::default()
            },
        };
        ses::Client::new(settings).await.unwrap()
    }
}

fn email(to: &str) -> Email {
    Email {
        to: to.into(),
        from_name: "Planning \"Team\"".into(),
        from_address: "planning@notify.tools".into(),
        reply_to: Some("answers@example.gov.uk".into()),
        subject: "Your appointment – 10 o’clock".into(),
        plain_text: "Dear Zoë\n\nsee you at 10.\n".into(),
        html: "<p>Dear Zoë</p>".into(),
        unsubscribe: Some("https://example.gov.uk/unsubscribe/x?y=1".into()),
        reference: Uuid::from_u128(7),
    }
}

#[tokio::test]
async fn another_ses_takes_an_email_as_it_was_meant() {
    let moto = Moto::start().await;
    let client = moto.client().await;
    let unverified = client.send(&email("zoe@bücher.example")).await.unwrap_err();
    assert_eq!((unverified.outcome, unverified.status), (Outcome::Refused, Some(400)));
    assert_eq!(unverified.reason, "Request refused: MessageRejected");

    moto.call("VerifyDomainIdentity", "Domain", "notify.tools").await;
    let sent = client.send(&email("zoe@bücher.example")).await.unwrap();
    let taken = moto.taken().await;
    assert_eq!(taken.len(), 1, "{taken:?}");
    assert_eq!(taken[0]["id"].as_str(), sent.reference.as_deref());
    assert_eq!(taken[0]["source"], "planning@notify.tools");
    assert_eq!(taken[0]["destinations"][0], "zoe@xn--bcher-kva.example");
    let raw = taken[0]["raw_data"].as_str().unwrap().as_bytes();
    let message = MessageParser::default().parse(raw).unwrap();
    assert_eq!(
        message.from().unwrap().first().unwrap().name(),
        Some("Planning \"Team\"")
    );
    assert_eq!(
        message.reply_to().unwrap().first().unwrap().address(),
        Some("answers@example.gov.uk")
    );
    assert_eq!(message.subject(), Some("Your appointment – 10 o’clock"));
    let text = message.body_text(0).unwrap().replace("\r\n", "\n");
    assert_eq!(text.trim_end(), "Dear Zoë\n\nsee you at 10.");
    assert_eq!(message.body_html(0).unwrap().trim_end(), "<p>Dear Zoë</p>");
    for (header, value) in [
        ("List-Unsubscribe", "<https://example.gov.uk/unsubscribe/x?y=1>"),
        ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
    ] {
        assert_eq!(message.header_raw(header).map(str::trim), Some(value));
    }
}

#[tokio::test]
async fn another_ses_tells_its_rate_and_an_address_that_is_none_is_given_up() {
    let moto = Moto::start().await;
    let client = moto.client().await;
    assert_eq!(client.learn_pace().await.unwrap(), 1.0);
    moto.call("VerifyDomainIdentity", "Domain", "notify.tools").await;
    let refused = client.send(&email("zoe@@example.com")).await.unwrap_err();
    assert_eq!(refused.outcome, Outcome::Never, "{refused:?}");
    assert!(!refused.reason.contains("zoe"), "{refused:?}");
    assert!(moto.taken().await.is_empty());
}

#[tokio::test]
async fn a_worker_asks_another_ses_how_fast_it_may_send_before_it_sends_what_has_piled_up() {
    const EMAILS: usize = 4;
    let moto = Moto::start().await;
    moto.call("VerifyDomainIdentity", "Domain", "notify.tools").await;
    let herald = Herald::start_without_workers().await;
    for _ in 0..EMAILS {
        Client::live(&herald).send_email("ada@example.com").await;
    }
    let began = Instant::now();
    let _worker = herald.worker_with("send-email", &[("SES_STUB_URL", &moto.url)]);
    eventually("all are sent", || async {
        (moto.taken().await.len() == EMAILS).then_some(())
    })
    .await;
    // One a second, and the first a tenth of a second early at most.
    assert!(began.elapsed() >= Duration::from_millis(2_900), "{:?}", began.elapsed());
}
