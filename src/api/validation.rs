//! Reads a request's fields and says everything that is wrong with them at once, in the order and the words of
//! GOV.UK Notify: properties in schema order first, then what is missing, then what should not be there.

use std::{fmt::Display, time::Duration};

use chrono::{DateTime, Utc};
use herald_message::python::repr;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{
    Error,
    formats::{self, is_https_url, within_next_day},
};

/// The fields of one object, taken one by one; what is left at the end was not expected.
#[derive(Debug, Default)]
pub struct Fields {
    left: Map<String, Value>,
    missing: Vec<&'static str>,
    faults: Vec<String>,
    /// Names of fields with a null character in them.
    nul: Vec<String>,
}

impl Fields {
    /// Reads a body. As in Python, `null`, `[]`, `0`, `""` and `false` count as an empty object.
    ///
    /// # Errors
    /// When it is not JSON, is nested too deeply, or is something else than an object.
    pub fn of_body(body: &[u8]) -> Result<Self, Error> {
        let value: Value = serde_json::from_slice(body)
            .map_err(|_not_json| Error::bad_request("Invalid JSON supplied in POST data"))?;
        let left = match value {
            Value::Object(fields) => fields,
            value if is_falsy(&value) => Map::new(),
            value => {
                return Err(Error::invalid(
                    format!("{} is not of type object", repr(&value)).replace('\'', ""),
                ));
            }
        };
        let nul = if contains(body, b"\\u0000") {
            names_of_fields_with_nul(&left)
        } else {
            Vec::new()
        };
        Ok(Self {
            left,
            nul,
            ..Self::default()
        })
    }

    pub fn of(object: Map<String, Value>) -> Self {
        Self {
            left: object,
            ..Self::default()
        }
    }

    pub fn has(&self, name: &str) -> bool {
        self.left.contains_key(name)
    }

    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.left.swap_remove(name)
    }

    pub fn fault(&mut self, name: &str, what: &str) {
        self.whole_fault(format!("{name} {what}"));
    }

    /// Notes a fault where there is no value.
    pub fn judged<T>(&mut self, name: &str, otherwise: &str, value: Option<T>) -> Option<T> {
        if value.is_none() {
            self.fault(name, otherwise);
        }
        value
    }

    /// Notes a fault of the whole object. Said once, and without single quotes.
    pub fn whole_fault(&mut self, fault: String) {
        let fault = fault.replace('\'', "");
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }

    fn wrong_type(&mut self, name: &str, value: &Value, expected: &str) {
        self.fault(name, &format!("{} is not of type {expected}", repr(value)));
    }

    pub fn text(&mut self, name: &str) -> Option<String> {
        match self.take(name)? {
            Value::String(text) => Some(text),
            other => {
                self.wrong_type(name, &other, "string");
                None
            }
        }
    }

    /// Text of at most `longest` characters.
    pub fn short_text(&mut self, name: &str, longest: usize) -> Option<String> {
        let text = self.text(name)?;
        if text.len() > longest && text.chars().count() > longest {
            let quoted = repr(&Value::String(text));
            self.fault(name, &format!("{quoted} is too long"));
            return None;
        }
        Some(text)
    }

    /// Text that `judge` makes something of; its error is the message.
    pub fn judged_text<T, E: Display>(&mut self, name: &str, judge: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        let text = self.text(name)?;
        judge(&text).map_err(|error| self.fault(name, &error.to_string())).ok()
    }

    pub fn uuid(&mut self, name: &str) -> Option<Uuid> {
        let value = self.take(name)?;
        self.judged(name, "is not a valid UUID", value.as_str().and_then(formats::uuid))
    }

    pub fn object(&mut self, name: &str) -> Option<Map<String, Value>> {
        match self.take(name)? {
            Value::Object(object) => Some(object),
            other => {
                self.wrong_type(name, &other, "object");
                None
            }
        }
    }

    /// A list of texts. `null` is as good as nothing.
    pub fn texts(&mut self, name: &str) -> Vec<String> {
        match self.take(name) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(items)) => {
                let mut texts = Vec::with_capacity(items.len());
                for item in items {
                    match item {
                        Value::String(text) => texts.push(text),
                        other => self.wrong_type(name, &other, "string"),
                    }
                }
                texts
            }
            Some(other) => {
                self.wrong_type(name, &other, "array, null");
                Vec::new()
            }
        }
    }

    pub fn https_url(&mut self, name: &str) -> Option<String> {
        match self.take(name)? {
            Value::String(url) if is_https_url(&url) => Some(url),
            _ => {
                self.fault(name, "is not a valid https url");
                None
            }
        }
    }

    /// A time within the next day.
    pub fn schedule(&mut self, name: &str) -> Option<DateTime<Utc>> {
        match self.take(name) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => within_next_day(&text).map_err(|message| self.fault(name, message)).ok(),
            Some(other) => {
                self.wrong_type(name, &other, "string, null");
                None
            }
        }
    }

    /// A whole number of seconds, from 1 to `most`. `null` is as good as nothing.
    pub fn seconds(&mut self, name: &str, most: u32) -> Option<Duration> {
        let value = self.take(name).filter(|value| !value.is_null())?;
        let seconds = value.as_u64().filter(|seconds| (1..=most.into()).contains(seconds));
        let otherwise = format!("must be a whole number of seconds from 1 to {most}");
        self.judged(name, &otherwise, seconds).map(Duration::from_secs)
    }

    /// Says that these had to be there. To be called before the fields are taken.
    pub fn require(&mut self, names: &[&'static str]) {
        self.missing = names
            .iter()
            .copied()
            .filter(|name| !self.left.contains_key(*name))
            .collect();
    }

    /// Ends a request that may have no other fields.
    ///
    /// # Errors
    /// All faults found, if any.
    pub fn finish(mut self) -> Result<(), Error> {
        for name in std::mem::take(&mut self.missing) {
            self.fault(name, "is a required property");
        }
        if let Some(fault) = self.unexpected() {
            self.whole_fault(fault);
        }
        self.finish_open()
    }

    /// Ends a request that may have any other fields.
    ///
    /// # Errors
    /// All faults found, if any.
    pub fn finish_open(mut self) -> Result<(), Error> {
        for name in std::mem::take(&mut self.nul) {
            self.fault(&name, "must not contain null characters");
        }
        if self.faults.is_empty() {
            Ok(())
        } else {
            Err(Error::Validation(self.faults))
        }
    }

    /// Says which fields have not been taken, as one fault.
    pub fn unexpected(&self) -> Option<String> {
        let mut names: Vec<&String> = self.left.keys().collect();
        if names.is_empty() {
            return None;
        }
        names.sort();
        let names: Vec<String> = names
            .into_iter()
            .map(|name| repr(&Value::String(name.clone())))
            .collect();
        let verb = if names.len() == 1 { "was" } else { "were" };
        Some(
            format!(
                "Additional properties are not allowed ({} {verb} unexpected)",
                names.join(", ")
            )
            .replace('\'', ""),
        )
    }
}

