//! What a service may send in a minute and in a day: exactly where Postgres keeps it, as Notify does where Redis keeps it,
//! and whatever is wrong with Redis, nothing is held up by it.

use chrono::Utc;
use futures::future::join_all;
use redis::AsyncCommands;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use crate::harness::{Herald, Process, Redis, SMS_TEMPLATE, database, eventually, http, live_token};

const SERVICE: &str = "c1f0a1f6-6a57-4a4a-9d0e-6f3d9c1d7a11";

/// The outside world and a database with these limits of the development service; no API yet.
async fn limited(limits: &str) -> Herald {
    let herald = Herald::start_without_api(database().await).await;
    let sql = format!("update services set {limits} where id = '{SERVICE}'");
    sqlx::query(sqlx::AssertSqlSafe(sql))
        .execute(&*herald.database)
        .await
        .unwrap();
    herald
}

async fn with_redis(limits: &str) -> (Redis, Herald, Process) {
    let redis = Redis::start().await;
    let herald = limited(limits).await;
    let api = herald.api_with(&[("REDIS_URL", &redis.url)]).await;
    (redis, herald, api)
}

async fn send(url: &str, template: &str, number: &str) -> (StatusCode, Value) {
    let text = json!({"phone_number": number, "template_id": template, "personalisation": {"name": "Ada"}});
    let request = http()
        .post(format!("{url}/v2/notifications/sms"))
        .bearer_auth(live_token());
    let answer = request.json(&text).send().await.unwrap();
    (answer.status(), answer.json().await.unwrap())
}

async fn text(url: &str) -> (StatusCode, Value) {
    send(url, SMS_TEMPLATE, "07900900123").await
}

fn message(answer: &Value) -> &str {
    answer["errors"][0]["message"].as_str().unwrap()
}

#[tokio::test]
async fn not_one_message_beyond_the_daily_limit_is_accepted_and_none_less() {
    let herald = limited("sms_message_limit = 50").await;
    let _api = herald.api_with(&[]).await;
    let (_other, other) = herald.another_api().await;
    let urls = [&herald.base_url, &other];
    let nowhere = Uuid::nil().to_string();
    let good = join_all((0..100).map(|n| text(urls[n % 2])));
    let bad = join_all((0..100).map(|n| send(urls[n % 2], &nowhere, "07900900123")));
    let (good, bad) = futures::join!(good, bad);
    assert!(bad.iter().all(|(status, _)| !status.is_success()));
    let mut accepted = good.iter().filter(|(status, _)| *status == 201).count();
    assert!(accepted <= 50, "{accepted} were accepted at once");
    // What was refused for another reason gave its place back, or is about to.
    eventually("the limit is reached", || async {
        (count(&herald).await == 50 || text(urls[0]).await.0 == 429).then_some(())
    })
    .await;
    loop {
        match text(urls[1]).await {
            (StatusCode::CREATED, _) => accepted += 1,
            (_, answer) => {
                assert_eq!(message(&answer), "Exceeded send limits (sms: 50) for today");
                assert_eq!(answer["errors"][0]["error"], "TooManyRequestsError");
                if count(&herald).await == rows(&herald).await {
                    break;
                }
            }
        }
    }
    assert!(accepted <= 50);
    assert_eq!(rows(&herald).await, 50, "{accepted} were answered with 201");
}

async fn count(herald: &Herald) -> i64 {
    sqlx::query_scalar("select coalesce(sum(count), 0)::bigint from daily_counts where name = 'sms'")
        .fetch_one(&*herald.database)
        .await
        .unwrap()
}

async fn rows(herald: &Herald) -> i64 {
    sqlx::query_scalar("select count(*) from notifications")
        .fetch_one(&*herald.database)
        .await
        .unwrap()
}

#[tokio::test]
async fn the_rate_is_one_bucket_for_all_processes() {
    // A bucket of 11, of which one always stays; another token every two seconds.
    let herald = limited("rate_limit = 30").await;
    let _api = herald.api_with(&[]).await;
    let (_other, other) = herald.another_api().await;
    let urls = [&herald.base_url, &other];
    let since = Instant::now();
    let answers = join_all((0..60).map(|n| text(urls[n % 2]))).await;
    let more = since.elapsed().as_secs() / 2 + 1;
    let accepted = answers.iter().filter(|(status, _)| *status == 201).count() as u64;
    assert!(
        (10..=10 + more).contains(&accepted),
        "{accepted} were accepted, {more} tokens came meanwhile"
    );
    let (status, answer) = answers.iter().find(|(status, _)| *status != 201).unwrap();
    assert_eq!(*status, 429);
    assert_eq!(
        message(answer),
        "Exceeded rate limit for key type LIVE of 30 requests per 60 seconds"
    );
    assert_eq!(answer["errors"][0]["error"], "RateLimitError");
}

