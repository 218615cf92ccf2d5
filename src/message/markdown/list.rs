//! Lists: how far one reaches, and what its items are.

use std::sync::LazyLock;

use regex::Regex;

use super::{lines, scan::Scan};
use crate::text::is_space;

/// An item without its bullet and its indentation.
#[derive(Debug)]
pub struct ItemText {
    pub loose: bool,
    pub text: String,
}

/// The length of a bullet (`•`, `*` or `-`) or number at the start of a line without spaces in front.
fn marker(text: &str) -> Option<usize> {
    match text.chars().next()? {
        '*' | '-' => Some(1),
        '•' => Some('•'.len_utf8()),
        _ => number(text),
    }
}

/// The length of digits and a full stop.
fn number(text: &str) -> Option<usize> {
    let rest = text.trim_start_matches(is_digit);
    (rest.len() < text.len() && rest.starts_with('.')).then(|| text.len() - rest.len() + 1)
}

/// A decimal digit of any script.
fn is_digit(char: char) -> bool {
    static DIGIT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\d").expect("the pattern is valid"));
    char.is_ascii_digit() || (!char.is_ascii() && char.is_numeric() && DIGIT.is_match(char.encode_utf8(&mut [0; 4])))
}

/// Whether the list that starts here is numbered.
pub fn is_ordered(text: &str) -> bool {
    number(text.trim_start_matches(' ')).is_some()
}

/// Whether a line ends the paragraph before it, because a bullet or number, a space and more follow.
pub fn interrupts(text: &str) -> bool {
    let text = text.trim_start_matches(' ');
    let rest = text.strip_prefix(['*', '+', '-']).unwrap_or(text);
    let rest = &rest[number(rest).unwrap_or(0)..];
    rest.len() < text.len() && rest.len() > 1 && rest.starts_with(' ')
}

/// The length of a list. It ends before a rule, before a definition, after an empty line when the next line is neither
/// indented nor an item, and always where there are two empty lines.
pub fn block(scan: &Scan<'_>, at: usize) -> Option<usize> {
    let indent = lines::run(&scan.text[at..], b' ');
    let inner = at + indent + marker(&scan.text[at + indent..])?;
    let first = scan.text[inner..].chars().next()?;
    let indent = &scan.text[at..at + indent];
    let mut from = inner + first.len_utf8();
    let blank_from = scan.blank_from.max(from);
    while let Some(breaks) = scan.text[from..].find('\n') {
        let end = from + breaks;
        if end > blank_from {
            break;
        }
        let breaks = lines::run(&scan.text[end..], b'\n');
        let next = end + breaks;
        let ends = match breaks {
            1 => starts_other(scan, next, indent),
            2 => starts_other(scan, next, indent) || !continues(&scan.text[next..], indent),
            _ => true,
        };
        if ends {
            return Some(next - at);
        }
        from = next;
    }
    Some(scan.text.len() - at)
}

/// Whether a rule or a definition comes next.
fn starts_other(scan: &Scan<'_>, at: usize, indent: &str) -> bool {
    let rest = &scan.text[at..];
    let line = lines::first(rest);
    lines::is_rule(line)
        || line.strip_prefix(indent).is_some_and(lines::is_rule)
        || scan.link_definition(at).is_some()
        || scan.footnote_definition(at).is_some()
}

/// Whether a line after an empty one still belongs to the list.
fn continues(text: &str, indent: &str) -> bool {
    let is_item = |line: &str| marker(line).is_some_and(|len| line[len..].starts_with(' '));
    text.starts_with(' ') || text.strip_prefix(indent).is_some_and(is_item)
}

/// The items of a list. A line with a marker starts an item if it has the first item's indentation.
pub fn items(text: &str) -> Vec<ItemText> {
    let mut items = Vec::new();
    let mut blank_before = false;
    let mut rest = text;
    while !rest.is_empty() {
        let item = &rest[..item_len(rest)];
        // The line break between two items belongs to neither.
        rest = rest[item.len()..].strip_prefix('\n').unwrap_or_default();
        let inner = without_marker(item);
        let mut loose = blank_before || is_loose(&inner);
        if !rest.is_empty() && !inner.is_empty() {
            blank_before = inner.ends_with('\n');
            loose |= blank_before;
        }
        items.push(ItemText { loose, text: inner });
    }
    items
}

fn item_len(text: &str) -> usize {
    let indent = &text[..lines::run(text, b' ')];
    let starts_item = |at: usize| {
        text[at + 1..]
            .strip_prefix(indent)
            .is_some_and(|line| marker(line).is_some())
    };
    let mut breaks = text.match_indices('\n').map(|(at, _)| at);
    breaks.find(|at| starts_item(*at)).unwrap_or(text.len())
}

/// An item's text: on all its lines, spaces are taken away up to the width of the marker and the spaces before it.
fn without_marker(item: &str) -> String {
    let indent = lines::run(item, b' ');
    let Some(marker) = marker(&item[indent..]) else {
        return item.to_owned();
    };
    let inner = &item[indent + marker..];
    if !inner.contains("\n ") {
        return inner.to_owned();
    }
    let width = item[..indent + marker].chars().count();
    let lines = inner.split_inclusive('\n');
    lines.map(|line| &line[lines::run(line, b' ').min(width)..]).collect()
}

/// Whether there is an empty line with text below.
fn is_loose(text: &str) -> bool {
    let text = text.trim_end_matches(is_space);
    text.contains("\n\n")
}
