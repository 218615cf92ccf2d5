//! Bearer tokens: JSON Web Tokens signed with HMAC-SHA256, judged exactly as GOV.UK Notify judges them.
//!
//! Assembled by hand because the order of the checks is part of the interface: the algorithm comes before the signature,
//! the signature before the claims, and each says something else. Signatures are compared in constant time.

use base64::{
    Engine,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use hmac::{Hmac, Mac};
use serde::Deserialize;
use serde_json::Value;
use sha2::Sha256;

/// How far the caller's clock may be from ours, either way.
const LEEWAY_SECONDS: i64 = 30;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A key's secret, ready to check signatures.
#[derive(Clone)]
pub struct SigningKey(Hmac<Sha256>);

impl SigningKey {
    pub fn new(secret: &[u8]) -> Self {
        Self(Hmac::new_from_slice(secret).expect("HMAC takes keys of any length"))
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey")
    }
}

/// A token that could be read. Nothing in it is to be believed before [`Token::check`].
#[derive(Debug)]
pub struct Token<'a> {
    signed: &'a str,
    signature: Vec<u8>,
    algorithm: Option<Value>,
    claims: Claims,
}

#[derive(Debug, Deserialize)]
struct Header {
    #[serde(default)]
    alg: Option<Value>,
    #[serde(default)]
    kid: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Claims {
    #[serde(default)]
    iss: Option<Value>,
    #[serde(default)]
    iat: Option<Value>,
    #[serde(default)]
    nbf: Option<Value>,
    #[serde(default)]
    exp: Option<Value>,
    #[serde(default)]
    aud: Option<Value>,
}

/// What a key says to a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Good,
    /// Not signed with this key, as far as one can tell.
    OtherKey,
    NotHs256,
    /// Made too long ago, or in the future.
    ClockOff,
    /// Well signed, but it carries something that forbids its use here.
    Unacceptable,
}

impl<'a> Token<'a> {
    /// Takes a token apart. `None` when it has not the form of one.
    pub fn read(text: &'a str) -> Option<Self> {
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header: Header = part(header)?;
        if header.kid.is_some_and(|kid| !kid.is_string()) {
            return None;
        }
        Some(Self {
            signed,
            signature: BASE64.decode(signature).ok()?,
            algorithm: header.alg,
            claims: part(claims)?,
        })
    }

    /// Who made it, by their own account.
    pub fn issuer(&self) -> Option<&Value> {
        self.claims.iss.as_ref()
    }

    /// Judges it by one key, at `now` in seconds since 1970.
    pub fn check(&self, key: &SigningKey, now: i64) -> Verdict {
        if self.algorithm.as_ref().and_then(Value::as_str) != Some("HS256") {
            return Verdict::NotHs256;
        }
        if key
            .0
            .clone()
            .chain_update(self.signed)
            .verify_slice(&self.signature)
            .is_err()
        {
            return Verdict::OtherKey;
        }
        self.claims.check(now)
    }
}

impl Claims {
    /// The order is that of Notify's libraries: each claim says something else, and the first to object is heard.
    fn check(&self, now: i64) -> Verdict {
        let made_at = match self.iat.as_ref().map(whole_number) {
            Some(None) => return Verdict::ClockOff,
            Some(Some(time)) if time > now + LEEWAY_SECONDS => return Verdict::ClockOff,
            Some(Some(time)) => Some(time),
            None => None,
        };
        match self.nbf.as_ref().map(whole_number) {
            Some(None) => return Verdict::OtherKey,
            Some(Some(time)) if time > now + LEEWAY_SECONDS => return Verdict::ClockOff,
            _ => {}
        }
        match self.exp.as_ref().map(whole_number) {
            Some(None) => return Verdict::OtherKey,
            Some(Some(time)) if time <= now - LEEWAY_SECONDS => return Verdict::Unacceptable,
            _ => {}
        }
        if self.aud.as_ref().is_some_and(is_truthy) {
            return Verdict::Unacceptable;
        }
        match made_at {
            None => Verdict::OtherKey,
            Some(time) if now > time + LEEWAY_SECONDS => Verdict::ClockOff,
            Some(_) => Verdict::Good,
        }
    }
}

fn part<T: for<'de> Deserialize<'de>>(text: &str) -> Option<T> {
    // Whole, because what is skipped on the way to the known fields is not looked at: JSON is UTF-8.
    let json = String::from_utf8(BASE64.decode(text).ok()?).ok()?;
    // A struct can also be read from a JSON list; a token's parts are objects.
    if !json.trim_ascii_start().starts_with('{') {
        return None;
    }
    serde_json::from_str(&json).ok()
}

