//! Values as Python prints them: Notify shows numbers and nested values in messages, and quotes what was sent in
//! errors, in this form, and clients have tests on it.

use std::{fmt::Write, io};

use serde::Serialize;
use serde_json::{Number, Serializer, Value, ser::Formatter};

/// JSON as `json.dumps()` writes it: a space after commas and colons, and nothing outside of ASCII.
///
/// # Panics
/// When the value has maps with keys that are no text; ours have none.
pub fn dumps(value: &impl Serialize) -> String {
    let mut text = Vec::new();
    value
        .serialize(&mut Serializer::with_formatter(&mut text, Dumps))
        .expect("maps have text for keys");
    String::from_utf8(text).expect("JSON is text")
}

struct Dumps;

impl Formatter for Dumps {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        out.write_all(if first { "" } else { ", " }.as_bytes())
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        out.write_all(if first { "" } else { ", " }.as_bytes())
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }

    /// What needs no escape by the rules of JSON may still need one by Python's.
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        for char in fragment.chars() {
            if matches!(char, ' '..='~') {
                write!(out, "{char}")?;
                continue;
            }
            for unit in char.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }
}

/// Python's `repr()`.
pub fn repr(value: &Value) -> String {
    let mut text = String::new();
    write_repr(&mut text, value);
    text
}

fn write_repr(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("None"),
        Value::Bool(true) => out.push_str("True"),
        Value::Bool(false) => out.push_str("False"),
        Value::Number(number) => out.push_str(&number_repr(number)),
        Value::String(text) => write_text(out, text),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                write_repr(out, item);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            out.push('{');
            for (index, (name, value)) in fields.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                write_text(out, name);
                out.push_str(": ");
                write_repr(out, value);
            }
            out.push('}');
        }
    }
}

/// Double quotes are used only around text with an apostrophe and no double quote.
fn write_text(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    out.push(quote);
    for char in text.chars() {
        match char {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            char if char == quote => out.extend(['\\', char]),
            char if is_printable(char) => out.push(char),
            char => {
                let code = u32::from(char);
                // Writing to a String cannot fail.
                let _ = match code {
                    0..=0xff => write!(out, "\\x{code:02x}"),
                    0x100..=0xffff => write!(out, "\\u{code:04x}"),
                    _ => write!(out, "\\U{code:08x}"),
                };
            }
        }
    }
    out.push(quote);
}

/// Python escapes controls, format characters, separators other than the space, and private characters.
fn is_printable(char: char) -> bool {
    !matches!(
        char,
        '\0'..='\x1f'
            | '\x7f'..='\u{a0}'
            | '\u{ad}'
            | '\u{600}'..='\u{605}'
            | '\u{61c}'
            | '\u{1680}'
            | '\u{180e}'
            | '\u{2000}'..='\u{200f}'
            | '\u{2028}'..='\u{202f}'
            | '\u{205f}'..='\u{206f}'
            | '\u{3000}'
            | '\u{e000}'..='\u{f8ff}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{10ffff}'
    )
}

fn number_repr(number: &Number) -> String {
    let text = number.to_string();
    if text == "-0" {
        return "0".to_owned();
    }
    if !text.contains(['.', 'e', 'E']) {
        return text;
    }
    match number.as_f64() {
        Some(float) => float_repr(float),
        // Beyond the range of a double.
        None if text.starts_with('-') => "-inf".to_owned(),
        None => "inf".to_owned(),
    }
}

/// The shortest digits that give the same double, with an exponent from 1e16 upwards and below 1e-4.
fn float_repr(float: f64) -> String {
    let scientific = format!("{float:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    match exponent.parse::<i32>() {
        Ok(exponent @ (..=-5 | 16..)) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
        }
        _ if float.fract() == 0.0 => format!("{float}.0"),
        _ => float.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_look_as_python_prints_them() {
        for (json, python) in [
            ("null", "None"),
            ("[true, false, []]", "[True, False, []]"),
            (r#"{"a": "it's", "b": null}"#, r#"{'a': "it's", 'b': None}"#),
            (r#""it's \"so\"""#, r#"'it\'s "so"'"#),
            (r#""a\\b\n\u0001\u00a0\u200b \u0175""#, r"'a\\b\n\x01\xa0\u200b ŵ'"),
            ("12345678901234567890123", "12345678901234567890123"),
            ("3.0", "3.0"),
            ("-0", "0"),
            ("-0.0", "-0.0"),
            ("1e5", "100000.0"),
            ("1e16", "1e+16"),
            ("1.5e-7", "1.5e-07"),
            ("0.0001", "0.0001"),
            ("1e999", "inf"),
        ] {
            let value: Value = serde_json::from_str(json).expect("it is JSON");
            assert_eq!(repr(&value), python, "{json}");
        }
    }
}
