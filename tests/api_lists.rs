//! Lists over HTTP: their links lead through everything, once.

use serde_json::{Value, json};

use crate::harness::{Client, Herald, SMS_TEMPLATE, database, http, live_token};

/// Two rows a page.
async fn herald() -> (Herald, crate::harness::Process) {
    let herald = Herald::start_without_api(database().await).await;
    let api = herald.api_with(&[("API_PAGE_SIZE", "2")]).await;
    (herald, api)
}

async fn get(url: &str) -> (u16, Value) {
    let answer = http().get(url).bearer_auth(live_token()).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

/// Follows the links from page to page; the ids of each page.
async fn walk(start: &str, rows: &str) -> Vec<Vec<String>> {
    let (mut url, mut pages) = (start.to_owned(), Vec::new());
    loop {
        let (status, page) = get(&url).await;
        assert_eq!(status, 200, "{url}: {page}");
        let ids = page[rows].as_array().unwrap().iter();
        pages.push(
            ids.map(|row| row["id"].as_str().unwrap().to_owned())
                .collect::<Vec<_>>(),
        );
        match page["links"]["next"].as_str() {
            Some(next) => next.clone_into(&mut url),
            None => return pages,
        }
    }
}

/// What a walk through these must be: pages of two, and an empty one at the end.
fn pages_of(newest_first: &[String]) -> Vec<Vec<String>> {
    let pages = newest_first.chunks(2).map(<[String]>::to_vec);
    pages.chain([Vec::new()]).collect()
}

#[tokio::test]
async fn links_lead_through_all_notifications_of_the_keys_type_newest_first() {
    let (herald, _api) = herald().await;
    let (live, test) = (Client::live(&herald), Client::test(&herald));
    let (mut all, mut texts) = (Vec::new(), Vec::new());
    for number in 0..5 {
        let text = live.send_text("07700900123").await;
        texts.insert(0, text.clone());
        all.insert(0, text);
        all.insert(0, live.send_email(&format!("{number}@example.com")).await);
        test.send_text("07700900123").await;
    }
    let url = format!("{}/v2/notifications", herald.base_url);
    assert_eq!(walk(&url, "notifications").await, pages_of(&all));
    let filtered = format!("{url}?status=created&template_type=sms&status=sending");
    assert_eq!(walk(&filtered, "notifications").await, pages_of(&texts));
    let after_the_second = format!("{url}?older_than={}", all[1]);
    assert_eq!(walk(&after_the_second, "notifications").await, pages_of(&all[2..]));
}

#[tokio::test]
async fn links_say_a_reference_however_odd_as_it_was_said() {
    let (herald, _api) = herald().await;
    let odd = "a&b=c +%26?/#é\"\u{1f44d}'";
    let mut expected = Vec::new();
    for reference in [odd, "a", odd, "b=c ", odd] {
        let body = json!({"phone_number": "07700900123", "template_id": SMS_TEMPLATE, "reference": reference,
            "personalisation": {"name": "Ada"}});
        let request = http().post(format!("{}/v2/notifications/sms", herald.base_url));
        let sent: Value = request
            .bearer_auth(live_token())
            .json(&body)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        if reference == odd {
            expected.insert(0, sent["id"].as_str().unwrap().to_owned());
        }
    }
    let url = format!("{}/v2/notifications", herald.base_url);
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("reference", odd)
        .finish();
    assert_eq!(
        walk(&format!("{url}?{query}"), "notifications").await,
        pages_of(&expected)
    );

    let (status, refused) = get(&format!("{url}?reference=%00")).await;
    assert_eq!(status, 400);
    assert_eq!(
        refused["errors"][0]["message"],
        "reference must not contain null characters"
    );
    let (status, refused) = get(&format!("{url}?{}", "status=sent&".repeat(1001))).await;
    assert_eq!(status, 400, "{refused}");
}

#[tokio::test]
async fn links_lead_through_all_received_texts() {
    let (herald, _api) = herald().await;
    // Two of them came at the same instant.
    sqlx::query(
        "insert into inbound_sms (id, service_id, content, notify_number, user_number, created_at, provider)
         select gen_random_uuid(), s.id, $1, '07700900001', '447700900123', timestamp '2026-11-01' + n / 2 * interval '1 s', 'mmg'
         from services s, generate_series(1, 5) n
         where s.name = 'Herald Development'",
    )
    .bind(sealed("hello"))
    .execute(&*herald.database)
    .await
    .unwrap();
    let expected: Vec<String> =
        sqlx::query_scalar("select id::text from inbound_sms order by created_at desc, id desc")
            .fetch_all(&*herald.database)
            .await
            .unwrap();
    let url = format!("{}/v2/received-text-messages", herald.base_url);
    assert_eq!(walk(&url, "received_text_messages").await, pages_of(&expected));
    assert_eq!(get(&url).await.1["received_text_messages"][0]["content"], "hello");
}

fn sealed(text: &str) -> String {
    use herald_store::sealed::{Key, Sealer, context};
    let key = Key::parse(crate::harness::SEALING_KEYS).unwrap();
    let sealed = Sealer::new(key, Vec::new()).seal(context::RECEIVED_TEXT, text);
    sealed.as_str().to_owned()
}
