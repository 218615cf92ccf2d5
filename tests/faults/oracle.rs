//! What must hold after every fault. It is one for all of them, and is never loosened for any.
//!
//! Every accepted message is in exactly one terminal status (I1); the phone got it once, and once more at most for each
//! repetition that the journal has on record (I2); a status never went back (I3); no row of the journal was written
//! by a claim that did not hold the run at that moment (I4), and none came before the time that was on record (I5).
//! Where services are called: in order, or on record (I10).

use std::{collections::HashMap, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::Executor;
use uuid::Uuid;

use super::report::Report;
use crate::callbacks::{sequence, undeliverable};
use crate::harness::{Client, Database, Herald, eventually_within};

/// Within this time after a fault every backlog of these tests has to be gone, by itself (I8).
const DRAINED: Duration = Duration::from_secs(90);

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Tally {
    pub accepted: usize,
    /// Messages that arrived, repetitions included.
    pub phone: usize,
    /// Repetitions on record.
    pub resent: usize,
}

/// Has every forbidden change noted at the moment it happens. To be called before there is load.
pub async fn watch(database: &Database) {
    (**database).execute(include_str!("witness.sql")).await.unwrap();
}

/// Waits until everything is settled, and checks the oracle. `accepted` were answered with 201.
pub async fn check(report: &Report, herald: &Herald, accepted: &[String]) {
    check_within(DRAINED, report, herald, accepted).await;
}

/// As [`check`], with a time of its own for the backlog to drain.
pub async fn check_within(patience: Duration, report: &Report, herald: &Herald, accepted: &[String]) {
    settled(patience, report, herald, accepted, &HashMap::new()).await;
}

/// As [`check`], where people ended some messages before they were delivered: each of those has exactly this status.
pub async fn check_ended(report: &Report, herald: &Herald, accepted: &[String], ended: &HashMap<Uuid, String>) {
    settled(DRAINED, report, herald, accepted, ended).await;
}

async fn settled(
    patience: Duration,
    report: &Report,
    herald: &Herald,
    accepted: &[String],
    ended: &HashMap<Uuid, String>,
) {
    let drained = drained(patience, &herald.database);
    let drained = futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(drained)).await;
    let phone = phone(herald).await;
    let resent = resent(&herald.database).await;
    report.tally(Tally {
        accepted: accepted.len(),
        phone: phone.values().sum(),
        resent: resent.values().sum(),
    });
    if drained.is_err() {
        panic!(
            "not settled {} s after the fault: {}",
            patience.as_secs(),
            whereabouts(&herald.database).await
        );
    }
    each_is_settled_and_arrived_as_recorded(&herald.database, accepted, ended, &phone, &resent).await;
    the_journal_is_whole(&herald.database).await;
    let set_aside: i64 = sqlx::query_scalar("select count(*) from engine.run where state = 'failed'")
        .fetch_one(&*herald.database)
        .await
        .unwrap();
    assert_eq!(
        set_aside,
        0,
        "runs were set aside and wait for a human (I8): {}",
        whereabouts(&herald.database).await
    );
}

/// Of the calls that an endpoint took, in order: their numbers grow, a repetition bears the same id, and what is missing is
/// undeliverable (I10). Says how many there were.
pub async fn services_were_told(herald: &Herald, calls: &[Value]) -> usize {
    let taken: Vec<&Value> = calls.iter().filter(|call| call["status"] == 204).collect();
    let numbers: Vec<usize> = taken.iter().map(|call| sequence(call)).collect();
    assert!(numbers.is_sorted(), "calls came out of order (I10): {numbers:?}");
    let mut known = HashMap::new();
    for call in &taken {
        let id = &call["headers"]["webhook-id"];
        assert_eq!(
            *known.entry(sequence(call)).or_insert(id),
            id,
            "one event has two ids (I10)"
        );
    }
    let last: i64 = sqlx::query_scalar("select coalesce(max(last), 0) from service_callback_sequence")
        .fetch_one(&*herald.database)
        .await
        .unwrap();
    let undeliverable: Vec<i64> = undeliverable(herald)
        .await
        .into_iter()
        .map(|(number, _)| number)
        .collect();
    let lost: Vec<i64> = (1..=last)
        .filter(|number| !known.contains_key(&usize::try_from(*number).unwrap()) && !undeliverable.contains(number))
        .collect();
    assert!(lost.is_empty(), "events were neither told nor given up (I10): {lost:?}");
    taken.len()
}

