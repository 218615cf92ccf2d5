//! What lies ahead in a text, remembered so that no search is made twice: this keeps hostile input linear.

use std::cell::{Cell, OnceCell};

use super::lines;
use crate::text::is_space;

/// The next of some ASCII characters.
#[derive(Debug)]
pub struct Next {
    chars: &'static [char],
    /// From where the last search was made and what it found.
    last: Cell<Option<(usize, Option<usize>)>>,
}

impl Next {
    pub const fn of(chars: &'static [char]) -> Self {
        Self {
            chars,
            last: Cell::new(None),
        }
    }

    /// The first one at this byte or after it. The text has to be the same each time.
    pub fn at(&self, text: &str, from: usize) -> Option<usize> {
        if let Some((searched, found)) = self.last.get()
            && searched <= from
            && found.is_none_or(|found| from <= found)
        {
            return found;
        }
        let found = text[from..].find(self.chars).map(|at| from + at);
        self.last.set(Some((from, found)));
        found
    }
}

/// A text of blocks with what was found out about it.
#[derive(Debug)]
pub struct Scan<'a> {
    pub text: &'a str,
    /// Behind the last character that is not white space.
    pub blank_from: usize,
    label_end: Next,
    note_end: Next,
    fences: OnceCell<[Vec<Fence>; 2]>,
    /// Names of tags are closed where; see [`super::tag`].
    pub tags: super::tag::Tags,
}

/// A run of backticks or tildes at the end of a line, which may close fenced code.
#[derive(Debug)]
struct Fence {
    start: usize,
    end: usize,
    /// The longest run of this mark at the end of this line or a later one.
    longest: usize,
}

/// Fenced code: its text and the bytes taken.
pub struct Fenced<'a> {
    pub code: &'a str,
    pub len: usize,
}

const SHORTEST_FENCE: usize = 3;

impl<'a> Scan<'a> {
    pub fn new(text: &'a str) -> Self {
        Self {
            text,
            blank_from: text.trim_end_matches(is_space).len(),
            label_end: Next::of(&[']', '^']),
            note_end: Next::of(&[']']),
            fences: OnceCell::new(),
            tags: super::tag::Tags::default(),
        }
    }

    pub fn link_definition(&self, at: usize) -> Option<(&'a str, super::references::Target, usize)> {
        lines::link_definition(&self.text[at..], |from| {
            self.label_end.at(self.text, at + from).map(|end| end - at)
        })
    }

    pub fn footnote_definition(&self, at: usize) -> Option<(&'a str, &'a str, usize)> {
        lines::footnote_definition(&self.text[at..], |from| {
            self.note_end.at(self.text, at + from).map(|end| end - at)
        })
    }

    /// Code between a line of three or more backticks or tildes and a line that ends with as many.
    pub fn fenced(&self, at: usize) -> Option<Fenced<'a>> {
        let line = lines::first(&self.text[at..]);
        let opening = line.trim_start_matches(' ');
        let mark = *opening.as_bytes().first().filter(|mark| matches!(mark, b'`' | b'~'))?;
        let marks = lines::run(opening, mark);
        let start = at + line.len() + 1;
        if marks < SHORTEST_FENCE || start > self.text.len() {
            return None;
        }
        // A language has no white space and no backtick.
        let language = opening[marks..].trim_matches(' ');
        if language.contains(|char| char == '`' || is_space(char)) {
            return None;
        }
        // Tildes that the fence does not need may count as the language's.
        let spare = mark == b'~' && (language.is_empty() || !opening[marks..].starts_with(' '));
        let needed = if spare { SHORTEST_FENCE } else { marks };
        let fences = &self.fences.get_or_init(|| closing_fences(self.text))[usize::from(mark == b'~')];
        // One character at least is code, even if it is a mark.
        let later = &fences[fences.partition_point(|fence| fence.end < start + 1 + SHORTEST_FENCE)..];
        let usable = |fence: &Fence| (fence.end - fence.start).min(fence.end - start - 1);
        let longest = usable(later.first()?).max(later.get(1).map_or(0, |fence| fence.longest));
        let width = marks.min(longest);
        if width < needed {
            return None;
        }
        let fence = later.iter().find(|fence| usable(fence) >= width)?;
        let closing = fence.end - width;
        let code = self.text[start..closing].trim_end_matches(is_space);
        let shortest = self.text[start..].chars().next().map_or(0, char::len_utf8);
        let line_end = fence.end + lines::run(&self.text[fence.end..], b' ');
        Some(Fenced {
            code: &self.text[start..start + code.len().max(shortest)],
            len: lines::with_breaks(self.text, line_end) - at,
        })
    }
}

/// Those of backticks and those of tildes.
fn closing_fences(text: &str) -> [Vec<Fence>; 2] {
    let mut fences = [Vec::new(), Vec::new()];
    let mut longest = [0; 2];
    let mut end = text.len();
    for line in text.rsplit('\n') {
        let start = end - line.len();
        end = start.saturating_sub(1);
        let trimmed = line.trim_end_matches(' ');
        let Some(mark) = trimmed.bytes().next_back().filter(|mark| matches!(mark, b'`' | b'~')) else {
            continue;
        };
        let marks = trimmed.bytes().rev().take_while(|byte| *byte == mark).count();
        if marks < SHORTEST_FENCE {
            continue;
        }
        let kind = usize::from(mark == b'~');
        longest[kind] = marks.max(longest[kind]);
        fences[kind].push(Fence {
            start: start + trimmed.len() - marks,
            end: start + trimmed.len(),
            longest: longest[kind],
        });
    }
    for kind in &mut fences {
        kind.reverse();
    }
    fences
}
