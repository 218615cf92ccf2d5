//! A real Postgres for the whole test run, and a database of its own for each test, copied from a migrated template.

use std::{
    io::{BufRead, BufReader},
    ops::Deref,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use sqlx::{
    Connection, Executor, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::sync::OnceCell;

static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
static NEXT: AtomicU32 = AtomicU32::new(0);

struct Cluster {
    url: String,
    /// Ends when this process does, because its standard input ends then.
    _server: Child,
}

/// A database that belongs to one test.
pub struct Database {
    pub url: String,
    pool: PgPool,
}

impl Deref for Database {
    type Target = PgPool;

    fn deref(&self) -> &PgPool {
        &self.pool
    }
}

/// A fresh, migrated database.
pub async fn database() -> Database {
    copy_of("herald_template").await
}

/// A fresh database without any table.
pub async fn empty_database() -> Database {
    copy_of("template1").await
}

async fn copy_of(template: &str) -> Database {
    let cluster = CLUSTER.get_or_init(start).await;
    let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let mut conn = PgConnection::connect(&cluster.url).await.unwrap();
    conn.execute(sqlx::AssertSqlSafe(format!(
        "create database {name} template {template}"
    )))
    .await
    .unwrap();
    Database::at(cluster.url.replace("/herald?", &format!("/{name}?"))).await
}

impl Database {
    /// A fresh, migrated database of a test's own cluster.
    pub async fn in_cluster(url: &str) -> Self {
        let mut conn = PgConnection::connect(url).await.unwrap();
        conn.execute("create database herald").await.unwrap();
        let database = Self::at(url.replace("/postgres?", "/herald?")).await;
        sqlx::migrate!().run(&database.pool).await.unwrap();
        database
    }

    async fn at(url: String) -> Self {
        let options: PgConnectOptions = url.parse().unwrap();
        let pool = PgPoolOptions::new()
            .max_connections(20)
            .connect_with(options)
            .await
            .unwrap();
        Self { url, pool }
    }
}

/// Cluster and template. The folder is a new one each time: a test run never meets what an earlier one left.
async fn start() -> Cluster {
    let dir = std::env::temp_dir().join(format!("herald-test-{}", std::process::id()));
    let mut server = Command::new(env!("CARGO_BIN_EXE_herald"))
        .args(["postgres", "--careless", "--temporary", "--dir"])
        .arg(&dir)
        .env("HERALD_SUPERVISED", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let url = lines.next().expect("the address of the database").unwrap();
    let mut conn = PgConnection::connect(&url).await.unwrap();
    conn.execute("create database herald_template").await.unwrap();
    let template: PgConnectOptions = url.replace("/herald?", "/herald_template?").parse().unwrap();
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .connect_with(template)
        .await
        .unwrap();
    sqlx::migrate!().run(&pool).await.unwrap();
    pool.close().await;
    Cluster { url, _server: server }
}
