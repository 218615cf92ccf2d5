//! What MMG sends: a JSON object with `MSISDN`, `Number`, `Message`, `ID` and `DateRecieved` (it is spelt so). Message
//! and date are written for a URL once more, and what its gateway could not write is in backslash escapes.

use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::{InboundText, Names, NoText, at_home, sender};

const NAMES: Names = Names {
    to: "Number",
    from: "MSISDN",
    content: "Message",
    reference: "ID",
};

/// Reads the object. Numbers count as their text.
pub fn parse(body: &[u8]) -> Result<InboundText, NoText> {
    let Ok(Value::Object(fields)) = serde_json::from_slice(body) else {
        return Err(NoText::Form("MMG"));
    };
    let field = |name: &'static str| match fields.get(name) {
        None | Some(Value::Null) => Err(NoText::Missing(name)),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Ok(other.to_string()),
    };
    let text = InboundText {
        to: at_home(&field(NAMES.to)?),
        from: sender(&field(NAMES.from)?),
        content: decode(&field(NAMES.content)?),
        reference: Some(field(NAMES.reference)?),
        sent_at: decode(&field("DateRecieved")?),
    };
    text.check(NAMES)
}

fn decode(text: &str) -> String {
    let text = text.replace('+', " ");
    unescape(&percent_decode_str(&text).decode_utf8_lossy())
}

/// Resolves backslash escapes as Python's `unicode_escape` does; what is none stays as it is.
fn unescape(text: &str) -> String {
    // In UTF-16, since what is beyond it is written as a pair of escapes.
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        units.extend(rest[..at].encode_utf16());
        rest = &rest[at + 1..];
        match escaped(rest) {
            Some((char, length)) => {
                match char {
                    Escaped::Unit(unit) => units.push(unit),
                    Escaped::Char(char) => units.extend(char.encode_utf16(&mut [0; 2]).iter()),
                }
                rest = &rest[length..];
            }
            None => units.push(u16::from(b'\\')),
        }
    }
    units.extend(rest.encode_utf16());
    String::from_utf16_lossy(&units)
}

enum Escaped {
    /// Perhaps half of a pair.
    Unit(u16),
    Char(char),
}

/// What stands after a backslash, and how many bytes of it belong to the escape.
fn escaped(rest: &str) -> Option<(Escaped, usize)> {
    let kind = *rest.as_bytes().first()?;
    let plain = |char: char| Some((Escaped::Char(char), 1));
    match kind {
        b'\\' | b'\'' | b'"' => plain(char::from(kind)),
        b'a' => plain('\u{7}'),
        b'b' => plain('\u{8}'),
        b't' => plain('\t'),
        b'n' => plain('\n'),
        b'v' => plain('\u{b}'),
        b'f' => plain('\u{c}'),
        b'r' => plain('\r'),
        b'x' => hexadecimal(rest, 2),
        b'u' => hexadecimal(rest, 4),
        b'U' => hexadecimal(rest, 8),
        b'0'..=b'7' => {
            let digits = rest
                .bytes()
                .take(3)
                .take_while(|byte| (b'0'..=b'7').contains(byte))
                .count();
            let unit = u16::from_str_radix(&rest[..digits], 8).ok()?;
            Some((Escaped::Unit(unit), digits))
        }
        _ => None,
    }
}

fn hexadecimal(rest: &str, digits: usize) -> Option<(Escaped, usize)> {
    let written = rest.get(1..=digits)?;
    if !written.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let code = u32::from_str_radix(written, 16).ok()?;
    let char = match u16::try_from(code) {
        Ok(unit) => Escaped::Unit(unit),
        Err(_) => Escaped::Char(char::from_u32(code)?),
    };
    Some((char, digits + 1))
}
