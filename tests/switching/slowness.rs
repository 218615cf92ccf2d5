//! Deliveries that are slow: steps that they cost a provider, and alerts.

use herald_engine::{BatchLimits, Client as Engine, NewRun, Submission};
use herald_workflows::switch_providers::{Occasion, SwitchProviders};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{execute, moves, weights};
use crate::harness::{Herald, eventually};

/// So many texts of a provider have been on their way for so long.
async fn on_their_way(herald: &Herald, provider: &str, texts: usize, minutes: f64) {
    let ids: Vec<Uuid> = (0..texts).map(|_| Uuid::now_v7()).collect();
    sqlx::query(
        r#"insert into notifications (id, "to", created_at, sent_at, sent_by, updated_at, template_version, key_type,
               notification_type, billable_units, notification_status)
           select id, '07700900123', t, t, $1, t, 1, 'normal', 'sms', 1, 'sending'
           from unnest($2::uuid[]) id, (select (now() at time zone 'utc') - $3 * interval '1 minute' as t) ago"#,
    )
    .bind(provider)
    .bind(ids)
    .bind(minutes)
    .execute(&*herald.database)
    .await
    .unwrap();
}

/// As a beat has it looked each minute for deliveries that are slow: so many times, each to its end.
async fn look_for_slowness(herald: &Herald, times: usize) {
    let engine = Engine::new(herald.database.clone(), BatchLimits::default());
    for _ in 0..times {
        let occasion = Occasion::SlowDelivery;
        let look = NewRun::of(&SwitchProviders { occasion }).unwrap();
        let id = look.id();
        engine.submit(Submission::new().start(look)).await.unwrap();
        eventually("it has looked", || async {
            let over = sqlx::query_scalar("select not exists (select from engine.run where id = $1)").bind(id);
            let over: bool = over.fetch_one(&*herald.database).await.unwrap();
            over.then_some(())
        })
        .await;
    }
}

async fn raised(herald: &Herald) -> Vec<String> {
    let raised = "select name from provider_alerts where raised order by name";
    sqlx::query_scalar(raised).fetch_all(&*herald.database).await.unwrap()
}

#[tokio::test]
async fn people_are_told_once_that_texts_are_slow_after_ten_looks_in_a_row() {
    let herald = Herald::start_without_workers().await;
    let log = std::env::temp_dir().join(format!("herald-log-{}", Uuid::new_v4()));
    let _worker = herald.worker_logging(&log, &[("HERALD_LOG", "warn")]);
    // Neither has 15 % slow ones, which cost it traffic; together they have more than 10 %.
    for provider in ["firetext", "mmg"] {
        on_their_way(&herald, provider, 87, 1.0).await;
        on_their_way(&herald, provider, 13, 6.0).await;
    }
    look_for_slowness(&herald, 9).await;
    execute(&herald, FASTER).await;
    look_for_slowness(&herald, 1).await;
    execute(&herald, AS_SLOW_AS_BEFORE).await;
    look_for_slowness(&herald, 9).await;
    assert_eq!(raised(&herald).await, Vec::<String>::new());
    look_for_slowness(&herald, 2).await;
    assert_eq!(raised(&herald).await, ["sms_delivery_slow"]);
    execute(&herald, FASTER).await;
    look_for_slowness(&herald, 1).await;
    assert_eq!(raised(&herald).await, Vec::<String>::new());
    let log = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told = lines
        .iter()
        .filter(|line| line["fields"]["alert"] == "sms_delivery_slow");
    assert_eq!(
        told.map(|line| line["level"].as_str().unwrap()).collect::<Vec<_>>(),
        ["ERROR", "WARN"]
    );
    assert_eq!((weights(&herald).await, moves(&herald).await), ((49, 51), vec![]));
}

/// What was slow was sent a moment ago; and back.
const FASTER: &str = "update notifications set sent_at = sent_at + interval '5 minutes'
    where sent_at < (now() at time zone 'utc') - interval '5 minutes'";
const AS_SLOW_AS_BEFORE: &str = "update notifications set sent_at = created_at";

#[tokio::test]
async fn while_both_are_slow_nothing_moves_and_people_are_told_and_once_one_is_well_it_gets_more() {
    let herald = Herald::start_without_workers().await;
    let _worker = herald.worker();
    for provider in ["firetext", "mmg"] {
        on_their_way(&herald, provider, 80, 1.0).await;
        on_their_way(&herald, provider, 20, 6.0).await;
    }
    look_for_slowness(&herald, 1).await;
    assert_eq!(raised(&herald).await, ["sms_providers_slow"]);
    assert_eq!((weights(&herald).await, moves(&herald).await), ((49, 51), vec![]));
    execute(
        &herald,
        "update notifications set sent_at = now() at time zone 'utc' where sent_by = 'firetext'",
    )
    .await;
    look_for_slowness(&herald, 1).await;
    assert_eq!(raised(&herald).await, Vec::<String>::new());
    assert_eq!(weights(&herald).await, (59, 41));
}

#[tokio::test]
async fn the_beat_takes_a_step_from_a_provider_whose_deliveries_are_slow() {
    let herald = Herald::start_without_workers().await;
    on_their_way(&herald, "firetext", 20, 1.0).await;
    on_their_way(&herald, "mmg", 17, 1.0).await;
    on_their_way(&herald, "mmg", 3, 6.0).await;
    execute(
        &herald,
        "insert into engine.schedule values ('leave_a_slow_provider', now() - interval '2 minutes')",
    )
    .await;
    let (_worker, _beat) = (herald.worker(), herald.beat());
    eventually("a step is taken", || async {
        (weights(&herald).await == (59, 41)).then_some(())
    })
    .await;
    let rule = "slow_delivery".to_owned();
    let (up, down) = (
        "Increased due to reduced reliability in other provider".to_owned(),
        "Reduced due to reduced reliability".to_owned(),
    );
    assert_eq!(
        moves(&herald).await,
        [
            ("firetext".to_owned(), 59, up, rule.clone()),
            ("mmg".to_owned(), 41, down, rule)
        ]
    );
    let numbers = "select numbers -> 'mmg' -> 'deliveries' from provider_details_history where identifier = 'mmg' and version = 2";
    let numbers: Value = sqlx::query_scalar(numbers).fetch_one(&*herald.database).await.unwrap();
    assert_eq!(numbers, json!({"total": 20, "slow": 3}));
    let made_by = "select distinct created_by_id from provider_details_history where version = 2";
    let made_by: Vec<Uuid> = sqlx::query_scalar(made_by).fetch_all(&*herald.database).await.unwrap();
    assert_eq!(made_by, [herald_store::NOTIFY_USER_ID]);
}
