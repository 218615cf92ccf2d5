//! Firetext and MMG as their clients see them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use chrono::Utc;
use herald_message::receipt::Provider;
use serde::Deserialize;
use serde_json::json;

use crate::World;
use crate::answer::{Answer, Taken, play};
use crate::faults::Fault;
use crate::phone::Message;
use crate::receipts::{Fate, Plan};

/// `POST /firetext`
pub(crate) async fn firetext(State(world): State<Arc<World>>, body: Bytes) -> Response {
    let read = |fault: &Fault| read_firetext(&world, fault, &body);
    play(&world, Provider::Firetext, read, |fault, _| refused_by_firetext(fault)).await
}

fn read_firetext(world: &World, fault: &Fault, body: &[u8]) -> Result<Taken, (StatusCode, Answer)> {
    let mut form: HashMap<Cow<'_, str>, Cow<'_, str>> = form_urlencoded::parse(body).collect();
    let mut field = |name: &str| form.remove(name).map(Cow::into_owned).filter(|text| !text.is_empty());
    let (Some(from), Some(to), Some(content), Some(reference)) =
        (field("from"), field("to"), field("message"), field("reference"))
    else {
        let missing = json!({"code": 2, "description": "Missing parameters"});
        return Err((StatusCode::OK, json_answer(&missing)));
    };
    let receipt_url = field("receipt");
    let code = fault
        .code
        .as_deref()
        .and_then(|code| code.parse::<i64>().ok())
        .unwrap_or(0);
    let yes = json!({"description": "SMS successfully queued", "code": code});
    Ok(taken(
        world,
        Provider::Firetext,
        [from, to, content, reference],
        receipt_url,
        &yes,
    ))
}

fn refused_by_firetext(fault: &Fault) -> Answer {
    let code = fault
        .code
        .as_deref()
        .and_then(|code| code.parse::<i64>().ok())
        .unwrap_or(1);
    let description = fault.message.as_deref().unwrap_or("Refused on request");
    json_answer(&json!({"code": code, "description": description}))
}

#[derive(Deserialize)]
struct MmgBody {
    #[serde(rename = "MSISDN")]
    to: String,
    msg: String,
    sender: String,
    cid: String,
    #[serde(rename = "delurl")]
    receipt_url: Option<String>,
}

/// `POST /mmg`
pub(crate) async fn mmg(State(world): State<Arc<World>>, body: Bytes) -> Response {
    let read = |_: &Fault| read_mmg(&world, &body);
    let no =
        |fault: &Fault, _| json_answer(&json!({"error": fault.message.as_deref().unwrap_or("Refused on request")}));
    play(&world, Provider::Mmg, read, no).await
}

fn read_mmg(world: &World, body: &[u8]) -> Result<Taken, (StatusCode, Answer)> {
    let body: MmgBody = serde_json::from_slice(body).map_err(|error| {
        (
            StatusCode::BAD_REQUEST,
            json_answer(&json!({"error": error.to_string()})),
        )
    })?;
    let yes = json!({"Reference": rand::random_range(1..1_000_000_000)});
    let fields = [body.sender, body.to, body.msg, body.cid];
    Ok(taken(world, Provider::Mmg, fields, body.receipt_url, &yes))
}

fn taken(
    world: &World,
    provider: Provider,
    [from, to, content, reference]: [String; 4],
    receipt_url: Option<String>,
    yes: &serde_json::Value,
) -> Taken {
    let receipts = Plan {
        provider,
        reference: reference.clone(),
        tag: None,
        url: receipt_url.or_else(|| world.receipts.url_of(provider)),
        fate: Fate::of_number(&to),
        to: to.clone(),
        from: from.clone(),
    };
    let message = Message {
        reference,
        to,
        content,
        provider,
        at: Utc::now(),
        from,
        subject: None,
        message_id: None,
    };
    let yes = json_answer(yes);
    Taken { message, receipts, yes }
}

fn json_answer(json: &serde_json::Value) -> Answer {
    Answer {
        content_type: "application/json",
        body: json.to_string(),
    }
}
