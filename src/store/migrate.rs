//! Brings a database to this version of the program.

use sqlx::{PgConnection, PgPool, migrate::Migrator, postgres::PgPoolOptions};

use crate::Result;

/// Every file of `migrations/`, compiled in.
pub static MIGRATOR: Migrator = sqlx::migrate!("../../migrations");

/// Applies what is missing. Processes that start together wait for each other: sqlx holds an advisory lock of the
/// database meanwhile. Each file is a transaction of its own.
///
/// A database that is newer than this program is left as it is: migrations only add, and a deploy that is rolled back
/// begins with this.
pub async fn migrate(pool: &PgPool) -> Result<()> {
    let mut migrator = Migrator::with_migrations(MIGRATOR.iter().cloned().collect());
    // A connection of its own, on which locks are waited for longer than statements of every day may.
    let patient = pool
        .connect_options()
        .as_ref()
        .clone()
        .options([("lock_timeout", "30s")]);
    let pool = PgPoolOptions::new().max_connections(1).connect_with(patient).await?;
    migrator.set_ignore_missing(true).run(&pool).await?;
    pool.close().await;
    Ok(())
}

/// How many migrations of this version the database lacks.
pub async fn missing(conn: &mut PgConnection) -> Result<usize> {
    let known: bool = sqlx::query_scalar("select to_regclass('_sqlx_migrations') is not null")
        .fetch_one(&mut *conn)
        .await?;
    let applied: Vec<i64> = if known {
        sqlx::query_scalar("select version from _sqlx_migrations where success")
            .fetch_all(conn)
            .await?
    } else {
        Vec::new()
    };
    Ok(MIGRATOR
        .iter()
        .filter(|known| !applied.contains(&known.version))
        .count())
}

/// The last migration that this database has, none if it has none. Not checked at build time: sqlx makes the table.
pub async fn schema_version(conn: &mut PgConnection) -> Result<Option<i64>> {
    Ok(
        sqlx::query_scalar("select max(version) from _sqlx_migrations where success")
            .fetch_one(conn)
            .await?,
    )
}
