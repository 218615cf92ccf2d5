//! What Postgres counted.

use std::{ops::Sub, time::Duration};

use anyhow::bail;
use tokio_postgres::{Client, NoTls};

pub struct Database(Client);

#[derive(Clone, Copy)]
pub struct Counters {
    commits: i64,
    wal: i64,
}

impl Sub for Counters {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self { commits: self.commits - earlier.commits, wal: self.wal - earlier.wal }
    }
}

impl Counters {
    /// Commits and bytes of write-ahead log, for each of `messages`.
    pub fn per(self, messages: usize) -> (f64, f64) {
        (self.commits as f64 / messages as f64, self.wal as f64 / messages as f64)
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
                "select xact_commit, pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint
                 from pg_stat_database where datname = current_database()",
                &[],
            )
            .await?;
        Ok(Counters { commits: row.get(0), wal: row.get(1) })
    }

    pub async fn forget_messages(&self) -> anyhow::Result<()> {
        Ok(self.0.batch_execute("truncate notifications; truncate engine.run, engine.journal, engine.signal; checkpoint").await?)
    }

    pub async fn until_delivered(&self, messages: usize) -> anyhow::Result<()> {
        let messages = i64::try_from(messages)?;
        let mut delivered = 0;
        for _ in 0..3000 {
            let sql = "select count(*) from notifications where notification_status = 'delivered'";
            delivered = self.0.query_one(sql, &[]).await?.get(0);
            if delivered == messages {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("only {delivered} of {messages} texts were delivered")
    }
}