/// Python's `int()`: whole numbers, numbers cut off at the point, and text of digits. Beyond 64 bits: far away.
fn whole_number(value: &Value) -> Option<i64> {
    match value {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the cast saturates, and a time that far away is as wrong"
        )]
        Value::Number(number) => number.as_i64().or_else(|| number.as_f64().map(|number| number as i64)),
        Value::String(text) => text.trim().parse().ok(),
        Value::Bool(yes) => Some((*yes).into()),
        _ => None,
    }
    // Keeps the sums with the leeway in range.
    .map(|number: i64| number.clamp(i64::MIN / 2, i64::MAX / 2))
}

fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(yes) => *yes,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn token(header: &str, claims: &str, secret: &str) -> String {
        let signed = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
        let signature = SigningKey::new(secret.as_bytes())
            .0
            .chain_update(&signed)
            .finalize()
            .into_bytes();
        format!("{signed}.{}", BASE64.encode(signature).trim_end_matches('='))
    }

    fn verdict(claims: &str) -> Verdict {
        let text = token(r#"{"typ":"JWT","alg":"HS256"}"#, claims, "secret");
        Token::read(&text)
            .expect("it is a token")
            .check(&SigningKey::new(b"secret"), NOW)
    }

    #[test]
    fn thirty_seconds_either_way_are_tolerated_and_thirty_one_are_not() {
        for (iat, expected) in [
            (NOW - 31, Verdict::ClockOff),
            (NOW - 30, Verdict::Good),
            (NOW + 30, Verdict::Good),
            (NOW + 31, Verdict::ClockOff),
            (i64::MIN, Verdict::ClockOff),
            (i64::MAX, Verdict::ClockOff),
        ] {
            assert_eq!(verdict(&format!(r#"{{"iss":"x","iat":{iat}}}"#)), expected, "{iat}");
        }
        assert_eq!(verdict(r#"{"iss":"x","iat":1e300}"#), Verdict::ClockOff);
    }

    #[test]
    fn a_token_without_a_time_fits_no_key() {
        assert_eq!(verdict(r#"{"iss":"x"}"#), Verdict::OtherKey);
    }

    #[test]
    fn a_token_for_somebody_else_or_out_of_date_is_unacceptable_even_if_its_time_is_off() {
        assert_eq!(
            verdict(&format!(r#"{{"iat":{NOW},"aud":"them"}}"#)),
            Verdict::Unacceptable
        );
        assert_eq!(
            verdict(&format!(r#"{{"iat":{},"exp":{}}}"#, NOW - 90, NOW - 30)),
            Verdict::Unacceptable
        );
        assert_eq!(
            verdict(&format!(r#"{{"iat":{NOW},"exp":{},"aud":""}}"#, NOW - 29)),
            Verdict::Good
        );
        assert_eq!(
            verdict(&format!(r#"{{"iat":{NOW},"nbf":{}}}"#, NOW + 31)),
            Verdict::ClockOff
        );
    }

    #[test]
    fn the_algorithm_is_judged_before_the_signature_and_the_signature_before_the_time() {
        let other_key = SigningKey::new(b"another");
        let none = token(r#"{"alg":"none"}"#, "{}", "secret");
        assert_eq!(
            Token::read(&none).map(|token| token.check(&other_key, NOW)),
            Some(Verdict::NotHs256)
        );
        let old = token(r#"{"alg":"HS256"}"#, r#"{"iat":1}"#, "secret");
        assert_eq!(
            Token::read(&old).map(|token| token.check(&other_key, NOW)),
            Some(Verdict::OtherKey)
        );
    }

    #[test]
    fn what_is_not_three_parts_of_base64_json_objects_is_no_token() {
        let good = token(r#"{"alg":"HS256"}"#, "{}", "secret");
        assert!(Token::read(&good).is_some());
        let list = token("[]", "{}", "secret");
        let bad_kid = token(r#"{"alg":"HS256","kid":1}"#, "{}", "secret");
        let not_utf8 = BASE64.encode(b"{\"alg\":\"HS256\",\"typ\":\"\xff\"}");
        let not_utf8 = format!("{not_utf8}.{}", good.split_once('.').expect("it has parts").1);
        let unsigned = good.rsplit_once('.').expect("it has parts").0;
        for text in [
            "",
            "..",
            "a.b.c",
            "a b.c d.e",
            "é.é.é",
            unsigned,
            &format!("{good}.x"),
            &list,
            &bad_kid,
            &not_utf8,
        ] {
            assert!(Token::read(text).is_none(), "{text}");
        }
    }
}
