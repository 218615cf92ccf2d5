//! The document of what services receive, OpenAPI 3.1: its webhooks are calls that Herald makes. Nothing here serves it,
//! so it is written out; a test compares it with what the stub receives.

use serde_json::{Map, Value, json};

/// The document: JSON, indented, the same for every build of one version.
pub fn callbacks_spec() -> String {
    let webhooks = KINDS.map(|kind| (kind.name.to_owned(), webhook(&kind)));
    let schemas = KINDS.map(|kind| (kind.schema.to_owned(), schema(&kind)));
    let document = json!({
        "openapi": "3.1.0",
        "info": {"title": "Herald, callbacks to services", "version": "1", "description": DESCRIPTION},
        "webhooks": Map::from_iter(webhooks),
        "components": {
            "schemas": Map::from_iter(schemas),
            "securitySchemes": {"CallbackToken": {
                "type": "http",
                "scheme": "bearer",
                "description": "The token that the service has set for its endpoint.",
            }},
        },
    });
    let mut text = serde_json::to_string_pretty(&document).expect("it is made of JSON");
    text.push('\n');
    text
}

const DESCRIPTION: &str = "\
Herald calls the endpoints that a service has set, one for each kind of event, with the JSON of GOV.UK Notify.

An event is called about until the endpoint answers with a status from 200 to 299, and for a day; one that is older is given \
up once the endpoint has failed for half an hour, and after two days as soon as it fails twice. After 429, a \
status from 500 on, no answer within five seconds or no connection the call is repeated, at growing intervals, and not \
before `Retry-After` (of an hour at most) where that is given; other statuses, redirects among them, are final. So is it for \
an event at which an endpoint that has failed for half an hour fails three times, if it takes the one after it in between. \
Events that could not be told can be told once more when people ask for it.

An endpoint is called about one event at a time, in the order of `Herald-Sequence`. An event may come twice: `webhook-id` \
tells. A service's numbers have no gaps, over its endpoints taken together; where one is missing, that event is on its way to \
another endpoint, or was undeliverable.

An endpoint with a signing secret can check the signature of each call as Standard Webhooks describes it.";

/// A kind of event.
struct Kind {
    name: &'static str,
    schema: &'static str,
    summary: &'static str,
    fields: &'static [Field],
}

/// Name, type, format, whether it may be null, and what it is.
type Field = (&'static str, &'static str, &'static str, bool, &'static str);

const KINDS: [Kind; 3] = [
    Kind {
        name: "delivery_status",
        schema: "DeliveryStatus",
        summary: "A message was delivered, or it failed",
        fields: &[
            ("id", "string", "uuid", false, "The notification."),
            ("reference", "string", "", true, REFERENCE),
            (
                "to",
                "string",
                "",
                false,
                "The phone number or email address, as it was given.",
            ),
            (
                "status",
                "string",
                "",
                false,
                "`delivered`, `permanent-failure`, `temporary-failure` or `technical-failure`, as it was when this happened.",
            ),
            ("created_at", "string", "date-time", false, "When it was accepted."),
            ("completed_at", "string", "date-time", true, "When it got this status."),
            ("sent_at", "string", "date-time", true, "When a provider took it."),
            ("notification_type", "string", "", false, "`sms` or `email`."),
            ("template_id", "string", "uuid", false, ""),
            ("template_version", "integer", "", false, ""),
        ],
    },
    Kind {
        name: "complaint",
        schema: "Complaint",
        summary: "Somebody called an email spam",
        fields: &[
            ("notification_id", "string", "uuid", false, ""),
            ("complaint_id", "string", "uuid", false, ""),
            ("reference", "string", "", true, REFERENCE),
            ("to", "string", "", false, "The email address."),
            ("complaint_date", "string", "date-time", false, ""),
        ],
    },
    Kind {
        name: "inbound_sms",
        schema: "InboundSms",
        summary: "Somebody sent a text to the service's number",
        fields: &[
            ("id", "string", "uuid", false, "The received text."),
            (
                "source_number",
                "string",
                "",
                false,
                "Whose phone it came from: digits, country prefix first.",
            ),
            ("destination_number", "string", "", false, "The service's number."),
            ("message", "string", "", false, "What it says."),
            (
                "date_received",
                "string",
                "date-time",
                false,
                "When the provider received it.",
            ),
        ],
    },
];

const REFERENCE: &str = "What the service called it when it sent it.";

fn webhook(kind: &Kind) -> Value {
    json!({"post": {
        "operationId": kind.name,
        "summary": kind.summary,
        "security": [{"CallbackToken": []}],
        "parameters": [
            header("webhook-id", true, "string", "The event's id, the same in every repetition."),
            header("Herald-Sequence", true, "integer", "The event's number: 1, 2, 3 … within the service."),
            header("webhook-timestamp", true, "integer", "When this call is made, in seconds since 1970."),
            header(
                "webhook-signature",
                false,
                "string",
                "Where the endpoint has a signing secret: `v1,` and, in base64, the HMAC-SHA256 of `webhook-id.webhook-timestamp.body`.",
            ),
        ],
        "requestBody": {
            "required": true,
            "content": {"application/json": {"schema": {"$ref": format!("#/components/schemas/{}", kind.schema)}}},
        },
        "responses": {
            "2XX": {"description": "The service has it. What else the answer says is not read."},
            "429": {"description": "Too fast: the call is repeated, not before `Retry-After`."},
            "4XX": {"description": "The service refuses it for good."},
            "5XX": {"description": "The call is repeated, not before `Retry-After`."},
        },
    }})
}

fn header(name: &str, required: bool, kind: &str, description: &str) -> Value {
    json!({"name": name, "in": "header", "required": required, "description": description, "schema": {"type": kind}})
}

fn schema(kind: &Kind) -> Value {
    let properties = kind
        .fields
        .iter()
        .map(|&(name, kind, format, is_nullable, description)| {
            let mut property = json!({"type": kind});
            if is_nullable {
                property["type"] = json!([kind, "null"]);
            }
            if !format.is_empty() {
                property["format"] = format.into();
            }
            if !description.is_empty() {
                property["description"] = description.into();
            }
            (name.to_owned(), property)
        });
    let required: Vec<&str> = kind.fields.iter().map(|field| field.0).collect();
    json!({"type": "object", "properties": Map::from_iter(properties), "required": required})
}
