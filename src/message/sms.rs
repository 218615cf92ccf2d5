//! Text messages: what is sent, and how many fragments it costs. The rules are Notify's, to the character.

mod fragments;
mod sanitise;
mod whitespace;

use std::borrow::Cow;

pub use fragments::fragments;
pub use sanitise::{needs_unicode, sanitise};

use crate::personalisation::Personalisation;
use crate::template::{Fill, fill};

/// The longest message that may be sent, in characters without the prefix.
pub const SMS_CHARACTER_LIMIT: usize = 918;

/// What stands between the prefix and the message.
const PREFIX_SEPARATOR: &str = ": ";

/// A template, and the name to put before its messages.
#[derive(Clone, Copy, Debug)]
pub struct SmsTemplate<'a> {
    pub content: &'a str,
    /// The service's name when it prefixes its messages. An empty name prefixes nothing.
    pub prefix: Option<&'a str>,
}

/// A message ready to be sent. Placeholders without a value are kept as written; check [`crate::template::missing`].
#[derive(Clone, PartialEq, Eq)]
pub struct RenderedSms {
    /// What the API shows: never prefixed.
    pub body: String,
    /// What the provider gets.
    pub message: String,
    /// What is billed: 160 GSM septets (70 characters when unicode) in one, 153 (67) each in several.
    pub fragments: u32,
    /// Whether the message has to be sent as UCS-2, because it has a Welsh letter that GSM 03.38 lacks.
    pub is_unicode: bool,
    /// More than [`SMS_CHARACTER_LIMIT`] characters without the prefix.
    pub too_long: bool,
    /// Nothing to say but the prefix.
    pub is_empty: bool,
    /// UTF-16 units of `message`.
    pub character_count: usize,
    /// The same less the prefix; what the limit is about. Taken off is the prefix as sanitised but not trimmed, which
    /// is how Notify counts: a name with spaces around it takes off more than it adds.
    pub character_count_without_prefix: usize,
}

/// Fills the template and makes of it the message that is sent.
#[must_use]
pub fn render(template: &SmsTemplate<'_>, personalisation: &Personalisation) -> RenderedSms {
    let filled = fill(template.content, personalisation, Fill::TEXT);
    let body_text = whitespace::normalise(&filled);
    let body = sanitise(&body_text);
    let prefix = template.prefix.filter(|name| !name.is_empty());
    let (text, prefix_units) = match prefix {
        Some(name) => {
            let prefixed = [name.trim(), PREFIX_SEPARATOR, &filled].concat();
            let units = utf16_units(&sanitise(name)) + PREFIX_SEPARATOR.len();
            (Cow::Owned(whitespace::normalise(&prefixed)), units)
        }
        None => (Cow::Borrowed(body_text.as_str()), 0),
    };
    let message = sanitise(&text);
    let is_unicode = needs_unicode(&text);
    let character_count = utf16_units(&message);
    let without_prefix = character_count.saturating_sub(prefix_units);
    RenderedSms {
        fragments: fragments(&message, is_unicode),
        is_unicode,
        too_long: without_prefix > SMS_CHARACTER_LIMIT,
        is_empty: body.is_empty(),
        character_count,
        character_count_without_prefix: without_prefix,
        body,
        message,
    }
}

fn utf16_units(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn sent(content: &str, prefix: Option<&str>) -> RenderedSms {
        render(&SmsTemplate { content, prefix }, &Personalisation::default())
    }

    #[test]
    fn the_prefix_is_sent_and_counted_but_not_shown_nor_limited() {
        let long = "x".repeat(SMS_CHARACTER_LIMIT);
        let rendered = sent(&long, Some("Tŷ Ni"));
        assert_eq!(
            (rendered.body.as_str(), rendered.message),
            (long.as_str(), format!("Tŷ Ni: {long}"))
        );
        assert!(rendered.is_unicode && !rendered.too_long);
        assert_eq!(
            (rendered.character_count, rendered.character_count_without_prefix),
            (925, 918)
        );
        assert_eq!(rendered.fragments, 14);
        assert!(sent(&(long + "x"), Some("Tŷ Ni")).too_long);
        assert!(sent(" \u{200b}\n", Some("Tŷ Ni")).is_empty);
    }

    #[test]
    fn values_are_cleaned_like_the_template() {
        let values = json!({"name": " Zoë\t", "items": ["a", null, " b"], "late": "no"});
        let values = Personalisation::from_json(values.as_object().expect("an object"));
        let content = "Hi ((Name)) , “((items))” ((late??hurry)) .";
        let rendered = render(&SmsTemplate { content, prefix: None }, &values);
        assert_eq!(rendered.message, "Hi Zoë, \"a and b\".");
    }

    #[test]
    fn hostile_bodies_take_linear_time() {
        for hostile in ["((", " ", "\r\u{200b}", " .", "ấ", "((a??b)) "] {
            let content = hostile.repeat(2_000_000 / hostile.len());
            assert!(sent(&content, Some("Service")).fragments >= 1);
        }
    }

    proptest! {
        #[test]
        fn every_text_becomes_a_message_that_adds_up(
            content in "([a-c(){}?€ŵ.,\n\t ]|\\PC|(?s:.)){0,200}",
            prefix in proptest::option::of("[A-Za-zŷ€👍]{0,20}"),
        ) {
            let rendered = sent(&content, prefix.as_deref());
            prop_assert_eq!(rendered.character_count, rendered.message.encode_utf16().count());
            prop_assert!(rendered.character_count_without_prefix <= rendered.character_count);
            prop_assert!(rendered.message.ends_with(&rendered.body));
            prop_assert_eq!(&sanitise(&rendered.message), &rendered.message);
            prop_assert_eq!(rendered.fragments, fragments(&rendered.message, rendered.is_unicode));
        }
    }
}
