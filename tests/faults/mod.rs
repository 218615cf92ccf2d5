//! Faults against the built program, counted at the phone. The oracle is the one of the fault list: every accepted
//! message ends in one terminal status, and the phone got it once, unless the journal records that it was sent again.

use std::collections::HashMap;

use uuid::Uuid;

use crate::harness::{Client, Herald, eventually};

const TEXTS: usize = 2_000;

#[tokio::test]
async fn a_killed_worker_loses_no_text_and_sends_none_twice_off_the_record() {
    let herald = Herald::start_without_workers().await;
    let client = Client::live(&herald);
    let mut ids = Vec::new();
    for _ in 0..TEXTS / 50 {
        ids.extend(futures::future::join_all((0..50).map(|_| client.send_text("07700900123"))).await);
    }

    let worker = herald.worker();
    eventually("the work is well under way", || async {
        (sent(&herald).await > TEXTS / 10).then_some(())
    })
    .await;
    worker.kill();
    let at_the_kill = sent(&herald).await;
    assert!(
        at_the_kill < TEXTS,
        "the worker was too fast to be killed in the middle"
    );
    let _next = herald.worker();

    eventually("every text is delivered", || async {
        (delivered(&herald).await == TEXTS).then_some(())
    })
    .await;
    let resent = resent(&herald).await;
    let mut phone: HashMap<String, usize> = HashMap::new();
    for message in client.whole_phone().await {
        *phone
            .entry(message["reference"].as_str().unwrap().to_owned())
            .or_default() += 1;
    }
    println!(
        "{TEXTS} accepted, {at_the_kill} sent at the kill, {} at the phone, {} sent again on record",
        phone.len(),
        resent.len()
    );
    for id in ids {
        let got = phone.get(&id).copied().unwrap_or(0);
        let allowed = 1 + resent.get(&id.parse().unwrap()).copied().unwrap_or(0);
        assert!(got >= 1, "{id} was delivered, and the phone has not got it");
        assert!(
            got <= allowed,
            "{id} reached the phone {got} times, of which {allowed} are on record"
        );
    }
}

async fn sent(herald: &Herald) -> usize {
    count(
        herald,
        "select count(*) from notifications where notification_status <> 'created'",
    )
    .await
}

async fn delivered(herald: &Herald) -> usize {
    count(
        herald,
        "select count(*) from notifications where notification_status = 'delivered'",
    )
    .await
}

async fn count(herald: &Herald, sql: &'static str) -> usize {
    let count: i64 = sqlx::query_scalar(sql).fetch_one(&*herald.database).await.unwrap();
    usize::try_from(count).unwrap()
}

/// How many times each text was sent again on record.
async fn resent(herald: &Herald) -> HashMap<Uuid, usize> {
    let rows: Vec<(Uuid, i64)> = sqlx::query_as(
        "select run_id, count(*) from engine.journal, jsonb_array_elements(events) e
         where e ->> 'event' = 'resent' group by run_id",
    )
    .fetch_all(&*herald.database)
    .await
    .unwrap();
    rows.into_iter()
        .map(|(run, times)| (run, usize::try_from(times).unwrap()))
        .collect()
}