/// A required field, after [`Fields::finish`] has found nothing wrong.
pub fn present<T>(field: Option<T>, name: &str) -> Result<T, Error> {
    field.ok_or_else(|| Error::invalid(format!("{name} is a required property")))
}

fn is_falsy(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(yes) => !yes,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

/// Postgres cannot store U+0000 in text, so it is refused at the door.
fn names_of_fields_with_nul(fields: &Map<String, Value>) -> Vec<String> {
    let bad = fields
        .iter()
        .filter(|(name, value)| name.contains('\0') || has_nul(value));
    bad.map(|(name, _)| name.replace('\0', "")).collect()
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(fields) => fields.iter().any(|(name, value)| name.contains('\0') || has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(body: &str, read: impl FnOnce(&mut Fields)) -> Vec<String> {
        let mut fields = Fields::of_body(body.as_bytes()).expect("it is an object");
        read(&mut fields);
        match fields.finish() {
            Err(Error::Validation(faults)) => faults,
            _ => Vec::new(),
        }
    }

    #[test]
    fn a_null_character_anywhere_is_refused_but_an_escaped_backslash_is_not_one() {
        let read = |fields: &mut Fields| drop((fields.text("reference"), fields.object("personalisation")));
        let refused = r#"{"reference":"a\u0000","personalisation":{"x":[{"y\u0000":1}]}}"#;
        let messages = [
            "reference must not contain null characters",
            "personalisation must not contain null characters",
        ];
        assert_eq!(faults(refused, read), messages);
        assert!(faults(r#"{"reference":"a\\u0000"}"#, read).is_empty());
    }

    #[test]
    fn bottomless_json_is_invalid_json() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(matches!(Fields::of_body(deep.as_bytes()), Err(Error::BadRequest(_))));
    }

    #[test]
    fn absurd_numbers_are_told_as_they_are() {
        let digits = "9".repeat(400);
        let body = format!(r#"{{"reference":{digits}}}"#);
        let read = |fields: &mut Fields| drop(fields.short_text("reference", 1000));
        assert_eq!(
            faults(&body, read),
            [format!("reference {digits} is not of type string")]
        );
    }
}
