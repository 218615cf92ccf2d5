//! Rules that look at one line, or at two: rules, headings, definitions. Each answers what it takes from the front of
//! a text that starts a line.

use super::references::Target;

/// A heading: its level as typed, 1 to 6, and its text.
#[derive(Debug, PartialEq, Eq)]
pub struct Heading<'a> {
    pub level: usize,
    pub text: &'a str,
    /// Bytes taken, line breaks included.
    pub len: usize,
}

/// The first line without its line break.
pub fn first(text: &str) -> &str {
    text.split('\n').next().unwrap_or_default()
}

/// How many of this byte stand at the front.
pub fn run(text: &str, byte: u8) -> usize {
    text.bytes().take_while(|other| *other == byte).count()
}

/// The length of a line together with the line breaks after it.
pub fn with_breaks(text: &str, line: usize) -> usize {
    line + run(&text[line..], b'\n')
}

/// A horizontal rule: three or more of `-`, `*` and `_`, in any mixture, up to three spaces in front, any between.
pub fn rule(text: &str) -> Option<usize> {
    if run(text, b' ') > 3 {
        return None;
    }
    is_rule(first(text).trim_start_matches(' ')).then(|| with_breaks(text, first(text).len()))
}

/// Whether a line without spaces in front is a rule.
pub fn is_rule(line: &str) -> bool {
    line.starts_with(['-', '*', '_'])
        && line.bytes().all(|byte| matches!(byte, b'-' | b'*' | b'_' | b' '))
        && line.bytes().filter(|byte| *byte != b' ').count() >= 3
}

/// Lines with four spaces in front, and the empty lines after each.
pub fn indented(text: &str) -> Option<usize> {
    let mut len = 0;
    while text[len..].starts_with("    ") {
        let line = first(&text[len..]).len();
        if line == 4 {
            break;
        }
        len = with_breaks(text, len + line);
    }
    (len > 0).then_some(len)
}

/// `# Heading`; the space is optional, and `#`s at the end of the line do not belong to the text.
pub fn heading(text: &str) -> Option<Heading<'_>> {
    let line = first(text);
    let marks = line.trim_start_matches(' ');
    let most = run(marks, b'#').min(6);
    let level = (1..=most).rev().find(|level| marks.len() > *level)?;
    let rest = &marks[level..];
    // Of nothing but spaces, the last one is the text.
    let start = run(rest, b' ').min(rest.len() - 1);
    let rest = &rest[start..];
    let shortest = rest.chars().next().map_or(0, char::len_utf8);
    let trimmed = rest.trim_end_matches(' ').trim_end_matches('#').trim_end_matches(' ');
    Some(Heading {
        level,
        text: &rest[..trimmed.len().max(shortest)],
        len: with_breaks(text, line.len()),
    })
}

/// A line with a line of `=` or `-` below; the last of these decides on the level.
pub fn underlined_heading(text: &str) -> Option<Heading<'_>> {
    let line = first(text);
    let below = first(text.get(line.len() + 1..)?);
    let marks = below.trim_matches(' ');
    let is_underline = !marks.is_empty() && marks.bytes().all(|byte| matches!(byte, b'=' | b'-'));
    (!line.is_empty() && is_underline).then(|| Heading {
        level: if marks.ends_with('=') { 1 } else { 2 },
        text: line,
        len: with_breaks(text, line.len() + 1 + below.len()),
    })
}

/// The length of a block whose first line starts with a mark, spaces before it and text behind: all lines up to the
/// next empty one, and as many such blocks as follow each other.
pub fn quote(text: &str, mark: u8) -> Option<usize> {
    let mut len = 0;
    loop {
        let rest = &text[len..];
        let line = first(rest).trim_start_matches(' ');
        if line.len() < 2 || line.as_bytes()[0] != mark {
            break;
        }
        len += rest.find("\n\n").unwrap_or(rest.len());
        len = with_breaks(text, len);
    }
    (len > 0).then_some(len)
}

