//! Readers who want no more emails: from the link in an email to the row that tells the service.

use chrono::{TimeDelta, Utc};
use herald_store::sealed::{Key, Sealer};
use serde_json::{Value, json};
use uuid::{Uuid, uuid};

use crate::harness::{Client, Herald, SEALING_KEYS, eventually, http, live_token};

const EMAIL_TEMPLATE: Uuid = uuid!("5b8f5f5e-1c43-4b8e-9b56-7d1e2a9c4f31");
const SERVICE: Uuid = uuid!("c1f0a1f6-6a57-4a4a-9d0e-6f3d9c1d7a11");
const NOTIFYS_RESEARCH: Uuid = uuid!("6c335bf6-ea00-45f1-a40c-6612c7639386");

async fn post(url: &str) -> (u16, Value) {
    let answer = http()
        .post(url)
        .body("List-Unsubscribe=One-Click")
        .send()
        .await
        .unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

fn success() -> (u16, Value) {
    (200, json!({"message": "Unsubscribe successful", "result": "success"}))
}

fn refusal(why: &str) -> (u16, Value) {
    (404, json!({"message": {"unsubscribe request": why}, "result": "error"}))
}

/// Addresses of the requests that the service has to see to.
async fn requests(herald: &Herald) -> Vec<String> {
    sqlx::query_scalar("select email_address from unsubscribe_request order by created_at, id")
        .fetch_all(&*herald.database)
        .await
        .unwrap()
}

/// What a token is made with here.
fn sealer() -> Sealer {
    Sealer::new(Key::parse(SEALING_KEYS).unwrap(), Vec::new())
}

async fn want_links(herald: &Herald) {
    for table in ["templates", "templates_history"] {
        let change = format!("update {table} set has_unsubscribe_link = true where template_type = 'email'");
        sqlx::query(sqlx::AssertSqlSafe(change))
            .execute(&*herald.database)
            .await
            .unwrap();
    }
}

/// The link in the body of an email, which leads to a page for people; that page posts to the API.
async fn link_in_body(client: &Client<'_>, id: &str) -> String {
    let got = eventually("the email is there", || async { client.phone(id).await.pop() }).await;
    let content = got["content"].as_str().unwrap();
    let (_, link) = content.split_once("Unsubscribe from these emails: ").unwrap();
    link.trim().to_owned()
}

#[tokio::test]
async fn the_links_of_an_email_unsubscribe_its_reader_once() {
    let herald = Herald::start_all().await;
    want_links(&herald).await;
    let client = Client::live(&herald);
    let (id, other) = (
        client.send_email("Ada@example.com").await,
        client.send_email("bob@example.com").await,
    );
    let link = client.get(&id).await["one_click_unsubscribe_url"].clone();
    let link = link.as_str().unwrap();
    let token = link
        .strip_prefix(&format!("{}/unsubscribe/{id}/", herald.base_url))
        .unwrap();

    // One reader's token is of no use for what another got.
    let foreign = format!("{}/unsubscribe/{other}/{token}", herald.base_url);
    assert_eq!(post(&foreign).await, refusal("This is not a valid unsubscribe link."));
    assert!(requests(&herald).await.is_empty());

    assert_eq!(post(link).await, success());
    assert_eq!(post(link).await, success());
    let page = link_in_body(&client, &id).await;
    let (_, path) = page.split_once("/unsubscribe/").unwrap();
    assert_eq!(
        post(&format!("{}/unsubscribe/{path}", herald.base_url)).await,
        success()
    );
    assert_eq!(requests(&herald).await, ["Ada@example.com"]);
    let about: (Uuid, Uuid, i32) =
        sqlx::query_as("select service_id, template_id, template_version from unsubscribe_request")
            .fetch_one(&*herald.database)
            .await
            .unwrap();
    assert_eq!(about, (SERVICE, EMAIL_TEMPLATE, 1));

    // The service was told, and wrote again.
    sqlx::query("update unsubscribe_request set unsubscribe_request_report_id = gen_random_uuid()")
        .execute(&*herald.database)
        .await
        .unwrap();
    assert_eq!(post(link).await, success());
    assert_eq!(requests(&herald).await.len(), 2);
}

#[tokio::test]
async fn a_link_of_the_services_own_goes_into_the_header_and_ours_into_the_body() {
    let herald = Herald::start_all().await;
    want_links(&herald).await;
    let body = json!({"email_address": "Ada@example.com", "template_id": EMAIL_TEMPLATE,
        "personalisation": {"name": "Ada"}, "one_click_unsubscribe_url": "https://a.uk/u"});
    let request = http().post(format!("{}/v2/notifications/email", herald.base_url));
    let answer = request.bearer_auth(live_token()).json(&body).send().await.unwrap();
    let answer: Value = answer.json().await.unwrap();
    let id = answer["id"].as_str().unwrap();
    let client = Client::live(&herald);
    assert_eq!(client.get(id).await["one_click_unsubscribe_url"], "https://a.uk/u");
    let page = link_in_body(&client, id).await;
    let path = page
        .strip_prefix(&format!("http://localhost:6012/unsubscribe/{id}/"))
        .unwrap();
    assert_eq!(
        post(&format!("{}/unsubscribe/{id}/{path}", herald.base_url)).await,
        success()
    );
    assert_eq!(requests(&herald).await, ["Ada@example.com"]);
}

#[tokio::test]
async fn a_link_outlives_the_message_but_not_a_year() {
    let herald = Herald::start_without_workers().await;
    let (archived, unknown, newsletter) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
    for (id, service) in [(archived, SERVICE), (newsletter, NOTIFYS_RESEARCH)] {
        sqlx::query(
            "insert into notification_history
                 (id, service_id, template_id, template_version, key_type, notification_type, created_at, billable_units)
             values ($1, $2, $3, 1, 'normal', 'email', now() at time zone 'utc', 0)",
        )
        .bind(id)
        .bind(service)
        .bind(EMAIL_TEMPLATE)
        .execute(&*herald.database)
        .await
        .unwrap();
    }
    let url = |id: Uuid, address: &str, age| {
        let token = sealer().unsubscribe_token(id, address, Utc::now() - TimeDelta::days(age));
        format!("{}/unsubscribe/{id}/{token}", herald.base_url)
    };

    assert_eq!(
        post(&url(archived, "ada@example.com", 366)).await,
        refusal("This is not a valid unsubscribe link.")
    );
    assert_eq!(
        post(&url(unknown, "ada@example.com", 1)).await,
        refusal("This unsubscribe link is invalid or expired.")
    );
    assert_eq!(post(&format!("{}/unsubscribe/x/y", herald.base_url)).await.0, 404);
    assert!(requests(&herald).await.is_empty());
    assert_eq!(post(&url(archived, "ada@example.com", 364)).await, success());
    assert_eq!(requests(&herald).await, ["ada@example.com"]);

    // Notify's newsletters ask nobody: the user's own setting is changed.
    let wants = "select take_part_in_research, receives_new_features_email from users where name = 'Development User'";
    sqlx::query("update users set take_part_in_research = true, receives_new_features_email = true")
        .execute(&*herald.database)
        .await
        .unwrap();
    assert_eq!(post(&url(newsletter, "Developer@example.gov.uk", 1)).await, success());
    let left: (bool, bool) = sqlx::query_as(wants).fetch_one(&*herald.database).await.unwrap();
    assert_eq!(left, (false, true));
    assert_eq!(requests(&herald).await.len(), 1);
}

#[tokio::test]
async fn a_request_that_nobody_sees_to_loses_its_address_after_ninety_days() {
    let herald = Herald::start_without_workers().await;
    for (address, days, report) in [
        ("old@example.com", 91, None),
        ("new@example.com", 89, None),
        ("reported@example.com", 200, Some(Uuid::nil())),
    ] {
        sqlx::query(
            "insert into unsubscribe_request (id, notification_id, service_id, template_id, template_version, email_address,
                 created_at, unsubscribe_request_report_id)
             values (gen_random_uuid(), gen_random_uuid(), $1, $2, 1, $3,
                 (now() at time zone 'utc') - $4 * interval '1 day', $5)",
        )
        .bind(SERVICE)
        .bind(EMAIL_TEMPLATE)
        .bind(address)
        .bind(days)
        .bind(report)
        .execute(&*herald.database)
        .await
        .unwrap();
    }
    let missed = "insert into engine.schedule values ('housekeeping', now() - interval '2 hours')";
    sqlx::query(missed).execute(&*herald.database).await.unwrap();
    let (_worker, _beat) = (herald.worker(), herald.beat());
    let archived = eventually("one is archived", || async {
        let rows = "select to_jsonb(h) from unsubscribe_request_history h";
        let rows: Vec<Value> = sqlx::query_scalar(rows).fetch_all(&*herald.database).await.unwrap();
        (!rows.is_empty()).then_some(rows)
    })
    .await;
    assert_eq!(archived.len(), 1, "{archived:?}");
    assert_eq!(archived[0]["service_id"], SERVICE.to_string());
    assert!(!archived[0].to_string().contains('@'), "{archived:?}");
    assert_eq!(requests(&herald).await, ["reported@example.com", "new@example.com"]);
}
