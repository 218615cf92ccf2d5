//! Templates: text with `((placeholders))` and `((conditions??text shown if they hold))`.
//!
//! A placeholder's body has no round bracket in it, so placeholders never nest, and one pass from left to right finds
//! them all. Of more than two brackets in a row the inner two count. (NOTIFY.md 8.3)

use std::collections::HashSet;

use crate::{
    html,
    personalisation::{self, Personalisation},
    text,
};

/// How values get into a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fill {
    pub escape: Escape,
    pub lists: Lists,
    pub missing: Missing,
}

/// What happens to the template's text and to values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Escape {
    Nothing,
    Html,
}

/// How a list is shown. Empty and blank items are left out, and a list of none but these is shown as nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lists {
    /// "a, b and c"
    Inline,
    /// A blank line, then a line "* item" for each.
    Markdown,
}

/// How a placeholder without a value is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// As it stands in the template.
    Kept,
    /// In a span with class `placeholder`, its brackets as entities.
    Marked,
    /// The word "hidden": "[hidden]" in text, a span with class `placeholder-redacted` in HTML.
    Redacted,
}

impl Fill {
    /// For texts and subjects.
    pub const TEXT: Self = Self {
        escape: Escape::Nothing,
        lists: Lists::Inline,
        missing: Missing::Kept,
    };
    /// For the Markdown of an email's text part and of the API's `body`.
    pub const MARKDOWN: Self = Self {
        lists: Lists::Markdown,
        ..Self::TEXT
    };
    /// For the Markdown of an email's HTML part.
    pub const HTML_MARKDOWN: Self = Self {
        escape: Escape::Html,
        lists: Lists::Markdown,
        missing: Missing::Marked,
    };
    /// For a subject in HTML.
    pub const HTML: Self = Self {
        lists: Lists::Inline,
        ..Self::HTML_MARKDOWN
    };
}

/// Names of all placeholders in some texts that share their values, such as subject and content: as first typed, in
/// order of first appearance, each once, conditions without their text.
pub fn placeholders<'a>(contents: &[&'a str]) -> Vec<&'a str> {
    let mut seen = HashSet::new();
    let names = contents
        .iter()
        .flat_map(|content| parts(content))
        .filter_map(|part| match part {
            Part::Placeholder(placeholder) => Some(placeholder.name()),
            Part::Text(_) => None,
        });
    names.filter(|name| seen.insert(personalisation::key(name))).collect()
}

/// Those placeholders that have no value, in the same order.
pub fn missing<'a>(contents: &[&'a str], values: &Personalisation) -> Vec<&'a str> {
    let mut names = placeholders(contents);
    names.retain(|name| values.get(name).is_none());
    names
}

/// The text with values for its placeholders. Values are not searched for placeholders.
pub fn fill(content: &str, values: &Personalisation, how: Fill) -> String {
    let mut out = String::with_capacity(content.len() + content.len() / 4);
    for part in parts(content) {
        match part {
            Part::Text(text) => how.push(&mut out, text),
            Part::Placeholder(placeholder) => how.push_value(&mut out, placeholder, values),
        }
    }
    out
}

impl Fill {
    fn push(self, out: &mut String, text: &str) {
        match self.escape {
            Escape::Nothing => out.push_str(text),
            Escape::Html => out.push_str(&html::escape(text)),
        }
    }

    fn push_value(self, out: &mut String, placeholder: Placeholder<'_>, values: &Personalisation) {
        let Some(value) = values.get(placeholder.name()) else {
            return self.push_missing(out, placeholder);
        };
        match (placeholder.condition(), value) {
            (Some((_, text)), value) if personalisation::switches_on(value) => self.push(out, text),
            (Some(_), _) => {}
            (None, serde_json::Value::Array(items)) => self.push(out, &self.list(items)),
            (None, value) => self.push(out, &personalisation::shown(value)),
        }
    }

    fn list(self, items: &[serde_json::Value]) -> String {
        let shown = items.iter().filter(|item| !item.is_null()).map(personalisation::shown);
        let shown: Vec<String> = shown
            .map(|item| text::strip_and_remove_hidden(&item).into_owned())
            .filter(|item| !item.is_empty())
            .collect();
        match (self.lists, shown.as_slice()) {
            (_, []) => String::new(),
            (Lists::Markdown, items) => format!("\n\n* {}", items.join("\n* ")),
            (Lists::Inline, [only]) => only.clone(),
            (Lists::Inline, [first @ .., last]) => format!("{} and {last}", first.join(", ")),
        }
    }

