//! Notify's Markdown, into the HTML part, the plain text part and the preheader of an email.
//!
//! It is mistune 0.8.4's dialect with headings of two levels, `^` for block quotes, `•` as a bullet and no emphasis.
//! Every text is valid, time grows with its length only, and lists and quotes nest six deep at most. (NOTIFY.md 8.5)

mod block;
mod brackets;
mod destination;
mod inline;
mod lines;
mod list;
mod references;
mod renderer;
mod scan;
mod tag;

use std::borrow::Cow;

/// What Markdown is rendered for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Expects text that is HTML already but for its Markdown, as [`crate::template::Fill::HTML_MARKDOWN`] makes it.
    Html,
    /// Leaves `&`, `<` and `>` of the text as entities.
    Plain,
    /// Like plain text, without rules, underlines of headings and addresses of links.
    Preheader,
}

/// Renders a whole text.
pub fn render(text: &str, format: Format) -> String {
    let text = normalise(text);
    let (blocks, references) = block::parse(&text);
    renderer::render(&blocks, &references, format)
}

/// Line breaks as `\n`, tabs as spaces up to the next fourth column, lines of spaces only as empty ones.
fn normalise(text: &str) -> String {
    let text = if text.contains('\r') {
        Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n"))
    } else {
        Cow::Borrowed(text)
    };
    let text = expand_tabs(&text).replace('\u{2424}', "\n");
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        match line.trim_matches(' ') {
            "\n" => out.push('\n'),
            "" => {}
            _ => out.push_str(line),
        }
    }
    out
}

fn expand_tabs(text: &str) -> Cow<'_, str> {
    const WIDTH: usize = 4;
    if !text.contains('\t') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + text.len() / 4);
    let mut column = 0;
    for char in text.chars() {
        match char {
            '\t' => {
                let spaces = WIDTH - column % WIDTH;
                out.extend(std::iter::repeat_n(' ', spaces));
                column += spaces;
            }
            '\n' => {
                out.push(char);
                column = 0;
            }
            char => {
                out.push(char);
                column += 1;
            }
        }
    }
    Cow::Owned(out)
}
