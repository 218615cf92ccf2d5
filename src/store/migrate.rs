//! Brings a database to this version of the program.

use sqlx::{PgConnection, PgPool, migrate::Migrator};

use crate::Result;

/// Every file of `migrations/`, compiled in.
pub static MIGRATOR: Migrator = sqlx::migrate!("../../migrations");

/// Applies what is missing. Processes that start together wait for each other: sqlx holds an advisory lock of the
/// database meanwhile. Each file is a transaction of its own.
pub async fn migrate(pool: &PgPool) -> Result<()> {
    MIGRATOR.run(pool).await?;
    Ok(())
}

/// The last migration that this database has, none if it has none. Not checked at build time: sqlx makes the table.
pub async fn schema_version(conn: &mut PgConnection) -> Result<Option<i64>> {
    Ok(
        sqlx::query_scalar("select max(version) from _sqlx_migrations where success")
            .fetch_one(conn)
            .await?,
    )
}
