//! The official clients, unmodified: each script calls every method that its client has.

use super::{Served, node, python};

#[tokio::test]
async fn every_method_of_the_official_python_client_works_unmodified() {
    let served = Served::start().await;
    let delivered = served.run(python("every_method.py")).await;
    served.phone_has(&delivered).await;
}

#[tokio::test]
async fn every_method_of_the_official_node_client_works_unmodified() {
    let served = Served::start().await;
    let delivered = served.run(node("every_method.mjs")).await;
    served.phone_has(&delivered).await;
}
