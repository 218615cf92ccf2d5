//! White space in text messages: what people do not see, they do not pay for.

use crate::text::{is_space, is_zero_width};

/// Takes spaces and tabs away before `,` and `.`, makes one space of every run of white space and at most one blank
/// line of every run of line ends, and trims every line and the whole. Characters without width are removed, but keep
/// a space before them from being taken away. One pass; tells nothing apart that Python's `splitlines` does not.
pub(super) fn normalise(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut gap = Gap::default();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if is_line_end(c) {
            if c == '\r' {
                chars.next_if_eq(&'\n');
            }
            gap.line_ends += 1;
            gap.settled = gap.space;
        } else if matches!(c, ' ' | '\t') {
            gap.space = true;
        } else if is_zero_width(c) || is_space(c) {
            gap.space |= is_space(c);
            gap.settled = gap.space;
        } else {
            if !out.is_empty() {
                out.push_str(gap.shown_before(c));
            }
            out.push(c);
            gap = Gap::default();
        }
    }
    out
}

/// What was seen since the last visible character.
#[derive(Default)]
struct Gap {
    line_ends: usize,
    space: bool,
    /// `space`, as it was before the spaces and tabs at the end of the gap.
    settled: bool,
}

impl Gap {
    fn shown_before(&self, c: char) -> &'static str {
        let space = if matches!(c, ',' | '.') {
            self.settled
        } else {
            self.space
        };
        match (self.line_ends, space) {
            (0, false) => "",
            (0, true) => " ",
            (1, _) => "\n",
            _ => "\n\n",
        }
    }
}

/// Where Python's `splitlines` ends a line.
fn is_line_end(c: char) -> bool {
    matches!(c, '\n'..='\r' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::normalise;

    #[test]
    fn blanks_are_dropped_where_nobody_sees_them() {
        for (text, normal) in [
            ("  a \t\u{a0} b  \r\n\r\n\n c\n", "a b\n\nc"),
            ("a , b . c", "a, b. c"),
            ("a\u{a0}.", "a ."),
            ("a \u{200b}. b\u{200b} .", "a . b."),
            ("\u{200b} \u{feff}", ""),
        ] {
            assert_eq!(normalise(text), normal, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_run_of_blanks_is_longer_than_a_blank_line(text in "([a-c.,]|[ \t\n\r\u{a0}\u{200b}\u{2028}]|\\PC){0,60}") {
            let normal = normalise(&text);
            prop_assert_eq!(normal.trim(), &normal);
            for unwanted in ["\n\n\n", "  ", " \n", "\n ", "\t", "\u{200b}"] {
                prop_assert!(!normal.contains(unwanted));
            }
        }
    }
}
