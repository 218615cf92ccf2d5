//! How the program stands what comes from outside: receipts, a flood of them, and a provider that begins to fail.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::json;

use crate::{
    herald::Herald,
    load::{self, Ask},
};

const ROUNDS: usize = 3;

/// Texts whose receipts are kept back.
const TEXTS: usize = 20_000;

/// A stub that does not send any.
const NO_RECEIPTS: &str = "86400000-86400001";

/// Of the flood: its ratio varies by a fifth from one to the next.
const FLOOD_ROUNDS: usize = 9;

/// New texts a second beside a flood, and how much more receipts there are.
const SENDS: f64 = 50.0;
const TIMES: f64 = 20.0;

/// For so long.
const SECONDS: f64 = 20.0;

/// Receipts of texts that wait for them.
pub async fn receipts(herald: &Herald) -> anyhow::Result<()> {
    let _workers = herald.start_workers(NO_RECEIPTS).await?;
    println!("\n{TEXTS} receipts over 64 connections, of texts that wait for them");
    println!(
        "{:>12} {:>12} {:>10} {:>10}",
        "accepted/s", "settled/s", "p50 ms", "p99 ms"
    );
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let receipts = receipts_of(herald, TEXTS).await?;
        let began = Instant::now();
        let accepted = load::each(herald, receipts, 64).await?;
        herald.database.until("delivered", TEXTS).await?;
        let settled = TEXTS as f64 / began.elapsed().as_secs_f64();
        rounds.push((
            settled,
            accepted.rate(),
            accepted.percentile(0.5),
            accepted.percentile(0.99),
        ));
    }
    rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (settled, accepted, p50, p99) = rounds[ROUNDS / 2];
    println!("{accepted:>12.0} {settled:>12.0} {p50:>10.2} {p99:>10.2}");
    Ok(())
}

/// Sends texts, and makes the receipts that their providers owe.
async fn receipts_of(herald: &Herald, texts: usize) -> anyhow::Result<Vec<Ask>> {
    herald.database.forget_messages().await?;
    load::so_many(herald, &Ask::send_text(), 64, texts).await?;
    herald.database.until("sending", texts).await?;
    let sent = herald.database.sent().await?;
    Ok(sent.iter().map(|(id, sent_by)| Ask::receipt(id, sent_by)).collect())
}

/// New texts, alone and beside twenty times as many receipts: from acceptance to the provider's yes, on record.
pub async fn flood(herald: &Herald) -> anyhow::Result<()> {
    let _workers = herald.start_workers(NO_RECEIPTS).await?;
    println!("\n{SENDS} texts a second for {SECONDS} s, alone and beside {TIMES} times as many receipts");
    println!(
        "{:>12} {:>12} {:>8} {:>14}",
        "p95 ms alone", "p95 ms beside", "ratio", "receipts/s"
    );
    let mut rounds = Vec::new();
    for _ in 0..FLOOD_ROUNDS {
        let receipts = receipts_of(herald, (SENDS * TIMES * SECONDS) as usize).await?;
        let texts = || vec![Ask::send_text(); (SENDS * SECONDS) as usize];
        let alone = waits(herald, async {
            load::paced(herald, texts(), 8, SENDS).await?;
            Ok(0.0)
        })
        .await?;
        let beside = waits(herald, async {
            let sends = load::paced(herald, texts(), 8, SENDS);
            let flood = load::paced(herald, receipts, 32, SENDS * TIMES);
            let (_, flood) = tokio::try_join!(sends, flood)?;
            Ok(flood.rate())
        })
        .await?;
        rounds.push((beside.0 / alone.0, alone.0, beside.0, beside.1));
    }
    rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (ratio, alone, beside, rate) = rounds[FLOOD_ROUNDS / 2];
    println!("{alone:>12.1} {beside:>12.1} {ratio:>8.2} {rate:>14.0}");
    let ratios: Vec<String> = rounds.iter().map(|round| format!("{:.2}", round.0)).collect();
    println!("The ratios of all rounds: {}", ratios.join(", "));
    Ok(())
}

