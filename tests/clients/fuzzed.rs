//! What the document says holds for requests that nobody thought of. `schemathesis` makes them from the document, good ones
//! and bad ones, and compares each answer with it.

use std::process::Command;

use super::{installed, root};
use crate::harness::Herald;

/// It has no server error, no answer that the document does not tell of, and lets nobody in without a token.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_headers_conformance,response_schema_conformance,ignored_auth";

#[tokio::test]
async fn no_request_gets_an_answer_that_the_document_does_not_tell_of() {
    let herald = Herald::start_all().await;
    let folder = root().join("tests/clients/schemathesis");
    let mut fuzzer = Command::new(installed().join("bin/schemathesis"));
    fuzzer
        .arg("--config-file")
        .arg(folder.join("schemathesis.toml"))
        .arg("run")
        .arg(root().join("openapi/public.json"))
        .args(["--url", &herald.base_url, "--checks", CHECKS])
        .env("SCHEMATHESIS_HOOKS", folder.join("hooks.py"))
        // It leaves files where it runs.
        .current_dir(installed());
    let output = tokio::task::spawn_blocking(move || fuzzer.output())
        .await
        .unwrap()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    // Not because nothing got in: texts and emails were sent.
    let sent: Vec<String> = sqlx::query_scalar("select distinct notification_type::text from notifications order by 1")
        .fetch_all(&*herald.database)
        .await
        .unwrap();
    assert_eq!(sent, ["email", "sms"]);
}
