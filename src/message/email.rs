//! Emails: subject, HTML part, plain text part and preheader of a template, and the document around the HTML part.

mod document;

use std::sync::LazyLock;

use regex::Regex;

pub use document::{Branding, document};

use crate::{
    html,
    markdown::{self, Format},
    personalisation::Personalisation,
    template::{self, Fill, fill},
    text::{is_space, strip_and_remove_hidden},
    typography,
};

/// Bodies of more bytes are refused. (NOTIFY.md 8.5)
pub const EMAIL_BYTE_LIMIT: usize = 2_000_000;

/// So many characters of the text are shown in the list of a mail client.
const PREHEADER_CHARACTERS: usize = 256;

/// A template, and where its readers can unsubscribe.
#[derive(Debug, Clone, Copy)]
pub struct EmailTemplate<'a> {
    pub subject: &'a str,
    pub content: &'a str,
    pub unsubscribe_link: Option<&'a str>,
}

/// An email ready to be sent. Placeholders without a value are kept and, in HTML, marked; check
/// [`crate::template::missing`].
#[derive(Clone, PartialEq, Eq)]
pub struct RenderedEmail {
    /// For the mail's header and the API.
    pub subject: String,
    /// The subject for an HTML document.
    pub subject_html: String,
    /// What the API shows: the Markdown with its placeholders filled.
    pub body: String,
    /// What stands in the body of the HTML document; see [`document`].
    pub html: String,
    /// The text part, with a line break at its end.
    pub plain_text: String,
    /// The start of the content, without the link to unsubscribe, as HTML without tags; 256 characters at most.
    pub preheader: String,
}

/// Names of the placeholders, those of the subject first.
pub fn placeholders(template: &EmailTemplate<'_>) -> Vec<String> {
    let names = template::placeholders(&[template.subject, template.content]);
    names.into_iter().map(str::to_owned).collect()
}

/// The subject in plain text, on one line.
#[must_use]
pub fn subject(template: &EmailTemplate<'_>, values: &Personalisation) -> String {
    one_line(&fill(template.subject, values, Fill::TEXT))
}

/// The content with its placeholders filled, as the API shows it.
#[must_use]
pub fn body(template: &EmailTemplate<'_>, values: &Personalisation) -> String {
    fill(template.content, values, Fill::MARKDOWN)
        .trim_matches(is_space)
        .to_owned()
}

/// Whether nothing would be said. Only content that starts and ends with a placeholder can come to this; of other
/// content Notify does not ask.
#[must_use]
pub fn is_empty(template: &EmailTemplate<'_>, values: &Personalisation) -> bool {
    template.content.starts_with("((") && template.content.ends_with("))") && body(template, values).is_empty()
}

/// Fills the template and renders all parts of the email.
#[must_use]
pub fn render(template: &EmailTemplate<'_>, values: &Personalisation) -> RenderedEmail {
    let source = |content: &str, how| markdown_source(&fill(content, values, how));
    let unsubscribe = template.unsubscribe_link.map_or_else(String::new, |link| {
        format!("\n\n---\n\n[Unsubscribe from these emails]({link})")
    });
    let content = [template.content, &unsubscribe].concat();
    let part = |source: &str, format| typography::set(&markdown::render(source, format));
    RenderedEmail {
        subject: subject(template, values),
        subject_html: one_line(&fill(template.subject, values, Fill::HTML)),
        body: body(template, values),
        html: part(&source(&content, Fill::HTML_MARKDOWN), Format::Html),
        plain_text: plain_text(&part(&source(&content, Fill::MARKDOWN), Format::Plain)),
        preheader: preheader(&part(&source(template.content, Fill::HTML_MARKDOWN), Format::Preheader)),
    }
}

