//! Texts that people send to a service's number, as the firms that carry them tell of them. Pure.

pub mod firetext;
pub mod mmg;

use std::fmt;

use crate::phone;

/// Longest number or name of a sender, or number of a service, that is one.
const LONGEST_NUMBER: usize = 50;

/// Longest id that a firm gives to a text.
const LONGEST_REFERENCE: usize = 255;

/// Longest text in characters. As many parts as a text can have hold 39,015.
const LONGEST_CONTENT: usize = 40_000;

/// One text as it was told.
#[derive(Clone, PartialEq, Eq)]
pub struct InboundText {
    /// The number that it was sent to, as it is written in `inbound_numbers`: `07…`.
    pub to: String,
    /// International digits where it is a number, else as it came.
    pub from: String,
    pub content: String,
    /// The firm's own id of it.
    pub reference: Option<String>,
    /// When it was sent, as the firm writes it, which is in UTC.
    pub sent_at: String,
}

/// It stays out of logs.
impl fmt::Debug for InboundText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InboundText")
            .field("reference", &self.reference)
            .finish_non_exhaustive()
    }
}

/// Why a request's body is no text. The words name fields, never what is in them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoText {
    #[error("the body is not of the form that {0} uses")]
    Form(&'static str),
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("{0} is too long, or holds characters that have no place in it")]
    Unusable(&'static str),
}

impl InboundText {
    fn check(self, names: Names) -> Result<Self, NoText> {
        let fits = |text: &str, most: usize| text.chars().count() <= most && !text.chars().any(char::is_control);
        if !fits(&self.to, LONGEST_NUMBER) {
            return Err(NoText::Unusable(names.to));
        }
        if !fits(&self.from, LONGEST_NUMBER) {
            return Err(NoText::Unusable(names.from));
        }
        if !self
            .reference
            .as_deref()
            .is_none_or(|reference| fits(reference, LONGEST_REFERENCE))
        {
            return Err(NoText::Unusable(names.reference));
        }
        if self.content.chars().count() > LONGEST_CONTENT {
            return Err(NoText::Unusable(names.content));
        }
        Ok(self)
    }
}

/// How a firm calls its fields.
struct Names {
    to: &'static str,
    from: &'static str,
    content: &'static str,
    reference: &'static str,
}

/// A service's number as it is kept: `447…` is `07…`.
fn at_home(number: &str) -> String {
    match number.strip_prefix("44") {
        Some(rest) => format!("0{rest}"),
        None => number.to_owned(),
    }
}

/// International digits; what is no number (a name, a short code) as it is.
fn sender(from: &str) -> String {
    phone::parse(from).map_or_else(|_| from.to_owned(), |number| number.normalised)
}

#[cfg(test)]
mod tests {
    use super::{NoText, firetext, mmg};

    fn content(written: &str) -> String {
        let body = serde_json::json!({
            "Number": "447860000001", "MSISDN": "447411000201", "Message": written, "ID": "1", "DateRecieved": "",
        });
        mmg::parse(body.to_string().as_bytes()).unwrap().content
    }

    #[test]
    fn mmg_writes_texts_for_a_url_and_with_escapes() {
        for (written, read) in [
            ("", ""),
            ("lots+of+words", "lots of words"),
            ("x+%2B+y", "x + y"),
            ("%F0%9F%93%A9+%f0%9f%93%a9", "📩 📩"),
            ("50%", "50%"),
            ("😬", "😬"),
            (r"price+\u00a35", "price £5"),
            (r"%5Cu20AC", "€"),
            (r"\ud83d\ude00", "😀"),
            (r"\U0001F600", "😀"),
            (r"lone \ud83d", "lone \u{fffd}"),
            (r"1\n2", "1\n2"),
            (r#"\'\"\\"#, r#"'"\"#),
            (r"\x41\101", "AA"),
            (r"\u12", r"\u12"),
            (r"C:\Windows\", r"C:\Windows\"),
        ] {
            assert_eq!(content(written), read, "{written}");
        }
    }

    #[test]
    fn numbers_are_written_as_they_are_kept() {
        let body = |source: &str| format!("destination=447860000001&source={source}&message=Hi&time=");
        for (source, from) in [
            ("447411000201", "447411000201"),
            ("07411000201", "447411000201"),
            ("%2B33612345678", "33612345678"),
            ("Bank", "Bank"),
            ("60006", "60006"),
        ] {
            let text = firetext::parse(body(source).as_bytes()).unwrap();
            assert_eq!((text.to.as_str(), text.from.as_str()), ("07860000001", from));
        }
    }

    #[test]
    fn what_is_missing_or_unusable_is_named() {
        assert_eq!(mmg::parse(b"[]"), Err(NoText::Form("MMG")));
        let error = mmg::parse(br#"{"Number": "1", "MSISDN": "2"}"#).unwrap_err();
        assert_eq!(error, NoText::Missing("Message"));
        let error = firetext::parse(b"source=a&destination=b&time=c").unwrap_err();
        assert_eq!(error, NoText::Missing("message"));
        let error = firetext::parse(b"source=a%00&destination=b&time=c&message=d").unwrap_err();
        assert_eq!(error, NoText::Unusable("source"));
        let long = format!("source=a&destination=b&time=c&message={}", "d".repeat(40_001));
        assert_eq!(firetext::parse(long.as_bytes()), Err(NoText::Unusable("message")));
    }
}
