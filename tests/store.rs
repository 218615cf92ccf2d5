//! The rows behind the API: fixtures, sealed texts, and the moves that a notification may make.

mod fixture;
mod links;
mod lists;
mod notifications;
mod providers;
mod reads;
mod rows;
mod sealed;
mod settling;

use herald_store::sealed::{Key, Sealer};
use serde_json::Value;
use sqlx::PgPool;
use uuid::{Uuid, uuid};

use crate::harness;

/// The golden service that may do most.
const LIVE: Uuid = uuid!("84a88542-ec0e-44ab-953e-7e23bc0da033");

fn sealer() -> Sealer {
    Sealer::new(Key::new("test", &[7; 32]).unwrap(), Vec::new())
}

fn golden() -> Value {
    let file: Value = serde_json::from_str(include_str!("golden/api_v2.json")).unwrap();
    file["fixture"].clone()
}

async fn with_golden_fixture() -> harness::Database {
    let pool = harness::database().await;
    let mut conn = pool.acquire().await.unwrap();
    herald_store::fixture::load(&mut conn, &golden().to_string(), &sealer())
        .await
        .unwrap();
    pool
}

/// Every row of every table of ours, as one text.
async fn everything(pool: &PgPool) -> String {
    let tables: Vec<String> = sqlx::query_scalar(
        "select table_name::text from information_schema.tables
         where table_schema = 'public' and table_type = 'BASE TABLE' order by 1",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    let mut all = String::new();
    for table in tables {
        let rows = format!("select coalesce(string_agg(t::text, '\n' order by t::text), '') from public.\"{table}\" t");
        let rows: String = sqlx::query_scalar(sqlx::AssertSqlSafe(rows))
            .fetch_one(pool)
            .await
            .unwrap();
        all += &format!("{table}\n{rows}\n");
    }
    all
}