#[tokio::test]
async fn a_text_abroad_counts_as_such_too() {
    let herald = limited("international_sms_message_limit = 1").await;
    let _api = herald.api_with(&[]).await;
    let abroad = || send(&herald.base_url, SMS_TEMPLATE, "+33612345678");
    assert_eq!(abroad().await.0, 201);
    let (status, answer) = abroad().await;
    assert_eq!(
        (status.as_u16(), message(&answer)),
        (429, "Exceeded send limits (international_sms: 1) for today")
    );
    assert_eq!(text(&herald.base_url).await.0, 201);
}

#[tokio::test]
async fn redis_holds_what_notify_would_hold_there() {
    let (redis, herald, _api) = with_redis("rate_limit = 6, sms_message_limit = 1000").await;
    let mut kept = redis.connect().await;
    let (bucket, day) = (
        format!("{SERVICE}-tokens-normal"),
        format!("{SERVICE}-sms-{}-count", Utc::now().date_naive()),
    );
    assert_eq!(text(&herald.base_url).await.0, 201);
    let bytes: Vec<u8> = kept.get(&bucket).await.unwrap();
    assert_eq!(bytes.len(), 12);
    let at = f64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert!((at - Utc::now().timestamp() as f64).abs() < 60.0, "{at}");
    assert_eq!(
        i32::from_le_bytes(bytes[8..].try_into().unwrap()),
        2,
        "three in the bucket, one taken"
    );
    assert_eq!(kept.ttl::<_, i64>(&bucket).await.unwrap(), -1);
    eventually("the text is counted", || {
        let (mut kept, day) = (kept.clone(), day.clone());
        async move { (kept.get::<_, Option<String>>(day).await.unwrap().as_deref() == Some("1")).then_some(()) }
    })
    .await;
    assert!((1..=86_400).contains(&kept.ttl::<_, i64>(&day).await.unwrap()));

    // What another program has written counts.
    let mut packed = (Utc::now().timestamp_millis() as f64 / 1000.0).to_le_bytes().to_vec();
    packed.extend(1_i32.to_le_bytes());
    let () = kept.set(&bucket, packed).await.unwrap();
    let (status, answer) = text(&herald.base_url).await;
    assert_eq!(
        (status.as_u16(), answer["errors"][0]["error"].as_str()),
        (429, Some("RateLimitError"))
    );
    let () = kept.del(&bucket).await.unwrap();
    let () = kept.set(&day, "1000").await.unwrap();
    let (status, answer) = text(&herald.base_url).await;
    assert_eq!(
        (status.as_u16(), message(&answer)),
        (429, "Exceeded send limits (sms: 1000) for today")
    );
}

#[tokio::test]
async fn whatever_is_wrong_with_redis_texts_are_accepted() {
    let (redis, herald, _api) = with_redis("rate_limit = 6000").await;
    let mut kept = redis.connect().await;
    let (bucket, day) = (
        format!("{SERVICE}-tokens-normal"),
        format!("{SERVICE}-sms-{}-count", Utc::now().date_naive()),
    );
    let accepted = async |why: &str| assert_eq!(text(&herald.base_url).await.0, 201, "{why}");
    accepted("Redis is well").await;
    let () = redis::cmd("FLUSHALL").query_async(&mut kept).await.unwrap();
    accepted("it was emptied").await;
    for rubbish in ["", "not a number", "-5", "999999999999999999999x", "twelve bytes"] {
        for key in [&bucket, &day] {
            let () = kept.set(key, rubbish).await.unwrap();
            accepted(&format!("{key} holds {rubbish:?}")).await;
        }
    }
    for key in [&bucket, &day] {
        // At once: texts accepted before may be counted in between.
        let mut list = redis::pipe();
        let () = list
            .atomic()
            .del(key)
            .lpush(key, 1)
            .query_async(&mut kept)
            .await
            .unwrap();
        accepted(&format!("{key} is a list")).await;
    }
    redis.signal("-STOP");
    accepted("it hangs").await;
    accepted("it hangs on").await;
    redis.signal("-CONT");
    redis.signal("-KILL");
    accepted("it is gone").await;
}

#[tokio::test]
async fn an_api_whose_redis_never_was_there_works() {
    let herald = limited("rate_limit = 6000").await;
    let _api = herald.api_with(&[("REDIS_URL", "redis://127.0.0.1:1/0")]).await;
    for _ in 0..3 {
        assert_eq!(text(&herald.base_url).await.0, 201);
    }
}
