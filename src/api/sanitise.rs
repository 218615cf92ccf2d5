//! Makes personalisation harmless that a stranger may have written: links are broken up or taken out, and Markdown
//! is escaped.

use std::{collections::BTreeMap, sync::LazyLock};

use herald_message::personalisation::key as plain_name;
use poem_openapi::Object;
use regex::Regex;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::Error;

/// Characters with a meaning in Markdown.
const SPECIAL: &str = "`*_()\\{}[]<>#+-.!|";

/// What was changed in a value.
#[derive(Debug, PartialEq, Eq, Serialize, Object)]
pub struct Sanitised {
    sanitised: String,
    unsanitised: String,
}

/// Cleans the values of these keys and says which that changed.
///
/// # Errors
/// When a value to be cleaned is not text.
pub fn sanitise(
    personalisation: &mut Map<String, Value>,
    keys: &[String],
) -> Result<BTreeMap<String, Sanitised>, Error> {
    let mut changed = BTreeMap::new();
    if keys.is_empty() {
        return Ok(changed);
    }
    let keys: Vec<String> = keys.iter().map(|key| plain_name(key)).collect();
    for (key, value) in personalisation
        .iter_mut()
        .filter(|(key, _)| keys.contains(&plain_name(key)))
    {
        let Value::String(text) = value else {
            return Err(Error::invalid(format!(
                "sanitise_content_for {key} is not text in personalisation"
            )));
        };
        let sanitised = sanitise_text(text);
        if sanitised != *text {
            let unsanitised = std::mem::replace(text, sanitised.clone());
            changed.insert(key.clone(), Sanitised { sanitised, unsanitised });
        }
    }
    Ok(changed)
}

fn sanitise_text(text: &str) -> String {
    let mut clean = String::with_capacity(text.len() + text.len() / 4);
    for char in without_links(text).chars() {
        if SPECIAL.contains(char) {
            clean.push('\\');
        }
        clean.push(char);
    }
    clean
}

/// A bare domain keeps its words, with a space after each dot; any other link goes.
fn without_links(text: &str) -> String {
    static LINK: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?i)\b(?:https?://)?(?:[\w-]+\.)+[a-z]{2,63}\b(?:[/?#][^\s<]*)?").expect("the pattern is constant")
    });
    let mut rest = String::with_capacity(text.len());
    let (mut copied, mut from) = (0, 0);
    while let Some(link) = LINK.find_at(text, from) {
        let after_sign = text[..link.start()].ends_with(['@', '.']);
        if after_sign || text[link.end()..].starts_with('@') {
            // Part of an email address; a link may begin further on.
            from = text[link.start()..]
                .char_indices()
                .nth(1)
                .map_or(text.len(), |(next, _)| link.start() + next);
            continue;
        }
        rest.push_str(&text[copied..link.start()]);
        if link
            .as_str()
            .chars()
            .all(|char| char.is_alphanumeric() || char == '.' || char == '-')
        {
            rest.push_str(&link.as_str().replace('.', ". "));
        }
        copied = link.end();
        from = link.end();
    }
    rest.push_str(&text[copied..]);
    rest
}

#[cfg(test)]
mod tests {
    use super::sanitise_text;

    #[test]
    fn links_lose_their_power_and_markdown_its_meaning() {
        for (text, clean) in [
            ("plain text", "plain text"),
            ("# a.b", "\\# a\\.b"),
            ("visit www.a.com now!", "visit www\\. a\\. com now\\!"),
            ("see https://evil.example/x?y=1 and pay", "see  and pay"),
            ("evil.example/path", ""),
            ("write to me@a.com", "write to me@a\\.com"),
            ("[x](y)", "\\[x\\]\\(y\\)"),
        ] {
            assert_eq!(sanitise_text(text), clean, "{text}");
        }
    }
}
