//! Many at once, long waits, and long runs.

use std::{
    collections::{HashMap, HashSet},
    fs,
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use sqlx::Executor;
use uuid::Uuid;

use super::{
    count, herald,
    load::{Load, load_while, outage, send},
    oracle, providers,
    report::{Verdict, fault},
    until,
};
use crate::harness::{Client, Herald, Process};

/// Texts that sleep until an instant 5 s from now, in the queue of repetitions.
const DUE_AT_ONCE: &str = "
    insert into engine.run (id, workflow, queue, state, due_at, attempt, input, tenant)
    select b.id, 'deliver_sms', 'retry', 'sleeping', now() + interval '5 s', 1, jsonb_build_object('id', b.id), service_id
    from witness.backlog b join notifications n using (id)";

/// What of other services waits to be sent for the first time is to be sent again, after all that is in that queue.
const DUE_LAST: &str = "
    update engine.run set queue = 'retry', state = 'sleeping', attempt = 1,
        due_at = (select max(due_at) from engine.run where queue = 'retry') + interval '1 s'
    where queue = 'send-sms' and tenant <> (select tenant from engine.run where queue = 'retry' limit 1)";

/// New texts of one service whose turns have all come while no worker was there.
const LEFT_LYING: &str = "
    insert into engine.run (id, workflow, queue, state, due_at, attempt, input, tenant)
    select b.id, 'deliver_sms', 'send-sms', 'ready', now() - interval '1 hour' + b.i * interval '50 ms', 0,
        jsonb_build_object('id', b.id), service_id
    from witness.backlog b join notifications n using (id)";

/// Copies one accepted text so many times, with runs as they are inserted by `runs`.
async fn backlog(herald: &Herald, id: &str, texts: i32, runs: &'static str) {
    let ids = "create table witness.backlog as
        select (lpad(to_hex((extract(epoch from now()) * 1000)::bigint), 12, '0') || '7' || substr(md5(i::text), 1, 3)
                || '8' || substr(md5(i || 'tail'), 1, 15))::uuid as id, i
        from generate_series(1, $1) i";
    let rows = r#"insert into notifications (id, "to", normalised_to, service_id, template_id, template_version, api_key_id, key_type,
            notification_type, notification_status, created_at, billable_units, _personalisation, international, phone_prefix,
            rate_multiplier, reply_to_text)
        select b.id, "to", normalised_to, service_id, template_id, template_version, api_key_id, key_type, notification_type,
            notification_status, created_at, billable_units, _personalisation, international, phone_prefix, rate_multiplier,
            reply_to_text
        from witness.backlog b, notifications n where n.id = $1"#;
    sqlx::query(sqlx::AssertSqlSafe(ids.replace("$1", &texts.to_string())))
        .execute(&*herald.database)
        .await
        .unwrap();
    sqlx::query(rows)
        .bind(id.parse::<Uuid>().unwrap())
        .execute(&*herald.database)
        .await
        .unwrap();
    herald.database.execute(runs).await.unwrap();
}

async fn copies(herald: &Herald) -> Vec<String> {
    let copies: Vec<Uuid> = sqlx::query_scalar("select id from witness.backlog")
        .fetch_all(&*herald.database)
        .await
        .unwrap();
    copies.iter().map(Uuid::to_string).collect()
}

/// How many of `many` had arrived at the phone before the last of `few`.
async fn so_many_before(client: &Client<'_>, many: &[String], few: &[String]) -> usize {
    let phone = client.whole_phone().await;
    let order: Vec<&str> = phone
        .iter()
        .map(|message| message["reference"].as_str().unwrap())
        .collect();
    let last = order.iter().rposition(|id| few.iter().any(|few| few == id)).unwrap();
    let many: HashSet<&str> = many.iter().map(String::as_str).collect();
    order[..last].iter().filter(|id| many.contains(**id)).count()
}

/// From a text's request to its arrival at the phone: the time that 19 of 20 stay below.
pub async fn p95_to_the_phone(client: &Client<'_>, load: &Load) -> TimeDelta {
    let times = times_to_the_phone(client, load).await;
    times[times.len() * 95 / 100]
}

