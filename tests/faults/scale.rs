//! What must not grow with the number of rows in the way: not by the clock, but by what Postgres says that was read.

use redis::AsyncCommands;
use sqlx::{AssertSqlSafe, Executor};
use uuid::Uuid;

use super::{
    coordination::p95_to_the_phone,
    count,
    load::{Load, load_while, outage},
    oracle,
    report::{Verdict, fault},
    until,
};
use crate::harness::{Client, Herald, Process, Redis, SERVICE, database, eventually};

/// Rows and index entries that were read so far, and blocks that were looked at, in memory or not.
#[derive(Debug, Clone, Copy)]
struct Reads {
    rows: i64,
    blocks: i64,
}

impl Reads {
    /// Until these processes, and nobody else, had ended: what their connections counted is written down by then.
    async fn at_the_end_of(herald: &Herald, processes: Vec<Process>, tables: &str) -> Self {
        for process in processes {
            assert!(process.terminate().await);
        }
        let connections =
            "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'herald'";
        until(herald, "its connections are closed", connections, |left| left == 0).await;
        let sql = "select
            (select sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) from pg_stat_user_tables
             where schemaname || '.' || relname like $1)::bigint
            + (select sum(idx_tup_read) from pg_stat_user_indexes where schemaname || '.' || relname like $1)::bigint,
            (select sum(heap_blks_read + heap_blks_hit + coalesce(idx_blks_read + idx_blks_hit, 0))
             from pg_statio_user_tables where schemaname || '.' || relname like $1)::bigint";
        let (rows, blocks) = sqlx::query_as(sql)
            .bind(tables)
            .fetch_one(&*herald.database)
            .await
            .unwrap();
        Self { rows, blocks }
    }

    fn since(self, before: Self) -> Self {
        Self {
            rows: self.rows - before.rows,
            blocks: self.blocks - before.blocks,
        }
    }
}

const REQUESTS: usize = 200;
const ROWS_OF_TODAY: i64 = 1_000_000;

/// What this many requests of one service read, in all tables of ours.
async fn read_by_requests(herald: &Herald, client: &Client<'_>, redis: Option<&Redis>, ids: &mut Vec<String>) -> Reads {
    let settings: Vec<(&str, &str)> = redis.iter().map(|redis| ("REDIS_URL", redis.url.as_str())).collect();
    let api = herald.api_with(&settings).await;
    // What is read once and then known.
    ids.extend(one_by_one(client, 1).await);
    let before = Reads::at_the_end_of(herald, vec![api], "public.%").await;
    let api = herald.api_with(&settings).await;
    ids.extend(one_by_one(client, REQUESTS + 1).await);
    let after = Reads::at_the_end_of(herald, vec![api], "public.%").await;
    after.since(before)
}

/// So that no request waits for another: one for which Redis takes too long is not counted there.
async fn one_by_one(client: &Client<'_>, texts: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..texts {
        ids.push(client.send_text("07700900123").await);
    }
    ids
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn a_daily_limit_costs_the_same_with_a_million_messages_of_today_as_with_none() {
    let what = "a service has sent 1,000,000 texts today (30 million, scaled down); 200 more of it and 200 of a service that has sent \
                none, with the limits in Postgres and in Redis";
    fault("61", what, async |report| {
        let herald = Herald::start_without_api(database().await).await;
        herald.seed_another_service();
        oracle::watch(&herald.database).await;
        let redis = Redis::start().await;
        let (busy, idle) = (Client::live(&herald), Client::of_another_service(&herald));
        let first = {
            let _api = herald.api_with(&[]).await;
            busy.send_text("07700900123").await
        };
        a_day_of_texts(&herald, &first, &redis).await;
        let mut ids = vec![first];
        for (limits, redis) in [("Postgres", None), ("Redis", Some(&redis))] {
            let [quiet, full] = [
                read_by_requests(&herald, &idle, redis, &mut ids).await,
                read_by_requests(&herald, &busy, redis, &mut ids).await,
            ];
            report.note(format!(
                "limits in {limits}: {} rows and {} blocks read for {REQUESTS} texts of the service without any, {} and {} for the other",
                quiet.rows, quiet.blocks, full.rows, full.blocks
            ));
            assert!(full.rows <= quiet.rows + quiet.rows / 4 + 100, "rows are read that are in no need of it");
            assert!(full.blocks <= quiet.blocks + quiet.blocks / 4 + 100, "blocks are read that are in no need of it");
        }
        // The count goes on from where it was, wherever it is kept.
        let counted: i64 = sqlx::query_scalar("select max(count) from daily_counts").fetch_one(&*herald.database).await.unwrap();
        let counted_too: i64 = redis.connect().await.get(daily_key(&herald).await).await.unwrap();
        let requests = i64::try_from(REQUESTS).unwrap() + 2;
        assert_eq!(counted, ROWS_OF_TODAY + requests);
        assert!(counted_too > ROWS_OF_TODAY + requests * 9 / 10, "Redis was not asked: {counted_too}");
        herald.database.execute("delete from notifications where sent_by = 'a day'").await.unwrap();
        let _api = herald.api_with(&[]).await;
        let _worker = herald.worker();
        oracle::check(report, &herald, &ids).await;
        Verdict::Passed
    })
    .await;
}

