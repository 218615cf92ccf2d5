//! Workers whose heartbeat fails, whose runs are inherited, or whose payloads kill.

use serde_json::json;
use sqlx::Executor;
use uuid::Uuid;

use super::{
    count, herald,
    load::{outage, send},
    oracle, providers,
    report::{Verdict, fault},
    until, until_at_the_phone,
};
use crate::harness::{Client, Herald, eventually};

const HELD: &str = "select count(*) from engine.run where state = 'running'";

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn a_worker_whose_heartbeat_alone_starves_stops_claiming() {
    fault(
        "3",
        "the renewal of leases blocks for 20 s while claims could go on",
        async |report| {
            let herald = herald().await;
            let client = Client::live(&herald);
            providers(&client, json!({"latency_ms": 1_500, "receipt_delay_ms": 25_000})).await;
            let ids = send(&client, 450).await;
            let later = "update engine.run set state = 'sleeping', due_at = now() + interval '1 hour'
                     where id in (select id from engine.run order by id desc limit 400)";
            herald.database.execute(later).await.unwrap();
            let _worker = herald.worker();
            until(&herald, "runs are held", HELD, |held| held == 50).await;
            // Claims skip rows that are locked; the renewal waits for them.
            let mut lock = herald.database.begin().await.unwrap();
            lock.execute("select from engine.run where state = 'running' for update")
                .await
                .unwrap();
            let mut claimed = [0, 0];
            for claimed in &mut claimed {
                outage(4.0).await;
                let due = "update engine.run set due_at = now()
                       where id in (select id from engine.run where due_at > now() + interval '30 min' limit 200)";
                herald.database.execute(due).await.unwrap();
                outage(6.0).await;
                *claimed = count(&herald, "select count(*) from engine.run where epoch > 0").await;
            }
            lock.rollback().await.unwrap();
            let rest = "update engine.run set due_at = now() where due_at between now() + interval '30 min' and now() + interval '1 day'";
            herald.database.execute(rest).await.unwrap();
            let claimed = [claimed[0] - 50, claimed[1] - claimed[0]];
            report.note(format!(
                "claims that came due 4 s and 14 s into the blockage: {claimed:?} of 200 each"
            ));
            providers(&client, json!({})).await;
            oracle::check(report, &herald, &ids).await;
            assert_eq!(claimed, [0, 0], "it goes on to claim runs whose leases it cannot renew");
            Verdict::Passed
        },
    )
    .await;
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn a_worker_that_is_started_again_at_once_inherits_nothing_and_loses_nothing() {
    fault(
        "4",
        "kill -9 and an immediate restart of the same command, ten times",
        async |report| {
            let herald = herald().await;
            let client = Client::live(&herald);
            let ids = send(&client, 1_000).await;
            let owners = "select count(distinct owner) from engine.run where state = 'running'";
            for round in 1..=10 {
                let worker = herald.worker();
                until_at_the_phone(&client, round * 80).await;
                worker.kill();
            }
            report.note(format!("{} dead owners at the end", count(&herald, owners).await));
            let _next = herald.worker();
            oracle::check(report, &herald, &ids).await;
            Verdict::Passed
        },
    )
    .await;
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn runs_of_an_owner_that_nobody_knows_are_recovered() {
    fault(
        "5",
        "the owner of a killed worker's runs is replaced by one that never was",
        async |report| {
            let herald = herald().await;
            let client = Client::live(&herald);
            providers(&client, json!({"latency_ms": 1_000})).await;
            let ids = send(&client, 200).await;
            let worker = herald.worker();
            until(&herald, "runs are held", HELD, |held| held > 50).await;
            worker.kill();
            let strange = "update engine.run set owner = gen_random_uuid() where state = 'running'";
            let strange = herald.database.execute(strange).await.unwrap().rows_affected();
            report.note(format!("{strange} runs of nobody"));
            let _next = herald.worker();
            oracle::check(report, &herald, &ids).await;
            Verdict::Passed
        },
    )
    .await;
}

/// The written intent of this run takes for ever: the worker that holds it is killed there, each time.
async fn make_poisonous(herald: &Herald, id: Uuid) {
    let trigger = format!(
        "create function witness.poison() returns trigger language plpgsql as $$ begin perform pg_sleep(60); return new; end $$;
         create trigger poison before insert on engine.journal for each row
             when (new.run_id = '{id}' and new.events::text like '%\"intent\"%') execute function witness.poison()"
    );
    herald.database.execute(sqlx::AssertSqlSafe(trigger)).await.unwrap();
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn a_text_that_kills_each_worker_is_set_aside_alone() {
    fault("6", "one text kills every worker that takes it up; 20 others wait in the same queue", async |report| {
        let herald = herald().await;
        let client = Client::live(&herald);
        let ids = send(&client, 21).await;
        let poison: Uuid = ids[0].parse().unwrap();
        make_poisonous(&herald, poison).await;
        // A queue of its own stands for the part of the fleet that meets the poison; the rest works on.
        herald.database.execute("update engine.run set queue = 'research'").await.unwrap();
        let _fleet = herald.worker_with("send-sms,send-email,retry,retry-email,receipts", &[]);
        let mut killed = 0;
        let state = || async {
            let row: (String, i64) = sqlx::query_as("select state, epoch from engine.run where id = $1")
                .bind(poison)
                .fetch_one(&*herald.database)
                .await
                .unwrap();
            row
        };
        while killed < 10 {
            let (_, before) = state().await;
            let worker = herald.worker_with("research", &[]);
            let set_aside = eventually("the poison is taken up", || async {
                let (state, epoch) = state().await;
                let blocked = "select count(*) from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'";
                let taken = state == "running" && epoch > before && count(&herald, blocked).await > 0;
                (taken || state == "failed").then_some(state == "failed")
            })
            .await;
            worker.kill();
            herald
                .database
                .execute("select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()")
                .await
                .unwrap();
            if set_aside {
                break;
            }
            killed += 1;
        }
        let _next = herald.worker_with("research", &[]);
        let healthy = send(&client, 50).await;
        let alone = "select count(*) from engine.run where state = 'failed'";
        report.note(format!("{killed} workers killed, {} runs set aside", count(&herald, alone).await));
        let set_aside: Vec<Uuid> = sqlx::query_scalar("select id from engine.run where state = 'failed'")
            .fetch_all(&*herald.database)
            .await
            .unwrap();
        // What is set aside waits for people; the oracle is for the others.
        sqlx::query("with gone as (delete from engine.run where id = $1) delete from notifications where id = $1")
            .bind(poison)
            .execute(&*herald.database)
            .await
            .unwrap();
        assert!(set_aside.contains(&poison), "the poison was not set aside");
        let others: Vec<String> = ids[1..].iter().chain(&healthy).cloned().collect();
        oracle::check(report, &herald, &others).await;
        Verdict::Passed
    })
    .await;
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn what_cannot_be_read_is_set_aside_with_a_reason() {
    fault("7", "an unknown workflow, an input of another form, an unknown event and an unknown step in the journal", async |report| {
        let herald = herald().await;
        let client = Client::live(&herald);
        let ids = send(&client, 4).await;
        let good = send(&client, 20).await;
        let spoil = [
            "update engine.run set workflow = 'from_the_future' where id = $1",
            "update engine.run set input = '[7]' where id = $1",
            "with begun as (update engine.run set epoch = 1 where id = $1)
             insert into engine.journal (run_id, seq, epoch, events) values ($1, 1, 1, '[{\"event\": \"from_the_future\"}]')",
            "with begun as (update engine.run set epoch = 1 where id = $1)
             insert into engine.journal (run_id, seq, epoch, events) values ($1, 1, 1, '[{\"event\": \"committed\", \"step\": \"send\"}]')",
        ];
        for (id, spoil) in ids.iter().zip(spoil) {
            let id: Uuid = id.parse().unwrap();
            sqlx::query(spoil).bind(id).execute(&*herald.database).await.unwrap();
        }
        sqlx::query("delete from witness.offence").execute(&*herald.database).await.unwrap();
        let _worker = herald.worker();
        let set_aside = "select count(*) from engine.run where state = 'parked' and last_error is not null";
        until(&herald, "all four are set aside", set_aside, |runs| runs == 4).await;
        let why: Vec<String> = sqlx::query_scalar("select last_error from engine.run where state = 'parked' order by id")
            .fetch_all(&*herald.database)
            .await
            .unwrap();
        report.note(why.join(", "));
        for id in &ids {
            assert!(client.phone(id).await.is_empty(), "{id} was sent");
            sqlx::query("with gone as (delete from engine.run where id = $1), past as (delete from engine.journal where run_id = $1)
                         delete from notifications where id = $1")
                .bind(id.parse::<Uuid>().unwrap())
                .execute(&*herald.database)
                .await
                .unwrap();
        }
        oracle::check(report, &herald, &good).await;
        Verdict::Passed
    })
    .await;
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn a_worker_that_drains_claims_nothing_and_may_be_killed_meanwhile() {
    fault(
        "8",
        "TERM of a worker with calls under way, and kill -9 while it drains",
        async |report| {
            let herald = herald().await;
            let client = Client::live(&herald);
            providers(&client, json!({"latency_ms": 1_900})).await;
            let mut ids = send(&client, 200).await;
            let worker = herald.worker();
            until(&herald, "every run is held", HELD, |held| held == 200).await;
            until_at_the_phone(&client, 10).await;
            ids.extend(send(&client, 200).await);
            worker.signal("-TERM");
            let late = send(&client, 100).await;
            outage(1.0).await;
            let claimed = late.iter().map(|id| id.parse().unwrap()).collect::<Vec<Uuid>>();
            let claimed: i64 = sqlx::query_scalar("select count(*) from engine.run where id = any ($1) and epoch > 0")
                .bind(claimed)
                .fetch_one(&*herald.database)
                .await
                .unwrap();
            worker.kill();
            ids.extend(late);
            providers(&client, json!({})).await;
            let _next = herald.worker();
            oracle::check(report, &herald, &ids).await;
            report.note(format!("{claimed} of 100 texts that came after TERM were claimed"));
            assert_eq!(claimed, 0, "it claimed after it was told to stop");
            Verdict::Passed
        },
    )
    .await;
}
