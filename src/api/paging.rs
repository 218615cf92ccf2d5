//! What lists share: query strings, read as Notify reads them, and the links from one page to the next.

use std::fmt::Write;

use herald_message::python::repr;
use poem::Request;
use poem_openapi::Object;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::{Error, formats, validation::Fields};

/// Parameters in one query string. Nobody means more, and each costs work.
const MOST_PARAMETERS: usize = 1000;

/// What Python's libraries leave as it is in a query string, beside letters and digits.
const PLAIN: &[u8] = b"-._~!$'()*,/:;?@";

/// A query string: names in the order of their first appearance, each with all its values.
pub struct Parameters(Vec<(String, Vec<String>)>);

impl Parameters {
    /// # Errors
    /// When there are absurdly many.
    pub fn of(request: &Request) -> Result<Self, Error> {
        Self::read(request.uri().query().unwrap_or_default())
    }

    fn read(query: &str) -> Result<Self, Error> {
        let mut parameters = Vec::<(String, Vec<String>)>::new();
        for (index, (name, value)) in form_urlencoded::parse(query.as_bytes()).enumerate() {
            if index == MOST_PARAMETERS {
                return Err(Error::invalid(format!(
                    "The query has more than {MOST_PARAMETERS} parameters"
                )));
            }
            match parameters.iter_mut().find(|(known, _)| *known == name) {
                Some((_, values)) => values.push(value.into_owned()),
                None => parameters.push((name.into_owned(), vec![value.into_owned()])),
            }
        }
        Ok(Self(parameters))
    }

    /// Their names as fields, to note what is wrong with them: what is not taken was not expected.
    pub fn fields(&self) -> Fields {
        Fields::of(self.0.iter().map(|(name, _)| (name.clone(), Value::Null)).collect())
    }

    pub fn all(&self, name: &str) -> &[String] {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map_or(&[], |(_, values)| values)
    }

    /// The value of what can be said only once: the first counts, as in Notify.
    pub fn first(&self, name: &str) -> Option<&str> {
        self.all(name).first().map(String::as_str)
    }

    /// Forgets all values but the first.
    pub fn keep_first(&mut self, name: &str) {
        if let Some((_, values)) = self.0.iter_mut().find(|(known, _)| known == name) {
            values.truncate(1);
        }
    }

    /// Gives a parameter one value, in its place or at the end.
    pub fn set(&mut self, name: &str, value: String) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, values)) => *values = vec![value],
            None => self.0.push((name.to_owned(), vec![value])),
        }
    }

    /// The address with these parameters.
    pub fn on(&self, address: &str) -> String {
        let mut url = address.to_owned();
        let pairs = self
            .0
            .iter()
            .flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
        for (index, (name, value)) in pairs.enumerate() {
            url.push(if index == 0 { '?' } else { '&' });
            encode(name, &mut url);
            url.push('=');
            encode(value, &mut url);
        }
        url
    }
}

fn encode(text: &str, url: &mut String) {
    for byte in text.bytes() {
        match byte {
            b' ' => url.push('+'),
            byte if byte.is_ascii_alphanumeric() || PLAIN.contains(&byte) => url.push(byte.into()),
            byte => write!(url, "%{byte:02X}").expect("a string takes all that is written to it"),
        }
    }
}

/// Notes a fault where the value is not one of those allowed.
pub fn one_of(fields: &mut Fields, name: &str, value: &str, allowed: &[&str]) -> bool {
    let fits = allowed.contains(&value);
    if !fits {
        let value = repr(&Value::String(value.to_owned()));
        fields.fault(name, &format!("{value} is not one of [{}]", allowed.join(", ")));
    }
    fits
}

/// The parameter `older_than`: after which row a page begins.
pub fn older_than(parameters: &Parameters, fields: &mut Fields) -> Option<Uuid> {
    fields.take("older_than");
    let text = parameters.first("older_than")?;
    fields.judged("older_than", "is not a valid UUID", formats::uuid(text))
}

#[derive(Debug, Serialize, Object)]
pub struct Links {
    /// This page.
    pub current: String,
    /// The next page; there is none after a page without rows.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_keep_their_order_and_their_meaning() {
        let mut parameters = Parameters::read("b=1&a=%26%20%C5%B5&b=2&older_than=x&older_than=y&empty").expect("few");
        assert_eq!(parameters.all("b"), ["1", "2"]);
        assert_eq!(
            (parameters.first("a"), parameters.first("empty")),
            (Some("& ŵ"), Some(""))
        );
        parameters.keep_first("older_than");
        assert_eq!(parameters.on("/x"), "/x?b=1&b=2&a=%26+%C5%B5&older_than=x&empty=");
        parameters.set("older_than", "z".to_owned());
        parameters.set("new", "it's".to_owned());
        assert_eq!(
            parameters.on("/x"),
            "/x?b=1&b=2&a=%26+%C5%B5&older_than=z&empty=&new=it's"
        );
        assert_eq!(Parameters::read("").expect("none").on("/x"), "/x");
    }

    #[test]
    fn absurdly_many_parameters_are_refused() {
        assert!(Parameters::read(&"a&".repeat(MOST_PARAMETERS)).is_ok());
        assert!(Parameters::read(&"a&".repeat(MOST_PARAMETERS + 1)).is_err());
    }
}
