//! The public API agrees with what GOV.UK Notify answered to the same requests (golden/api_v2.json, whose README tells
//! what the tokens in it mean). Where Herald differs on purpose, the case is named below with the reason.

use std::collections::{HashMap, HashSet};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use chrono::{TimeDelta, Utc};
use hmac::{Hmac, Mac};
use regex::{Captures, Regex};
use serde_json::{Map, Value, json};
use sha2::{Sha256, Sha384, Sha512};

use crate::harness::Herald;

const GROUPS: [&str; 26] = [
    "auth",
    "headers",
    "sms-validation",
    "body-sms",
    "email-validation",
    "body-email",
    "permissions",
    "template-errors",
    "recipients",
    "simulated",
    "send-and-read",
    "trial",
    "senders",
    "international",
    "sanitise",
    "read",
    "templates",
    "preview",
    "files",
    "limits",
    "list",
    "received",
    "unsubscribe",
    "body-letter",
    "letter",
    "inbound-receive",
];

const NO_LETTERS: &str = "Herald sends no letters yet";

/// Group, case, and why Herald answers otherwise.
const EXCEPTIONS: [(&str, &str, &str); 14] = [
    ("auth", "admin route with a service key", "there is no internal API yet"),
    (
        "body-sms",
        "raw {\"phone_number\": NaN}",
        "NaN is not JSON: the body is refused as a whole",
    ),
    (
        "body-letter",
        "raw {\"phone_number\": NaN}",
        "NaN is not JSON: the body is refused as a whole",
    ),
    (
        "body-letter",
        "raw true",
        "a body that is no object is the caller's fault, not an error of ours",
    ),
    ("letter", "ok", NO_LETTERS),
    ("letter", "empty personalisation", NO_LETTERS),
    ("letter", "one line", NO_LETTERS),
    ("letter", "starts with at", NO_LETTERS),
    ("letter", "no fixed abode", NO_LETTERS),
    ("letter", "missing fields", NO_LETTERS),
    ("letter", "sms template", NO_LETTERS),
    ("letter", "team key", NO_LETTERS),
    ("letter", "test key", NO_LETTERS),
    ("letter", "trial service", NO_LETTERS),
];

#[tokio::test]
async fn the_public_api_answers_as_notify_does() {
    let golden: Value = serde_json::from_str(include_str!("golden/api_v2.json")).unwrap();
    let herald = Herald::start_api_only(&golden["fixture"]).await;
    let player = Player::new(&golden["fixture"], herald.base_url.clone());

    let (mut agreed, mut differences) = (0, Vec::new());
    for case in golden["cases"].as_array().unwrap() {
        let (group, name) = (case["group"].as_str().unwrap(), case["name"].as_str().unwrap());
        if !GROUPS.contains(&group) {
            continue;
        }
        let excepted = EXCEPTIONS
            .iter()
            .any(|exception| (exception.0, exception.1) == (group, name));
        match (player.play(case).await, excepted) {
            (Ok(()), false) => agreed += 1,
            (Err(_), true) => {}
            (Ok(()), true) => differences.push(format!("{group}: {name}: an exception, and yet it agrees")),
            (Err(difference), false) => differences.push(format!("{group}: {name}: {difference}")),
        }
    }
    println!("{agreed} cases agree, {} differ on purpose", EXCEPTIONS.len());
    assert!(
        differences.is_empty(),
        "{} differ:\n{}",
        differences.len(),
        differences.join("\n")
    );
}

/// Sends what a case describes and compares the answers.
pub struct Player {
    http: reqwest::Client,
    host: String,
    /// Of keys, by label: the service's id and the secret.
    keys: HashMap<String, (String, String)>,
    fixture_ids: HashSet<String>,
    tokens: Regex,
}

impl Player {
    pub fn new(fixture: &Value, host: String) -> Self {
        // The client wants a provider of cryptography, though nothing here is encrypted. Another test may have set it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut keys = HashMap::new();
        for service in fixture["services"].as_array().unwrap() {
            for key in service["keys"].as_array().unwrap() {
                keys.insert(text(&key["label"]), (text(&service["id"]), text(&key["secret"])));
            }
        }
        let uuid = Regex::new(UUID).unwrap();
        let fixture_ids = uuid
            .find_iter(&fixture.to_string())
            .map(|id| id.as_str().to_owned())
            .collect();
        Self {
            http: reqwest::Client::new(),
            host,
            keys,
            fixture_ids,
            tokens: Regex::new("<([a-z0-9_]+)>").unwrap(),
        }
    }

    pub async fn play(&self, case: &Value) -> Result<(), String> {
        let mut captured = HashMap::new();
        for (index, exchange) in case["exchanges"].as_array().unwrap().iter().enumerate() {
            let answer = self.send(&exchange["request"], &captured).await;
            for (name, pointer) in exchange["capture"].as_object().into_iter().flatten() {
                let value = answer
                    .json
                    .pointer(pointer.as_str().unwrap())
                    .cloned()
                    .unwrap_or_default();
                captured.insert(name.clone(), text(&value));
            }
            self.compare(exchange, &answer, &captured)
                .map_err(|difference| format!("exchange {index}: {difference}"))?;
        }
        Ok(())
    }