    fn push_missing(self, out: &mut String, placeholder: Placeholder<'_>) {
        match (self.missing, placeholder.condition()) {
            (Missing::Kept, _) => {
                out.push_str("((");
                self.push(out, placeholder.body);
                out.push_str("))");
            }
            (Missing::Redacted, _) => out.push_str(match self.escape {
                Escape::Nothing => "[hidden]",
                Escape::Html => "<span class='placeholder-redacted'>hidden</span>",
            }),
            (Missing::Marked, None) => {
                out.push_str("<span class='placeholder'>&#40;&#40;");
                self.push(out, placeholder.body);
                out.push_str("&#41;&#41;</span>");
            }
            (Missing::Marked, Some((name, text))) => {
                out.push_str("<span class='placeholder-conditional'>&#40;&#40;");
                self.push(out, name);
                out.push_str("??</span>");
                self.push(out, text);
                out.push_str("&#41;&#41;");
            }
        }
    }
}

/// A stretch of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part<'a> {
    Text(&'a str),
    Placeholder(Placeholder<'a>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Placeholder<'a> {
    /// What stands between the brackets.
    body: &'a str,
}

impl<'a> Placeholder<'a> {
    fn name(self) -> &'a str {
        self.condition().map_or(self.body, |(name, _)| name)
    }

    /// Name and text, if this is a conditional one. The first `??` parts them.
    fn condition(self) -> Option<(&'a str, &'a str)> {
        self.body.split_once("??")
    }
}

fn parts(content: &str) -> Parts<'_> {
    Parts {
        rest: content,
        found: None,
    }
}

/// Cuts a template up; every character is looked at a few times at most, whatever the brackets.
struct Parts<'a> {
    rest: &'a str,
    /// A placeholder whose preceding text has been given out.
    found: Option<Placeholder<'a>>,
}

impl<'a> Iterator for Parts<'a> {
    type Item = Part<'a>;

    fn next(&mut self) -> Option<Part<'a>> {
        if let Some(placeholder) = self.found.take() {
            return Some(Part::Placeholder(placeholder));
        }
        if self.rest.is_empty() {
            return None;
        }
        let Some((start, placeholder)) = first_placeholder(self.rest) else {
            return Some(Part::Text(std::mem::take(&mut self.rest)));
        };
        let before = &self.rest[..start];
        self.rest = &self.rest[start + placeholder.body.len() + 4..];
        if before.is_empty() {
            return Some(Part::Placeholder(placeholder));
        }
        self.found = Some(placeholder);
        Some(Part::Text(before))
    }
}

/// The first placeholder and where its brackets begin.
fn first_placeholder(text: &str) -> Option<(usize, Placeholder<'_>)> {
    let bytes = text.as_bytes();
    let mut from = 0;
    loop {
        let opening = from + text[from..].find("((")?;
        let more = bytes[opening + 2..].iter().take_while(|byte| **byte == b'(').count();
        let body = opening + 2 + more;
        let end = body + text[body..].find(['(', ')'])?;
        if end > body && bytes[end..].starts_with(b"))") {
            return Some((body - 2, Placeholder { body: &text[body..end] }));
        }
        from = end;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn values(json: &serde_json::Value) -> Personalisation {
        Personalisation::from_json(json.as_object().expect("an object"))
    }

    #[test]
    fn html_shows_what_is_missing_and_escapes_what_is_given() {
        let values = values(&json!({"a": "<i>&nbsp;", "items": ["<b>", null, " ", 1]}));
        let content = "& ((A)) ((x < y)) ((z??<u>)) ((items))";
        assert_eq!(
            fill(content, &values, Fill::HTML_MARKDOWN),
            "&amp; &lt;i&gt;&nbsp; <span class='placeholder'>&#40;&#40;x &lt; y&#41;&#41;</span> \
             <span class='placeholder-conditional'>&#40;&#40;z??</span>&lt;u&gt;&#41;&#41; \n\n* &lt;b&gt;\n* 1"
        );
    }

    #[test]
    fn hostile_brackets_take_linear_time() {
        for hostile in ["(", "((a", "((a)", "(()", "((a??", ")("] {
            let content = hostile.repeat(2_000_000 / hostile.len());
            assert_eq!(placeholders(&[&content]), Vec::<&str>::new());
        }
    }

    proptest! {
        #[test]
        fn without_values_all_placeholders_are_missing_and_the_text_is_unchanged(content in "[(a-cA_?) é]{0,60}") {
            let none = Personalisation::default();
            prop_assert_eq!(missing(&[&content], &none), placeholders(&[&content]));
            prop_assert_eq!(fill(&content, &none, Fill::TEXT), content);
        }

        #[test]
        fn with_values_for_all_nothing_is_missing_and_no_value_is_searched(content in "[(a-cA_?) é]{0,60}") {
            let names = placeholders(&[&content]);
            let given = names.iter().map(|name| ((*name).to_owned(), json!("((a))"))).collect();
            let given = Personalisation::from_json(&given);
            prop_assert!(missing(&[&content], &given).is_empty());
            let expected: String = parts(&content)
                .map(|part| match part {
                    Part::Text(text) => text,
                    Part::Placeholder(placeholder) => placeholder.condition().map_or("((a))", |_| ""),
                })
                .collect();
            prop_assert_eq!(fill(&content, &given, Fill::TEXT), expected);
        }
    }
}
