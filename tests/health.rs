//! What load balancers and deploys rely on: whether a process lives, and what becomes of its work at its end.

use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use sqlx::{Executor, Postgres, Transaction};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

use crate::harness::{Client, Herald, SMS_TEMPLATE, database, eventually, http, live_token};

/// What a load balancer gives an instance before it takes it for dead.
const PATIENCE: Duration = Duration::from_secs(1);

/// Holds a lock until the transaction ends.
async fn locked(herald: &Herald, statement: &'static str) -> Transaction<'static, Postgres> {
    let mut transaction = herald.database.begin().await.unwrap();
    transaction.execute(statement).await.unwrap();
    transaction
}

/// Waits until at least so many of the API's connections are stuck.
async fn until_stuck(herald: &Herald, connections: i64) {
    eventually("connections wait for the lock", || async {
        let stuck: i64 = sqlx::query_scalar(
            "select count(*) from pg_stat_activity
             where datname = current_database() and application_name = 'herald' and wait_event_type = 'Lock'",
        )
        .fetch_one(&*herald.database)
        .await
        .unwrap();
        (stuck >= connections).then_some(())
    })
    .await;
}

fn address(herald: &Herald) -> &str {
    herald.base_url.strip_prefix("http://").unwrap()
}

#[tokio::test]
async fn a_process_says_that_it_lives_while_all_its_connections_and_routes_are_stuck() {
    let herald = Herald::start_without_api(database().await).await;
    let _api = herald.api_with(&[("DATABASE_CONNECTIONS", "2")]).await;
    let lock = locked(
        &herald,
        "lock table services, notifications, inbound_sms in access exclusive mode",
    )
    .await;
    let client = http();
    let url = |path: &str| format!("{}{path}", herald.base_url);
    let text = json!({"phone_number": "07700900123", "template_id": SMS_TEMPLATE, "personalisation": {"name": "Ada"}});
    let requests = (0..25).flat_map(|_| {
        [
            client.get(url("/_status")),
            client.get(url("/_status/live-service-and-organisation-counts")),
            client.get(url("/v2/notifications")).bearer_auth(live_token()),
            client.get(url("/v2/received-text-messages")).bearer_auth(live_token()),
            client
                .post(url("/v2/notifications/sms"))
                .bearer_auth(live_token())
                .json(&text),
        ]
    });
    let stuck = join_all(requests.map(|request| tokio::spawn(request.send())));
    // And clients that never come to the end of what they say.
    let mut slow = Vec::new();
    for _ in 0..25 {
        let mut stream = TcpStream::connect(address(&herald)).await.unwrap();
        let head = b"POST /notifications/sms/mmg HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{";
        stream.write_all(head).await.unwrap();
        slow.push(stream);
    }
    until_stuck(&herald, 2).await;

    for path in ["/_status?simple", "/?simple", "/_status?simple=1", "/?simple=true"] {
        let asked = async {
            client
                .get(url(path))
                .send()
                .await
                .unwrap()
                .json::<Value>()
                .await
                .unwrap()
        };
        let answer = timeout(PATIENCE, asked).await;
        let answer = answer.unwrap_or_else(|_| panic!("{path} is not answered in time"));
        assert_eq!(answer, json!({"status": "ok"}));
    }

    until_stuck(&herald, 2).await;
    lock.rollback().await.unwrap();
    for answer in stuck.await {
        let status = answer.unwrap().unwrap().status().as_u16();
        assert!(matches!(status, 200 | 201 | 503), "{status}");
    }
}

#[tokio::test]
async fn a_message_that_is_being_accepted_at_the_signal_to_stop_is_accepted() {
    let herald = Herald::start_without_api(database().await).await;
    let api = herald.api_with(&[]).await;
    let lock = locked(&herald, "lock table notifications in share mode").await;
    let client = Client::live(&herald);
    let stopping = async {
        until_stuck(&herald, 1).await;
        api.signal("-TERM");
        eventually("nobody new is let in", || async {
            TcpStream::connect(address(&herald)).await.is_err().then_some(())
        })
        .await;
        lock.rollback().await.unwrap();
    };
    // Panics unless the answer is 201.
    let (id, ()) = tokio::join!(client.send_text("07700900123"), stopping);
    let rows: i64 = sqlx::query_scalar(
        "select count(*) from notifications n join engine.run r on r.id = n.id where n.id::text = $1",
    )
    .bind(id)
    .fetch_one(&*herald.database)
    .await
    .unwrap();
    assert_eq!(rows, 1);
    assert!(api.ended_well());
}
