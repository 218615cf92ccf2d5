//! What is measured arrives, under its names, with Prometheus and with statsd.

use serde_json::json;
use std::time::Duration;

use tokio::net::UdpSocket;

use crate::harness::{Client, Herald, database, eventually, free_port, http};

const NUMBER: &str = "07700900123";

async fn page(port: u16) -> Option<String> {
    let url = format!("http://127.0.0.1:{port}/metrics");
    http().get(url).send().await.ok()?.text().await.ok()
}

/// A statsd that listens, and the settings of a process that talks to it.
struct Statsd {
    socket: UdpSocket,
    port: String,
}

impl Statsd {
    async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port().to_string();
        Self { socket, port }
    }

    fn settings<'a>(&'a self, metrics_port: &'a str) -> [(&'a str, &'a str); 5] {
        [
            ("METRICS_PORT", metrics_port),
            ("STATSD_ENABLED", "1"),
            ("STATSD_HOST", "127.0.0.1"),
            ("STATSD_PORT", &self.port),
            ("STATSD_PREFIX", "test"),
        ]
    }

    /// All that it gets until that is enough.
    async fn until(&self, enough: impl Fn(&str) -> bool) -> String {
        let mut sent = String::new();
        while !enough(&sent) {
            let mut datagram = [0; 2_000];
            let receiving = tokio::time::timeout(Duration::from_secs(20), self.socket.recv(&mut datagram));
            let length = receiving
                .await
                .unwrap_or_else(|_| panic!("statsd got only {sent}"))
                .unwrap();
            sent += &format!("{}\n", String::from_utf8_lossy(&datagram[..length]));
        }
        sent
    }
}

/// The milliseconds that were told under a name.
fn timed(sent: &str, name: &str) -> Vec<f64> {
    let values = sent.lines().filter_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix(':')?;
        value.strip_suffix("|ms")?.parse().ok()
    });
    values.collect()
}

/// What was counted under a name, in however many datagrams.
fn counted(sent: &str, name: &str) -> u64 {
    let values = sent.lines().filter_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix(':')?;
        value.strip_suffix("|c")?.parse::<u64>().ok()
    });
    values.sum()
}

#[tokio::test]
async fn requests_are_measured_by_operation_and_status_and_name_nobody() {
    let (statsd, port) = (Statsd::start().await, free_port());
    let herald = Herald::start_without_api(database().await).await;
    let _api = herald.api_with(&statsd.settings(&port.to_string())).await;
    let client = Client::live(&herald);
    for _ in 0..3 {
        client.send_text(NUMBER).await;
    }
    let missing = http().get(format!("{}/v2/notifications/{}", herald.base_url, uuid::Uuid::nil()));
    let missing = missing.bearer_auth(crate::harness::live_token()).send().await.unwrap();
    assert_eq!(missing.status(), 404);
    let text = json!({"Number": NUMBER, "MSISDN": "447411000201", "Message": "Hi", "ID": "1", "DateRecieved": ""});
    let received = http().post(format!("{}/notifications/sms/receive/mmg", herald.base_url));
    let received = received
        .basic_auth("username", Some("testkey"))
        .json(&text)
        .send()
        .await;
    assert_eq!(received.unwrap().status(), 200, "it is nobody's number");

    let fetched = page(port).await.unwrap();
    for line in [
        r#"http_server_requests_total{method="POST",path="sendSms",code="201"} 3"#,
        r#"http_server_requests_total{method="GET",path="getNotification",code="404"} 1"#,
        r#"http_request_duration_seconds_count{method="POST",path="sendSms",code="201"} 3"#,
    ] {
        assert!(
            fetched.lines().any(|found| found == line),
            "{line} is missing in\n{fetched}"
        );
    }
    assert!(
        !fetched.contains(NUMBER) && !fetched.contains(&uuid::Uuid::nil().to_string()),
        "{fetched}"
    );

    let wanted = [("test.POST.sendSms.201", 3), ("test.GET.getNotification.404", 1)];
    let all = |sent: &str| wanted.iter().all(|(name, times)| counted(sent, name) == *times);
    let sent = statsd.until(all).await;
    assert!(!sent.contains(NUMBER), "{sent}");
}

