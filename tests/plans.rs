//! What Postgres plans while a table is small must do when it is full. A connection keeps its plans until the statistics of
//! their tables are renewed, and a rush after a quiet night comes sooner than that.

use std::collections::BTreeMap;

use sqlx::Executor;

use crate::harness::{Client, Database, Herald, database};

/// Rows that are put beside those of the test.
const FILLED: i64 = 20_000;

/// Nothing renews the statistics of these tables but this.
async fn settle_statistics(database: &Database) {
    let tables = "do $$ declare t regclass; begin
        for t in select c.oid from pg_class c where c.relkind = 'r' and c.relnamespace in ('public'::regnamespace, 'engine'::regnamespace) loop
            execute format('alter table %s set (autovacuum_enabled = off)', t);
        end loop; end $$";
    database.execute(tables).await.unwrap();
    database.execute("vacuum analyze").await.unwrap();
}

/// Messages of days ago, and runs that wait for receipts.
async fn fill(database: &Database, rows: std::ops::RangeInclusive<i64>) {
    let (first, last) = rows.into_inner();
    let (ms, id) = (
        "(extract(epoch from now()) * 1000)::bigint - n",
        "(lpad(to_hex(ms), 12, '0') || '7' || '000' || '8' || substr(md5(random()::text), 1, 15))::uuid",
    );
    let fillers = format!(
        r#"
        create temp table filler as select {id} as id from (select {ms} as ms from generate_series({first}, {last}) n) m;
        insert into engine.run (id, workflow, queue, state, due_at, waits_for, input)
            select id, 'deliver_sms', 'receipts', 'waiting', now() + interval '3 days', 'receipt', '{{}}' from filler;
        insert into engine.journal (run_id, seq, epoch, events) select id, 1, 1, '[]' from filler;
        insert into engine.signal (run_id, name, key, payload) select id, 'receipt', 'k', '{{}}' from filler;
        insert into notifications (id, service_id, template_id, template_version, notification_type, key_type,
                notification_status, "to", billable_units, created_at)
            select f.id, service_id, template_id, template_version, notification_type, key_type, 'sending', '', 1,
                created_at - interval '2 days'
            from filler f, (select * from notifications limit 1) as like_this;
        drop table filler"#
    );
    let mut conn = database.acquire().await.unwrap();
    conn.execute(sqlx::AssertSqlSafe(fillers)).await.unwrap();
}

/// Rows and index entries that statements came by so far, as far as connections have told, by table.
async fn rows_read(database: &Database) -> BTreeMap<String, i64> {
    let sql = "select relid::regclass::text,
            (seq_tup_read + (select coalesce(sum(idx_tup_read), 0) from pg_stat_user_indexes i where i.relid = t.relid))::bigint
        from pg_stat_user_tables t";
    sqlx::query_as(sql)
        .fetch_all(&**database)
        .await
        .unwrap()
        .into_iter()
        .collect()
}

/// Sends, and looks at what came of it.
async fn deliver(client: &Client<'_>, times: usize) {
    for _ in 0..times {
        for id in [
            client.send_text("07700900123").await,
            client.send_email("ada@example.gov.uk").await,
        ] {
            client.until(&id, "delivered").await;
        }
    }
}

#[tokio::test]
async fn what_was_planned_on_small_tables_does_not_walk_over_full_ones() {
    let herald = Herald::start_without_api(database().await).await;
    let few = [("DATABASE_CONNECTIONS", "2")];
    let (api, worker) = (herald.api_with(&few).await, herald.worker_with("all", &few));
    let client = Client::live(&herald);
    deliver(&client, 1).await;
    fill(&herald.database, 0..=0).await;
    settle_statistics(&herald.database).await;
    // So often that each connection has met, and planned, each statement.
    deliver(&client, 20).await;
    fill(&herald.database, 1..=FILLED).await;
    let before = rows_read(&herald.database).await;
    deliver(&client, 3).await;
    // Connections tell at the latest when they end.
    assert!(worker.terminate().await && api.terminate().await);
    let mut read = rows_read(&herald.database).await;
    read.iter_mut()
        .for_each(|(table, rows)| *rows -= before.get(table).unwrap_or(&0));
    read.retain(|_, rows| *rows >= FILLED / 2);
    assert!(read.is_empty(), "read for three texts and emails: {read:?}");
}