/// Copies one accepted text as a day's worth of texts that were delivered, which the limits have counted.
async fn a_day_of_texts(herald: &Herald, id: &str, redis: &Redis) {
    let copies = format!(
        "insert into notifications (id, \"to\", normalised_to, service_id, template_id, template_version, api_key_id, key_type,
            notification_type, notification_status, billable_units, rate_multiplier, created_at, sent_by)
        select (lpad(to_hex((extract(epoch from today) * 1000)::bigint + i / 100), 12, '0') || '70008000'
                || lpad(to_hex(i), 12, '0'))::uuid,
            \"to\", normalised_to, service_id, template_id, template_version, api_key_id, key_type, notification_type,
            'delivered', 1, 1, today + i * (now() at time zone 'utc' - today) / {ROWS_OF_TODAY}, 'a day'
        from notifications, (select date_trunc('day', now() at time zone 'utc') as today) d, generate_series(1, {ROWS_OF_TODAY}) i
        where id = $1"
    );
    // Nobody else reads while it is measured what requests read.
    herald
        .database
        .execute("alter table notifications set (autovacuum_enabled = off)")
        .await
        .unwrap();
    let copied = sqlx::query(AssertSqlSafe(copies)).bind(id.parse::<Uuid>().unwrap());
    copied.execute(&*herald.database).await.unwrap();
    herald.database.execute("analyze notifications").await.unwrap();
    let counted = "update daily_counts set count = $1";
    sqlx::query(counted)
        .bind(ROWS_OF_TODAY)
        .execute(&*herald.database)
        .await
        .unwrap();
    let () = redis
        .connect()
        .await
        .set(daily_key(herald).await, ROWS_OF_TODAY)
        .await
        .unwrap();
}

async fn daily_key(herald: &Herald) -> String {
    let today: String = sqlx::query_scalar("select (now() at time zone 'utc')::date::text")
        .fetch_one(&*herald.database)
        .await
        .unwrap();
    format!("{SERVICE}-sms-{today}-count")
}

const IN_THE_WAY: usize = 1_000_000;
/// Whose runs those are that are in the way.
const TENANT: Uuid = Uuid::from_u128(62);

/// Texts for some seconds, the ids of all, and what was read in the table of runs for them.
async fn texts_and_reads(herald: &Herald, client: &Client<'_>) -> (Load, Vec<String>, Reads) {
    let before = Reads::at_the_end_of(herald, Vec::new(), "engine.run").await;
    let (api, worker) = (herald.api_with(&[]).await, herald.worker());
    let open = "select count(*) from notifications where notification_status <> 'delivered'";
    // The worker's start is not what is measured.
    let first = client.send_text("07700900123").await;
    until(herald, "the worker works", open, |texts| texts == 0).await;
    let (load, ()) = load_while(client, 40, outage(6.0)).await;
    until(herald, "new texts are delivered", open, |texts| texts == 0).await;
    let after = Reads::at_the_end_of(herald, vec![api, worker], "engine.run").await;
    let ids = [vec![first], load.ids()].concat();
    (load, ids, after.since(before))
}

