//! A day with a client that was made from the document: sends, reads, previews, and is refused, all of it typed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use herald::{Client, Error, types};

mod herald {
    progenitor::generate_api!(
        spec = "../../../openapi/public.json",
        interface = Builder,
        inner_type = crate::Key,
        pre_hook_async = crate::sign,
    );
}

/// A service and the secret of one of its keys.
#[derive(Clone, Debug)]
pub struct Key {
    service: String,
    secret: String,
}

/// Gives each request a token of its own.
async fn sign(key: &Key, request: &mut reqwest::Request) -> anyhow::Result<()> {
    let issued = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let claims = json!({ "iss": key.service, "iat": issued });
    let secret = EncodingKey::from_secret(key.secret.as_bytes());
    let token = jsonwebtoken::encode(&Header::default(), &claims, &secret)?;
    request
        .headers_mut()
        .insert(reqwest::header::AUTHORIZATION, format!("Bearer {token}").parse()?);
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().context("the address")?;
    let fixture: Value = serde_json::from_slice(&std::fs::read(arguments.next().context("the fixture")?)?)?;
    let library = &fixture["services"][0];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let key = Key {
        service: text(&library["id"]),
        secret: text(&library["keys"][0]["secret"]),
    };
    let client = Client::new(&url, key);
    let overdue: Uuid = library["templates"][0]["id"].as_str().context("a template")?.parse()?;
    let card: Uuid = library["templates"][2]["id"].as_str().context("a template")?.parse()?;

    let body = types::SmsRequest::builder()
        .phone_number("07700900123")
        .template_id(overdue)
        .personalisation(values(json!({ "name": "Ada", "book": "Emma" })));
    let text = client.send_sms().body(body).send().await?.into_inner();
    ensure!(text.content.body == "Dear Ada, please bring back Emma.", "{text:?}");
    let delivered = follow(&client, text.id).await?;
    ensure!(delivered.cost_details.billable_sms_fragments == Some(1), "{delivered:?}");
    ensure!(delivered.completed_at >= Some(delivered.created_at), "{delivered:?}");

    let body = types::EmailRequest::builder()
        .email_address("ada@example.com")
        .template_id(card)
        .personalisation(values(json!({ "name": "Ada", "card": 7 })));
    let email = client.send_email().body(body).send().await?.into_inner();
    let delivered = follow(&client, email.id).await?;
    ensure!(delivered.subject.as_deref() == Some("A card for Ada"), "{delivered:?}");

    let list = client
        .list_notifications()
        .template_type(vec![types::ListNotificationsTemplateTypeItem::Sms])
        .status(vec![types::ListNotificationsStatusItem::Delivered])
        .older_than(email.id);
    let page = list.send().await?.into_inner();
    ensure!(page.notifications[0].id == text.id, "{page:?}");
    ensure!(page.links.next.is_some_and(|next| next.contains("older_than=")));
    let received = client.list_received_text_messages().send().await?.into_inner();
    ensure!(received.received_text_messages[0].user_number == "447700900123", "{received:?}");

    let template = client.get_template_version().template_id(overdue).version(1);
    let template = template.send().await?.into_inner();
    ensure!(template.personalisation["book"].required, "{template:?}");
    let texts = client.list_templates().type_(types::ListTemplatesType::Sms);
    let texts = texts.send().await?.into_inner();
    let names: Vec<&str> = texts.templates.iter().map(|template| template.name.as_str()).collect();
    ensure!(names == ["Opening times", "Overdue"], "{names:?}");
    let body = types::PreviewRequest::builder().personalisation(values(json!({ "name": "Ada", "card": 7 })));
    let preview = client.preview_template().template_id(card).body(body).send().await?.into_inner();
    ensure!(preview.html.is_some_and(|html| html.contains("Your card: 7")));

    let body = types::SmsRequest::builder().phone_number("12").template_id(overdue);
    match client.send_sms().body(body).send().await {
        Err(Error::ErrorResponse(refused)) => {
            ensure!(refused.status() == 400 && refused.status_code == 400, "{refused:?}");
            let [fault] = refused.errors.as_slice() else { bail!("{refused:?}") };
            ensure!(fault.error == "ValidationError", "{fault:?}");
            ensure!(fault.message == "phone_number Not enough digits", "{fault:?}");
        }
        other => bail!("a wrong number was answered with {other:?}"),
    }

    println!("{}\n{}", text.id, email.id);
    Ok(())
}

fn values(json: Value) -> Map<String, Value> {
    match json {
        Value::Object(values) => values,
        _ => Map::new(),
    }
}

async fn follow(client: &Client, id: Uuid) -> anyhow::Result<types::Notification> {
    for _ in 0..600 {
        let notification = client.get_notification().notification_id(id).send().await?.into_inner();
        if notification.status == "delivered" {
            return Ok(notification);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("{id} was not delivered")
}
