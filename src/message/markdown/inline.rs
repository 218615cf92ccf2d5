//! Markdown inside a block: escapes, links, images, footnotes, line breaks. As with blocks, the first rule that fits
//! at a character wins.

use std::{cell::OnceCell, collections::HashMap};

use super::{
    Format,
    brackets::Brackets,
    destination::Destinations,
    references::{self, References, Target},
    renderer,
    scan::Next,
    tag::Tags,
};
use crate::text::is_space;

/// Links in texts of links go no deeper; then brackets are text.
const DEEPEST: usize = 8;

/// Renders inline Markdown and numbers the footnotes that it refers to.
pub struct Inline<'a> {
    pub references: &'a References,
    pub format: Format,
    /// Numbers of footnotes by key, in order of their first reference.
    pub numbers: HashMap<String, usize>,
    /// Footnotes do not refer to footnotes.
    pub in_footnote: bool,
    in_link: bool,
    depth: usize,
}

/// A text with what was found out about it.
struct Source<'t> {
    text: &'t str,
    /// Behind the last character that is not white space.
    blank_from: usize,
    brackets: OnceCell<Brackets>,
    destinations: Destinations,
    tags: Tags,
    label_end: Next,
    angle_end: Next,
    at_or_colon: Next,
}

impl<'a> Inline<'a> {
    pub fn new(references: &'a References, format: Format) -> Self {
        Self {
            references,
            format,
            numbers: HashMap::new(),
            in_footnote: false,
            in_link: false,
            depth: 0,
        }
    }

    pub fn render(&mut self, text: &str) -> String {
        let text = text.trim_end_matches('\n');
        let source = Source {
            text,
            blank_from: text.trim_end_matches(is_space).len(),
            brackets: OnceCell::new(),
            destinations: Destinations::default(),
            tags: Tags::default(),
            label_end: Next::of(&[']']),
            angle_end: Next::of(&[' ', '>']),
            at_or_colon: Next::of(&['@', ':']),
        };
        let mut out = String::with_capacity(text.len() + text.len() / 8);
        let mut at = 0;
        while at < text.len() {
            at = self.next(&source, at, &mut out);
        }
        out
    }

    /// Renders the next piece and says where it ends.
    fn next(&mut self, source: &Source<'_>, at: usize, out: &mut String) -> usize {
        let rest = &source.text[at..];
        let found = match rest.as_bytes()[0] {
            b'\\' => escaped(rest).map(|char| {
                out.push_str(&references::escape(char));
                at + 1 + char.len()
            }),
            b'<' => self.angle(source, at, out),
            b'h' => url(rest).map(|url| {
                if self.in_link {
                    out.push_str(&references::escape(url));
                } else {
                    renderer::push_url(out, url, self.format);
                }
                at + url.len()
            }),
            b'[' | b'!' if self.depth < DEEPEST => self.bracket(source, at, out),
            b' ' | b'\n' => line_break(source, at).inspect(|_| renderer::push_line_break(out, self.format)),
            _ => None,
        };
        found.unwrap_or_else(|| {
            let end = text_end(source, at);
            out.push_str(&references::escape(&source.text[at..end]));
            end
        })
    }

    /// HTML stays as it is; of `<scheme:…>` and `<…@…>` the brackets go.
    fn angle(&self, source: &Source<'_>, at: usize, out: &mut String) -> Option<usize> {
        if let Some(end) = source.tags.inline(source.text, at) {
            out.push_str(&source.text[at..end]);
            return Some(end);
        }
        let end = source.angle_end.at(source.text, at + 1)?;
        // The sign is neither the first character nor the last.
        let first = source.text[at + 1..].chars().next()?;
        let sign = source.at_or_colon.at(source.text, at + 1 + first.len_utf8())?;
        if !source.text[end..].starts_with('>') || sign + 1 >= end {
            return None;
        }
        let link = &source.text[at + 1..end];
        let before_last = link.char_indices().next_back().map_or(0, |(at, _)| at);
        let sign = link[..before_last].rfind(['@', ':'])?;
        match link.as_bytes()[sign] {
            b'@' => out.push_str(link),
            _ => renderer::push_url(out, link, self.format),
        }
        Some(end + 1)
    }

