//! The OpenAPI document, and a page to read it.
//!
//! poem-openapi writes it from the handlers' types. What it cannot know is completed here: which errors an operation
//! cannot have, that answers always hold all their properties, that requests may hold no others, of what form parameters
//! are that the handlers read themselves, and examples.

mod examples;

use poem::{Endpoint, Response, Route, endpoint::make_sync, http::header};
use poem_openapi::{OpenApi, OpenApiService};
use serde_json::{Map, Value, json};

use crate::{list::STATUSES, once};

/// Schemas of requests that are refused when they have a property more.
const CLOSED_REQUESTS: [&str; 8] = [
    "SmsRequest",
    "EmailRequest",
    "Reason",
    "SelectedRuns",
    "RunSelection",
    "NewLimits",
    "SelectedEvents",
    "EventSelection",
];

/// Schemas of requests to which anything may be added.
const OPEN_REQUESTS: [&str; 7] = [
    "LetterRequest",
    "PreviewRequest",
    "FiretextReceipt",
    "MmgReceipt",
    "SnsEnvelope",
    "FiretextText",
    "MmgText",
];

/// Schemas of answers that leave out what does not apply.
const SPARSE_ANSWERS: [&str; 3] = ["CostDetails", "Links", "StatusReport"];

/// Operations that answer 501 to some requests.
const UNFINISHED: [&str; 1] = ["getLetterPdf"];

/// Operations that may be asked for again with an `Idempotency-Key`.
const REPEATABLE: [&str; 2] = ["sendSms", "sendEmail"];

/// Operations of which a service has only so many.
const LIMITED: [&str; 3] = ["sendSms", "sendEmail", "sendLetter"];

/// Operations that succeed for nobody yet.
const UNBUILT: [&str; 2] = ["sendLetter", "getLetterPdf"];

/// Operations that are answered with the id of a new notification.
const SENDING: [&str; 2] = ["sendSms", "sendEmail"];

/// Operations on a notification.
const READING: [&str; 4] = [
    "getNotification",
    "getNotificationTimeline",
    "cancelNotification",
    "getLetterPdf",
];

/// The document as it is published: JSON, made for reading.
pub fn of<T: OpenApi>(service: &OpenApiService<T, ()>) -> String {
    let mut document: Value = serde_json::from_str(&service.spec()).expect("poem-openapi writes JSON");
    document["servers"] = json!([
        { "url": "/", "description": "The one that this document comes from" },
        { "url": "http://127.0.0.1:6011", "description": "`herald dev` on one's own machine" },
    ]);
    for (path, operations) in object(&mut document["paths"]) {
        for operation in object(operations).values_mut() {
            keep_possible_errors(path, operation);
            complete_parameters(operation);
            may_come_again(operation);
            link_to_reading(operation);
            examples::add(operation);
        }
    }
    for (name, schema) in object(&mut document["components"]["schemas"]) {
        complete_schema(name, schema);
    }
    let mut text = serde_json::to_string_pretty(&document).expect("it was JSON before");
    text.push('\n');
    text
}

/// The handlers share one type of error, with all there are.
fn keep_possible_errors(path: &str, operation: &mut Value) {
    let has_body = operation.get("requestBody").is_some();
    let has_token = operation.get("security").is_some();
    let is_receipt = path.starts_with("/notifications/");
    let is_one_of = |names: &[&str]| names.iter().any(|name| operation["operationId"] == *name);
    let (may_be_unfinished, is_unbuilt) = (is_one_of(&UNFINISHED), is_one_of(&UNBUILT));
    let (is_repeatable, is_limited) = (is_one_of(&REPEATABLE), is_one_of(&LIMITED));
    let responses = object(&mut operation["responses"]);
    responses.sort_keys();
    responses.retain(|status, _| match status.as_str() {
        "200" => !is_unbuilt,
        "400" | "401" | "403" => has_token || is_receipt,
        "404" => path.contains('{'),
        "408" | "413" => has_body,
        "409" => path.ends_with("/cancel"),
        "422" => is_repeatable,
        "429" => is_limited,
        "501" => may_be_unfinished,
        _ => true,
    });
}