#[tokio::test]
async fn the_beat_tells_how_full_each_queue_is() {
    let port = free_port();
    let herald = Herald::start_without_workers().await;
    Client::live(&herald).send_text(NUMBER).await;
    let _beat = herald.role_with(&["beat"], &[("METRICS_PORT", &port.to_string())]);
    eventually("the text waits in its queue", || async {
        let page = page(port).await?;
        let is_told = |line: &str| page.lines().any(|found| found == line);
        (is_told(r#"engine_runs{queue="send-sms",state="ready"} 1"#)
            && is_told(r#"engine_runs{queue="send-email",state="ready"} 0"#))
        .then_some(())
    })
    .await;
}

/// A value of the page of a process, by its name and some of its labels.
fn value(page: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let line = page.lines().find(|line| {
        let has = |(label, value): &(&str, &str)| line.contains(&format!(r#"{label}="{value}""#));
        line.starts_with(&format!("{name}{{")) && labels.iter().all(has)
    })?;
    line.rsplit_once(' ')?.1.parse().ok()
}

/// What a histogram has counted once: its seconds.
fn once(page: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let count = value(page, &format!("{name}_count"), labels);
    assert_eq!(count, Some(1.0), "{name} {labels:?} in\n{page}");
    value(page, &format!("{name}_sum"), labels).unwrap()
}

/// Seconds that the stub takes for an answer, and for a receipt.
const CALL: f64 = 0.3;
const RECEIPT: f64 = 0.5;

/// The text was accepted an hour before a worker came. The email as well, for fifty minutes later.
const AN_HOUR_AGO: &str = "
    update engine.run set created_at = created_at - interval '1 hour';
    update notifications set created_at = created_at - interval '1 hour';
    update notifications set scheduled_for = created_at + interval '50 minutes' where notification_type = 'email'";

#[tokio::test]
async fn the_way_of_a_message_is_measured_by_provider_from_the_queue_to_the_receipt() {
    let herald = Herald::start_without_workers().await;
    let client = Client::live(&herald);
    let slow = json!({"latency_ms": 300, "receipt_delay_ms": 500});
    for provider in ["firetext", "mmg", "ses"] {
        client.faults(provider, &slow).await;
    }
    for firm in ["firetext", "mmg"] {
        let only = "update provider_details set active = (identifier = $1) where notification_type = 'sms'";
        sqlx::query(only).bind(firm).execute(&*herald.database).await.unwrap();
        let sent = [
            client.send_text(NUMBER).await,
            client.send_email("ada@example.com").await,
        ];
        sqlx::raw_sql(AN_HOUR_AGO).execute(&*herald.database).await.unwrap();
        let (statsd, port) = (Statsd::start().await, free_port());
        let _worker = herald.worker_with("all", &statsd.settings(&port.to_string()));
        for id in &sent {
            client.until(id, "delivered").await;
        }
        let page = page(port).await.unwrap();

        for (kind, provider, queued) in [("sms", firm, 3600.0), ("email", "ses", 600.0)] {
            let by = [("provider_name", provider), ("error_type", "")];
            let whole = once(&page, "provider_request_duration_seconds", &by);
            let raw = once(&page, "provider_raw_request_duration_seconds", &by);
            assert!(
                CALL <= raw && raw <= whole && whole < CALL + 5.0,
                "{provider}: {raw} of {whole}"
            );

            let waited = once(
                &page,
                "notification_queue_duration_seconds",
                &[("notification_type", kind)],
            );
            assert!((queued..queued + 60.0).contains(&waited), "{kind}: {waited}");
            let by = [("notification_type", kind), ("provider_name", provider)];
            let total = once(&page, "notification_send_duration_seconds", &by);
            assert!((3600.0 + whole..3660.0).contains(&total), "{kind}: {total}");

            let by = [("provider_name", provider), ("notification_status", "delivered")];
            let after = once(&page, "notification_callback_duration_seconds", &by);
            // The provider counts from before its answer.
            assert!((RECEIPT - 0.2..RECEIPT + 10.0).contains(&after), "{provider}: {after}");
        }
        let once_each = [
            format!("test.clients.{firm}.request-time"),
            format!("test.clients.{firm}.raw-request-time"),
            "test.sms.total-time".to_owned(),
            "test.email.total-time".to_owned(),
            "test.tasks.send-sms.queued-for".to_owned(),
            format!("test.callback.{firm}.elapsed-time"),
            format!("test.callback.{firm}.delivered.elapsed-time"),
            "test.callback.ses.elapsed-time".to_owned(),
        ];
        let all = |told: &str| once_each.iter().all(|name| timed(told, name).len() == 1);
        let told = statsd.until(all).await;
        let raw = timed(&told, &once_each[1])[0];
        assert!(CALL * 1000.0 <= raw && raw <= timed(&told, &once_each[0])[0], "{told}");
        assert!(!told.contains(NUMBER) && !told.contains("ada@"), "{told}");
        assert!(!page.contains(NUMBER) && !page.contains("ada@"), "{page}");
    }
}

#[tokio::test]
async fn messages_that_never_got_a_receipt_are_counted_by_provider() {
    let herald = Herald::start_without_workers().await;
    let client = Client::live(&herald);
    client.faults("ses", &json!({"missing_receipts": true})).await;
    let port = free_port();
    let _worker = herald.worker_with("all", &[("METRICS_PORT", &port.to_string())]);
    let id = client.send_email("ada@example.com").await;
    client.until(&id, "sending").await;
    let three_days_later = "
        with waits as (update engine.run set created_at = created_at - interval '3 days', due_at = now()
                       where state = 'waiting' returning id)
        update engine.journal set at = at - interval '3 days' where run_id in (select id from waits)";
    eventually("three days pass while it waits", || async {
        let passed = sqlx::query(three_days_later).execute(&*herald.database).await.unwrap();
        (passed.rows_affected() > 0).then_some(())
    })
    .await;
    client.until(&id, "temporary-failure").await;
    let page = page(port).await.unwrap();
    let by = [("provider_name", "ses")];
    assert_eq!(value(&page, "notification_timeouts_total", &by), Some(1.0), "{page}");
}
