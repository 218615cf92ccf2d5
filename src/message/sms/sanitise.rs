//! The characters that a text message may have: GSM 03.38 with its extension, and the accented letters of Welsh.

use unicode_normalization::char::{compose, decompose_canonical};

/// The seven vowels of Welsh with grave, acute, diaeresis and circumflex. Some are in GSM 03.38 too.
const WELSH: &str = "àèìòùẁỳÀÈÌÒÙẀỲáéíóúẃýÁÉÍÓÚẂÝäëïöüẅÿÄËÏÖÜẄŸâêîôûŵŷÂÊÎÔÛŴŶ";

/// Shown for what cannot be sent.
const UNKNOWN: char = '?';

/// Replaces every character that cannot be sent: an accented letter by its letter, typographic punctuation by its
/// plain form, characters without width by nothing, and the rest by `?`.
#[must_use]
pub fn sanitise(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_allowed(c) {
            out.push(c);
        } else {
            push_replacement(c, &mut out);
        }
    }
    out
}

/// Whether a text has a letter that may be sent but is not in GSM 03.38, so that all of it is sent as UCS-2.
/// To be asked of the text before it is sanitised: a letter that only sanitising made Welsh does not count in Notify.
#[must_use]
pub fn needs_unicode(text: &str) -> bool {
    text.chars().any(|c| !is_gsm(c) && WELSH.contains(c))
}

/// Characters of GSM 03.38 that take an escape and so two septets.
pub(super) fn is_extension(c: char) -> bool {
    matches!(c, '^' | '{' | '}' | '\\' | '[' | '~' | ']' | '|' | '€')
}

fn is_allowed(c: char) -> bool {
    is_gsm(c) || WELSH.contains(c)
}

/// GSM 03.38, basic (with the escape character) and extension.
fn is_gsm(c: char) -> bool {
    match c {
        '`' => false,
        '\n' | '\r' | '\u{1b}' | ' '..='~' | '€' => true,
        '£' | '¥' | '¤' | '§' | '¡' | '¿' => true,
        'è' | 'é' | 'ù' | 'ì' | 'ò' | 'à' | 'ä' | 'ö' | 'ñ' | 'ü' | 'ß' | 'æ' | 'ø' | 'å' => true,
        'É' | 'Ä' | 'Ö' | 'Ñ' | 'Ü' | 'Ç' | 'Æ' | 'Ø' | 'Å' => true,
        'Δ' | 'Φ' | 'Γ' | 'Λ' | 'Ω' | 'Π' | 'Ψ' | 'Σ' | 'Θ' | 'Ξ' => true,
        _ => false,
    }
}

/// A letter that decomposes is never looked up among the punctuation, even when its base cannot be sent.
fn push_replacement(c: char, out: &mut String) {
    if let Some(base) = base(c) {
        out.push(if is_allowed(base) { base } else { UNKNOWN });
        return;
    }
    match c {
        '\u{2011}' | '–' | '—' | '−' => out.push('-'),
        '…' => out.push_str("..."),
        '‘' | '’' | '‚' => out.push('\''),
        '“' | '”' | '„' => out.push('"'),
        '\u{180e}' | '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}' | '\u{2028}' | '\u{2029}' => {}
        '\u{a0}' | '\u{202f}' | '\t' => out.push(' '),
        'Ł' => out.push('L'),
        'ł' => out.push('l'),
        _ => out.push(UNKNOWN),
    }
}

/// The first character of the canonical decomposition by one level, `None` when there is none: ḗ gives ē, not e.
/// The tables decompose all the way, so all but the last mark are put together again. A character that does not come
/// back from its own parts has a decomposition to one other character, or one that is not to be recomposed.
fn base(c: char) -> Option<char> {
    let mut parts = [None; 4];
    let mut count = 0;
    decompose_canonical(c, |part| {
        if let Some(free) = parts.get_mut(count) {
            *free = Some(part);
        }
        count += 1;
    });
    let first = parts[0].filter(|first| *first != c)?;
    let (mut whole, mut before) = (first, first);
    for mark in parts[1..].iter().flatten() {
        before = whole;
        whole = compose(whole, *mark)?;
    }
    Some(if whole == c { before } else { whole })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn letters_lose_one_accent_and_punctuation_its_style() {
        for (text, plain) in [
            ("Łódź ŵ ș", "Lódz ŵ s"),
            ("ấ ḗ ǖ", "â ? ü"),
            ("\u{212b} \u{2126} \u{212a} \u{37e} ≠", "Å Ω K ; ="),
            ("“a” – ‘b’…\u{200b}\t\u{a0}", "\"a\" - 'b'...  "),
            ("` ‐ ½ 👍 e\u{301} 日", "? ? ? ? e? ?"),
        ] {
            assert_eq!(sanitise(text), plain);
        }
    }

    #[test]
    fn only_welsh_letters_outside_gsm_need_unicode() {
        assert!(needs_unicode("tŷ") && needs_unicode("Siân") && needs_unicode("ó"));
        assert!(!needs_unicode("àéäöü ÉÄÖÜ £€ 👍 ấ Ł"));
    }

    proptest! {
        #[test]
        fn what_is_sanitised_can_be_sent_and_stays_as_it_is(text in ".{0,80}|\\PC{0,80}|(?s:.){0,80}") {
            let sanitised = sanitise(&text);
            prop_assert!(sanitised.chars().all(is_allowed));
            prop_assert_eq!(sanitise(&sanitised), sanitised);
        }
    }
}
