//! Blocks into HTML, plain text or a preheader. The styles are inline, for mail clients drop style sheets.

use std::fmt::Write;

use super::{
    Format,
    block::{Block, Item},
    inline::Inline,
    references::References,
};
use crate::text::is_space;

const PARAGRAPH: &str = "Margin: 0 0 20px 0; font-size: 19px; line-height: 25px; color: #0B0C0C;";
const HEADINGS: [(&str, &str); 2] = [
    (
        "h2",
        "Margin: 0 0 15px 0; padding: 10px 0 0 0; font-size: 27px; line-height: 35px; font-weight: bold; color: #0B0C0C;",
    ),
    (
        "h3",
        "Margin: 0 0 15px 0; padding: 10px 0 0 0; font-size: 19px; line-height: 25px; font-weight: bold; color: #0B0C0C;",
    ),
];
const RULE: &str = r#"<hr style="border: 0; height: 1px; background: #B1B4B6; Margin: 30px 0 30px 0;">"#;
const QUOTE: &str = concat!(
    r#"<div style="Margin: 0 0 20px 0;"><blockquote style="Margin: 0; border-left: 10px solid #B1B4B6;"#,
    r#"padding: 15px 0 0.1px 15px; font-size: 19px; line-height: 25px;">"#,
);
const QUOTE_END: &str = "</blockquote></div>";
const LIST: &str = concat!(
    r#"<table role="presentation" style="padding: 0 0 20px 0;"><tr>"#,
    r#"<td style="font-family: Helvetica, Arial, sans-serif;">"#,
);
const LIST_END: &str = "</td></tr></table>";
const ITEM: &str = "Margin: 5px 0 5px; padding: 0 0 0 5px; font-size: 19px;line-height: 25px; color: #0B0C0C;";
const LINK: &str = "word-wrap: break-word; color: #1D70B8;";

/// How wide rules and underlines of headings are in plain text, in characters.
const COLUMNS: usize = 65;

/// Schemes that a link may have. Any other address gets `http://` in front, which also disarms `javascript:`.
const SCHEMES: [&str; 6] = ["ftp", "file", "http", "https", "mailto", "tel"];

/// Renders blocks, and after them the footnotes in order of their first reference.
pub fn render(blocks: &[Block], references: &References, format: Format) -> String {
    let mut renderer = Renderer {
        inline: Inline::new(references, format),
        notes: Vec::new(),
        format,
    };
    let mut out = renderer.blocks(blocks);
    let numbers = &renderer.inline.numbers;
    let mut notes: Vec<_> = renderer
        .notes
        .into_iter()
        .filter_map(|(key, text)| Some((numbers.get(&key)?, text)))
        .collect();
    notes.sort_by_key(|(number, _)| **number);
    out.extend(notes.into_iter().map(|(_, text)| text));
    out
}

struct Renderer<'a> {
    inline: Inline<'a>,
    /// Keys and texts of the footnotes.
    notes: Vec<(String, String)>,
    format: Format,
}

