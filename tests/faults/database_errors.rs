//! A database that refuses, blocks or slows down statements, and what stands between it and the program.

use std::{
    fs,
    net::TcpListener,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use sqlx::{Executor, Postgres, Transaction};

use super::{
    Private, count, herald,
    load::{load_while, outage, send},
    oracle, private,
    report::{Verdict, fault},
    until_at_the_phone,
};
use crate::harness::{Client, Herald, account, eventually_within};

/// Throughput, in texts a second: the time from the first request until the phone has them all.
async fn burst(client: &Client<'_>) -> f64 {
    const TEXTS: usize = 1_000;
    let before = client.phone_count().await;
    let since = Instant::now();
    send(client, TEXTS).await;
    until_at_the_phone(client, before + TEXTS).await;
    TEXTS as f64 / since.elapsed().as_secs_f64()
}

/// The median rates of some bursts of each in turn: a machine that others use slows down both.
async fn bursts<'a>([one, other]: [&Client<'a>; 2]) -> [f64; 2] {
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..7 {
        for (client, rates) in [one, other].into_iter().zip(&mut rates) {
            rates.push(burst(client).await);
        }
    }
    rates.map(|mut rates| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    })
}

async fn reader(herald: &Herald) -> Transaction<'static, Postgres> {
    let mut reader = herald.database.begin().await.unwrap();
    reader
        .execute("set transaction isolation level repeatable read")
        .await
        .unwrap();
    reader.execute("select count(*) from engine.run").await.unwrap();
    reader
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn a_pinned_horizon_costs_less_than_a_tenth_of_the_rate() {
    fault("18", "an idle transaction and four repeatable-read readers pin the horizon for two minutes of load", async |report| {
        // Another one, on the same machine, of which nothing is pinned.
        let [Private { herald, cluster: _cluster }, Private { herald: other, cluster: _another }] =
            [private(&["synchronous_commit=on"]).await, private(&["synchronous_commit=on"]).await];
        let [client, free] = [Client::live(&herald), Client::live(&other)];
        let _workers = [herald.worker(), other.worker()];
        load_while(&free, 120, outage(60.0)).await;
        let mut idle = herald.database.begin().await.unwrap();
        idle.execute("select txid_current()").await.unwrap();
        let mut readers = Vec::new();
        for _ in 0..4 {
            readers.push(reader(&herald).await);
        }
        let (load, ()) = load_while(&client, 120, outage(120.0)).await;
        let [pinned, free] = bursts([&client, &free]).await;
        let dead = count(&herald, "select n_dead_tup from pg_stat_user_tables where relid = 'engine.run'::regclass").await;
        drop((idle, readers));
        report.note(format!(
            "{free:.0} texts a second without it, {pinned:.0} at the end of it ({:.0} %; medians of 7 in turns), with {dead} dead rows in engine.run",
            100.0 * pinned / free
        ));
        oracle::check(report, &herald, &load.ids()).await;
        assert!(pinned >= 0.9 * free, "the rate fell to {:.0} %", 100.0 * pinned / free);
        Verdict::Passed
    })
    .await;
}

