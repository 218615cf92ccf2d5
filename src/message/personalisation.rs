//! The values that one message gives for the placeholders of its template.

use std::{borrow::Cow, collections::HashMap};

use serde_json::{Map, Value};

use crate::python;

/// Values by placeholder, whatever the case of the names and the spaces, `_` and `-` in them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Personalisation {
    values: HashMap<String, Value>,
}

impl Personalisation {
    /// Of names that differ only in case, spaces, `_` or `-`, the last one counts, even if its value is null.
    pub fn from_json(fields: &Map<String, Value>) -> Self {
        let values = fields.iter().map(|(name, value)| (key(name), value.clone()));
        Self {
            values: values.collect(),
        }
    }

    /// The value for a placeholder; `None` if it was left out or is null.
    pub fn get(&self, placeholder: &str) -> Option<&Value> {
        self.values.get(&key(placeholder)).filter(|value| !value.is_null())
    }
}

/// What two names have in common if they mean the same placeholder.
pub fn key(name: &str) -> String {
    if name.is_ascii() {
        let kept = name.bytes().filter(|byte| !matches!(byte, b' ' | b'_' | b'-'));
        return kept.map(|byte| char::from(byte.to_ascii_lowercase())).collect();
    }
    // Lower case of the whole, not of each character: a sigma at the end of a word differs.
    name.replace([' ', '_', '-'], "").to_lowercase()
}

/// A value as it is shown in a message: numbers and booleans as Python prints them ("1.0", "1e+21", "True").
pub fn shown(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(python::repr(other)),
    }
}

/// Whether a value makes the text of a conditional placeholder appear.
pub fn switches_on(value: &Value) -> bool {
    const YES: [&str; 7] = ["yes", "y", "true", "t", "1", "include", "show"];
    // No letter outside ASCII has a lower case among the letters of these words, so ASCII's rules are enough.
    let text = shown(value);
    YES.iter().any(|yes| text.eq_ignore_ascii_case(yes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn of_two_spellings_of_a_name_the_last_one_counts() {
        let fields = json!({"a b": "one", "AB": "two", "c": "kept", "C": null});
        let values = Personalisation::from_json(fields.as_object().expect("an object"));
        assert_eq!(values.get("a_b"), Some(&json!("two")));
        assert_eq!(values.get("c"), None);
    }

    proptest! {
        #[test]
        fn a_value_is_found_however_its_name_is_spelt(name in "[a-zé ŵ_-]{0,12}") {
            let values = Personalisation::from_json(&Map::from_iter([(name.clone(), json!(1))]));
            for spelling in [name.to_uppercase(), name.replace(['-', '_'], " "), format!("_{name}- ")] {
                prop_assert_eq!(values.get(&spelling), Some(&json!(1)));
            }
        }
    }
}