impl Renderer<'_> {
    fn blocks(&mut self, blocks: &[Block]) -> String {
        self.sequence(blocks, false)
    }

    /// Lines of an item belong together; of a tight item they are no paragraph.
    fn sequence(&mut self, blocks: &[Block], tight: bool) -> String {
        let mut out = String::new();
        let mut rest = blocks;
        while let Some(block) = rest.first() {
            let Some((text, taken)) = joined_text(rest) else {
                self.block(block, &mut out);
                rest = &rest[1..];
                continue;
            };
            let text = self.inline.render(&text);
            if tight {
                out.push_str(&text);
            } else {
                self.push_paragraph(&mut out, &text);
            }
            rest = &rest[taken..];
        }
        out
    }

    fn block(&mut self, block: &Block, out: &mut String) {
        match block {
            Block::Newline => push_line_break(out, self.format),
            Block::Rule => self.push_rule(out),
            Block::Code(text) | Block::Html(text) => out.push_str(text),
            Block::Heading { level, text } => {
                let text = self.inline.render(text);
                self.push_heading(out, *level, &text);
            }
            Block::Table(cells) => {
                for cell in cells {
                    self.inline.render(cell);
                }
            }
            Block::Quote(blocks) => {
                let inner = self.blocks(blocks);
                match self.format {
                    Format::Html => out.extend([QUOTE, &inner, QUOTE_END]),
                    Format::Plain | Format::Preheader => out.push_str(&inner),
                }
            }
            Block::List { ordered, items } => self.list(out, *ordered, items),
            Block::Footnote { key, blocks } => {
                self.inline.in_footnote = true;
                let text = self.blocks(blocks);
                self.inline.in_footnote = false;
                self.notes.push((key.clone(), text));
            }
            Block::Paragraph(text) | Block::Text(text) => {
                let text = self.inline.render(text);
                self.push_paragraph(out, &text);
            }
        }
    }

    fn list(&mut self, out: &mut String, ordered: bool, items: &[Item]) {
        let (tag, style) = if ordered { ("ol", "decimal") } else { ("ul", "disc") };
        let html = self.format == Format::Html;
        if html {
            out.push_str(LIST);
            push(
                out,
                format_args!("<{tag} style=\"Margin: 0 0 0 20px; padding: 0; list-style-type: {style};\">"),
            );
        } else {
            out.push('\n');
        }
        for (index, item) in items.iter().enumerate() {
            let text = self.sequence(&item.blocks, !item.loose);
            let text = text.trim_matches(is_space);
            match (html, ordered) {
                (true, _) => push(out, format_args!("<li style=\"{ITEM}\">{text}</li>")),
                (false, true) => push(out, format_args!("\n{}. {text}", index + 1)),
                (false, false) => push(out, format_args!("\n• {text}")),
            }
        }
        if html {
            push(out, format_args!("</{tag}>{LIST_END}"));
        }
    }

    fn push_paragraph(&self, out: &mut String, text: &str) {
        if text.trim_matches(is_space).is_empty() {
            return;
        }
        match self.format {
            Format::Html => push(out, format_args!("<p style=\"{PARAGRAPH}\">{text}</p>")),
            Format::Plain | Format::Preheader => out.extend(["\n\n", text]),
        }
    }

    fn push_heading(&self, out: &mut String, level: usize, text: &str) {
        let Some((tag, style)) = HEADINGS.get(level - 1) else {
            return self.push_paragraph(out, text);
        };
        match self.format {
            Format::Html => push(out, format_args!("<{tag} style=\"{style}\">{text}</{tag}>")),
            Format::Plain => {
                let underline = if level == 1 { "=" } else { "-" };
                out.extend(["\n\n\n", text, "\n", &underline.repeat(COLUMNS)]);
            }
            Format::Preheader => self.push_paragraph(out, text),
        }
    }

    fn push_rule(&self, out: &mut String) {
        match self.format {
            Format::Html => out.push_str(RULE),
            Format::Plain => self.push_paragraph(out, &"=-".repeat(COLUMNS)[..COLUMNS]),
            Format::Preheader => {}
        }
    }
}

/// Texts that follow each other, as one, and how many they are.
fn joined_text(blocks: &[Block]) -> Option<(String, usize)> {
    let texts: Vec<&str> = blocks
        .iter()
        .map_while(|block| match block {
            Block::Text(text) => Some(text.as_str()),
            _ => None,
        })
        .collect();
    (!texts.is_empty()).then(|| (texts.join("\n"), texts.len()))
}

pub fn push_line_break(out: &mut String, format: Format) {
    out.push_str(match format {
        Format::Html => "<br>",
        Format::Plain | Format::Preheader => "\n",
    });
}

/// A URL that is its own text.
pub fn push_url(out: &mut String, url: &str, format: Format) {
    match format {
        Format::Html => push_anchor(out, url, None, url),
        Format::Plain | Format::Preheader => out.push_str(url),
    }
}

/// A link with a text, which is rendered already.
pub fn push_link(out: &mut String, text: &str, url: &str, title: Option<&str>, format: Format) {
    if format == Format::Html {
        return push_anchor(out, url, title, if text.is_empty() { url } else { text });
    }
    out.push_str(text);
    if let Some(title) = title {
        push(out, format_args!(" ({title})"));
    }
    if format == Format::Plain {
        out.extend([": ", url]);
    }
}

fn push_anchor(out: &mut String, url: &str, title: Option<&str>, text: &str) {
    push(out, format_args!("<a style=\"{LINK}\" href=\""));
    let has_scheme = url
        .split_once(':')
        .is_some_and(|(scheme, _)| SCHEMES.iter().any(|known| scheme.eq_ignore_ascii_case(known)));
    if !has_scheme {
        out.push_str("http://");
    }
    push_percent_encoded(out, url);
    out.push('"');
    if let Some(title) = title {
        // A quote would end the attribute.
        push(out, format_args!(" title=\"{}\"", title.replace('"', "&quot;")));
    }
    out.extend([">", text, "</a>"]);
}

/// Letters, digits, `_.-~` and `:/?#=&;%` stay.
fn push_percent_encoded(out: &mut String, url: &str) {
    for byte in url.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => out.push(char::from(byte)),
            b'_' | b'.' | b'-' | b'~' | b':' | b'/' | b'?' | b'#' | b'=' | b'&' | b';' | b'%' => {
                out.push(char::from(byte));
            }
            byte => push(out, format_args!("%{byte:02X}")),
        }
    }
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = out.write_fmt(text);
}
