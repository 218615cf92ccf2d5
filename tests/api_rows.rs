//! What the API says of wrong requests, row by row of Notify's tables: the rows of which there is no recorded case.

use serde_json::{Value, json};

use crate::{api_golden::Player, harness::Herald};

/// A service of the recorded fixture that may do most, and its live key.
const LIVE: &str = "84a88542-ec0e-44ab-953e-7e23bc0da033";
const KEY: &str = "live.normal";

const NOBODY: &str = "00000000-0000-4000-8000-00000000000a";
const SMS_TEMPLATE: &str = "b46d9e0f-f41e-4da8-a7d3-eb2e6fd96e6c";
const SMS_WITH_NAME: &str = "8891cb6d-fe21-4626-9728-58d74c417a7f";
const SMS_BODY_ONLY: &str = "fa43c733-eef3-460e-8732-57fc671b3736";
const SMS_ARCHIVED: &str = "33121299-82de-46c5-a40e-199ab8170f0b";
const EMAIL_TEMPLATE: &str = "9587ceed-8ac0-4817-a2d2-7975c2702cee";
const LETTER_TEMPLATE: &str = "9bf4def2-cb36-4034-80d2-bc73f0846001";

const CLOCK: &str = "Error: Your system clock must be accurate to within 30 seconds";
const NO_KEY: &str = "Invalid token: API key not found";
const NOT_ISO: &str = "scheduled_for datetime format is invalid. It must be a valid ISO8601 date time format, https://en.wikipedia.org/wiki/ISO_8601";
const NOT_HTTPS: &str = "one_click_unsubscribe_url is not a valid https url";

/// What is wrong, the request, and the status, class and messages of the answer.
type Row = (&'static str, Value, u16, &'static str, Vec<String>);