/// Text from which Markdown is rendered: "GOV.UK" in it does not look like an address to mail clients, and two
/// characters that they show badly are gone.
fn markdown_source(text: &str) -> String {
    static GOV_UK: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(?i)(^|[\s\x1c-\x1f])([#*^]?gov\.)(uk)").expect("the pattern is valid"));
    let mut out = String::with_capacity(text.len() + 64);
    let mut from = 0;
    for found in GOV_UK.captures_iter(text) {
        let (Some(domain), Some(whole)) = (found.get(3), found.get(0)) else {
            continue;
        };
        if !text[whole.end()..].starts_with(['/', '?', '#']) {
            out.extend([&text[from..domain.start()], "\u{200b}"]);
            from = domain.start();
        }
    }
    out.push_str(&text[from..]);
    out.retain(|char| !matches!(char, '\u{2028}' | '\u{3164}'));
    out.push('\n');
    out
}

fn plain_text(rendered: &str) -> String {
    let text = html::unescape(rendered);
    format!("{}\n", text.trim_start_matches(is_space))
}

fn preheader(rendered: &str) -> String {
    let start: String = words(rendered).chars().take(PREHEADER_CHARACTERS).collect();
    start.trim_matches(is_space).to_owned()
}

/// With typography, and without white space that is not needed and characters that cannot be seen.
fn one_line(text: &str) -> String {
    words(&strip_and_remove_hidden(&typography::set(text)))
}

/// With one space between words.
fn words(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split(is_space).filter(|word| !word.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// Words that Markdown, HTML and typography give a meaning to, in any order.
    fn markup() -> impl Strategy<Value = String> {
        let words = prop::sample::select(vec![
            "a",
            "é",
            " ",
            "  ",
            "    ",
            "\n",
            "\n\n",
            "\t",
            "*",
            "•",
            "-",
            "1.",
            "#",
            "##",
            "^",
            ">",
            "<",
            "<b>",
            "</b>",
            "<script>",
            "<!--",
            "-->",
            "<div ",
            "[",
            "]",
            "](",
            "(",
            ")",
            "[x](",
            "[^n]",
            "\n[^n]: ",
            "\n[x]: ",
            "!",
            "\\",
            "```\n",
            "~~~",
            "|",
            "|-|\n",
            "===",
            "---",
            "\"",
            "'",
            " \"t\" onclick=\"x\")",
            "&",
            "&lt;",
            "&#60;",
            "&quot;",
            "&nbsp;",
            ";",
            "javascript:",
            "java\tscript:",
            "data:",
            "http://",
            "https://e.com",
            "mailto:",
            "@",
            ".",
            "_",
            "gov.uk",
            "\u{2028}",
            "\u{a0}",
            "((a))",
            "((b??",
            "))",
        ]);
        prop::collection::vec(words, 0..40).prop_map(|words| words.concat())
    }

    fn rendered(content: &str, value: &str) -> RenderedEmail {
        let template = EmailTemplate {
            subject: "((a))",
            content,
            unsubscribe_link: None,
        };
        let values = json!({"a": value, "b": "yes", "list": [value, value]});
        render(
            &template,
            &Personalisation::from_json(values.as_object().expect("an object")),
        )
    }

    /// A template that puts the value wherever Markdown gives it a chance.
    const EVERYWHERE: &str = "((a))\n\n# ((a))\n\n((list))\n\n^ ((a))\n\n[((a))](((a)) \"((a))\")\n\n\
                              http://((a))\n\n[x]: ((a))\n\n[x]\n\n[((a))]((a))";

    proptest! {
        #[test]
        fn any_text_is_rendered(content in prop_oneof![any::<String>(), markup()], value in markup()) {
            let email = rendered(&content, &value);
            let page = document(&email, &Branding::default());
            prop_assert!(page.contains(&email.html));
            prop_assert!(email.preheader.chars().count() <= PREHEADER_CHARACTERS);
            prop_assert!(!email.subject.contains('\n') && email.plain_text.ends_with('\n'));
        }

        #[test]
        fn markup_in_a_value_never_becomes_a_tag(value in markup()) {
            let attribute = r#" (?:style|role|href|title)="[^"<>]*""#;
            let tags = "p|h2|h3|ul|ol|li|table|tr|td|div|blockquote|hr|br|a";
            let ours = Regex::new(&format!("</(?:{tags})>|<(?:{tags})(?:{attribute})*>")).expect("the pattern is valid");
            let email = rendered(EVERYWHERE, &value);
            for html in [email.html, email.subject_html, email.preheader] {
                let text = ours.replace_all(&html, "");
                prop_assert!(!text.contains(['<', '>']), "{}", html);
            }
        }

        #[test]
        fn every_link_has_a_scheme_that_runs_no_script(value in markup()) {
            let link = Regex::new("href=\"([^\"]*)\"").expect("the pattern is valid");
            let safe = Regex::new("^(?i:https?|ftp|file|mailto|tel):").expect("the pattern is valid");
            for found in link.captures_iter(&rendered(EVERYWHERE, &value).html) {
                prop_assert!(safe.is_match(&found[1]), "{}", &found[1]);
            }
        }
    }

    #[test]
    fn hostile_texts_take_linear_time() {
        for unit in [
            "[",
            "[[a]",
            "[x](a \"b",
            "[x](<a>",
            "[[a](u)",
            "\n[",
            "* * a\n",
            "^ ",
            "```\n",
            "<a b=",
            "<b>",
            "<!--x>",
            "<a1>",
            "<div>\n",
            "&a",
            " \n\u{a0}",
            "'\"",
            " - ",
            "gov.uk ",
            "((a??",
            "* a\n\n",
            "\n    * ",
            "~~~~x\n",
        ] {
            for (before, after) in [("", ""), ("[r]: x\n\n", ""), ("a", "\")>\n*")] {
                let content = format!("{before}{}{after}", unit.repeat(20_000 / unit.len()));
                assert!(rendered(&content, "").html.len() < content.len() * 100);
            }
        }
    }
}