/// Sorted.
pub async fn times_to_the_phone(client: &Client<'_>, load: &Load) -> Vec<TimeDelta> {
    let (now, today) = (Instant::now(), Utc::now());
    let mut arrived = HashMap::new();
    for message in client.whole_phone().await {
        let at: DateTime<Utc> = message["at"].as_str().unwrap().parse().unwrap();
        arrived.insert(message["reference"].as_str().unwrap().to_owned(), at);
    }
    let mut times: Vec<TimeDelta> = load
        .accepted
        .iter()
        .map(|(id, sent, _)| arrived[id] - (today - TimeDelta::from_std(now - *sent).unwrap()))
        .collect();
    times.sort();
    times
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn texts_that_are_all_due_at_one_instant_do_not_hold_up_new_ones() {
    const TEXTS: i32 = 20_000;
    fault(
        "55",
        "20,000 texts (a million, scaled down) of one service due at one instant in the queue of repetitions, 20 of another there after \
         them, and new ones meanwhile",
        async |report| {
            let herald = herald().await;
            herald.seed_another_service();
            let client = Client::live(&herald);
            let mut ids = send(&client, 1).await;
            backlog(&herald, &ids[0], TEXTS, DUE_AT_ONCE).await;
            let few = send(&Client::of_another_service(&herald), 20).await;
            let due_last = herald.database.execute(DUE_LAST).await.unwrap();
            assert_eq!(due_last.rows_affected(), 20);
            // Worker processes as production has them.
            let _sending = herald.worker_with("send-sms,send-email,research", &[]);
            let _repeating = herald.worker_with("retry,retry-email,receipts", &[]);
            let (alone, ()) = load_while(&client, 10, outage(4.0)).await;
            let (beside, left) = load_while(&client, 10, async {
                outage(45.0).await;
                count(&herald, "select count(*) from engine.run where queue = 'retry'").await
            })
            .await;
            ids.extend(alone.ids());
            ids.extend(beside.ids());
            let many = copies(&herald).await;
            report.note(format!("{left} of the backlog were left after 45 s"));
            ids.extend([&many[..], &few].concat());
            oracle::check_within(Duration::from_secs(300), report, &herald, &ids).await;
            let before = so_many_before(&client, &many, &few).await;
            report.note(format!("{before} of the backlog were sent before the last of the other service's"));
            assert!(before < many.len() / 4, "the other service's waited for the backlog: {before}");
            let (first, second) = (
                p95_to_the_phone(&client, &alone).await,
                p95_to_the_phone(&client, &beside).await,
            );
            report.note(format!(
                "p95 from request to phone {} ms alone, {} ms beside the backlog",
                first.num_milliseconds(),
                second.num_milliseconds()
            ));
            assert!(
                second < TimeDelta::seconds(1),
                "new texts waited for the old ones: p95 {second}"
            );
            Verdict::Passed
        },
    )
    .await;
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn what_one_service_has_piled_up_does_not_hold_up_the_texts_of_another() {
    const TEXTS: i32 = 20_000;
    fault(
        "55b",
        "no worker for an hour while one service sent 20,000 texts; then workers, and texts of another service",
        async |report| {
            let herald = herald().await;
            herald.seed_another_service();
            let (many, few) = (Client::live(&herald), Client::of_another_service(&herald));
            let mut ids = send(&many, 1).await;
            backlog(&herald, &ids[0], TEXTS, LEFT_LYING).await;
            // The API has just seen how far the workers are, before that hour, and believes it for five seconds.
            outage(6.0).await;
            let lying = "select count(*) from engine.run where queue = 'send-sms' and state = 'ready'";
            let began = Instant::now();
            let _worker = herald.worker();
            let (load, left) = load_while(&few, 10, async {
                until(&herald, "half of it is sent", lying, |left| left < 10_000).await;
                count(&herald, lying).await
            })
            .await;
            let half = TimeDelta::from_std(began.elapsed()).unwrap();
            report.note(format!(
                "{} texts of the other service until {left} of the first one's were left",
                load.ids().len()
            ));
            assert!(load.ids().len() > 10, "too few to tell");
            ids.extend(load.ids());
            ids.extend(copies(&herald).await);
            oracle::check_within(Duration::from_secs(300), report, &herald, &ids).await;
            let p95 = p95_to_the_phone(&few, &load).await;
            report.note(format!(
                "p95 from request to phone of the other service's {} ms, half of the first one's in {} s",
                p95.num_milliseconds(),
                half.num_seconds()
            ));
            assert!(p95 < half / 5, "they waited for the first one's: p95 {p95} of {half}");
            Verdict::Passed
        },
    )
    .await;
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn a_back_off_longer_than_the_lease_is_kept_and_survives_its_worker() {
    fault("60", "refused twice: a back-off of five minutes under a lease of 2 s; the worker is killed meanwhile", async |report| {
        let herald = herald().await;
        let client = Client::live(&herald);
        providers(&client, json!({"status": 503})).await;
        let ids = send(&client, 50).await;
        let worker = herald.worker();
        let asleep = "select count(*) from engine.run where state = 'sleeping' and attempt = 2 and due_at > now() + interval '4 min'";
        until(&herald, "every text backs off", asleep, |runs| runs == 50).await;
        let epochs = "select sum(epoch)::bigint from engine.run";
        let before = count(&herald, epochs).await;
        worker.kill();
        let _next = herald.worker();
        outage(10.0).await;
        assert_eq!(count(&herald, epochs).await, before, "a run was claimed before it was due");
        assert_eq!(count(&herald, asleep).await, 50);
        providers(&client, json!({})).await;
        // The rest of the five minutes is not waited for.
        herald.database.execute("update engine.run set due_at = now()").await.unwrap();
        oracle::check(report, &herald, &ids).await;
        let attempts = "select count(*) from engine.journal, jsonb_array_elements(events) e where e ->> 'event' = 'intent'";
        report.note(format!("{} attempts", count(&herald, attempts).await));
        assert_eq!(count(&herald, attempts).await, 150);
        Verdict::Passed
    })
    .await;
}

/// What must not grow with time.
struct Vitals {
    at: Instant,
    memory_mb: usize,
    connections: usize,
    dead_rows: usize,
}

/// Of two processes: 16 of the pool, and some that listen or renew.
const MOST_CONNECTIONS: usize = 2 * (16 + 4);

async fn vitals(herald: &Herald, processes: &[&Process]) -> Vitals {
    let memory = processes.iter().map(|process| {
        let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<usize>().unwrap()
    });
    let connections =
        "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'herald'";
    let dead = "select sum(n_dead_tup)::bigint from pg_stat_user_tables where relid in ('engine.run'::regclass, 'notifications'::regclass)";
    Vitals {
        at: Instant::now(),
        memory_mb: memory.sum::<usize>() / 1_024,
        connections: count(herald, connections).await,
        dead_rows: count(herald, dead).await,
    }
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn three_minutes_of_load_leave_memory_connections_and_latency_flat() {
    fault("63", "a soak of 3 minutes at 60 texts a second (24 hours, shortened)", async |report| {
        let herald = Herald::start_without_api(crate::harness::database().await).await;
        oracle::watch(&herald.database).await;
        let (api, worker) = (herald.api_with(&[]).await, herald.worker());
        let client = Client::live(&herald);
        let (load, [first, last]) = load_while(&client, 60, async {
            outage(60.0).await;
            let first = vitals(&herald, &[&api, &worker]).await;
            outage(120.0).await;
            [first, vitals(&herald, &[&api, &worker]).await]
        })
        .await;
        let window = Duration::from_secs(50);
        let p99 = [&first, &last].map(|vitals| load.p99(vitals.at - window, vitals.at).as_millis());
        report.note(format!(
            "after 1 and 3 minutes: memory of API and worker {} and {} MB, connections {} and {}, dead rows {} and {}, p99 of the answer {} and {} ms",
            first.memory_mb, last.memory_mb, first.connections, last.connections, first.dead_rows, last.dead_rows, p99[0], p99[1]
        ));
        oracle::check(report, &herald, &load.ids()).await;
        assert_eq!(load.unanswered, 0);
        assert!(last.memory_mb <= first.memory_mb + first.memory_mb / 4, "memory grows");
        // Pools open connections as they need them; beyond their sizes there are the listeners.
        assert!(last.connections <= MOST_CONNECTIONS, "connections grow");
        assert!(last.dead_rows <= 2 * first.dead_rows + 20_000, "dead rows grow");
        assert!(p99[1] <= 2 * p99[0] + 100, "the p99 grows");
        Verdict::Passed
    })
    .await;
}
