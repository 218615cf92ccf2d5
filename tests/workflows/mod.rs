//! Deliveries from the first request to the last receipt, at the built program.

mod payloads;

use serde_json::json;

use crate::harness::{Client, Herald, eventually};

#[tokio::test]
async fn a_text_reaches_the_phone_once_and_is_delivered() {
    let herald = Herald::start_all().await;
    sqlx::query("update services set prefix_sms = true")
        .execute(&*herald.database)
        .await
        .unwrap();
    let client = Client::live(&herald);
    let id = client.send_text("07700900123").await;
    let text = client.until(&id, "delivered").await;
    assert_eq!(text["body"], "Hello Ada, this is a text from Herald.");
    assert!(text["sent_at"].is_string() && text["completed_at"].is_string());
    assert_eq!(text["cost_details"]["billable_sms_fragments"], 1);
    let got = client.phone(&id).await;
    assert_eq!(got.len(), 1, "{got:?}");
    assert_eq!(got[0]["to"], "447700900123");
    assert_eq!(
        got[0]["content"],
        "Herald Development: Hello Ada, this is a text from Herald."
    );
}

#[tokio::test]
async fn an_email_reaches_the_inbox_once_and_is_delivered() {
    let herald = Herald::start_all().await;
    let client = Client::live(&herald);
    let id = client.send_email("Ada@example.com").await;
    client.until(&id, "delivered").await;
    let got = client.phone(&id).await;
    assert_eq!(got.len(), 1, "{got:?}");
    assert_eq!(got[0]["to"], "Ada@example.com");
    assert!(got[0]["content"].as_str().unwrap().contains("Hello Ada,"), "{got:?}");
}

#[tokio::test]
async fn receipts_decide_how_a_text_ends() {
    let herald = Herald::start_all().await;
    let client = Client::live(&herald);
    let (temporary, permanent) = (
        client.send_text("07700900003").await,
        client.send_text("07700900002").await,
    );
    client.until(&temporary, "temporary-failure").await;
    client.until(&permanent, "permanent-failure").await;
}

#[tokio::test]
async fn a_test_key_is_answered_without_a_provider() {
    let herald = Herald::start_all().await;
    let client = Client::test(&herald);
    for (to, status) in [
        ("07700900123", "delivered"),
        ("07700900003", "temporary-failure"),
        ("07700900002", "permanent-failure"),
    ] {
        let id = client.send_text(to).await;
        client.until(&id, status).await;
        assert!(client.phone(&id).await.is_empty());
    }
    for (to, status) in [
        ("a@example.com", "delivered"),
        ("perm-fail@simulator.notify", "permanent-failure"),
        ("temp-fail@simulator.notify", "temporary-failure"),
    ] {
        let id = client.send_email(to).await;
        client.until(&id, status).await;
        assert!(client.phone(&id).await.is_empty());
    }
}

#[tokio::test]
async fn a_refusal_moves_the_next_attempt_to_the_other_firm_at_once() {
    let herald = Herald::start_all().await;
    let client = Client::live(&herald);
    client.faults("mmg", &json!({"status": 500})).await;
    client.faults("firetext", &json!({})).await;
    for _ in 0..10 {
        let id = client.send_text("07700900123").await;
        client.until(&id, "delivered").await;
        let got = client.phone(&id).await;
        assert_eq!(got.len(), 1, "{got:?}");
        assert_eq!(got[0]["provider"], "firetext");
    }
}

#[tokio::test]
async fn a_firm_that_takes_a_text_and_hangs_up_does_not_make_it_two() {
    let herald = Herald::start_all().await;
    let client = Client::live(&herald);
    for firm in ["mmg", "firetext"] {
        client.faults(firm, &json!({"reset_after_accept": true})).await;
    }
    let id = client.send_text("07700900123").await;
    client.until(&id, "delivered").await;
    assert_eq!(client.phone(&id).await.len(), 1);
}

#[tokio::test]
async fn receipts_that_come_twice_or_before_our_commit_count_once() {
    let herald = Herald::start_all().await;
    let client = Client::live(&herald);
    for firm in ["mmg", "firetext"] {
        client
            .faults(firm, &json!({"duplicate_receipts": 20, "receipt_before_answer": true}))
            .await;
    }
    let ids = futures::future::join_all((0..20).map(|_| client.send_text("07700900123"))).await;
    for id in &ids {
        client.until(id, "delivered").await;
        assert_eq!(client.phone(id).await.len(), 1);
    }
    eventually("no run is left over", || async {
        let left: i64 = sqlx::query_scalar("select count(*) from engine.run")
            .fetch_one(&*herald.database)
            .await
            .unwrap();
        (left == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_beat_starts_the_housekeeping_that_was_missed_and_a_worker_does_it() {
    let herald = Herald::start_all().await;
    let missed = "insert into engine.schedule values ('housekeeping', now() - interval '3 hours')";
    sqlx::query(missed).execute(&*herald.database).await.unwrap();
    let _beats = [herald.beat(), herald.beat()];
    let done =
        "select count(*) from engine.firing f join engine.journal j using (run_id), jsonb_array_elements(events) e
         where f.schedule = 'housekeeping' and f.outcome = 'fired' and e ->> 'event' = 'finished'";
    eventually("the house is kept", || async {
        let done: i64 = sqlx::query_scalar(done).fetch_one(&*herald.database).await.unwrap();
        (done == 1).then_some(())
    })
    .await;
}
