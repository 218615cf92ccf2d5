//! Providers: versions, shared counts, slow deliveries, alerts.

use futures::future::join_all;
use herald_message::status::Status;
use herald_store::{
    Error, NotificationType,
    providers::{self, Change, Delivery, Second, Tally, Traffic, Watched},
};
use serde_json::json;
use sqlx::PgPool;
use uuid::Uuid;

use crate::harness;

const COLUMNS: &str = "id, display_name, identifier, priority, notification_type, active, updated_at, version, \
                       created_by_id, supports_international, reason, pinned, numbers, changed_by";

async fn texts(pool: &PgPool) -> Vec<Watched> {
    let conn = &mut *pool.acquire().await.unwrap();
    providers::watched(conn, NotificationType::Sms, [3.0, 10.0, 60.0])
        .await
        .unwrap()
}

fn to(side: &Watched, priority: i32, reason: &'static str) -> Change<'static> {
    Change {
        id: side.id,
        version: side.version,
        priority,
        active: true,
        pinned: false,
        reason,
    }
}

#[tokio::test]
async fn a_change_is_a_new_version_and_a_whole_copy_of_it_and_a_stale_one_changes_nothing() {
    let pool = harness::database().await;
    let conn = &mut *pool.acquire().await.unwrap();
    let before = texts(&pool).await;
    let changes = [to(&before[0], 39, "down"), to(&before[1], 61, "up")];
    providers::change(conn, &changes, &json!({"fell": "firetext"}), None)
        .await
        .unwrap();
    let copies = format!(
        "select count(*) from (select {COLUMNS} from provider_details
         intersect select {COLUMNS} from provider_details_history) same"
    );
    let copies: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(copies))
        .fetch_one(&*pool)
        .await
        .unwrap();
    assert_eq!(copies, 3, "each row of the table is in the history as it is");
    let after = texts(&pool).await;
    for (side, (weight, was)) in after.iter().zip([(39, 49), (61, 51)]) {
        assert_eq!((side.priority, side.version), (weight, 2), "was {was}");
        assert!(
            side.unchanged_seconds
                .is_some_and(|seconds| (0.0..60.0).contains(&seconds))
        );
    }
    let falls = providers::falls(conn, 3_600.0).await.unwrap();
    assert_eq!(falls.len(), 1, "the one that gained did not fall: {falls:?}");
    assert_eq!(falls[0].identifier, "firetext");

    let stale = providers::change(conn, &changes, &json!({}), Some("ada")).await;
    assert!(matches!(stale, Err(Error::Conflict(_))), "{stale:?}");
    assert_eq!(providers::history(conn, Some("mmg"), 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn what_processes_count_adds_up_and_slides_out_of_sight() {
    let pool = harness::database().await;
    let of = |provider: &str, errors| Traffic {
        provider: provider.to_owned(),
        requests: 10,
        errors,
        faults: errors,
        took_ms: 100,
        ..Traffic::default()
    };
    // In opposite orders, at once.
    join_all((0..20).map(|n| {
        let (pool, mut batch) = (&pool, vec![of("mmg", 0), of("firetext", 2)]);
        if n % 2 == 0 {
            batch.reverse();
        }
        async move {
            providers::add_traffic(&mut pool.acquire().await.unwrap(), &batch)
                .await
                .unwrap()
        }
    }))
    .await;
    let conn = &mut *pool.acquire().await.unwrap();
    let everything = providers::traffic(conn, 3_600.0).await.unwrap();
    let counted: Vec<_> = everything
        .iter()
        .map(|t| (t.provider.as_str(), t.requests, t.errors, t.took_ms))
        .collect();
    assert_eq!(counted, [("firetext", 200, 40, 2_000), ("mmg", 200, 0, 2_000)]);

    let seconds = providers::seconds(conn, &["mmg", "ses"], 60.0).await.unwrap();
    let requests: i64 = seconds.iter().map(|second| second.tally.requests).sum();
    assert_eq!(requests, 200, "of those asked for: {seconds:?}");
    let is_recent = |second: &Second| second.provider == "mmg" && (0.0..60.0).contains(&second.seconds_ago);
    assert!(seconds.iter().all(is_recent), "{seconds:?}");

    let back = "update provider_traffic set second = second - interval '30 seconds'";
    sqlx::query(back).execute(&mut *conn).await.unwrap();
    let watched = texts(&pool).await;
    let all = Tally {
        requests: 200,
        errors: 40,
        faults: 40,
    };
    let counted = (watched[0].lately, watched[0].recent, watched[0].before);
    assert_eq!(counted, (Tally::default(), Tally::default(), all));
    sqlx::query(back).execute(&mut *conn).await.unwrap();
    sqlx::query(back).execute(&mut *conn).await.unwrap();
    assert_eq!(texts(&pool).await[0].before, Tally::default());
    assert!(providers::forget_traffic(conn, 60.0).await.unwrap() >= 2);
    assert!(providers::traffic(conn, 3_600.0).await.unwrap().is_empty());
}

/// Texts of MMG, as old as given: created, sent and (delivered) so many seconds ago.
async fn text(pool: &PgPool, status: Status, created: f64, sent: Option<f64>, updated: f64, key: &str) {
    sqlx::query(
        r#"insert into notifications (id, "to", created_at, sent_at, sent_by, updated_at, template_version, key_type,
               notification_type, billable_units, notification_status)
           select $1, '07700900123', t - $2 * interval '1 s', t - $3 * interval '1 s', 'mmg', t - $4 * interval '1 s', 1, $5,
               'sms', 1, $6
           from (select now() at time zone 'utc' as t) now"#,
    )
    .bind(Uuid::now_v7())
    .bind(created)
    .bind(sent)
    .bind(updated)
    .bind(key)
    .bind(status.as_str())
    .execute(pool)
    .await
    .unwrap();
}

#[tokio::test]
async fn a_text_is_slow_by_its_own_time_on_the_way_and_only_recent_ones_of_real_keys_count() {
    let pool = harness::database().await;
    // Slow: delivered after more than 300 s; on its way for as long.
    text(&pool, Status::Delivered, 800.0, Some(790.0), 480.0, "normal").await;
    text(&pool, Status::Sending, 400.0, Some(310.0), 310.0, "team").await;
    text(&pool, Status::Pending, 400.0, Some(310.0), 10.0, "normal").await;
    // Not slow: delivered in time; not on its way for so long, though it waited before.
    text(&pool, Status::Delivered, 800.0, Some(700.0), 500.0, "normal").await;
    text(&pool, Status::Sending, 800.0, Some(200.0), 200.0, "normal").await;
    // These do not count: a test key's, a failed one, one that is not sent, one too old.
    text(&pool, Status::Sending, 800.0, Some(790.0), 790.0, "test").await;
    text(&pool, Status::PermanentFailure, 800.0, Some(790.0), 10.0, "normal").await;
    text(&pool, Status::Sending, 800.0, None, 790.0, "normal").await;
    text(&pool, Status::Sending, 901.0, Some(900.0), 900.0, "normal").await;
    let conn = &mut *pool.acquire().await.unwrap();
    let delivery = |identifier: &str, total, slow| Delivery {
        identifier: identifier.to_owned(),
        total,
        slow,
    };
    assert_eq!(
        providers::deliveries(conn, 900.0, 300.0).await.unwrap(),
        [delivery("firetext", 0, 0), delivery("mmg", 5, 3)]
    );
}

#[tokio::test]
async fn an_alert_is_raised_once_and_lowered_once_by_however_many() {
    let pool = harness::database().await;
    let strike = async || {
        let conn = &mut *pool.acquire().await.unwrap();
        providers::raise_alert(conn, "trouble", 3, &json!({"n": 1}))
            .await
            .unwrap()
    };
    let lower = async || {
        let conn = &mut *pool.acquire().await.unwrap();
        providers::lower_alert(conn, "trouble").await.unwrap()
    };
    let raised = async || {
        providers::alerts(&mut pool.acquire().await.unwrap())
            .await
            .unwrap()
            .len()
    };
    assert!(!strike().await && !strike().await);
    assert_eq!(
        (lower().await, raised().await),
        (None, 0),
        "two strikes in a row are not three"
    );
    for _ in 0..2 {
        let raisers = join_all((0..10).map(|_| strike())).await;
        assert_eq!(raisers.iter().filter(|raised| **raised).count(), 1);
        assert_eq!(raised().await, 1);
        let lowerers = join_all((0..10).map(|_| lower())).await;
        assert_eq!(lowerers.iter().flatten().count(), 1);
        assert_eq!(raised().await, 0);
    }
}
