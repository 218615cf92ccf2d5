//! What is read of a request before anything is asked of anybody: for a fuzzer, which gives it bytes.

use std::fmt::Debug;

use crate::{
    Error, email, sms,
    token::{SigningKey, Token, Verdict},
};

/// A body of `POST /v2/notifications/sms`.
///
/// # Errors
/// What its sender would be told.
pub fn text(body: &[u8]) -> Result<impl Debug + use<>, Error> {
    sms::Order::read(body)
}

/// A body of `POST /v2/notifications/email`.
///
/// # Errors
/// What its sender would be told.
pub fn email(body: &[u8]) -> Result<impl Debug + use<>, Error> {
    email::Order::read(body)
}

/// Whether the holder of this secret made this token, by the rules for tokens, at `now` in seconds since 1970.
pub fn is_good_token(token: &str, secret: &[u8], now: i64) -> bool {
    let verdict = Token::read(token).map(|token| token.check(&SigningKey::new(secret), now));
    verdict == Some(Verdict::Good)
}
