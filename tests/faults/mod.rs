//! Faults against the built program's processes, counted at the phone. Each test is a line of the fault list, reports
//! itself in a line ([`report`]), and ends with the same [`oracle`]. `make faults` plays them all.

mod agreement;
mod answers;
mod callbacks;
mod cancelling;
mod coordination;
mod database;
mod database_errors;
mod leases;
mod limits;
mod load;
mod network;
mod oracle;
mod process;
mod providers;
mod receipts;
mod report;
mod results;
mod scale;
mod time;
mod versions;
mod waking;

use crate::harness::{Client, Cluster, Database, Herald, eventually};

/// The API and the outside world, with a witness in the database; nothing works on what is accepted yet.
async fn herald() -> Herald {
    let herald = Herald::start_without_workers().await;
    oracle::watch(&herald.database).await;
    herald
}

/// As [`herald`], on a Postgres of its own that the test may stop. Processes end before their database.
struct Private {
    herald: Herald,
    cluster: Cluster,
}

async fn private(settings: &[&str]) -> Private {
    let cluster = Cluster::start(settings).await;
    let herald = Herald::start_on(Database::in_cluster(&cluster.url).await).await;
    oracle::watch(&herald.database).await;
    Private { herald, cluster }
}

async fn count(herald: &Herald, sql: &'static str) -> usize {
    let count: i64 = sqlx::query_scalar(sql).fetch_one(&*herald.database).await.unwrap();
    usize::try_from(count).unwrap()
}

/// Waits until this query counts as many.
async fn until(herald: &Herald, what: &str, sql: &'static str, enough: impl Fn(usize) -> bool) {
    eventually(what, || async { enough(count(herald, sql).await).then_some(()) }).await;
}

/// Waits until so many messages are at the phone.
async fn until_at_the_phone(client: &Client<'_>, enough: usize) {
    eventually(&format!("{enough} messages are at the phone"), || async {
        (client.phone_count().await >= enough).then_some(())
    })
    .await;
}

/// Sets the stub's faults for both providers of texts.
async fn providers(client: &Client<'_>, faults: serde_json::Value) {
    client.faults("firetext", &faults).await;
    client.faults("mmg", &faults).await;
}
