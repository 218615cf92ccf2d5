//! Texts that people send to a service, posted as the firms post them.

use herald_store::sealed::{Key, Sealed, Sealer, context};
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use sqlx::Row;

use crate::harness::{Herald, SEALING_KEYS, http};

/// Of the golden fixture: a service that receives texts, and its number.
const SERVICE: &str = "01108a1e-86d2-4f78-b69b-7eb152477c39";

async fn start() -> Herald {
    let golden: Value = serde_json::from_str(include_str!("golden/api_v2.json")).unwrap();
    let mut fixture = golden["fixture"].clone();
    fixture["received_texts"] = json!([]);
    Herald::start_api_only(&fixture).await
}

fn mmg(herald: &Herald, text: &Value) -> RequestBuilder {
    let url = format!("{}/notifications/sms/receive/mmg", herald.base_url);
    http().post(url).basic_auth("username", Some("testkey")).json(text)
}

fn firetext(herald: &Herald, form: &[(&str, &str)]) -> RequestBuilder {
    let url = format!("{}/notifications/sms/receive/firetext", herald.base_url);
    http().post(url).basic_auth("notify", Some("testkey")).form(form)
}

fn text(id: &str) -> Value {
    json!({
        "MSISDN": "447411000201", "Number": "447860000001", "Message": r"Yes+please+%3A%29+\u00a35", "ID": id,
        "DateRecieved": "2026-11-20+11%3A56%3A11", "Trigger": "x", "Channel": "SMS",
    })
}

const FORM: [(&str, &str); 4] = [
    ("source", "07411000202"),
    ("destination", "07860000001"),
    ("message", "100% + more"),
    ("time", "2026-07-20 12:00:00"),
];

