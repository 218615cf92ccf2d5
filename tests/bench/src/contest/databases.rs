//! A database for each contestant, prepared once, and a fresh copy of it for each trial.

use anyhow::{Context, ensure};

use super::processes;
use crate::{database::Database, peers::Contestant};

/// What is in the database before the trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Base {
    Empty,
    /// Many runs wait, and more have finished: of Herald only.
    Full,
}

const WAITING: u32 = 1_000_000;
const FINISHED: u32 = 5_000_000;

pub struct Databases {
    admin: Database,
    /// With the database's name left out.
    server: String,
}

impl Databases {
    pub async fn connect(url: &str) -> anyhow::Result<Self> {
        let (server, _) = url.rsplit_once('/').context("the server's address names a database")?;
        Ok(Self {
            admin: Database::connect(url).await?,
            server: server.to_owned(),
        })
    }

    pub async fn setting(&self, name: &str) -> anyhow::Result<String> {
        self.admin.value(&format!("select current_setting('{name}')")).await
    }

    pub async fn prepare(&self, peer: &Contestant) -> anyhow::Result<()> {
        let name = base_name(peer, Base::Empty);
        self.admin.execute(&format!("create database {name}")).await?;
        processes::finish(peer, &["prepare", &self.url(&name)]).await?;
        // So that autovacuum has nothing to do there while others are measured: its log is counted with theirs.
        Database::connect(&self.url(&name))
            .await?
            .execute("vacuum analyze")
            .await
    }

    pub async fn prepare_full(&self, peer: &Contestant) -> anyhow::Result<()> {
        let (from, name) = (base_name(peer, Base::Empty), base_name(peer, Base::Full));
        self.admin
            .execute(&format!("create database {name} template {from}"))
            .await?;
        let database = Database::connect(&self.url(&name)).await?;
        fill_with_history(&database).await?;
        database.execute("vacuum analyze").await
    }

    /// A fresh copy, and its address.
    pub async fn copy(&self, peer: &Contestant, base: Base) -> anyhow::Result<String> {
        self.admin.execute("drop database if exists trial with (force)").await?;
        let strategy = if base == Base::Full { "file_copy" } else { "wal_log" };
        let from = base_name(peer, base);
        self.admin
            .execute(&format!("create database trial template {from} strategy {strategy}"))
            .await?;
        Ok(self.url("trial"))
    }

    fn url(&self, database: &str) -> String {
        format!("{}/{database}", self.server)
    }
}

fn base_name(peer: &Contestant, base: Base) -> String {
    let name: String = peer
        .name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    format!("base_{name}_{base:?}").to_lowercase()
}

/// Runs of Herald's engine that wait for a signal for days yet, and the journals of those and of finished runs, all
/// begun today: the tables and the partition that a trial writes to.
async fn fill_with_history(database: &Database) -> anyhow::Result<()> {
    let total = WAITING + FINISHED;
    let id = format!(
        "(lpad(to_hex((extract(epoch from date_trunc('day', now()) + n * (now() - date_trunc('day', now())) / {total})
                       * 1000)::bigint), 12, '0')
          || '7' || substr(md5(n::text), 1, 3) || 'a' || substr(md5(n::text), 4, 15))::uuid"
    );
    let waits = format!("n % {} = 0", total / WAITING);
    database
        .execute(&format!(
            "insert into engine.run (id, workflow, queue, state, due_at, waits_for, input)
             select {id}, 'story', 'bench', 'waiting', now() + interval '1 day' + n * interval '1 second', 'answer', '{{}}'
             from generate_series(1, {total}) n where {waits};
             insert into engine.journal (run_id, seq, epoch, events)
             select {id}, 1, 1, case when {waits}
                 then '[{{\"event\": \"waiting\", \"step\": \"answer\", \"patience_ms\": 600000}}]'::jsonb
                 else '[{{\"event\": \"finished\"}}]'::jsonb end
             from generate_series(1, {total}) n"
        ))
        .await?;
    let waiting: i64 = database.value("select count(*) from engine.run").await?;
    ensure!(waiting == i64::from(WAITING), "{waiting} runs wait, not {WAITING}");
    Ok(())
}
