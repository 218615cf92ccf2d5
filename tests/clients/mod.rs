//! Clients as people have them, against the built program. `make target/clients/ready` installs them.

mod fuzzed;
mod generated;
mod official;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use crate::harness::{Client, Herald};

/// Old notifications, and received texts: a page has 250.
const OLD: usize = 260;

/// A Herald with everything, and the fixture that it began with, in a file for the clients.
struct Served {
    herald: Herald,
    fixture: PathBuf,
}

impl Served {
    async fn start() -> Self {
        let fixture = fixture();
        let file = std::env::temp_dir().join(format!("herald-clients-{}.json", uuid::Uuid::new_v4()));
        std::fs::write(&file, fixture.to_string()).unwrap();
        Self {
            herald: Herald::start_all_with(&fixture).await,
            fixture: file,
        }
    }

    /// Runs a client with the address and the fixture as its arguments, and returns the lines that it printed.
    ///
    /// # Panics
    /// With what it said, if it failed.
    async fn run(&self, mut client: Command) -> Vec<String> {
        client.arg(&self.herald.base_url).arg(&self.fixture);
        let output = tokio::task::spawn_blocking(move || client.output())
            .await
            .unwrap()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{said}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        said.lines().map(str::to_owned).collect()
    }

    /// Sees to it that the text and the email that clients send are there, once each, by what the client printed: their
    /// ids.
    async fn phone_has(&self, delivered: &[String]) {
        let [text, email] = delivered else {
            panic!("it said: {delivered:?}")
        };
        let client = Client::live(&self.herald);
        for (id, content) in [(text, "Dear Ada, please bring back Emma."), (email, "Your card: ")] {
            let got = client.phone(id).await;
            assert_eq!(got.len(), 1, "{got:?}");
            assert!(got[0]["content"].as_str().unwrap().contains(content), "{got:?}");
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.fixture);
    }
}

/// `fixture.json`, and more than a page of old notifications and received texts.
fn fixture() -> Value {
    let mut fixture: Value = serde_json::from_str(include_str!("fixture.json")).unwrap();
    let moment = |index: usize| format!("2026-11-01T10:{:02}:{:02}Z", index / 60, index % 60);
    fixture["notifications"] = (0..OLD)
        .map(|index| {
            json!({
                "id": format!("0b1c2d3e-0000-4000-8000-{index:012}"),
                "service": "library",
                "template": if index % 3 == 0 { "library.card" } else { "library.overdue" },
                "to": if index % 3 == 0 { "ada@example.com" } else { "07700900123" },
                "personalisation": {"name": "Ada", "book": "Emma", "card": "7"},
                "status": if index % 2 == 0 { "delivered" } else { "permanent-failure" },
                "key_type": "normal",
                // The oldest is of an uploaded list.
                "from_job": index == 0,
                "billable_units": 1,
                "client_reference": format!("old {index}"),
                "created_at": moment(index),
                "sent_at": moment(index),
                "updated_at": moment(index),
            })
        })
        .collect();
    fixture["inbound_numbers"] = json!([{"number": "07700900999", "provider": "mmg", "service": "library"}]);
    fixture["received_texts"] = (0..OLD)
        .map(|index| {
            json!({
                "id": format!("0b1c2d3e-1111-4000-8000-{index:012}"),
                "service": "library",
                "notify_number": "07700900999",
                "user_number": "447700900123",
                "content": format!("renew book {index}"),
                "created_at": moment(index),
            })
        })
        .collect();
    fixture
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where clients are installed.
fn installed() -> PathBuf {
    let folder = root().join("target/clients");
    assert!(
        folder.join("ready").exists(),
        "the clients are not installed: make target/clients/ready"
    );
    folder
}

/// A script of this folder in Python, with what is installed for it.
fn python(script: &str) -> Command {
    let mut command = Command::new(installed().join("bin/python"));
    command.arg(root().join("tests/clients").join(script));
    command
}

/// A script of this folder in JavaScript, with what is installed for it.
fn node(script: &str) -> Command {
    let mut command = Command::new("node");
    command
        .arg(root().join("tests/clients").join(script))
        .current_dir(installed().join("node"));
    command
}
