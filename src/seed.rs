//! `herald seed FILE.json`: fills a database from a fixture.

use anyhow::Context;
use herald_store::sealed::Sealer;
use sqlx::PgPool;

/// Loads a fixture. Loading it again changes nothing.
pub async fn load(pool: &PgPool, json: &str, sealer: &Sealer) -> anyhow::Result<()> {
    let mut conn = pool.acquire().await?;
    herald_store::fixture::load(&mut conn, json, sealer).await?;
    Ok(())
}

pub async fn load_file(pool: &PgPool, file: &std::path::Path, sealer: &Sealer) -> anyhow::Result<()> {
    let json = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    load(pool, &json, sealer)
        .await
        .with_context(|| file.display().to_string())
}