async fn answer(request: RequestBuilder) -> (u16, String) {
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

fn ok() -> (u16, String) {
    (200, r#"{"status":"ok"}"#.to_owned())
}

/// What is in the table, without ids, its content opened.
async fn received(herald: &Herald) -> Vec<Value> {
    let sealer = Sealer::new(Key::parse(SEALING_KEYS).unwrap(), Vec::new());
    let rows = sqlx::query(
        "select service_id::text, content, notify_number, user_number, provider, provider_reference,
             to_char(provider_date, 'YYYY-MM-DD HH24:MI:SS') from inbound_sms order by created_at, id",
    )
    .fetch_all(&*herald.database)
    .await
    .unwrap();
    rows.iter()
        .map(|row| {
            let content = Sealed::from_stored(row.get(1));
            json!({
                "service": row.get::<String, _>(0),
                "content": sealer.open(context::RECEIVED_TEXT, &content).unwrap(),
                "to": row.get::<String, _>(2),
                "from": row.get::<String, _>(3),
                "provider": row.get::<String, _>(4),
                "reference": row.get::<Option<String>, _>(5),
                "date": row.get::<String, _>(6),
            })
        })
        .collect()
}

#[tokio::test]
async fn a_text_is_kept_sealed_for_the_service_of_its_number() {
    let herald = start().await;
    assert_eq!(answer(mmg(&herald, &text("mmg-1"))).await, ok());
    assert_eq!(answer(firetext(&herald, &FORM)).await, ok());
    let expected = |content: &str, from: &str, provider: &str, reference: Value, date: &str| {
        json!({
            "service": SERVICE, "content": content, "to": "07860000001", "from": from, "provider": provider,
            "reference": reference, "date": date,
        })
    };
    assert_eq!(
        received(&herald).await,
        [
            // Both firms' times are taken for UTC, in summer too.
            expected(
                "Yes please :) £5",
                "447411000201",
                "mmg",
                json!("mmg-1"),
                "2026-11-20 11:56:11"
            ),
            expected(
                "100% + more",
                "447411000202",
                "firetext",
                json!(null),
                "2026-07-20 12:00:00"
            ),
        ]
    );
    let stored: Vec<String> = sqlx::query_scalar("select content from inbound_sms")
        .fetch_all(&*herald.database)
        .await
        .unwrap();
    assert!(
        stored
            .iter()
            .all(|content| !content.contains("please") && !content.contains("more"))
    );
}

#[tokio::test]
async fn a_text_that_is_repeated_is_one_text_however_often_and_at_once() {
    let herald = start().await;
    let all = (0..40).map(|i| {
        let herald = &herald;
        async move {
            let request = match i % 2 {
                0 => mmg(herald, &text("mmg-1")),
                _ => firetext(herald, &FORM),
            };
            assert_eq!(answer(request).await, ok());
        }
    });
    futures::future::join_all(all).await;
    assert_eq!(received(&herald).await.len(), 2);
    // Another reference, and the same words at another time, are other texts.
    assert_eq!(answer(mmg(&herald, &text("mmg-2"))).await, ok());
    let mut later = FORM;
    later[3].1 = "2026-07-20 12:00:01";
    assert_eq!(answer(firetext(&herald, &later)).await, ok());
    assert_eq!(received(&herald).await.len(), 4);
}

#[tokio::test]
async fn a_text_for_nobody_is_acknowledged_and_not_kept() {
    let herald = start().await;
    sqlx::query("delete from service_permissions where service_id = $1::uuid and permission = 'inbound_sms'")
        .bind(SERVICE)
        .execute(&*herald.database)
        .await
        .unwrap();
    for number in ["447860000001", "07999999999"] {
        let mut to_nobody = text("mmg-1");
        to_nobody["Number"] = json!(number);
        assert_eq!(answer(mmg(&herald, &to_nobody)).await, (200, "RECEIVED".to_owned()));
        let mut form = FORM;
        form[1].1 = number;
        assert_eq!(answer(firetext(&herald, &form)).await, ok());
    }
    assert!(received(&herald).await.is_empty());
}

#[tokio::test]
async fn a_text_with_an_unreadable_date_came_now_and_one_without_its_fields_is_refused() {
    let herald = start().await;
    let mut undated = text("mmg-1");
    undated["DateRecieved"] = json!("yesterday");
    undated["MSISDN"] = json!("Bank");
    assert_eq!(answer(mmg(&herald, &undated)).await, ok());
    let recent =
        "select user_number = 'Bank' and provider_date > now() at time zone 'utc' - interval '1 min' from inbound_sms";
    let recent: bool = sqlx::query_scalar(recent).fetch_one(&*herald.database).await.unwrap();
    assert!(recent);

    let mut incomplete = text("mmg-2");
    incomplete.as_object_mut().unwrap().remove("Message");
    let refused = |message: &str| (400, json!({"message": message, "result": "error"}).to_string());
    assert_eq!(answer(mmg(&herald, &incomplete)).await, refused("Message is missing"));
    assert_eq!(
        answer(firetext(&herald, &FORM[..2])).await,
        refused("message is missing")
    );
    let mut forged = FORM;
    forged[0].1 = "Bank\0";
    assert_eq!(answer(firetext(&herald, &forged)).await.0, 400);
    assert_eq!(received(&herald).await.len(), 1);
}

#[tokio::test]
async fn each_of_the_credentials_opens_and_a_refusal_is_as_notify_words_it() {
    let herald = start().await;
    let post = |firm: &str| http().post(format!("{}/notifications/sms/receive/{firm}", herald.base_url));
    for (name, password) in [("old", "testkey"), ("username", "next")] {
        let request = post("mmg").basic_auth(name, Some(password)).json(&text("mmg-1"));
        assert_eq!(answer(request).await, ok());
    }
    let shown = post("mmg").json(&text("mmg-1")).send().await.unwrap();
    assert_eq!(
        (shown.status().as_u16(), shown.headers()["www-authenticate"].as_bytes()),
        (401, &b"Bearer"[..])
    );
    let told: Value = shown.json().await.unwrap();
    assert_eq!(
        told,
        json!({"result": "error", "message": "Unauthorized: authentication token must be provided"})
    );
    for (firm, name, password) in [
        ("mmg", "notify", "testkey"),
        ("mmg", "username", ""),
        ("firetext", "username", "testkey"),
        ("firetext", "notify", "next"),
    ] {
        let (status, told) = answer(post(firm).basic_auth(name, Some(password)).form(&FORM)).await;
        assert_eq!(status, 403, "{firm} {name}");
        assert!(
            told.contains("Forbidden: invalid authentication token provided"),
            "{told}"
        );
    }
    assert_eq!(received(&herald).await.len(), 1);
}
