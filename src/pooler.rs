//! What stands between the program and Postgres. A pooler that lends out a connection for one transaction at a time, as
//! PgBouncer does in transaction mode, must know prepared statements (PgBouncer 1.21 does), and cannot pass on LISTEN.

use std::time::Duration;

use anyhow::{Context, bail};
use sqlx::{AssertSqlSafe, Connection, PgConnection, postgres::PgConnectOptions};
use uuid::Uuid;

/// A pooler that has no connection to lend answers late; then it stays unknown what it is.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a connection of ours is to Postgres.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sessions {
    /// Always the same connection.
    Own,
    /// Another one for each transaction.
    Lent,
}

/// Looks what is there.
///
/// # Errors
/// When it is a pooler that mixes up prepared statements, and when the database cannot be reached.
pub async fn check(options: &PgConnectOptions) -> anyhow::Result<Sessions> {
    let looked = tokio::time::timeout(PATIENCE, look(options)).await;
    let Ok(found) = looked else { return Ok(Sessions::Own) };
    match found.context("cannot reach the database of DATABASE_URL")? {
        Some(sessions) => Ok(sessions),
        None => bail!(
            "the pooler at DATABASE_URL mixes up prepared statements: use its session mode, or PgBouncer 1.21 or newer with max_prepared_statements"
        ),
    }
}

/// Repeats a prepared statement after a pooler was given a reason to change the connection beneath: the one that was
/// used last is lent first, and meanwhile that is another. None: it was not the same statement any more.
async fn look(options: &PgConnectOptions) -> sqlx::Result<Option<Sessions>> {
    let mut other = PgConnection::connect_with(options).await?;
    let mut own = PgConnection::connect_with(options).await?;
    // Others may have prepared something under the same name, even this statement: it is known by its answer.
    let mark = Uuid::now_v7();
    let statement = format!("select pg_backend_pid(), '{mark}'::uuid");
    let holding = other.begin().await?;
    let (first, _) = ask(&mut own, &statement).await?;
    holding.rollback().await?;
    let sessions = match ask(&mut own, &statement).await {
        Ok((second, same)) if same == mark && second == first => Some(Sessions::Own),
        Ok((_another, same)) if same == mark => Some(Sessions::Lent),
        Err(error @ sqlx::Error::Io(_)) => return Err(error),
        Ok(_) | Err(_) => None,
    };
    for conn in [own, other] {
        let _ = conn.close().await;
    }
    Ok(sessions)
}

/// Which process of Postgres answers, and with what.
async fn ask(conn: &mut PgConnection, statement: &str) -> sqlx::Result<(i32, Uuid)> {
    sqlx::query_as(AssertSqlSafe(statement)).fetch_one(conn).await
}
