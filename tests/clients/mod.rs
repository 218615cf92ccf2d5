//! Clients as people have them, against the built program. `make target/clients/ready` installs them.

mod fuzzed;
mod generated;
mod official;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::harness::{Client, Herald};

/// A Herald with everything, and the fixture that it began with, in a file for the clients.
struct Served {
    herald: Herald,
    fixture: PathBuf,
}

impl Served {
    async fn start() -> Self {
        let fixture: Value = serde_json::from_str(include_str!("fixture.json")).unwrap();
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
