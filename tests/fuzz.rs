//! Bodies and tokens that nobody would write. Whatever comes, there is an answer, it is not our fault (no 5xx), it has the
//! shape that clients know, and it leaves a row if and only if it says that the message was accepted.
//!
//! `HERALD_FUZZ_SEED` and `HERALD_FUZZ_CASES` choose which cases are played and how many; a failure prints its seed.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use reqwest::{Client, RequestBuilder, StatusCode, header};
use serde_json::{Value, json};

use crate::harness::{Herald, SMS_TEMPLATE, http, live_token};

const BODIES: u64 = 100_000;
const TOKENS: u64 = 20_000;
const AT_ONCE: u64 = 16;

/// Pieces that have broken parsers before.
const PIECES: [&str; 30] = [
    "null",
    "true",
    "-0",
    "1e999",
    "0.1e-999",
    "99999999999999999999999999",
    "[]",
    "{}",
    "[[[[[[[[",
    "{\"\":",
    "\"\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"\\udc00\\ud800\"",
    "\\",
    "\"",
    "\u{feff}",
    "\u{202e}",
    "NaN",
    "Infinity",
    "'",
    "))((",
    "((",
    "((a??b))",
    "\"file\":",
    "\"personalisation\":",
    "\"__proto__\":",
    "\"reference\":",
    "%00",
    "\r\n\r\n",
];

#[tokio::test]
async fn no_body_breaks_the_api_or_leaves_a_row_without_being_accepted() {
    let herald = Arc::new(Herald::start_without_workers().await);
    let accepted = play(BODIES, |seed, http| {
        let mut dice = StdRng::seed_from_u64(seed);
        let (path, body) = body(&mut dice);
        let url = format!("{}/v2/notifications/{path}", herald.base_url);
        http.post(url)
            .header(header::CONTENT_TYPE, "application/json")
            .bearer_auth(live_token())
            .body(body)
    })
    .await;
    let rows: i64 = sqlx::query_scalar("select count(*) from notifications")
        .fetch_one(&*herald.database)
        .await
        .unwrap();
    let runs: i64 = sqlx::query_scalar("select count(*) from engine.run")
        .fetch_one(&*herald.database)
        .await
        .unwrap();
    assert!(accepted > 0, "some bodies stay good, or the mutations prove nothing");
    assert_eq!((rows, runs), (accepted, accepted));
}

#[tokio::test]
async fn no_token_but_a_good_one_is_let_in() {
    let herald = Arc::new(Herald::start_without_workers().await);
    let url = format!("{}/v2/templates", herald.base_url);
    let good = live_token();
    let signed = &good.as_bytes()[..=good.rfind('.').unwrap()];
    let let_in = play(TOKENS, |seed, http| {
        let mut dice = StdRng::seed_from_u64(seed);
        let mut token = good.clone().into_bytes();
        // A signature may be written in several ways; what it signs may not.
        while token.starts_with(signed) {
            mutate(&mut token, &mut dice);
            token.retain(|byte| (32..127).contains(byte));
        }
        http.get(&url).header(
            header::AUTHORIZATION,
            format!("Bearer {}", String::from_utf8(token).unwrap()),
        )
    })
    .await;
    assert_eq!(let_in, 0);
}

/// Plays cases at once; returns how many were answered with 2xx.
async fn play(cases: u64, request: impl Fn(u64, &Client) -> RequestBuilder) -> i64 {
    let setting = |name: &str| std::env::var(name).ok().map(|number| number.parse::<u64>().unwrap());
    let first = setting("HERALD_FUZZ_SEED").unwrap_or(0);
    let last = first + setting("HERALD_FUZZ_CASES").unwrap_or(cases);
    let (next, good, http) = (AtomicU64::new(first), AtomicU64::new(0), http());
    let players = (0..AT_ONCE).map(|_| async {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= last {
                return;
            }
            let answer = request(seed, &http)
                .send()
                .await
                .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            let status = answer.status();
            let told: Value = answer
                .json()
                .await
                .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            if status.is_success() {
                good.fetch_add(1, Ordering::Relaxed);
            } else {
                check(seed, status, &told);
            }
        }
    });
    futures::future::join_all(players).await;
    good.load(Ordering::Relaxed).try_into().unwrap()
}