async fn drained(patience: Duration, database: &Database) {
    let unsettled =
        "select exists (select from notifications where notification_status in ('created', 'sending', 'pending'))
         or exists (select from engine.run where state <> 'failed')";
    eventually_within(patience, "everything is settled", || async {
        let unsettled: bool = sqlx::query_scalar(unsettled).fetch_one(&**database).await.ok()?;
        (!unsettled).then_some(())
    })
    .await;
}

async fn each_is_settled_and_arrived_as_recorded(
    database: &Database,
    accepted: &[String],
    ended: &HashMap<Uuid, String>,
    phone: &HashMap<Uuid, usize>,
    resent: &HashMap<Uuid, usize>,
) {
    let rows: Vec<(Uuid, String)> = sqlx::query_as("select id, notification_status::text from notifications")
        .fetch_all(&**database)
        .await
        .unwrap();
    let status: HashMap<Uuid, String> = rows.into_iter().collect();
    let missing = accepted.iter().filter(|id| !status.contains_key(&id.parse().unwrap()));
    assert_eq!(missing.count(), 0, "accepted messages are missing (I1)");
    // Those whose 201 was lost on the way count as well.
    for (id, status) in &status {
        let got = phone.get(id).copied().unwrap_or(0);
        let allowed = 1 + resent.get(id).copied().unwrap_or(0);
        assert!(
            got <= allowed,
            "{id} reached the phone {got} times, of which {allowed} are on record (I2)"
        );
        assert!(
            got > 0 || status != "delivered",
            "{id} is delivered, and the phone has not got it (I1)"
        );
    }
    let strangers = phone.keys().filter(|id| !status.contains_key(id)).count();
    assert_eq!(strangers, 0, "the phone got messages that nobody has accepted (I1)");
    let expected = |id: &Uuid| ended.get(id).map_or("delivered", String::as_str);
    let failed = status.iter().filter(|(id, status)| *status != expected(id)).count();
    assert_eq!(
        failed,
        0,
        "messages to a good number failed (I1): {}",
        whereabouts(database).await
    );
}

async fn the_journal_is_whole(database: &Database) {
    let gaps: i64 = sqlx::query_scalar(
        "select count(*) from (
             select seq, row_number() over w as place, epoch, lag(epoch) over w as before
             from engine.journal window w as (partition by run_id order by seq)) j
         where seq <> place or epoch < before",
    )
    .fetch_one(&**database)
    .await
    .unwrap();
    assert_eq!(
        gaps, 0,
        "the journal has gaps, or was written by a claim that had ended (I4)"
    );
    let offences: Vec<String> = sqlx::query_scalar("select what from witness.offence order by at limit 5")
        .fetch_all(&**database)
        .await
        .unwrap();
    assert!(
        offences.is_empty(),
        "the witness saw (I3, I4, I5): {}",
        offences.join("; ")
    );
}

/// Messages that arrived, by id.
async fn phone(herald: &Herald) -> HashMap<Uuid, usize> {
    let mut phone = HashMap::new();
    for message in Client::live(herald).whole_phone().await {
        let reference = message["reference"].as_str().unwrap().parse().unwrap();
        *phone.entry(reference).or_default() += 1;
    }
    phone
}

/// How many times each was sent again on record.
async fn resent(database: &Database) -> HashMap<Uuid, usize> {
    let rows: Vec<(Uuid, i64)> = sqlx::query_as(
        "select run_id, count(*) from engine.journal, jsonb_array_elements(events) e
         where e ->> 'event' = 'resent' group by run_id",
    )
    .fetch_all(&**database)
    .await
    .unwrap();
    rows.into_iter()
        .map(|(run, times)| (run, usize::try_from(times).unwrap()))
        .collect()
}

/// How many messages are in each status, and runs in each state and why: for reports of failures.
pub async fn whereabouts(database: &Database) -> String {
    let statuses: Vec<String> = sqlx::query_scalar(
        "select count(*) || ' ' || notification_status from notifications group by notification_status order by 1",
    )
    .fetch_all(&**database)
    .await
    .unwrap();
    let runs: Vec<String> = sqlx::query_scalar(
        "select format('%s %s in %s due in %s s (%s)', count(*), state, queue,
                    case when isfinite(min(due_at)) then extract(epoch from min(due_at) - now())::int::text else 'no' end,
                    coalesce(min(last_error), 'no error'))
         from engine.run group by state, queue order by 1",
    )
    .fetch_all(&**database)
    .await
    .unwrap();
    format!("messages: {}; runs: {}", statuses.join(", "), runs.join(", "))
}