/// `[label]: url "title"`: the label, the target, the bytes taken. `label_end` finds the next `]` or `^`.
pub fn link_definition(text: &str, label_end: impl FnOnce(usize) -> Option<usize>) -> Option<(&str, Target, usize)> {
    let start = run(text, b' ') + 1;
    if text.as_bytes().get(start - 1) != Some(&b'[') {
        return None;
    }
    let end = label_end(start)?;
    let label = &text[start..end];
    let rest = text[end..].strip_prefix("]:")?;
    if label.is_empty() {
        return None;
    }
    let line = first(rest);
    let target = line.trim_start_matches(' ');
    let (url, after) = bare_url(target)?;
    let after = after.trim_end_matches(' ');
    let title = match after.trim_start_matches(' ') {
        "" => None,
        _ if !after.starts_with(' ') => return None,
        title => Some(title.strip_prefix(['"', '('])?.strip_suffix(['"', ')'])?),
    };
    if title == Some("") {
        return None;
    }
    let target = Target {
        url: url.to_owned(),
        title: title.map(str::to_owned),
    };
    Some((label, target, with_breaks(text, end + 2 + line.len())))
}

/// A URL that may stand in angle brackets, and what follows on its line.
fn bare_url(text: &str) -> Option<(&str, &str)> {
    let end = |url: &str| {
        url.find(|char| crate::text::is_space(char) || char == '>')
            .unwrap_or(url.len())
    };
    let inner = text.strip_prefix('<').filter(|inner| end(inner) > 0).unwrap_or(text);
    let (url, rest) = inner.split_at(end(inner));
    (!url.is_empty()).then(|| (url, rest.strip_prefix('>').unwrap_or(rest)))
}

/// `[^label]: text`, continued on lines that start with a space: the label, the text, the bytes taken.
pub fn footnote_definition(text: &str, label_end: impl FnOnce(usize) -> Option<usize>) -> Option<(&str, &str, usize)> {
    if !text.starts_with("[^") {
        return None;
    }
    let end = label_end(2).filter(|end| *end > 2)?;
    let rest = text[end..].strip_prefix("]:")?;
    let rest = rest.trim_start_matches(' ');
    let start = text.len() - rest.len();
    let mut len = with_breaks(text, start + first(rest).len());
    while text[len..].starts_with(' ') {
        len = with_breaks(text, len + first(&text[len..]).len());
    }
    Some((&text[2..end], &text[start..len], len))
}

/// A table with or without bars at both ends. Only its cells matter, for footnotes are counted in them.
pub fn table(text: &str, bars_at_ends: bool) -> Option<usize> {
    let head = first(text);
    let columns = first(text.get(head.len() + 1..)?);
    let body = head.len() + 1 + columns.len();
    let cells = head.trim_start_matches(' ');
    let marks = columns.trim_start_matches(' ');
    let is_table = if bars_at_ends {
        cells.len() > 1
            && cells.starts_with('|')
            && marks.strip_prefix('|').is_some_and(|marks| {
                marks.trim_start_matches(' ').starts_with(['-', ':'])
                    && marks.bytes().all(|byte| matches!(byte, b'-' | b':' | b'|' | b' '))
            })
    } else {
        let first_cell = cells.chars().next().filter(|char| !crate::text::is_space(*char))?;
        let ends = marks.trim_start_matches(['-', ':']);
        cells[first_cell.len_utf8()..].contains('|')
            && ends.len() < marks.len()
            && ends.trim_start_matches(' ').starts_with('|')
            && ends.bytes().all(|byte| matches!(byte, b'-' | b':' | b'|' | b' '))
    };
    if !is_table || !text[body..].starts_with('\n') {
        return None;
    }
    let mut len = body + 1;
    loop {
        let row = first(&text[len..]);
        let is_row = if bars_at_ends {
            row.trim_start_matches(' ').starts_with('|')
        } else {
            row.contains('|')
        };
        if !is_row {
            break;
        }
        len += row.len();
        if text[len..].is_empty() {
            break;
        }
        len += 1;
    }
    Some(with_breaks(text, len))
}
