//! What stands in the round brackets of a link: `(url "title")`, `(<url> 'title')`.

use std::cell::OnceCell;

use crate::text::is_space;

/// Where a link goes, and where its closing bracket ends.
#[derive(Debug, PartialEq, Eq)]
pub struct Destination<'a> {
    pub url: &'a str,
    pub title: Option<&'a str>,
    pub end: usize,
}

/// Finds destinations in one text. A search for an end is only made where there is one, and then the link takes all
/// that was searched.
#[derive(Debug, Default)]
pub struct Destinations {
    /// The last quote that can close a title, and the last `>` that can close a URL.
    last: OnceCell<(Option<usize>, Option<usize>)>,
}

impl Destinations {
    /// Reads what follows an opening bracket. There is a destination whenever there is a closing bracket.
    pub fn read<'t>(&self, text: &'t str, opening: usize) -> Option<Destination<'t>> {
        let start = skip_space(text, opening + 1);
        let (_, last_angle) = self.last(text);
        if text[start..].starts_with('<') && last_angle.is_some_and(|last| start < last) {
            return self.read_in_angles(text, start + 1);
        }
        self.read_bare(text, start)
    }

    fn read_in_angles<'t>(&self, text: &'t str, start: usize) -> Option<Destination<'t>> {
        let angles = text[start..].match_indices('>').map(|(at, _)| start + at);
        angles.into_iter().find_map(|at| {
            let url = &text[start..at];
            self.title(text, url, at + 1)
                .or_else(|| without_title(text, url, at + 1))
        })
    }

    fn read_bare<'t>(&self, text: &'t str, start: usize) -> Option<Destination<'t>> {
        let mut at = start;
        loop {
            at += text[at..].find(|char| char == ')' || is_space(char))?;
            let url = &text[start..at];
            let found = without_title(text, url, at).or_else(|| self.title(text, url, at));
            if found.is_some() {
                return found;
            }
            at = skip_space(text, at);
        }
    }

    /// White space, a quote, a title, the next quote before a bracket. It need not be the same kind of quote.
    fn title<'t>(&self, text: &'t str, url: &'t str, at: usize) -> Option<Destination<'t>> {
        let quote = skip_space(text, at);
        if quote == at || !text[quote..].starts_with(['"', '\'']) {
            return None;
        }
        let start = quote + 1;
        let (last_quote, _) = self.last(text);
        last_quote.filter(|last| start <= *last)?;
        let quotes = text[start..].match_indices(['"', '\'']).map(|(at, _)| start + at);
        quotes.into_iter().find_map(|end| {
            let without = without_title(text, url, end + 1)?;
            let title = Some(&text[start..end]).filter(|title| !title.is_empty());
            Some(Destination { title, ..without })
        })
    }

    fn last(&self, text: &str) -> (Option<usize>, Option<usize>) {
        *self.last.get_or_init(|| {
            let quotes = text.rmatch_indices(['"', '\'']).map(|(at, _)| at);
            let last_quote = quotes.into_iter().find(|at| closes(text, at + 1));
            let ends_url = |at: usize| {
                let after = skip_space(text, at + 1);
                let has_title = after > at + 1
                    && text[after..].starts_with(['"', '\''])
                    && last_quote.is_some_and(|last| after < last);
                has_title || text[after..].starts_with(')')
            };
            let angles = text.rmatch_indices('>').map(|(at, _)| at);
            (last_quote, angles.into_iter().find(|at| ends_url(*at)))
        })
    }
}

fn without_title<'t>(text: &'t str, url: &'t str, at: usize) -> Option<Destination<'t>> {
    closes(text, at).then(|| Destination {
        url,
        title: None,
        end: skip_space(text, at) + 1,
    })
}

/// Whether the bracket closes here, but for white space.
fn closes(text: &str, at: usize) -> bool {
    text[skip_space(text, at)..].starts_with(')')
}

fn skip_space(text: &str, at: usize) -> usize {
    let rest = &text[at..];
    text.len() - rest.trim_start_matches(is_space).len()
}