/// Runs that were there first, and that nothing can be done about now: of a concurrency key that is taken, of a service whose
/// runs are paused, beyond a queue's rate, waiting for a signal, and in back-off.
async fn runs_in_the_way(herald: &Herald) {
    let runs = format!(
        "insert into engine.run (id, workflow, queue, tenant, input, created_at, state, due_at, key, key_limit, waits_for)
        select (lpad(to_hex((extract(epoch from now() - interval '1 hour') * 1000)::bigint + i / 100), 12, '0') || '70008000'
                || lpad(to_hex(i), 12, '0'))::uuid,
            'deliver_sms', case i % 5 when 2 then 'research' when 4 then 'retry' else 'send-sms' end, '{TENANT}',
            jsonb_build_object('id', '{TENANT}'), now() - interval '1 hour',
            (array['blocked', 'ready', 'ready', 'waiting', 'sleeping'])[i % 5 + 1],
            case when i % 5 < 3 then now() - interval '1 hour' else now() + interval '1 hour' end,
            case i % 5 when 0 then 'taken' end, case i % 5 when 0 then 1 end, case i % 5 when 3 then 'receipt' end
        from generate_series(0, {IN_THE_WAY} - 1) i"
    );
    let holder = format!(
        "update engine.run set state = 'running', owner = gen_random_uuid(), due_at = now() + interval '1 hour'
        where id = (select id from engine.run where tenant = '{TENANT}' and state = 'blocked' limit 1)"
    );
    for sql in [runs, holder] {
        herald.database.execute(AssertSqlSafe(sql)).await.unwrap();
    }
    let tenant = TENANT.to_string();
    let reason = ["--by", "ada", "--reason", "a test"];
    let pause = [
        "runs", "pause", "--tenant", &tenant, "--queue", "send-sms", "--state", "ready",
    ];
    let limit = ["queues", "limit", "research", "--rate", "1"];
    for command in [&pause[..], &limit] {
        assert!(herald.command(&[command, &reason].concat()).status.success());
    }
    // A pause moves index entries. The first claim after it walks over the old ones, once, unless vacuum takes them away: as
    // soon as no other transaction, such as that of an automatic ANALYZE, may still look at them.
    eventually("the old entries are taken away", || async {
        herald.database.execute("vacuum (analyze) engine.run").await.unwrap();
        let dead = "select n_dead_tup from pg_stat_user_tables where relid = 'engine.run'::regclass";
        (count(herald, dead).await == 0).then_some(())
    })
    .await;
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn runs_that_cannot_go_on_cost_a_claim_of_those_that_can_nothing() {
    let what = "a million runs that wait for a key, a paused service, a rate, a signal or the end of a back-off lie before new texts";
    fault("62", what, async |report| {
        let herald = Herald::start_without_api(database().await).await;
        oracle::watch(&herald.database).await;
        let client = Client::live(&herald);
        let (alone, mut ids, few) = texts_and_reads(&herald, &client).await;
        runs_in_the_way(&herald).await;
        let (beside, more, many) = texts_and_reads(&herald, &client).await;
        let still_there = count(&herald, "select count(*) from engine.run").await;
        assert!(still_there > IN_THE_WAY * 99 / 100, "{still_there}");
        let per_text = |reads: i64, load: &Load| reads / i64::try_from(load.accepted.len()).unwrap();
        report.note(format!(
            "{} rows and {} blocks of engine.run were read for each text without them, {} and {} behind them",
            per_text(few.rows, &alone),
            per_text(few.blocks, &alone),
            per_text(many.rows, &beside),
            per_text(many.blocks, &beside)
        ));
        assert!(
            per_text(many.rows, &beside) <= 2 * per_text(few.rows, &alone) + 10,
            "claims walk over runs in the way"
        );
        let (first, second) = (
            p95_to_the_phone(&client, &alone).await,
            p95_to_the_phone(&client, &beside).await,
        );
        report.note(format!(
            "p95 from request to phone {} ms, {} ms behind them",
            first.num_milliseconds(),
            second.num_milliseconds()
        ));
        let gone = format!("delete from engine.run where tenant = '{TENANT}'");
        herald.database.execute(AssertSqlSafe(gone)).await.unwrap();
        ids.extend(more);
        oracle::check(report, &herald, &ids).await;
        Verdict::Passed
    })
    .await;
}
