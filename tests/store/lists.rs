//! What a page of a list costs, however many rows its service has.

use herald_message::status::Status;
use herald_store::{
    KeyType,
    notifications::{self, Filter, NewNotification},
};
use sqlx::{Executor, PgConnection};
use uuid::Uuid;

use super::{LIVE, rows::text, with_golden_fixture};

const PAGE: i64 = 100;

/// Rows of our table that indexes have led to so far.
async fn rows_read(conn: &mut PgConnection) -> i64 {
    conn.execute("select pg_stat_force_next_flush()").await.unwrap();
    sqlx::query_scalar("select sum(idx_tup_read)::bigint from pg_stat_user_indexes where relname = 'notifications'")
        .fetch_one(conn)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_page_costs_the_same_in_a_service_with_many_rows() {
    let pool = with_golden_fixture().await;
    let conn = &mut *pool.acquire().await.unwrap();
    // As the program's connections are.
    conn.execute("set enable_seqscan = off").await.unwrap();
    // The rows of a test key, and what failed, are few and under almost everything that was sent since.
    sqlx::query(
        r#"insert into notifications (id, service_id, template_id, template_version, notification_type, key_type,
               notification_status, "to", client_reference, billable_units, created_at)
           select gen_random_uuid(), $1, 'b46d9e0f-f41e-4da8-a7d3-eb2e6fd96e6c', 1, 'sms',
               case when n <= 3000 then 'test' else 'normal' end,
               case when n between 3001 and 6000 then 'technical-failure' when n % 50 = 0 then 'permanent-failure'
                   else 'delivered' end,
               '07411000001', case when n % 2 = 0 then 'even' end, 1, timestamp '2026-11-01' + n * interval '1 second'
           from generate_series(1, 30000) n"#,
    )
    .bind(LIVE)
    .execute(&mut *conn)
    .await
    .unwrap();
    conn.execute("analyze notifications").await.unwrap();

    let failures = [Status::TechnicalFailure, Status::PermanentFailure];
    for (key_type, reference, statuses) in [
        (KeyType::Normal, None, &[] as &[Status]),
        (KeyType::Test, None, &[]),
        (KeyType::Normal, Some("even"), &[]),
        (KeyType::Normal, None, &failures),
    ] {
        let mut filter = Filter {
            key_type: Some(key_type),
            client_reference: reference.map(str::to_owned),
            statuses: statuses.to_vec(),
            limit: PAGE,
            ..Filter::default()
        };
        // Pages at the start and further on; Postgres plans anew at first, and then uses one plan for all of them.
        for page in 0..8 {
            let before = rows_read(conn).await;
            let rows = notifications::list(conn, LIVE, &filter).await.unwrap();
            let read = rows_read(conn).await - before;
            // Each row is found once for its place in the list and once for what it says; sorting takes some ahead.
            let allowed = 2 * PAGE + 100;
            assert!(
                read > 0 && read <= allowed,
                "{key_type} {reference:?} {statuses:?}, page {page}: {read} read"
            );
            filter.older_than = rows.last().map(|last| last.id).or(filter.older_than);
        }
    }
}

#[tokio::test]
async fn whatever_its_status_a_message_is_found_by_asking_for_it() {
    let pool = with_golden_fixture().await;
    let conn = &mut *pool.acquire().await.unwrap();
    for status in Status::ALL {
        let id = Uuid::new_v4();
        let row = NewNotification { status, ..text(id) };
        notifications::insert(conn, &[row]).await.unwrap();
        let filter = Filter {
            statuses: vec![status],
            limit: PAGE,
            ..Filter::default()
        };
        let found = notifications::list(conn, LIVE, &filter).await.unwrap();
        assert!(found.iter().any(|row| row.id == id), "{status}");
        assert!(found.iter().all(|row| row.status == status), "{status}");
    }
}
