//! HTML that somebody typed into a message. It only matters where the text is not escaped, in plain text, and there it
//! is left as it stands.

use std::{cell::OnceCell, collections::HashMap, sync::LazyLock};

use regex::Regex;

use super::{
    references::is_word,
    scan::{Next, Scan},
};
use crate::text::is_space;

/// Attributes from the first white space on, up to what ends the tag.
static ATTRIBUTES: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"^(?:\s*[a-zA-Z-](?:\s*=\s*(?:"[^"]*"|'[^']*'|[^\s'">]+))?)*?(\s*)(/?)>"#)
        .expect("the pattern is valid")
});

/// Longer tags are text.
const LONGEST_TAG: usize = 1024;

/// Tags that do not start a block.
const INLINE_TAGS: [&str; 33] = [
    "a", "em", "strong", "small", "s", "cite", "q", "dfn", "abbr", "data", "time", "code", "var", "samp", "kbd", "sub",
    "sup", "i", "b", "u", "mark", "ruby", "rt", "rp", "bdi", "bdo", "span", "br", "wbr", "ins", "del", "img", "font",
];

/// Where tags and comments are closed in a text.
#[derive(Debug)]
pub struct Tags {
    by_name: OnceCell<HashMap<String, Vec<usize>>>,
    comment_ends: OnceCell<Vec<usize>>,
    at_sign: Next,
}

impl Default for Tags {
    fn default() -> Self {
        Self {
            by_name: OnceCell::new(),
            comment_ends: OnceCell::new(),
            at_sign: Next::of(&['@']),
        }
    }
}

impl Tags {
    /// The end of the HTML that starts here: a comment, an element with all its content, or a lone tag.
    pub fn inline(&self, text: &str, at: usize) -> Option<usize> {
        if text[at..].starts_with("<!--") {
            return self.comment_end(text, at + 4, |_| true);
        }
        let (name, tag) = self.open_tag(text, at)?;
        let element = (!tag.self_closing).then(|| self.element_end(text, name, tag.end, |_| true));
        Some(element.flatten().unwrap_or(tag.end))
    }

    /// Whether a tag starts here that interrupts a paragraph.
    pub fn starts_block(&self, text: &str, at: usize) -> bool {
        self.name(text, at).is_some_and(|name| !INLINE_TAGS.contains(&name))
    }

    fn comment_end(&self, text: &str, from: usize, fits: impl Fn(usize) -> bool) -> Option<usize> {
        let ends = self.comment_ends.get_or_init(|| {
            text.match_indices("-->")
                .map(|(at, found)| at + found.len())
                .filter(|end| fits(*end))
                .collect()
        });
        ends.get(ends.partition_point(|end| *end < from + 3)).copied()
    }

    fn element_end(&self, text: &str, name: &str, from: usize, fits: impl Fn(usize) -> bool) -> Option<usize> {
        let by_name = self.by_name.get_or_init(|| closing_tags(text, fits));
        let ends = by_name.get(name)?;
        let len = name.len() + 3;
        ends.get(ends.partition_point(|end| *end < from + len)).copied()
    }

    /// The name of the tag that opens here, unless it looks like an address or a URL.
    fn name<'t>(&self, text: &'t str, at: usize) -> Option<&'t str> {
        let rest = text[at..].strip_prefix('<')?;
        let after = rest.trim_start_matches(is_word);
        let name = &rest[..rest.len() - after.len()];
        if name.is_empty() || after.starts_with(":/") {
            return None;
        }
        let from = at + 1 + name.len();
        let is_address = self
            .at_sign
            .at(text, from)
            .is_some_and(|sign| !text[from..sign].contains(|char| is_word(char) || is_space(char)));
        (!is_address).then_some(name)
    }

    fn open_tag<'t>(&self, text: &'t str, at: usize) -> Option<(&'t str, OpenTag)> {
        let name = self.name(text, at)?;
        let from = at + 1 + name.len();
        let mut limit = text.len().min(from + LONGEST_TAG);
        while !text.is_char_boundary(limit) {
            limit -= 1;
        }
        let found = ATTRIBUTES.captures(&text[from..limit])?;
        let tag = OpenTag {
            end: from + found[0].len(),
            self_closing: !found[2].is_empty(),
            spaced: !found[1].is_empty(),
        };
        Some((name, tag))
    }
}

struct OpenTag {
    end: usize,
    self_closing: bool,
    /// Has white space in front of its end.
    spaced: bool,
}

/// A block of HTML: what is shown and the bytes taken. It has to end at an empty line.
pub fn block<'t>(scan: &Scan<'t>, at: usize) -> Option<(&'t str, usize)> {
    let text = scan.text;
    let start = at + super::lines::run(&text[at..], b' ');
    if !text[start..].starts_with('<') {
        return None;
    }
    let tail = |end| block_tail(scan, end);
    if text[start..].starts_with("<!--") {
        let end = scan.tags.comment_end(text, start + 4, |end| tail(end).is_some())?;
        let end = tail(end)?;
        return Some((&text[at..end], end - at));
    }
    if !scan.tags.starts_block(text, start) {
        return None;
    }
    let (name, tag) = scan.tags.open_tag(text, start)?;
    if !tag.self_closing && !tag.spaced {
        let element = scan.tags.element_end(text, name, tag.end, |end| tail(end).is_some());
        if let Some(end) = element {
            return Some((&text[start..end], tail(end)? - at));
        }
    }
    let end = tail(tag.end)?;
    Some((&text[at..end], end - at))
}

/// Spaces and then an empty line, or white space up to the end of the text.
fn block_tail(scan: &Scan<'_>, end: usize) -> Option<usize> {
    let spaces = end + super::lines::run(&scan.text[end..], b' ');
    let breaks = super::lines::run(&scan.text[spaces..], b'\n');
    if breaks >= 2 {
        return Some(spaces + breaks);
    }
    (end >= scan.blank_from).then_some(scan.text.len())
}

/// Where `</name>` ends, by name.
fn closing_tags(text: &str, fits: impl Fn(usize) -> bool) -> HashMap<String, Vec<usize>> {
    let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
    for (at, _) in text.match_indices("</") {
        let rest = &text[at + 2..];
        let after = rest.trim_start_matches(is_word);
        let name = &rest[..rest.len() - after.len()];
        let end = at + 3 + name.len();
        if !name.is_empty() && after.starts_with('>') && fits(end) {
            by_name.entry(name.to_owned()).or_default().push(end);
        }
    }
    by_name
}