/// PgBouncer in transaction mode in front of a database.
struct Bouncer {
    process: std::process::Child,
    settings: PathBuf,
    url: String,
    version: String,
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.settings);
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Bouncer {
    fn start(url: &str) -> Option<Self> {
        let version = Command::new("pgbouncer").arg("--version").output().ok()?;
        let (start, folder) = url.split_once("?host=").unwrap();
        let port = start.rsplit(':').next().unwrap().split('/').next().unwrap();
        let own = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let file = std::env::temp_dir().join(format!("herald-bouncer-{own}.ini"));
        let settings = format!(
            "[databases]\nherald = host={} port={port} dbname=herald user=herald\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {own}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n\
             default_pool_size = 20\nmax_client_conn = 500\nignore_startup_parameters = options,extra_float_digits\n",
            folder.replace("%2F", "/"),
        );
        fs::write(&file, settings).unwrap();
        let mut bouncer = Command::new("pgbouncer");
        bouncer.arg("--quiet").arg(&file).stderr(Stdio::null());
        if let Some((user, group)) = account() {
            bouncer.uid(user).gid(group);
        }
        let mut process = bouncer.spawn().ok()?;
        while std::net::TcpStream::connect(("127.0.0.1", own)).is_err() {
            let ended = process.try_wait().unwrap();
            assert!(ended.is_none(), "pgbouncer ended before it listened: {ended:?}");
            std::thread::yield_now();
        }
        Some(Self {
            process,
            settings: file,
            url: format!("postgres://herald@127.0.0.1:{own}/herald?sslmode=disable"),
            version: String::from_utf8_lossy(&version.stdout)
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned(),
        })
    }

    /// The second number of its version, of which the first is 1.
    fn minor(&self) -> Option<u32> {
        self.version.split('.').nth(1)?.parse().ok()
    }
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn a_pooler_in_transaction_mode_between_program_and_database_is_no_hindrance() {
    fault(
        "21",
        "PgBouncer in transaction mode between the program and Postgres",
        async |report| {
            // Its end must not be waited for by what it leads to.
            let Private { herald, cluster } = private(&[]).await;
            let Some(bouncer) = Bouncer::start(&cluster.url) else {
                return Verdict::Skipped("pgbouncer is not installed".to_owned());
            };
            report.note(bouncer.version.clone());
            let knows_statements = !matches!(bouncer.minor(), Some(..21));
            let refused = herald.command_with(&["worker", "--queues", "all"], &[("DATABASE_URL", &bouncer.url)]);
            let why = String::from_utf8_lossy(&refused.stderr);
            let names = if knows_statements {
                "DATABASE_DIRECT_URL"
            } else {
                "PgBouncer 1.21"
            };
            assert!(!refused.status.success() && why.contains(names), "{why}");
            if !knows_statements {
                return Verdict::Skipped(format!("the program refuses to start behind it: {why}"));
            }
            let client = Client::live(&herald);
            let settings = [
                ("DATABASE_URL", &*bouncer.url),
                ("DATABASE_DIRECT_URL", &*cluster.url),
                ("HERALD_LOG", "warn"),
            ];
            let worker_by_bouncer = herald.worker_with("all", &settings);
            let (load, ()) = load_while(&client, 20, outage(10.0)).await;
            let sent = count(
                &herald,
                "select count(*) from notifications where notification_status <> 'created'",
            )
            .await;
            report.note(format!("{sent} of {} sent by a worker behind it", load.accepted.len()));
            let drained = eventually_within(Duration::from_secs(20), "everything is sent", || async {
                let left = "select count(*) from notifications where notification_status in ('created', 'sending')";
                (count(&herald, left).await == 0).then_some(())
            });
            let works = futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(drained))
                .await
                .is_ok();
            let _direct = (!works).then(|| {
                worker_by_bouncer.kill();
                herald.worker()
            });
            oracle::check(report, &herald, &load.ids()).await;
            assert!(
                works,
                "a worker behind PgBouncer does not work; without it the backlog drained"
            );
            Verdict::Passed
        },
    )
    .await;
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn deadlocks_are_repeated() {
    fault(
        "22a",
        "a transaction that locks run rows in the opposite order, for 20 s",
        async |report| {
            let herald = herald().await;
            let client = Client::live(&herald);
            let _worker = herald.worker();
            let before = count(
                &herald,
                "select deadlocks from pg_stat_database where datname = current_database()",
            )
            .await;
            let (load, ()) = load_while(&client, 60, async {
                for _ in 0..20 {
                    let mut opposite = herald.database.begin().await.unwrap();
                    let _ = opposite.execute("set local deadlock_timeout = '300ms'").await;
                    let ids: Vec<uuid::Uuid> =
                        sqlx::query_scalar("select id from engine.run order by id desc limit 200")
                            .fetch_all(&mut *opposite)
                            .await
                            .unwrap();
                    for (place, id) in ids.into_iter().enumerate() {
                        let lock = sqlx::query("select from engine.run where id = $1 for update").bind(id);
                        if lock.execute(&mut *opposite).await.is_err() {
                            break;
                        }
                        if place == 10 {
                            outage(0.2).await;
                        }
                    }
                    let _ = opposite.rollback().await;
                    outage(0.3).await;
                }
            })
            .await;
            oracle::check(report, &herald, &load.ids()).await;
            let after = count(
                &herald,
                "select deadlocks from pg_stat_database where datname = current_database()",
            )
            .await;
            report.note(format!(
                "{} deadlocks; {} texts not answered with 201",
                after - before,
                load.unanswered
            ));
            Verdict::Passed
        },
    )
    .await;
}

/// Refuses a share of the statements on a table with this error, as Postgres does by itself under other isolation levels.
async fn refuse(herald: &Herald, table: &str, event: &str, code: &str) {
    let trigger = format!(
        "create or replace function witness.refuse() returns trigger language plpgsql as $$
         begin if random() < 0.05 then raise exception 'injected' using errcode = '{code}'; end if; return null; end $$;
         create trigger refuse before {event} on {table} for each statement execute function witness.refuse()"
    );
    herald.database.execute(sqlx::AssertSqlSafe(trigger)).await.unwrap();
}

async fn refusals(number: &str, done: &str, table: &str, event: &str, code: &str) {
    fault(number, done, async |report| {
        let herald = herald().await;
        let client = Client::live(&herald);
        let _worker = herald.worker();
        let (load, ()) = load_while(&client, 60, async {
            refuse(&herald, table, event, code).await;
            outage(15.0).await;
            let drop = format!("drop trigger refuse on {table}");
            herald.database.execute(sqlx::AssertSqlSafe(drop)).await.unwrap();
        })
        .await;
        report.note(format!("{} texts not answered with 201", load.unanswered));
        oracle::check(report, &herald, &load.ids()).await;
        Verdict::Passed
    })
    .await;
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn serialization_failures_in_the_engines_tables_are_repeated() {
    let done = "one write to engine.journal in 20 ends with a serialization failure";
    refusals("22b", done, "engine.journal", "insert", "40001").await;
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn serialization_failures_in_the_tables_of_effects_are_repeated() {
    let done = "one update of notifications in 20 ends with a serialization failure";
    refusals("22c", done, "notifications", "update", "40001").await;
}

async fn long_lock(number: &str, done: &str, lock: &'static str, lease: &str) {
    fault(number, done, async |report| {
        let herald = herald().await;
        let client = Client::live(&herald);
        let _worker = herald.worker_with("all", &[("WORKER_LEASE_SECONDS", lease)]);
        let (load, ()) = load_while(&client, 40, async {
            outage(4.0).await;
            let mut transaction = herald.database.begin().await.unwrap();
            transaction.execute(lock).await.unwrap();
            outage(18.0).await;
            transaction.rollback().await.unwrap();
            outage(3.0).await;
        })
        .await;
        report.note(format!("{} texts not answered with 201", load.unanswered));
        oracle::check(report, &herald, &load.ids()).await;
        Verdict::Passed
    })
    .await;
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn a_long_lock_on_the_runs_delays_them_only() {
    let done = "an exclusive lock on engine.run for 18 s, longer than lock_timeout, with the default lease of 10 s";
    long_lock("23a", done, "lock table engine.run in access exclusive mode", "10").await;
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn a_long_lock_on_the_notifications_delays_them_only() {
    let done = "an exclusive lock on notifications for 18 s, with the default lease of 10 s";
    long_lock("23b", done, "lock table notifications in exclusive mode", "10").await;
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn a_long_lock_under_a_long_lease_delays_them_only() {
    let done = "an exclusive lock on notifications for 18 s, with a lease of 30 s";
    long_lock("23c", done, "lock table notifications in exclusive mode", "30").await;
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn a_missing_partition_and_one_without_statistics_stop_nothing() {
    fault("24", "today's partitions are missing, made again while the default ones fill, and no table was ever analysed", async |report| {
        let herald = herald().await;
        let client = Client::live(&herald);
        herald
            .database
            .execute(
                "do $$ declare t text; begin
                 for t in select inhrelid::regclass from pg_inherits join pg_class c on c.oid = inhrelid
                          where inhparent in ('engine.journal'::regclass, 'engine.signal'::regclass) and relname !~ 'default'
                 loop execute 'drop table ' || t; end loop; end $$",
            )
            .await
            .unwrap();
        let _worker = herald.worker();
        let (load, ()) = load_while(&client, 60, async {
            outage(5.0).await;
            let _beat = herald.role_with(&["beat"], &[]);
            outage(5.0).await;
        })
        .await;
        let strays = count(&herald, "select count(distinct run_id) from engine.journal_default").await;
        let days = count(&herald, "select count(*) from pg_inherits where inhparent = 'engine.journal'::regclass").await;
        report.note(format!("{strays} runs in the default partition; {} partitions made meanwhile", days - 1));
        oracle::check(report, &herald, &load.ids()).await;
        assert!(days >= 8, "the partitions of the days ahead were not made");
        Verdict::Passed
    })
    .await;
}