fn check(seed: u64, status: StatusCode, told: &Value) {
    assert!(status.is_client_error(), "seed {seed}: {status}: {told}");
    assert_eq!(told["status_code"], status.as_u16(), "seed {seed}: {told}");
    let errors = told["errors"].as_array().unwrap();
    assert!(!errors.is_empty(), "seed {seed}: {told}");
    for error in errors {
        assert!(
            error["error"].is_string() && error["message"].is_string(),
            "seed {seed}: {told}"
        );
    }
}

fn body(dice: &mut StdRng) -> (&'static str, Vec<u8>) {
    let (path, mut good) = if dice.random() {
        let sms = json!({"phone_number": "07900900123", "template_id": SMS_TEMPLATE, "personalisation": {"name": "Ada"},
            "reference": "r", "scheduled_for": null, "expires_in": 60});
        ("sms", sms)
    } else {
        let email = json!({"email_address": "ada@example.com", "template_id": "5b8f5f5e-1c43-4b8e-9b56-7d1e2a9c4f31",
            "personalisation": {"name": {"file": "aGVsbG8=", "filename": "a.csv"}}, "sanitise_content_for": ["name"],
            "one_click_unsubscribe_url": "https://example.com/u", "reference": "r"});
        ("email", email)
    };
    // Half of the cases change the JSON as JSON, so that they get past the parser.
    if dice.random() {
        let fields = good.as_object_mut().unwrap();
        let names: Vec<String> = fields.keys().cloned().collect();
        let name = names.choose(dice).unwrap().clone();
        match dice.random_range(0..3) {
            0 => drop(fields.swap_remove(&name)),
            1 => drop(fields.insert(name, any_json(dice, 4))),
            _ => {
                fields.insert("personalisation".to_owned(), any_json(dice, 4));
            }
        }
        return (path, good.to_string().into_bytes());
    }
    let mut bytes = good.to_string().into_bytes();
    for _ in 0..dice.random_range(1..6) {
        mutate(&mut bytes, dice);
    }
    (path, bytes)
}

fn any_json(dice: &mut StdRng, depth: usize) -> Value {
    match dice.random_range(0..if depth == 0 { 5 } else { 7 }) {
        0 => Value::Null,
        1 => dice.random::<bool>().into(),
        2 => dice.random::<i64>().into(),
        3 => dice.random::<f64>().into(),
        4 => any_text(dice).into(),
        5 => (0..dice.random_range(0..4))
            .map(|_| any_json(dice, depth - 1))
            .collect(),
        _ => {
            let fields = (0..dice.random_range(0..4)).map(|_| {
                let name = if dice.random() {
                    "name".to_owned()
                } else {
                    any_text(dice)
                };
                (name, any_json(dice, depth - 1))
            });
            Value::Object(fields.collect())
        }
    }
}

fn any_text(dice: &mut StdRng) -> String {
    match dice.random_range(0..3) {
        0 => PIECES.choose(dice).unwrap().repeat(dice.random_range(1..3)),
        1 => (0..dice.random_range(0..12)).map(|_| dice.random::<char>()).collect(),
        _ => "x".repeat(dice.random_range(0..3_000)),
    }
}

fn mutate(bytes: &mut Vec<u8>, dice: &mut StdRng) {
    let at = dice.random_range(0..=bytes.len());
    let end = (at + dice.random_range(0..16)).min(bytes.len());
    match dice.random_range(0..6) {
        0 if at < bytes.len() => bytes[at] = dice.random(),
        1 if at < bytes.len() => bytes[at] ^= 1 << dice.random_range(0..8),
        2 => drop(bytes.drain(at..end)),
        3 => {
            let again = bytes[at..end].to_vec();
            bytes.splice(at..at, again);
        }
        4 => bytes.truncate(at),
        _ => {
            let piece = PIECES.choose(dice).unwrap().bytes();
            bytes.splice(at..at, piece);
        }
    }
}