    /// Footnotes, links with a destination, links to a definition, in this order; and images, which are not shown.
    fn bracket(&mut self, source: &Source<'_>, at: usize, out: &mut String) -> Option<usize> {
        let text = source.text;
        let is_image = text[at..].starts_with('!');
        let opening = at + usize::from(is_image);
        if !text[opening..].starts_with('[') {
            return None;
        }
        if !is_image && let Some(end) = self.footnote(source, at) {
            return Some(end);
        }
        let ends = source.brackets.get_or_init(|| Brackets::of(text)).ends(opening);
        if let Some(close) = ends.before_target
            && let Some(found) = source.destinations.read(text, close + 1)
        {
            if !is_image {
                self.link(&text[opening + 1..close], found.url, found.title, out);
            }
            return Some(found.end);
        }
        if self.references.links.is_empty() {
            return None;
        }
        let full = ends.before_label.and_then(|close| {
            let label = close + 1 + text[close + 1..].find('[')? + 1;
            let end = label + text[label..].find(']')?;
            let name = if label == end { opening + 1..close } else { label..end };
            Some((close, &text[name], end + 1))
        });
        let short = ends.closed.map(|close| (close, &text[opening + 1..close], close + 1));
        let (close, target, end) = [full, short].into_iter().flatten().find_map(|(close, label, end)| {
            let target: &Target = self.references.links.get(&references::key(label)?)?;
            Some((close, target, end))
        })?;
        if !is_image {
            self.link(&text[opening + 1..close], &target.url, target.title.as_deref(), out);
        }
        Some(end)
    }

    /// A first reference takes the next number and shows nothing.
    fn footnote(&mut self, source: &Source<'_>, at: usize) -> Option<usize> {
        if self.in_footnote || self.references.footnotes.is_empty() || !source.text[at..].starts_with("[^") {
            return None;
        }
        let end = source.label_end.at(source.text, at + 2).filter(|end| *end > at + 2)?;
        let key = references::key(&source.text[at + 2..end])?;
        if !self.references.footnotes.contains(&key) || self.numbers.contains_key(&key) {
            return None;
        }
        self.numbers.insert(key, self.numbers.len() + 1);
        Some(end + 1)
    }

    fn link(&mut self, text: &str, url: &str, title: Option<&str>, out: &mut String) {
        self.in_link = true;
        self.depth += 1;
        let text = self.render(text);
        self.depth -= 1;
        self.in_link = false;
        renderer::push_link(out, &text, url, title, self.format);
    }
}

/// The character that a backslash takes its meaning from.
fn escaped(text: &str) -> Option<&str> {
    let char = text.get(1..2)?;
    "\\`*{}[]()#+-.!_>~|".contains(char).then_some(char)
}

/// A URL up to white space or `<`, without punctuation at its end.
fn url(text: &str) -> Option<&str> {
    let after = text.strip_prefix("http")?;
    let host = after.strip_prefix('s').unwrap_or(after).strip_prefix("://")?;
    let host_len = host.find(|char| char == '<' || is_space(char)).unwrap_or(host.len());
    let kept = host[..host_len].trim_end_matches(['.', ',', ':', '"', '\'', ')', ']']);
    (kept.chars().nth(1).is_some()).then(|| &text[..text.len() - host.len() + kept.len()])
}

/// A line break and the spaces before it, unless nothing follows but white space.
fn line_break(source: &Source<'_>, at: usize) -> Option<usize> {
    let rest = source.text[at..].trim_start_matches(' ');
    let end = source.text.len() - rest.len() + 1;
    (rest.starts_with('\n') && end <= source.blank_from).then_some(end)
}

/// Text goes up to the next character that could mean something, but is one character at least.
fn text_end(source: &Source<'_>, at: usize) -> usize {
    let text = source.text;
    if at >= source.blank_from {
        return text.len();
    }
    let mut end = at + text[at..].chars().next().map_or(1, char::len_utf8);
    loop {
        let Some(found) = text[end..].find(['\\', '<', '!', '[', '_', '*', '`', '~', 'h', ' ', '\n']) else {
            return text.len();
        };
        end += found;
        let rest = &text[end..];
        match rest.as_bytes()[0] {
            b'h' if !rest.starts_with("http://") && !rest.starts_with("https://") => end += 1,
            b' ' => {
                let after = rest.trim_start_matches(' ');
                if after.starts_with('\n') {
                    return end;
                }
                end += rest.len() - after.len();
            }
            _ => return end,
        }
    }
}