/// The 95th percentile, in milliseconds, of how long texts that are accepted meanwhile wait until they are sent.
async fn waits(herald: &Herald, meanwhile: impl Future<Output = anyhow::Result<f64>>) -> anyhow::Result<(f64, f64)> {
    let database = &herald.database;
    let before: String = database.value("select (now() at time zone 'utc')::text").await?;
    let told = meanwhile.await?;
    let of_these = format!("from notifications where created_at > '{before}'");
    let began = Instant::now();
    while database
        .value::<i64>(&format!("select count(*) {of_these} and sent_at is null"))
        .await?
        > 0
    {
        if began.elapsed() > Duration::from_secs(60) {
            bail!("some texts were not sent within a minute");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let p95 = "percentile_cont(0.95) within group (order by extract(epoch from sent_at - created_at) * 1000)::float8";
    Ok((database.value(&format!("select {p95} {of_these}")).await?, told))
}

/// From the moment at which one provider answers with errors only, until nine of ten texts go to the other at once.
pub async fn switch(herald: &Herald) -> anyhow::Result<()> {
    let _workers = herald.start_workers("100-300").await?;
    println!("\nFiretext begins to answer with 503, under {SENDS} texts a second");
    println!("{:>24} {:>14}", "seconds to 90 % on MMG", "texts delayed");
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        herald.database.forget_messages().await?;
        herald.database.execute(EVEN).await?;
        // Processes remember weights for a while.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let load = load::paced(herald, vec![Ask::send_text(); (SENDS * SECONDS) as usize], 8, SENDS);
        let failing = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            let since: String = herald.database.value("select clock_timestamp()::text").await?;
            herald.set_faults("firetext", &json!({"status": 503})).await?;
            Ok::<_, anyhow::Error>(since)
        };
        let (_, since) = tokio::try_join!(load, failing)?;
        let seconds = first_choices_are_elsewhere_after(herald, &since).await?;
        herald.set_faults("firetext", &json!({})).await?;
        herald.database.until("delivered", (SENDS * SECONDS) as usize).await?;
        let delayed = "select count(*) from notifications where sent_at - created_at > interval '1 second'";
        let delayed: i64 = herald.database.value(delayed).await?;
        rounds.push((seconds, delayed));
    }
    rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (seconds, delayed) = rounds[ROUNDS / 2];
    println!("{seconds:>24.1} {delayed:>14}");
    Ok(())
}

/// Weights as in quiet times, and nothing remembered of earlier rounds.
const EVEN: &str = "truncate provider_traffic, provider_alerts;
    delete from provider_details_history where version > 1;
    update provider_details set priority = 50, updated_at = null, pinned = false, version = 1 where notification_type = 'sms'";

/// From when on nine of ten first attempts of each whole second go to MMG, in seconds. Repetitions do not count: those of
/// what Firetext refuses go to MMG whatever the weights are.
async fn first_choices_are_elsewhere_after(herald: &Herald, since: &str) -> anyhow::Result<f64> {
    let database = &herald.database;
    let choices = format!(
        "create temporary table choice as
         select extract(epoch from j.at - '{since}')::float8 as at, e -> 'plan' -> 'send' ->> 'sent_by' as provider
         from engine.journal j, jsonb_array_elements(j.events) e
         where e ->> 'event' = 'intent' and e ->> 'attempt' = '1' and j.at > '{since}'"
    );
    database.execute(&choices).await.context("the choices")?;
    let after = "
        select coalesce(max(second) + 0.1, 0)::float8 from generate_series(0, 60, 0.1) second
        where second + 1 < (select max(at) from choice)
            and (select count(*) filter (where provider = 'mmg') < 0.9 * count(*)
                from choice where at >= second and at < second + 1)";
    let after: f64 = database.value(after).await?;
    let last: f64 = database.value("select max(at) from choice").await?;
    database.execute("drop table choice").await?;
    if after + 2.0 > last {
        bail!("Firetext still got texts {last:.0} s later");
    }
    Ok(after)
}
