//! Bodies and tokens that a fuzzer thinks of, guided by the code that they reach: `make fuzz`. `tests/fuzz.rs` sends random
//! ones through the whole API.
//!
//! The first byte says what the others are. What breaks a property is kept in a file, which played alone shows it again:
//! `target/fuzz/…/release/fuzz FILE`.

#![no_main]

use std::fmt::Debug;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use herald_api::{Error, fuzzing};
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const SECRET: &[u8] = b"7b0c6a0e-52f4-4c3b-9f60-1f6f0b8a2c41";
const NOW: i64 = 1_800_000_000;
const LEEWAY: f64 = 30.0;

fuzz_target!(|input: &[u8]| {
    let Some((kind, rest)) = input.split_first() else {
        return;
    };
    match kind {
        b's' => body(rest, fuzzing::text),
        b'e' => body(rest, fuzzing::email),
        b't' => signed_token(rest),
        _ => any_token(rest),
    }
});

/// A body is understood, or its sender is told what is wrong with it; and what is the same JSON is the same request.
fn body<T: Debug>(bytes: &[u8], read: impl Fn(&[u8]) -> Result<T, Error>) {
    let outcome = read(bytes);
    match &outcome {
        Ok(_) | Err(Error::BadRequest(_)) => {}
        Err(Error::Validation(faults)) => {
            assert!(!faults.is_empty() && faults.iter().all(|fault| !fault.is_empty()));
        }
        Err(other) => panic!("{other:?}"),
    }
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else {
        assert!(
            matches!(outcome, Err(Error::BadRequest(_))),
            "this is no JSON: {outcome:?}"
        );
        return;
    };
    let again = read(value.to_string().as_bytes());
    assert_eq!(format!("{outcome:?}"), format!("{again:?}"));
}

/// Header and claims as they come, a line each, well signed. What is let in keeps the rules, read another way; under
/// another signature it does not get in.
fn signed_token(bytes: &[u8]) {
    let mut parts = bytes.splitn(3, |byte| *byte == b'\n');
    let (Some(header), Some(claims)) = (parts.next(), parts.next()) else {
        return;
    };
    let signed = format!("{}.{}", BASE64_URL_SAFE_NO_PAD.encode(header), BASE64_URL_SAFE_NO_PAD.encode(claims));
    let key = EncodingKey::from_secret(SECRET);
    let signature = crypto::sign(signed.as_bytes(), &key, Algorithm::HS256).expect("HMAC signs everything");
    if fuzzing::is_good_token(&format!("{signed}.{signature}"), SECRET, NOW) {
        assert!(keeps_the_rules(header, claims));
    }
    let (start, _) = signature.split_at(signature.len() - 1);
    let other = parts.next().map(String::from_utf8_lossy).unwrap_or_default();
    // The last character holds spare bits, which may be written in several ways.
    if !other.starts_with(start) {
        assert!(!fuzzing::is_good_token(&format!("{signed}.{other}"), SECRET, NOW));
    }
}

/// Nobody but the fuzzer made it.
fn any_token(bytes: &[u8]) {
    if let Ok(token) = std::str::from_utf8(bytes) {
        assert!(!fuzzing::is_good_token(token, SECRET, NOW));
    }
}

/// HS256, made just now, and neither over, nor too early, nor for anybody else.
fn keeps_the_rules(header: &[u8], claims: &[u8]) -> bool {
    let (Ok(header), Ok(claims)) = (
        serde_json::from_slice::<Value>(header),
        serde_json::from_slice::<Value>(claims),
    ) else {
        // Half of a surrogate pair, where nobody looks at it: Python reads that, and so do we; this reader does not.
        return [header, claims]
            .iter()
            .any(|part| part.to_ascii_lowercase().windows(3).any(|part| part == b"\\ud"));
    };
    let now = NOW as f64;
    let time = |name: &str| match &claims[name] {
        Value::String(digits) => digits.trim().parse::<f64>().ok(),
        Value::Bool(yes) => Some(f64::from(u8::from(*yes))),
        number => number.as_f64().map(f64::trunc),
    };
    header["alg"] == "HS256"
        && time("iat").is_some_and(|made| (made - now).abs() <= LEEWAY)
        && time("nbf").is_none_or(|begins| begins <= now + LEEWAY)
        && time("exp").is_none_or(|ends| ends > now - LEEWAY)
        && ["", "null", "false", "0", "\"\"", "[]", "{}"].contains(&claims["aud"].to_string().as_str())
            | (claims["aud"].as_f64() == Some(0.0))
}
