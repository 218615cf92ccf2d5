//! Quotes, dashes and spaces as Notify sets them, in text and in HTML alike. Rendered HTML comes in, so tags are left
//! alone by the rules for quotes; the other rules see the whole text. (NOTIFY.md 8.5)

mod quotes;

use std::{borrow::Cow, sync::LazyLock};

use regex::Regex;

use crate::text::is_space;

/// Applies all rules.
pub fn set(text: &str) -> String {
    let text = pull_punctuation(text);
    let text = quotes::curl(&text);
    let text = straighten_in_addresses(&text);
    set_dashes(&text)
}

/// No spaces and tabs before a comma or full stop.
fn pull_punctuation(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find([' ', '\t']) {
        let (before, spaces) = rest.split_at(at);
        let after = spaces.trim_start_matches([' ', '\t']);
        out.push_str(before);
        if !after.starts_with([',', '.']) {
            out.push_str(&spaces[..spaces.len() - after.len()]);
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// One to three dashes of any kind with white space on both sides become an en dash with a space on both sides.
fn set_dashes(text: &str) -> String {
    static DASHES: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"[\s\x1c-\x1f]+[-–—]{1,3}[\s\x1c-\x1f]+").expect("the pattern is valid"));
    DASHES.replace_all(text, " – ").into_owned()
}

/// Apostrophes in words with an `@` in them are straight.
fn straighten_in_addresses(text: &str) -> Cow<'_, str> {
    if !text.contains('@') || !text.contains(['‘', '’']) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for word in text.split_inclusive(is_space) {
        let inner = word.trim_end_matches(is_space);
        let is_address = inner.match_indices('@').any(|(at, _)| at > 0 && at + 1 < inner.len());
        if is_address {
            out.push_str(&word.replace(['‘', '’'], "'"));
        } else {
            out.push_str(word);
        }
    }
    Cow::Owned(out)
}
