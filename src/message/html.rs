//! Text into HTML and back, with Notify's rule that what is already an entity stays one.

use std::borrow::Cow;

/// Escapes `&`, `<` and `>`; quotes stay, so the result is for element content and not for attributes.
///
/// Entities that end in a semicolon are read first, so `&lt;` stays `&lt;` and `&copy;` becomes `©`. `&amp;` and
/// `&nbsp;` are kept as written. (NOTIFY.md 8.5)
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>']) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(at) = rest.find(['&', '<', '>']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let entity = entity_at(rest);
        match entity {
            Some(kept @ ("&amp;" | "&nbsp;")) => out.push_str(kept),
            Some(entity) => escape_plainly(&mut out, &htmlize::unescape(entity)),
            None => escape_plainly(&mut out, &rest[..1]),
        }
        rest = &rest[entity.map_or(1, str::len)..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Reads all entities, also the old ones without a semicolon, as a browser does.
pub fn unescape(text: &str) -> Cow<'_, str> {
    htmlize::unescape(text)
}

/// The longest name that HTML knows has 31 letters.
const LONGEST_ENTITY: usize = 32;

/// What stands from an ampersand up to its semicolon, if it can be an entity.
fn entity_at(text: &str) -> Option<&str> {
    let name = text.strip_prefix('&')?;
    let (end, stop) = name
        .char_indices()
        .take(LONGEST_ENTITY + 1)
        .find(|(at, char)| matches!(char, ';' | '&' | '<' | ' ' | '\t' | '\n' | '\x0c') || (*char == '#' && *at > 0))?;
    (end > 0 && stop == ';').then(|| &text[..end + 2])
}

fn escape_plainly(out: &mut String, text: &str) {
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            char => out.push(char),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn entities_stay_entities() {
        for (text, html) in [
            ("<b> & \"c\" 'd'", "&lt;b&gt; &amp; \"c\" 'd'"),
            (
                "&amp; &nbsp; &lt; &copy; &copy &#60; &notit;",
                "&amp; &nbsp; &lt; © &amp;copy &lt; ¬it;",
            ),
            ("&amp;nbsp; &#0; &;&&#;", "&amp;nbsp; \u{fffd} &amp;;&amp;&amp;#;"),
        ] {
            assert_eq!(escape(text), html);
        }
    }

    proptest! {
        #[test]
        fn escaped_text_has_no_bracket_and_is_not_escaped_again(text in "([&<>;#x0-9a-z é]|&amp;|&nbsp;|&lt;){0,40}") {
            let once = escape(&text).into_owned();
            prop_assert!(!once.contains(['<', '>']));
            prop_assert_eq!(escape(&once), once.as_str());
        }
    }
}
