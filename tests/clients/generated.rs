//! Clients that are made here and now from `openapi/public.json`: each sends a text and an email, follows them, reads, lists,
//! previews, and is refused.

use std::process::Command;

use super::{Served, root};

#[tokio::test]
async fn a_client_in_typescript_is_made_from_the_document() {
    sends_a_text_and_an_email("typescript").await;
}

#[tokio::test]
async fn a_client_in_python_is_made_from_the_document() {
    sends_a_text_and_an_email("python").await;
}

#[tokio::test]
async fn a_client_in_rust_is_made_from_the_document() {
    sends_a_text_and_an_email("rust").await;
}

async fn sends_a_text_and_an_email(language: &str) {
    let served = Served::start().await;
    let script = root().join("tests/clients").join(language).join("run");
    let delivered = served.run(Command::new(script)).await;
    served.phone_has(&delivered).await;
}
