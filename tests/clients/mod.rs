//! The official client, as people install it, against the built program.

use std::{path::Path, process::Command};

use crate::harness::{Client, Herald};

#[tokio::test]
async fn the_official_python_client_sends_a_text_and_an_email_unmodified() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/clients/bin/python");
    assert!(
        python.exists(),
        "the official client is not installed: make target/clients/ready"
    );
    let herald = Herald::start_all().await;
    let output = tokio::task::spawn_blocking({
        let url = herald.base_url.clone();
        move || {
            Command::new(python)
                .arg(root.join("tests/clients/send.py"))
                .arg(url)
                .args(arguments())
                .output()
                .unwrap()
        }
    })
    .await
    .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let client = Client::live(&herald);
    let lines = String::from_utf8(output.stdout).unwrap();
    assert_eq!(lines.lines().count(), 2);
    for line in lines.lines() {
        let mut words = line.split(' ');
        let id = words.next().unwrap();
        assert_eq!(words.next_back(), Some("delivered"));
        let got = client.phone(id).await;
        assert_eq!(got.len(), 1);
        assert!(got[0]["content"].as_str().unwrap().contains("Hello Ada"), "{got:?}");
    }
}

/// Key and templates of the development seed.
fn arguments() -> [&'static str; 3] {
    [
        "development-c1f0a1f6-6a57-4a4a-9d0e-6f3d9c1d7a11-7b0c6a0e-52f4-4c3b-9f60-1f6f0b8a2c41",
        "0d2d7f4c-7c0e-4f7e-8f3d-0a8f4b0c2e21",
        "5b8f5f5e-1c43-4b8e-9b56-7d1e2a9c4f31",
    ]
}
