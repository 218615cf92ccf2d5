//! What Postgres counted.

use std::{ops::Sub, time::Duration};

use anyhow::bail;
use tokio_postgres::{Client, NoTls, types::FromSql};

pub struct Database(Client);

/// Since the server's start; or, after a subtraction, for one piece of work.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    pub commits: f64,
    /// Bytes of write-ahead log, of the whole cluster.
    pub wal: f64,
    /// Versions of rows written: inserts, updates and deletes.
    pub versions: f64,
}

impl Sub for Counters {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            commits: self.commits - earlier.commits,
            wal: self.wal - earlier.wal,
            versions: self.versions - earlier.versions,
        }
    }
}

impl Counters {
    /// For each of `count` messages or runs.
    pub fn per(self, count: usize) -> Self {
        let count = count as f64;
        Self {
            commits: self.commits / count,
            wal: self.wal / count,
            versions: self.versions / count,
        }
    }
}

impl Database {
    pub async fn connect(url: &str) -> anyhow::Result<Self> {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        tokio::spawn(connection);
        Ok(Self(client))
    }

    /// Commits that wrote something are not told apart from those that only read.
    pub async fn counters(&self) -> anyhow::Result<Counters> {
        // Sessions report what they did once a second.
        tokio::time::sleep(Duration::from_millis(1200)).await;
        let row = self
            .0
            .query_one(
                "select xact_commit::float8, pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8,
                        (select coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::float8 from pg_stat_user_tables)
                 from pg_stat_database where datname = current_database()",
                &[],
            )
            .await?;
        Ok(Counters {
            commits: row.get(0),
            wal: row.get(1),
            versions: row.get(2),
        })
    }

    /// Versions of rows that nobody can see any more and no vacuum has removed yet.
    pub async fn dead_versions(&self) -> anyhow::Result<i64> {
        let sql = "select coalesce(sum(n_dead_tup), 0)::bigint from pg_stat_user_tables";
        Ok(self.0.query_one(sql, &[]).await?.get(0))
    }

    /// One statement, or several, without parameters or answer.
    pub async fn execute(&self, sql: &str) -> anyhow::Result<()> {
        Ok(self.0.batch_execute(sql).await?)
    }

    /// The one value that a statement answers.
    pub async fn value<T: for<'a> FromSql<'a>>(&self, sql: &str) -> anyhow::Result<T> {
        Ok(self.0.query_one(sql, &[]).await?.try_get(0)?)
    }

    pub async fn forget_messages(&self) -> anyhow::Result<()> {
        // In the order in which batches come by them: workers may be at it.
        self.execute("truncate engine.run, engine.signal, engine.journal, notifications; checkpoint")
            .await
    }

    /// The texts that were sent, with who took them.
    pub async fn sent(&self) -> anyhow::Result<Vec<(String, String)>> {
        let sql = "select id::text, sent_by from notifications where notification_status = 'sending'";
        let rows = self.0.query(sql, &[]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// Waits until so many messages are in this status.
    pub async fn until(&self, status: &str, messages: usize) -> anyhow::Result<()> {
        let messages = i64::try_from(messages)?;
        let mut found = 0;
        for _ in 0..3000 {
            let sql = "select count(*) from notifications where notification_status = $1";
            found = self.0.query_one(sql, &[&status]).await?.get(0);
            if found == messages {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("only {found} of {messages} texts became {status}")
    }
}
