//! A database that crashes, is full, or loses its connections.

use std::{fs, io::Write, path::Path, process::Command, time::Duration};

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::{Connection, Executor, PgConnection};

use super::{
    Private,
    coordination::times_to_the_phone,
    count, herald,
    load::{load_while, outage},
    oracle, private, providers,
    report::{Verdict, fault},
};
use crate::harness::{Client, Cluster, Database, Gate, Herald, LossyProxy, eventually_within};

/// Messages at the phone a second, between two instants.
async fn rate_at_the_phone(client: &Client<'_>, from: DateTime<Utc>, until: DateTime<Utc>) -> f64 {
    let arrived = client.whole_phone().await;
    let at = arrived
        .iter()
        .map(|message| message["at"].as_str().unwrap().parse::<DateTime<Utc>>().unwrap());
    at.filter(|at| (from..until).contains(at)).count() as f64 / (until - from).as_seconds_f64()
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn the_rate_is_back_ten_seconds_after_each_crash_of_the_database() {
    fault("11", "immediate stop and start of Postgres under load, after 5, 10, 20 and 25 s", async |report| {
        const A_SECOND: u32 = 60;
        let Private { herald, cluster } = private(&[]).await;
        let client = Client::live(&herald);
        let _worker = herald.worker();
        let (load, starts) = load_while(&client, A_SECOND, async {
            let mut starts = Vec::new();
            outage(5.0).await;
            for pause in [5.0, 10.0, 20.0, 25.0] {
                cluster.stop("immediate").await;
                outage(0.5).await;
                cluster.start_again().await;
                starts.push(Utc::now());
                outage(pause).await;
            }
            starts
        })
        .await;
        let mut rates = Vec::new();
        for start in &starts[2..] {
            let from = *start + Duration::from_secs(10);
            rates.push(rate_at_the_phone(&client, from, from + Duration::from_secs(10)).await);
        }
        report.note(format!(
            "{} of the texts were not answered with 201; at the phone from 10 s after a start on: {rates:.1?} of {A_SECOND} a second",
            load.unanswered
        ));
        oracle::check(report, &herald, &load.ids()).await;
        assert!(rates.iter().all(|rate| *rate > 0.95 * f64::from(A_SECOND)), "the rate is not back: {rates:.1?}");
        Verdict::Passed
    })
    .await;
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn a_crash_of_the_database_during_recovery_and_rotation_strands_nothing() {
    fault("12", "immediate stops while a dead worker's runs are recovered and partitions are made", async |report| {
        let Private { herald, cluster } = private(&[]).await;
        let client = Client::live(&herald);
        let mut worker = Some(herald.worker());
        let (load, ()) = load_while(&client, 60, async {
            for _ in 0..3 {
                outage(2.0).await;
                let _ = herald
                    .database
                    .execute(
                        "do $$ declare t text; begin
                         for t in select c.oid::regclass from pg_class c join pg_inherits i on inhrelid = c.oid
                                  where relname > 'journal_' || to_char(now() + interval '1 day', 'YYYYMMDD') and relname ~ '^journal_[0-9]'
                         loop execute 'drop table ' || t; end loop; end $$",
                    )
                    .await;
                worker.take().unwrap().kill();
                worker = Some(herald.worker());
                // The leases of the dead end now.
                outage(1.8).await;
                let _beat = herald.role_with(&["beat"], &[]);
                outage(0.1).await;
                cluster.stop("immediate").await;
                cluster.start_again().await;
            }
        })
        .await;
        let _beat = herald.role_with(&["beat"], &[]);
        oracle::check(report, &herald, &load.ids()).await;
        let ahead = "select count(*) from pg_inherits where inhparent = 'engine.journal'::regclass";
        super::until(&herald, "the partitions of the days ahead are there", ahead, |partitions| partitions >= 9).await;
        Verdict::Passed
    })
    .await;
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn a_stream_of_ended_connections_is_survived() {
    fault("13", "pg_terminate_backend of one connection every 100 ms for 15 s", async |report| {
        let herald = herald().await;
        let client = Client::live(&herald);
        let _worker = herald.worker();
        let terminate = "select count(pg_terminate_backend(pid)) from
            (select pid from pg_stat_activity where datname = current_database() and application_name = 'herald' order by random() limit 1) p";
        let (load, ended) = load_while(&client, 60, async {
            let mut ended = 0;
            for _ in 0..150 {
                ended += count(&herald, terminate).await;
                outage(0.1).await;
            }
            ended
        })
        .await;
        report.note(format!("{ended} connections ended; {} texts not answered with 201", load.unanswered));
        oracle::check(report, &herald, &load.ids()).await;
        Verdict::Passed
    })
    .await;
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn idle_connections_up_to_the_limit_degrade_claims_and_leave_heartbeats_alone() {
    fault("14", "idle connections hold the server's limit for 20 s, with calls longer than the lease", async |report| {
        let Private { herald, cluster } = private(&["max_connections=90", "superuser_reserved_connections=0"]).await;
        let client = Client::live(&herald);
        providers(&client, json!({"latency_ms": 1_900})).await;
        let _worker = herald.worker();
        let (load, idle) = load_while(&client, 40, async {
            outage(3.0).await;
            let mut idle = Vec::new();
            while let Ok(connection) = PgConnection::connect(&cluster.url).await {
                idle.push(connection);
            }
            outage(20.0).await;
            idle.len()
        })
        .await;
        let died = "select count(*) from engine.journal, jsonb_array_elements(events) e where e ->> 'why' like 'the worker died%'";
        let died = count(&herald, died).await;
        report.note(format!("{idle} idle connections; {} texts not answered with 201; {died} leases lost", load.unanswered));
        oracle::check(report, &herald, &load.ids()).await;
        assert_eq!(died, 0, "leases were lost while the limit was reached");
        Verdict::Passed
    })
    .await;
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn a_connection_cut_after_commit_was_sent_leads_to_no_second_effect() {
    fault(
        "15",
        "every other COMMIT of API and worker is carried out and its acknowledgement lost",
        async |report| {
            let herald = Herald::start_without_api(crate::harness::database().await).await;
            oracle::watch(&herald.database).await;
            let (before_api, before_worker) = (
                LossyProxy::before(&herald.database.url).await,
                LossyProxy::before(&herald.database.url).await,
            );
            let _api = herald.api_with(&[("DATABASE_URL", &before_api.url)]).await;
            let _worker = herald.worker_with("all", &[("DATABASE_URL", &before_worker.url)]);
            let client = Client::live(&herald);
            let (load, ()) = load_while(&client, 40, outage(15.0)).await;
            report.note(format!(
                "{} commits of the API and {} of the worker lost their acknowledgement; {} texts not answered with 201",
                before_api.lost(),
                before_worker.lost(),
                load.unanswered
            ));
            oracle::check(report, &herald, &load.ids()).await;
            Verdict::Passed
        },
    )
    .await;
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn a_worker_whose_connections_are_half_open_works_again_within_a_minute() {
    fault(
        "16a",
        "all database connections of the worker go half-open; new ones work",
        async |report| {
            let herald = herald().await;
            let client = Client::live(&herald);
            let gate = Gate::before(&herald.database.url).await;
            let _worker = herald.worker_with("all", &[("DATABASE_URL", &gate.url)]);
            let (load, ()) = load_while(&client, 20, async {
                outage(5.0).await;
                gate.deafen();
                outage(10.0).await;
            })
            .await;
            oracle::check_within(Duration::from_secs(60), report, &herald, &load.ids()).await;
            Verdict::Passed
        },
    )
    .await;
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn an_api_whose_connections_are_half_open_accepts_again_within_a_minute() {
    fault(
        "16b",
        "all database connections of the API go half-open; new ones work",
        async |report| {
            let herald = Herald::start_without_api(crate::harness::database().await).await;
            oracle::watch(&herald.database).await;
            let gate = Gate::before(&herald.database.url).await;
            let _api = herald.api_with(&[("DATABASE_URL", &gate.url)]).await;
            let _worker = herald.worker();
            let client = Client::live(&herald);
            let (load, seconds) = load_while(&client, 20, async {
                outage(5.0).await;
                gate.deafen();
                let since = std::time::Instant::now();
                let before = count(&herald, "select count(*) from notifications").await;
                let accepts = eventually_within(Duration::from_secs(60), "the API accepts again", || async {
                    let now = count(&herald, "select count(*) from notifications").await;
                    (now > before + 40).then_some(since.elapsed().as_secs())
                });
                futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(accepts))
                    .await
                    .ok()
            })
            .await;
            report.note(format!(
                "accepts again after {seconds:?} s (None: not within a minute); {} texts not answered with 201",
                load.unanswered
            ));
            assert!(
                seconds.is_some(),
                "the API accepts nothing a minute after its connections went half-open"
            );
            oracle::check(report, &herald, &load.ids()).await;
            Verdict::Passed
        },
    )
    .await;
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn a_worker_that_is_told_nothing_any_more_hears_again_within_half_a_minute() {
    let done = "the connection by which a worker is woken goes half-open, and no other; one text a second";
    fault("16c", done, async |report| {
        let herald = herald().await;
        let client = Client::live(&herald);
        let gate = Gate::before(&herald.database.url).await;
        let _worker = herald.worker_with("all", &[("DATABASE_DIRECT_URL", &gate.url)]);
        let (mut ids, mut medians) = (Vec::new(), Vec::new());
        for pause in [3.0, 0.0, 15.0] {
            outage(pause).await;
            let (load, ()) = load_while(&client, 1, outage(12.0)).await;
            ids.extend(load.ids());
            oracle::check(report, &herald, &ids).await;
            let times = times_to_the_phone(&client, &load).await;
            medians.push(times[times.len() / 2]);
            if medians.len() == 1 {
                gate.deafen();
            }
        }
        let [hearing, deaf, again] = medians[..] else {
            unreachable!()
        };
        report.note(format!(
            "median from request to phone {} ms, {} ms while deaf, {} ms afterwards",
            hearing.num_milliseconds(),
            deaf.num_milliseconds(),
            again.num_milliseconds()
        ));
        assert!(deaf > hearing * 2, "it was not deaf: {deaf} after {hearing}");
        assert!(again < deaf / 2, "it is still deaf: {again} after {deaf}");
        Verdict::Passed
    })
    .await;
}

/// A file system of its own for a cluster, so small that a test can fill it.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let at = std::env::temp_dir().join(format!("herald-disk-{}", uuid::Uuid::new_v4().simple()));
        fs::create_dir(&at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=400m", "tmpfs"])
            .arg(&at)
            .status();
        mounted.is_ok_and(|status| status.success()).then_some(Self(at))
    }

    /// Leaves nothing free, until the file is removed.
    fn fill(&self) -> std::path::PathBuf {
        let balloon = self.0.join("balloon");
        let mut file = fs::File::create(&balloon).unwrap();
        let block = vec![0; 64 * 1024];
        while file.write_all(&block).is_ok() {}
        balloon
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
        let _ = fs::remove_dir(&self.0);
    }
}

async fn start_on_disk(disk: &Path) -> Private {
    let dir = disk.join("cluster");
    fs::create_dir(&dir).unwrap();
    let cluster = Cluster::start_in(dir, &["min_wal_size=32MB", "max_wal_size=64MB"], &[]).await;
    let herald = Herald::start_on(Database::in_cluster(&cluster.url).await).await;
    oracle::watch(&herald.database).await;
    Private { herald, cluster }
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn a_full_disk_that_is_freed_costs_nothing_that_was_accepted() {
    fault(
        "19",
        "the database's disk is full for 10 s under load, then freed",
        async |report| {
            let Some(disk) = SmallDisk::mount() else {
                return Verdict::Skipped("a small file system cannot be mounted here".to_owned());
            };
            let Private { herald, cluster } = start_on_disk(&disk.0).await;
            let client = Client::live(&herald);
            let _worker = herald.worker();
            let (load, stopped) = load_while(&client, 60, async {
                outage(3.0).await;
                let balloon = disk.fill();
                outage(10.0).await;
                fs::remove_file(balloon).unwrap();
                let stopped = !cluster.is_up();
                if stopped {
                    cluster.start_again().await;
                }
                outage(5.0).await;
                stopped
            })
            .await;
            let refusals = cluster.log().matches("No space left on device").count();
            report.note(format!(
                "{refusals} times \"No space left on device\" in the log, Postgres {}; {} texts not answered with 201",
                if stopped {
                    "stopped by itself and was started again"
                } else {
                    "stayed up"
                },
                load.unanswered
            ));
            assert!(refusals > 0, "the disk was never full for Postgres");
            oracle::check(report, &herald, &load.ids()).await;
            Verdict::Passed
        },
    )
    .await;
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn a_read_only_database_delays_and_loses_nothing() {
    fault(
        "20",
        "default_transaction_read_only for 8 s under load",
        async |report| {
            let Private {
                herald,
                cluster: _cluster,
            } = private(&[]).await;
            let client = Client::live(&herald);
            let _worker = herald.worker();
            let set = async |value: &str| {
                let mut connection = herald.database.acquire().await.unwrap();
                connection
                    .execute("set default_transaction_read_only = off")
                    .await
                    .unwrap();
                let set = format!("alter system set default_transaction_read_only = {value}");
                connection.execute(sqlx::AssertSqlSafe(set)).await.unwrap();
                connection.execute("select pg_reload_conf()").await.unwrap();
            };
            let (load, ()) = load_while(&client, 60, async {
                outage(3.0).await;
                set("on").await;
                outage(8.0).await;
                set("off").await;
                outage(5.0).await;
            })
            .await;
            report.note(format!("{} texts not answered with 201", load.unanswered));
            oracle::check(report, &herald, &load.ids()).await;
            Verdict::Passed
        },
    )
    .await;
}
