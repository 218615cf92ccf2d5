//! Names and passwords of the providers that call us. They are compared whole and in constant time.

use base64::{Engine, prelude::BASE64_STANDARD};
use poem::http::{HeaderMap, header};
use subtle::{Choice, ConstantTimeEq};

use crate::{error::LegacyErrors, payload::Answer};

/// Why a caller is turned away.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    NoCredentials,
    WrongCredentials,
}

impl Refusal {
    /// In Notify's words.
    pub fn told(&self) -> Answer<LegacyErrors> {
        Answer(LegacyErrors::new(match self {
            Self::NoCredentials => "Unauthorized: authentication token must be provided",
            Self::WrongCredentials => "Forbidden: invalid authentication token provided",
        }))
    }
}

/// Whether a request bears one of the names with one of the passwords. Nothing is right where nothing is allowed.
pub fn check(headers: &HeaderMap, names: &[String], passwords: &[String]) -> Result<(), Refusal> {
    let given = headers.get(header::AUTHORIZATION).ok_or(Refusal::NoCredentials)?;
    let (name, password) = given.to_str().ok().and_then(read).ok_or(Refusal::WrongCredentials)?;
    if bool::from(is_one_of(&name, names) & is_one_of(&password, passwords)) {
        Ok(())
    } else {
        Err(Refusal::WrongCredentials)
    }
}

/// The name, in which there is no colon, and the password.
fn read(header: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    let (scheme, credentials) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let credentials = BASE64_STANDARD.decode(credentials.trim()).ok()?;
    let colon = credentials.iter().position(|byte| *byte == b':')?;
    Some((credentials[..colon].to_vec(), credentials[colon + 1..].to_vec()))
}

fn is_one_of(given: &[u8], allowed: &[String]) -> Choice {
    let none = Choice::from(0);
    allowed
        .iter()
        .fold(none, |found, allowed| found | given.ct_eq(allowed.as_bytes()))
}

#[cfg(test)]
mod tests {
    use poem::http::HeaderValue;

    use super::*;

    fn verdict(header: Option<&'static str>) -> Result<(), Refusal> {
        let value = header.map(|value| (header::AUTHORIZATION, HeaderValue::from_static(value)));
        let [names, passwords] = [["other", "mmg"], ["retired", "let:me:in"]].map(|list| list.map(str::to_owned));
        check(&value.into_iter().collect(), &names, &passwords)
    }

    #[test]
    fn credentials_must_be_right_as_a_whole() {
        assert_eq!(verdict(None), Err(Refusal::NoCredentials));
        // mmg:let:me:in, other:retired
        for right in [
            "Basic bW1nOmxldDptZTppbg==",
            "basic bW1nOmxldDptZTppbg==",
            "Basic b3RoZXI6cmV0aXJlZA==",
        ] {
            assert_eq!(verdict(Some(right)), Ok(()), "{right}");
        }
        // mmg: with no password, let:me:in: the other way round
        for wrong in [
            "Basic bW1nOg==",
            "Basic bGV0Om1lOmlu",
            "Basic !",
            "Bearer bW1nOmxldDptZTppbg==",
            "bW1nOmxldDptZTppbg==",
            "Basic",
        ] {
            assert_eq!(verdict(Some(wrong)), Err(Refusal::WrongCredentials), "{wrong}");
        }
    }

    #[test]
    fn where_nothing_is_allowed_nothing_is_right() {
        let header = HeaderValue::from_static("Basic Og==");
        let headers = [(header::AUTHORIZATION, header)].into_iter().collect();
        assert_eq!(check(&headers, &[], &[]), Err(Refusal::WrongCredentials));
    }
}
