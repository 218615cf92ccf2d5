//! Services that are away while they are to be called.

use serde_json::json;

use super::{
    herald,
    load::send,
    oracle,
    report::{Verdict, fault},
    until,
};
use crate::{
    callbacks::{calls, endpoint, lane, undeliverable, until_idle},
    harness::{Client, SERVICE},
};

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn a_service_that_was_away_for_two_days_is_told_in_order() {
    let done = "a service's endpoint hangs, answers 410, redirects to an internal address, is away for two days and comes back; \
                what was undeliverable is replayed";
    fault("51", done, async |report| {
        let herald = herald().await;
        endpoint(&herald, lane(SERVICE), "callbacks").await;
        let client = Client::live(&herald);
        let elsewhere = format!("{}/callbacks/internal", herald.stub_url);
        let away = json!([
            {"times": 20}, {"times": 1, "hang": true}, {"times": 30, "status": 410},
            {"times": 30, "status": 302, "location": elsewhere}, {"status": 503},
        ]);
        client.faults("callbacks", &away).await;
        let worker = herald.worker();
        let ids = send(&client, 200).await;
        let delivered = "select count(*) from notifications where notification_status = 'delivered'";
        until(
            &herald,
            "all texts are delivered, whoever is away",
            delivered,
            |texts| texts == 200,
        )
        .await;
        let refused = "select count(*) from service_callback_event where undeliverable_at is not null";
        until(&herald, "60 are refused", refused, |events| events == 60).await;
        worker.kill();
        let _worker = herald.worker();
        let days = "update service_callback_event set give_up_at = give_up_at - interval '2 days'";
        sqlx::query(days).execute(&*herald.database).await.unwrap();
        until_idle(&herald).await;
        report.note(format!(
            "{} undeliverable after two days",
            undeliverable(&herald).await.len()
        ));

        client.faults("callbacks", &json!({})).await;
        let replayed = herald.command(&["callbacks", "replay", "--all", "--reason", "it is well again"]);
        assert!(replayed.status.success());
        until_idle(&herald).await;
        oracle::check(report, &herald, &ids).await;
        let told = oracle::services_were_told(&herald, &calls(&herald, "callbacks").await).await;
        report.note(format!("{told} told in order"));
        assert!(undeliverable(&herald).await.is_empty());
        assert!(
            calls(&herald, "callbacks/internal").await.is_empty(),
            "a redirect was followed"
        );
        Verdict::Passed
    })
    .await;
}