    async fn send(&self, asked: &Value, captured: &HashMap<String, String>) -> Answer {
        let asked = expand(asked, captured);
        let method = asked["method"].as_str().unwrap().parse().unwrap();
        let mut request = self
            .http
            .request(method, format!("{}{}", self.host, text(&asked["path"])));
        if let Some(header) = self.authorization(&asked["auth"]) {
            request = request.header("Authorization", header);
        }
        let headers = asked["headers"].as_object().cloned().unwrap_or_default();
        if !headers.contains_key("Content-Type") && (!asked["json"].is_null() || !asked["raw"].is_null()) {
            request = request.header("Content-Type", "application/json");
        }
        for (name, value) in &headers {
            request = request.header(name, text(value));
        }
        if asked.get("json").is_some() {
            request = request.body(asked["json"].to_string());
        } else if asked.get("raw").is_some() {
            request = request.body(text(&asked["raw"]));
        } else if let Some(form) = asked["form"].as_object() {
            request = request.form(&form.iter().map(|(name, value)| (name, text(value))).collect::<Vec<_>>());
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap();
        Answer {
            status,
            headers,
            json: serde_json::from_str(&text).unwrap_or_default(),
            text,
        }
    }

    fn authorization(&self, auth: &Value) -> Option<String> {
        if let Some(header) = auth["header"].as_str() {
            return Some(header.to_owned());
        }
        let now = json!("<now+0>");
        if let Some(label) = auth["key"].as_str() {
            let claims = json!({ "iss": self.keys[label].0, "iat": now });
            return Some(format!(
                "Bearer {}",
                self.jwt(&json!({ "claims": claims, "secret": label }))
            ));
        }
        if auth["admin"] == true {
            let claims = json!({ "iss": "notify-admin", "iat": now });
            return Some(format!(
                "Bearer {}",
                self.jwt(&json!({ "claims": claims, "secret": "<admin_secret>" }))
            ));
        }
        let scheme = auth["scheme"].as_str().unwrap_or("Bearer");
        auth.get("jwt").map(|jwt| format!("{scheme} {}", self.jwt(jwt)))
    }

    /// Builds exactly the token that is described, however wrong.
    fn jwt(&self, described: &Value) -> String {
        let algorithm = described["alg"].as_str().unwrap_or("HS256");
        let mut header = json!({ "typ": "JWT", "alg": algorithm });
        for (name, value) in described["header"].as_object().into_iter().flatten() {
            header[name] = value.clone();
        }
        let claims: Map<String, Value> = described["claims"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| {
                (
                    name.clone(),
                    value.as_str().and_then(epoch).unwrap_or_else(|| value.clone()),
                )
            })
            .collect();
        let signed = format!(
            "{}.{}",
            BASE64.encode(header.to_string()),
            BASE64.encode(json!(claims).to_string())
        );
        let label = described["secret"].as_str().unwrap();
        let secret = self.keys.get(label).map_or(label, |(_, secret)| secret).as_bytes();
        let mut signature = match algorithm {
            "none" => Vec::new(),
            "HS384" => mac::<Hmac<Sha384>>(secret, &signed),
            "HS512" => mac::<Hmac<Sha512>>(secret, &signed),
            _ => mac::<Hmac<Sha256>>(secret, &signed),
        };
        match described["mangle"].as_str() {
            Some("drop_signature") => return signed,
            Some("flip_signature") => signature[0] ^= 1,
            _ => {}
        }
        format!("{signed}.{}", BASE64.encode(signature))
    }

    fn compare(&self, exchange: &Value, answer: &Answer, captured: &HashMap<String, String>) -> Result<(), String> {
        let expected = &exchange["response"];
        if expected["status"].as_u64() != Some(answer.status.into()) {
            return Err(format!(
                "status {}, not {}: {}",
                answer.status, expected["status"], answer.text
            ));
        }
        for (name, value) in expected["headers"].as_object().into_iter().flatten() {
            let actual = answer.headers.get(name).and_then(|value| value.to_str().ok());
            if actual != value.as_str() {
                return Err(format!("header {name}: {actual:?}, not {value}"));
            }
        }
        if expected.get("json").is_none() {
            let expected = expected["text"].as_str().unwrap_or_default();
            return if answer.text == expected {
                Ok(())
            } else {
                Err(format!("text {}, not {expected}", answer.text))
            };
        }
        let unordered: Vec<&str> = exchange["unordered"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        self.same(&expected["json"], &answer.json, "", &unordered, captured)
    }

    fn same(
        &self,
        expected: &Value,
        actual: &Value,
        at: &str,
        unordered: &[&str],
        captured: &HashMap<String, String>,
    ) -> Result<(), String> {
        let differ = || Err(format!("at {at:?}: {actual}, not {expected}"));
        match (expected, actual) {
            (Value::Object(expected), Value::Object(actual)) => {
                if expected.len() != actual.len() {
                    return differ();
                }
                for (name, value) in expected {
                    let Some(actual) = actual.get(name) else {
                        return differ();
                    };
                    self.same(value, actual, &format!("{at}/{name}"), unordered, captured)?;
                }
                Ok(())
            }
            (Value::Array(expected), Value::Array(actual)) => {
                if expected.len() != actual.len() {
                    return differ();
                }
                let mut left: Vec<&Value> = actual.iter().collect();
                for (index, value) in expected.iter().enumerate() {
                    let same = |actual| self.same(value, actual, &format!("{at}/{index}"), unordered, captured);
                    if unordered.contains(&at) {
                        let Some(found) = left.iter().position(|actual| same(actual).is_ok()) else {
                            return differ();
                        };
                        left.remove(found);
                    } else {
                        same(&actual[index])?;
                    }
                }
                Ok(())
            }
            (Value::String(expected), Value::String(actual)) if self.text_fits(expected, actual, captured) => Ok(()),
            (Value::Number(expected), Value::Number(actual)) if expected.as_f64() == actual.as_f64() => Ok(()),
            (Value::Null | Value::Bool(_), _) if expected == actual => Ok(()),
            _ => differ(),
        }
    }

    fn text_fits(&self, expected: &str, actual: &str, captured: &HashMap<String, String>) -> bool {
        let (mut pattern, mut end) = ("(?s)^".to_owned(), 0);
        for token in self.tokens.captures_iter(expected) {
            let whole = token.get(0).unwrap();
            let Some(fits) = self.token_pattern(&token[1], captured) else {
                continue;
            };
            pattern += &regex::escape(&expected[end..whole.start()]);
            pattern += &fits;
            end = whole.end();
        }
        pattern += &regex::escape(&expected[end..]);
        pattern += "$";
        let Some(found) = Regex::new(&pattern).unwrap().captures(actual) else {
            return false;
        };
        found
            .iter()
            .skip(1)
            .flatten()
            .all(|uuid| !self.fixture_ids.contains(uuid.as_str()))
    }

    /// What stands for a token; groups are new UUIDs. None: not a token, but text between angle brackets.
    fn token_pattern(&self, token: &str, captured: &HashMap<String, String>) -> Option<String> {
        let pattern = match token {
            "uuid" => format!("({UUID})"),
            "datetime" => "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{6}Z".to_owned(),
            "request_host" => regex::escape(&self.host),
            "api_host" | "admin_host" | "document_host" => "https?://[^/ ]+".to_owned(),
            "token" => "[^/ ]{16,}".to_owned(),
            name => regex::escape(captured.get(name)?),
        };
        Some(pattern)
    }
}

const UUID: &str = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";

struct Answer {
    status: u16,
    headers: reqwest::header::HeaderMap,
    text: String,
    json: Value,
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn mac<M: Mac + hmac::digest::KeyInit>(secret: &[u8], signed: &str) -> Vec<u8> {
    <M as Mac>::new_from_slice(secret)
        .unwrap()
        .chain_update(signed)
        .finalize()
        .into_bytes()
        .to_vec()
}

/// `<now-35>` is a number, `<now+0:str>` the same as text.
fn epoch(token: &str) -> Option<Value> {
    let token = token.strip_prefix("<now")?.strip_suffix('>')?;
    let (offset, as_text) = token
        .strip_suffix(":str")
        .map_or((token, false), |offset| (offset, true));
    let seconds = Utc::now().timestamp() + offset.parse::<i64>().unwrap();
    Some(if as_text {
        json!(seconds.to_string())
    } else {
        json!(seconds)
    })
}

/// Puts values in the place of tokens, everywhere but in tokens of authorisation.
fn expand(value: &Value, captured: &HashMap<String, String>) -> Value {
    match value {
        Value::String(text) => Value::String(expand_text(text, captured)),
        Value::Array(items) => items.iter().map(|item| expand(item, captured)).collect(),
        Value::Object(fields) => {
            let expanded = fields.iter().map(|(name, value)| match name.as_str() {
                "auth" => (name.clone(), value.clone()),
                _ => (name.clone(), expand(value, captured)),
            });
            Value::Object(expanded.collect())
        }
        other => other.clone(),
    }
}

fn expand_text(text: &str, captured: &HashMap<String, String>) -> String {
    let token = Regex::new("<(?:now([+-][0-9]+)s|repeat:(.+?):([0-9]+)|([a-z0-9_]+))>").unwrap();
    let value = |found: &Captures<'_>| {
        if let Some(offset) = found.get(1) {
            let time = Utc::now() + TimeDelta::seconds(offset.as_str().parse().unwrap());
            time.format("%Y-%m-%dT%H:%M:%S").to_string()
        } else if let Some(repeated) = found.get(2) {
            repeated.as_str().repeat(found[3].parse().unwrap())
        } else {
            captured.get(&found[4]).cloned().unwrap_or_else(|| found[0].to_owned())
        }
    };
    token.replace_all(text, value).into_owned()
}