#[tokio::test]
async fn wrong_requests_are_told_what_is_wrong_in_notifys_words() {
    let golden: Value = serde_json::from_str(include_str!("golden/api_v2.json")).unwrap();
    let herald = Herald::start_api_only(&golden["fixture"]).await;
    let player = Player::new(&golden["fixture"], herald.base_url.clone());
    let mut differences = Vec::new();
    for (what, request, status, class, messages) in [tokens(), bodies(), messages()].concat() {
        let errors = messages
            .iter()
            .map(|message| json!({"error": class, "message": message}));
        let answer = json!({"errors": errors.collect::<Vec<_>>(), "status_code": status});
        let exchange = json!({"request": request, "response": {"status": status, "json": answer}});
        if let Err(difference) = player.play(&json!({"exchanges": [exchange]})).await {
            differences.push(format!("{what}: {difference}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

fn row(what: &'static str, request: Value, status: u16, class: &'static str, messages: &[&str]) -> Row {
    let messages = messages.iter().map(|message| (*message).to_owned());
    (what, request, status, class, messages.collect())
}

/// Tokens that are refused.
fn tokens() -> Vec<Row> {
    let refused = |what, jwt: Value, message| {
        let request = json!({"method": "GET", "path": "/v2/templates", "auth": {"jwt": jwt}});
        row(what, request, 403, "AuthError", &[message])
    };
    let claims = |claims: Value| json!({"claims": claims, "secret": KEY});
    let good = json!({"iss": LIVE, "iat": "<now+0>"});
    vec![
        refused(
            "a service that does not exist",
            claims(json!({"iss": NOBODY, "iat": "<now+0>"})),
            "Invalid token: service not found",
        ),
        refused("no iat", claims(json!({"iss": LIVE})), NO_KEY),
        refused(
            "from the future",
            claims(json!({"iss": LIVE, "iat": "<now+40>"})),
            CLOCK,
        ),
        refused(
            "not to be used yet",
            claims(json!({"iss": LIVE, "iat": "<now+0>", "nbf": "<now+60>"})),
            CLOCK,
        ),
        refused(
            "another algorithm, whatever the key",
            json!({"claims": good, "secret": "nobody's", "alg": "RS256"}),
            "Invalid token: algorithm used is not HS256",
        ),
        refused(
            "a signature that was changed",
            json!({"claims": good, "secret": KEY, "mangle": "flip_signature"}),
            NO_KEY,
        ),
    ]
}

fn posted(what: &str, body: Value) -> Value {
    json!({"method": "POST", "path": format!("/v2/notifications/{what}"), "auth": {"key": KEY}, "json": body})
}

fn sms(template: &str, more: Value) -> Value {
    posted(
        "sms",
        with(json!({"phone_number": "07411000001", "template_id": template}), more),
    )
}

fn email(template: &str, more: Value) -> Value {
    posted(
        "email",
        with(json!({"email_address": "a@example.com", "template_id": template}), more),
    )
}

fn with(mut body: Value, more: Value) -> Value {
    let more = more.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(more);
    body
}

/// Bodies that do not fit their schema.
fn bodies() -> Vec<Row> {
    let invalid = |what, request, messages: &[&str]| row(what, request, 400, "ValidationError", messages);
    let required = [
        "phone_number is a required property",
        "template_id is a required property",
    ];
    vec![
        invalid("an empty list", posted("sms", json!([])), &required),
        invalid("an empty object", posted("sms", json!({})), &required),
        invalid("zero", posted("sms", json!(0)), &required),
        invalid("a number", posted("sms", json!(2.5)), &["2.5 is not of type object"]),
        invalid(
            "personalisation that is text",
            sms(SMS_TEMPLATE, json!({"personalisation": "s"})),
            &["personalisation s is not of type object"],
        ),
        invalid(
            "personalisation of an email that is nothing",
            email(EMAIL_TEMPLATE, json!({"personalisation": null})),
            &["personalisation None is not of type object"],
        ),
        invalid(
            "a schedule that is no time",
            sms(SMS_TEMPLATE, json!({"scheduled_for": "tomorrow"})),
            &[NOT_ISO],
        ),
        invalid(
            "an email's schedule that is no time",
            email(EMAIL_TEMPLATE, json!({"scheduled_for": ""})),
            &[NOT_ISO],
        ),
        invalid(
            "a schedule beyond a day",
            sms(SMS_TEMPLATE, json!({"scheduled_for": "<now+86700s>"})),
            &["scheduled_for datetime can only be 24 hours in the future"],
        ),
        invalid(
            "an email's schedule beyond a day",
            email(EMAIL_TEMPLATE, json!({"scheduled_for": "<now+86700s>"})),
            &["scheduled_for datetime can only be 24 hours in the future"],
        ),
        invalid(
            "a reply-to address that is no id",
            email(EMAIL_TEMPLATE, json!({"email_reply_to_id": "x"})),
            &["email_reply_to_id is not a valid UUID"],
        ),
        invalid(
            "a link without encryption",
            email(EMAIL_TEMPLATE, json!({"one_click_unsubscribe_url": "http://a.uk/u"})),
            &[NOT_HTTPS],
        ),
        invalid(
            "a placeholder to sanitise that is no name",
            email(EMAIL_TEMPLATE, json!({"sanitise_content_for": ["a", 1]})),
            &["sanitise_content_for 1 is not of type string"],
        ),
    ]
}

/// Messages that cannot be made or sent.
fn messages() -> Vec<Row> {
    let impossible = |what, request, message| row(what, request, 400, "BadRequestError", &[message]);
    let no_sender = format!("sms_sender_id {NOBODY} does not exist in database for service id {LIVE}");
    vec![
        impossible(
            "an archived template",
            sms(SMS_ARCHIVED, json!({})),
            "Template has been deleted",
        ),
        impossible(
            "a letter's template for an email",
            email(LETTER_TEMPLATE, json!({})),
            "letter template is not suitable for email notification",
        ),
        impossible(
            "a placeholder without a value",
            sms(
                SMS_WITH_NAME,
                json!({"personalisation": {"NAME": null, "ref_no": 1, "more": 2}}),
            ),
            "Missing personalisation: name",
        ),
        impossible(
            "a text of 919 characters",
            sms(SMS_BODY_ONLY, json!({"personalisation": {"body": "<repeat:a:919>"}})),
            "Your message is too long. Text messages cannot be longer than 918 characters. Your message is 919 characters long.",
        ),
        impossible(
            "a sender that does not exist, before the length",
            sms(
                SMS_BODY_ONLY,
                json!({"personalisation": {"body": "<repeat:a:919>"}, "sms_sender_id": NOBODY}),
            ),
            &no_sender,
        ),
        impossible(
            "a number abroad, before the length",
            posted(
                "sms",
                json!({"phone_number": "+33612345678", "template_id": SMS_BODY_ONLY,
                    "personalisation": {"body": "<repeat:a:919>"}}),
            ),
            "Cannot send to international mobile numbers",
        ),
        row(
            "a number at home that is no mobile phone's, before the length",
            posted(
                "sms",
                json!({"phone_number": "02079460958", "template_id": SMS_BODY_ONLY,
                    "personalisation": {"body": "<repeat:a:919>"}}),
            ),
            400,
            "InvalidPhoneError",
            &["Not a UK mobile number"],
        ),
    ]
}
