//! What link definitions and footnotes are called, and where the links go.

use std::collections::{HashMap, HashSet};

use crate::text::is_space;

/// The definitions of a whole text. Of links defined twice the last counts, of footnotes the first.
#[derive(Debug, Default)]
pub struct References {
    pub links: HashMap<String, Target>,
    pub footnotes: HashSet<String>,
}

/// Where a link goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub url: String,
    pub title: Option<String>,
}

/// Longer labels define and name nothing; it keeps the cost of a text full of brackets down.
const LONGEST_LABEL: usize = 999;

/// What two labels have in common if they mean the same: case and the kind of white space do not matter, and neither
/// does whether `&`, `<`, `>` and quotes are written as entities. `None` if the label is too long.
pub fn key(label: &str) -> Option<String> {
    if label.len() > LONGEST_LABEL {
        return None;
    }
    let escaped = escape(&label.to_lowercase())
        .replace('"', "&quot;")
        .replace('\'', "&#39;");
    let mut key = String::with_capacity(escaped.len());
    let mut in_space = false;
    for char in escaped.chars() {
        let space = is_space(char);
        match (space, in_space) {
            (true, true) => {}
            (true, false) => key.push(' '),
            (false, _) => key.push(char),
        }
        in_space = space;
    }
    Some(key)
}

/// Escapes `<`, `>` and every `&` that does not start something like an entity.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['&', '<', '>']) {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        out.push_str(match rest.as_bytes()[at] {
            b'<' => "&lt;",
            b'>' => "&gt;",
            _ if starts_like_entity(after) => "&",
            _ => "&amp;",
        });
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Whether a name or number and a semicolon come next.
fn starts_like_entity(text: &str) -> bool {
    let name = text.strip_prefix('#').unwrap_or(text);
    let rest = name.trim_start_matches(is_word);
    rest.len() < name.len() && rest.starts_with(';')
}

/// A letter, digit or underscore of any script.
pub fn is_word(char: char) -> bool {
    char == '_' || char.is_alphanumeric()
}
