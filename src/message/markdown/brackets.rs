//! Which square brackets belong together. All are matched at once, from the end of the text to its start, for matching
//! them one by one takes quadratic time for texts of many brackets.
//!
//! A link's text is a sequence of units: `[…]` as a whole, any other character, and a `]` if the next bracket after it
//! is another `]`. Of the places where it may end, the last counts.

use crate::text::is_space;

/// The square brackets of a text, the last one first.
#[derive(Debug)]
pub struct Brackets {
    brackets: Vec<Bracket>,
}

/// For a text of a link that continues with this bracket, the byte of the `]` where it ends.
#[derive(Debug)]
struct Bracket {
    at: usize,
    /// Opens, and a `]` follows without a `^` in between.
    is_label: bool,
    /// …so that `(` and somewhere a `)` follow.
    before_target: Option<usize>,
    /// …so that `[label]` follows.
    before_label: Option<usize>,
    /// …so that nothing is left open; here `[…]` are the only brackets inside.
    closed: Option<usize>,
}

/// Where the text of a link ends, for each kind of link.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ends {
    pub before_target: Option<usize>,
    pub before_label: Option<usize>,
    pub closed: Option<usize>,
}

impl Brackets {
    pub fn of(text: &str) -> Self {
        let bytes = text.as_bytes();
        let last_round = text.rfind(')').unwrap_or(0);
        let mut brackets: Vec<Bracket> = Vec::new();
        // The index of the next `]`, and whether a caret comes before it.
        let mut close: Option<usize> = None;
        let mut caret_before_close = false;
        for (at, byte) in bytes.iter().enumerate().rev() {
            let bracket = match byte {
                b'^' => {
                    caret_before_close = true;
                    continue;
                }
                b']' => {
                    let next = brackets.last();
                    let next_closes = close.is_some_and(|close| close + 1 == brackets.len());
                    let has_target = bytes.get(at + 1) == Some(&b'(') && at + 2 <= last_round;
                    let has_label =
                        next.is_some_and(|next| next.is_label && text[at + 1..next.at].chars().all(is_space));
                    let on = next.filter(|_| next_closes);
                    let bracket = Bracket {
                        at,
                        is_label: false,
                        before_target: on.and_then(|next| next.before_target).or(has_target.then_some(at)),
                        before_label: on.and_then(|next| next.before_label).or(has_label.then_some(at)),
                        closed: Some(at),
                    };
                    close = Some(brackets.len());
                    caret_before_close = false;
                    bracket
                }
                b'[' => {
                    let after = close.and_then(|close| close.checked_sub(1)).map(|next| &brackets[next]);
                    let unit = after.filter(|_| !caret_before_close);
                    Bracket {
                        at,
                        is_label: close.is_some() && !caret_before_close,
                        before_target: unit.and_then(|next| next.before_target),
                        before_label: unit.and_then(|next| next.before_label),
                        closed: after.and_then(|next| next.closed),
                    }
                }
                _ => continue,
            };
            brackets.push(bracket);
        }
        Self { brackets }
    }

    /// For the `[` at this byte.
    pub fn ends(&self, opening: usize) -> Ends {
        let found = self.brackets.binary_search_by(|bracket| opening.cmp(&bracket.at));
        let next = found
            .ok()
            .and_then(|index| index.checked_sub(1))
            .map(|index| &self.brackets[index]);
        next.map_or_else(Ends::default, |next| Ends {
            before_target: next.before_target,
            before_label: next.before_label,
            closed: next.closed,
        })
    }
}
