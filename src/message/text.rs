//! White space as Notify sees it, where characters that nobody can see count too.

use std::borrow::Cow;

/// Takes no room on the screen, or is a line break that no keyboard makes.
pub const fn is_zero_width(char: char) -> bool {
    matches!(
        char,
        '\u{180e}' | '\u{200b}'..='\u{200d}' | '\u{2028}' | '\u{2029}' | '\u{2060}' | '\u{feff}'
    )
}

/// Looks like a space and is none: the no-break spaces.
pub const fn is_no_break_space(char: char) -> bool {
    matches!(char, '\u{a0}' | '\u{202f}')
}

/// White space of ASCII, the vertical tab included.
pub const fn is_ascii_space(char: char) -> bool {
    matches!(char, '\t'..='\r' | ' ')
}

/// Python's `str.isspace`: Unicode's white space and the four information separators.
pub const fn is_space(char: char) -> bool {
    matches!(char, '\u{1c}'..='\u{1f}') || char.is_whitespace()
}

/// Without zero-width characters and no-break spaces anywhere, and without ASCII's white space at both ends.
pub fn strip_and_remove_hidden(text: &str) -> Cow<'_, str> {
    let hidden = |char| is_zero_width(char) || is_no_break_space(char);
    if text.is_ascii() || !text.contains(hidden) {
        return Cow::Borrowed(text.trim_matches(is_ascii_space));
    }
    let seen = text.replace(hidden, "");
    Cow::Owned(seen.trim_matches(is_ascii_space).to_owned())
}
