//! A database that refuses, blocks or slows down statements, and what stands between it and the program.

use std::{
    fs,
    net::TcpListener,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use sqlx::{Executor, Postgres, Transaction};

use super::{
    Private, count, herald,
    load::{load_while, outage, send},
    oracle, private,
    report::{Verdict, fault},
    until, until_at_the_phone,
};
use crate::harness::{Client, Cluster, Database, Herald, account};

/// Throughput, in texts a second: the time from the first request until the phone has them all.
async fn burst(client: &Client<'_>, ids: &mut Vec<String>) -> f64 {
    const TEXTS: usize = 1_000;
    let before = client.phone_count().await;
    let since = Instant::now();
    ids.extend(send(client, TEXTS).await);
    until_at_the_phone(client, before + TEXTS).await;
    TEXTS as f64 / since.elapsed().as_secs_f64()
}

/// What some bursts of each showed, in pairs, since a machine that others use slows down both.
struct Bursts {
    /// Texts a second, medians.
    rates: [f64; 2],
    /// Of the rates of a pair the first by the second: the median.
    ratio: f64,
    /// What the first sent.
    ids: Vec<String>,
}

const PAIRS: usize = 15;

async fn bursts<'a>(clients: [&Client<'a>; 2]) -> Bursts {
    let mut ids = [const { Vec::new() }; 2];
    let mut rates = [const { Vec::new() }; 2];
    for pair in 0..PAIRS {
        // Each goes first as often as the other.
        for which in [pair % 2, (pair + 1) % 2] {
            rates[which].push(burst(clients[which], &mut ids[which]).await);
        }
    }
    let ratios = rates[0].iter().zip(&rates[1]).map(|(first, second)| first / second);
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let [ids, _] = ids;
    Bursts {
        ratio: median(ratios.collect()),
        rates: rates.map(median),
        ids,
    }
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
        let Bursts { rates: [pinned, free], ratio, ids } = bursts([&client, &free]).await;
        let dead = count(&herald, "select n_dead_tup from pg_stat_user_tables where relid = 'engine.run'::regclass").await;
        drop((idle, readers));
        report.note(format!(
            "{free:.0} texts a second without it, {pinned:.0} at the end of it ({:.0} %; medians of {PAIRS} pairs), with {dead} dead rows in engine.run",
            100.0 * ratio
        ));
        oracle::check(report, &herald, &[load.ids(), ids].concat()).await;
        assert!(ratio >= 0.9, "the rate fell to {:.0} %", 100.0 * ratio);
        Verdict::Passed
    })
    .await;
}

/// PgBouncer in transaction mode in front of a database.
struct Bouncer {
    process: std::process::Child,
    command: Command,
    settings: PathBuf,
    port: u16,
    url: String,
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.settings);
        self.stop();
    }
}

impl Bouncer {
    /// Tells so many prepared statements of each client apart; with none it hands them on as they come.
    fn start(program: &Path, url: &str, statements: u32) -> Self {
        let (start, folder) = url.split_once("?host=").unwrap();
        let port = start.rsplit(':').next().unwrap().split('/').next().unwrap();
        let own = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let file = std::env::temp_dir().join(format!("herald-bouncer-{own}.ini"));
        let settings = format!(
            "[databases]\nherald = host={} port={port} dbname=herald user=herald\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {own}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n\
             default_pool_size = 20\nmax_client_conn = 500\nignore_startup_parameters = options,extra_float_digits\n\
             max_prepared_statements = {statements}\n",
            folder.replace("%2F", "/"),
        );
        fs::write(&file, settings).unwrap();
        let mut command = Command::new(program);
        command.arg("--quiet").arg(&file).stderr(Stdio::null());
        if let Some((user, group)) = account() {
            command.uid(user).gid(group);
        }
        let mut bouncer = Self {
            process: command.spawn().unwrap(),
            command,
            settings: file,
            port: own,
            url: format!("postgres://herald@127.0.0.1:{own}/herald?sslmode=disable"),
        };
        bouncer.until_it_listens();
        bouncer
    }

    fn until_it_listens(&mut self) {
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self.process.try_wait().unwrap();
            assert!(ended.is_none(), "pgbouncer ended before it listened: {ended:?}");
            std::thread::yield_now();
        }
    }

    fn stop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    fn start_again(&mut self) {
        self.process = self.command.spawn().unwrap();
        self.until_it_listens();
    }
}

/// What a worker says that does not start behind it.
fn refusal(herald: &Herald, bouncer: &Bouncer) -> String {
    let refused = herald.command_with(&["worker", "--queues", "all"], &[("DATABASE_URL", &bouncer.url)]);
    assert!(!refused.status.success());
    String::from_utf8_lossy(&refused.stderr).into_owned()
}

#[tokio::test]
#[ignore = "a fault test: make faults"]
async fn a_pooler_in_transaction_mode_between_program_and_database_is_no_hindrance() {
    let done = "PgBouncer in transaction mode between the program's processes and Postgres, stopped and started again under load";
    fault("21", done, async |report| {
        let Some(program) = std::env::var_os("HERALD_POOLER").filter(|path| !path.is_empty()) else {
            return Verdict::Skipped("no PgBouncer of 1.21 or newer".to_owned());
        };
        let program = Path::new(&program);
        let version = Command::new(program).arg("--version").output().unwrap().stdout;
        report.note(
            String::from_utf8_lossy(&version)
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned(),
        );
        let cluster = Cluster::start(&[]).await;
        let herald = Herald::start_without_api(Database::in_cluster(&cluster.url).await).await;
        oracle::watch(&herald.database).await;
        let mixes_up = refusal(&herald, &Bouncer::start(program, &cluster.url, 0));
        assert!(mixes_up.contains("PgBouncer 1.21"), "{mixes_up}");
        let mut bouncer = Bouncer::start(program, &cluster.url, 200);
        let listens_nowhere = refusal(&herald, &bouncer);
        assert!(listens_nowhere.contains("DATABASE_DIRECT_URL"), "{listens_nowhere}");
        let url = bouncer.url.clone();
        let settings = [("DATABASE_URL", &*url), ("DATABASE_DIRECT_URL", &*cluster.url)];
        let _api = herald.api_with(&settings).await;
        let _worker = herald.worker_with("all", &settings);
        let client = Client::live(&herald);
        let (load, ()) = load_while(&client, 40, async {
            for _ in 0..3 {
                outage(3.0).await;
                bouncer.stop();
                outage(1.0).await;
                bouncer.start_again();
            }
            outage(3.0).await;
        })
        .await;
        until(
            &herald,
            "everything is delivered by a worker behind it",
            "select count(*) from notifications where notification_status <> 'delivered'",
            |left| left == 0,
        )
        .await;
        oracle::check(report, &herald, &load.ids()).await;
        Verdict::Passed
    })
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