/// Handlers take parameters as text, to refuse them in the words of GOV.UK Notify.
fn complete_parameters(operation: &mut Value) {
    let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
    for parameter in parameters.into_iter().flatten() {
        let form = match parameter["name"].as_str().unwrap_or_default() {
            "id" | "notification_id" | "older_than" | "template_id" => json!({ "type": "string", "format": "uuid" }),
            "status" => json!({ "type": "array", "items": { "type": "string", "enum": STATUSES } }),
            "template_type" => {
                json!({ "type": "array", "items": { "type": "string", "enum": ["sms", "email", "letter"] } })
            }
            // `True` is taken as well, but a generator would give both the same name.
            "include_jobs" => json!({ "type": "string", "enum": ["true"] }),
            "type" => json!({ "type": "string", "enum": ["sms", "email", "letter"] }),
            "version" => json!({ "type": "integer", "format": "int32", "minimum": 0 }),
            _ => continue,
        };
        parameter["schema"] = form;
    }
}

/// A request that may come again says so in a header, which is read before all else.
fn may_come_again(operation: &mut Value) {
    if REPEATABLE.iter().any(|name| operation["operationId"] == *name) {
        operation["parameters"] = json!([{
            "name": once::HEADER,
            "in": "header",
            "description": "Repeated within a day with the same key and body, the request sends nothing more, and has the same answer.",
            "schema": { "type": "string", "minLength": 1, "maxLength": once::LONGEST_KEY },
        }]);
    }
}

/// The id in the answer to sending is that by which the message is read.
fn link_to_reading(operation: &mut Value) {
    if SENDING.iter().any(|name| operation["operationId"] == *name) {
        let links = READING.map(|name| {
            let parameters = json!({ "notification_id": "$response.body#/id" });
            (
                name.to_owned(),
                json!({ "operationId": name, "parameters": parameters }),
            )
        });
        operation["responses"]["201"]["links"] = Map::from_iter(links).into();
    }
}

fn complete_schema(name: &str, schema: &mut Value) {
    if CLOSED_REQUESTS.contains(&name) {
        schema["additionalProperties"] = false.into();
    }
    if CLOSED_REQUESTS.contains(&name) || OPEN_REQUESTS.contains(&name) {
        if let Some(personalisation) = schema.pointer_mut("/properties/personalisation") {
            personalisation["type"] = "object".into();
            personalisation["additionalProperties"] = true.into();
        }
        return;
    }
    if SPARSE_ANSWERS.contains(&name) {
        return;
    }
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let properties = object(&mut schema["properties"]);
    for (property, schema) in properties.iter_mut() {
        if required.contains(&json!(property)) {
            continue;
        }
        if schema.get("$ref").is_some() {
            // Beside a reference nothing else counts.
            *schema = json!({ "allOf": [schema.take()] });
        }
        schema["nullable"] = true.into();
    }
    schema["required"] = properties.keys().cloned().collect();
}

fn object(value: &mut Value) -> &mut Map<String, Value> {
    value.as_object_mut().expect("OpenAPI has an object here")
}

/// `/openapi.json` and `/docs`, a page that holds all that it shows: nothing is fetched from elsewhere.
pub fn routes<T: OpenApi>(service: &OpenApiService<T, ()>) -> Route {
    let document = of(service);
    let page = service.swagger_ui_html().replace(&service.spec(), &document);
    Route::new()
        .at("/openapi.json", text(document, "application/json"))
        .at("/docs", text(page, "text/html; charset=utf-8"))
}

fn text(body: String, content_type: &'static str) -> impl Endpoint<Output = Response> {
    make_sync(move |_| {
        Response::builder()
            .header(header::CONTENT_TYPE, content_type)
            .body(body.clone())
    })
}
