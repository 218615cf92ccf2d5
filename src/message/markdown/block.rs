//! Cuts a text into blocks. The first rule that fits where a block starts wins, so their order matters.

use super::{
    lines, list,
    references::{self, References},
    scan::Scan,
    tag,
};

/// A block. Texts in it still have their inline Markdown.
#[derive(Debug)]
pub enum Block {
    /// Two or more line breaks that belong to no other block.
    Newline,
    Rule,
    Code(String),
    Heading {
        level: usize,
        text: String,
    },
    /// Never shown; its cells count footnotes.
    Table(Vec<String>),
    Quote(Vec<Block>),
    List {
        ordered: bool,
        items: Vec<Item>,
    },
    Html(String),
    Footnote {
        key: String,
        blocks: Vec<Block>,
    },
    Paragraph(String),
    /// A line of a list item; of a tight item it is no paragraph.
    Text(String),
}

/// What follows one bullet or number.
#[derive(Debug)]
pub struct Item {
    /// With an empty line in it or before it.
    pub loose: bool,
    pub blocks: Vec<Block>,
}

/// The blocks of a text and the definitions in them.
pub fn parse(text: &str) -> (Vec<Block>, References) {
    let mut parser = Parser::default();
    let blocks = parser.parse(text, Within::Document);
    (blocks, parser.references)
}

/// Where blocks stand: there are fewer kinds in list items and footnotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Within {
    Document,
    Item,
    Footnote,
}

/// Deeper lists and quotes are text.
const DEEPEST: usize = 6;

#[derive(Debug, Default)]
pub struct Parser {
    references: References,
    lists: usize,
    quotes: usize,
}

impl Parser {
    pub fn parse(&mut self, text: &str, within: Within) -> Vec<Block> {
        let scan = Scan::new(text.trim_end_matches('\n'));
        let mut blocks = Vec::new();
        let mut at = 0;
        while at < scan.text.len() {
            at += self.next(&scan, at, within, &mut blocks);
        }
        blocks
    }

    /// Adds the next block and says how long it is.
    fn next(&mut self, scan: &Scan<'_>, at: usize, within: Within, blocks: &mut Vec<Block>) -> usize {
        let rest = &scan.text[at..];
        let breaks = lines::run(rest, b'\n');
        if breaks > 0 {
            if breaks > 1 {
                blocks.push(Block::Newline);
            }
            return breaks;
        }
        if within == Within::Document
            && let Some(len) = lines::rule(rest)
        {
            blocks.push(Block::Rule);
            return len;
        }
        if let Some(len) = lines::indented(rest) {
            blocks.push(Block::Code(outdent(&rest[..len])));
            return len;
        }
        if let Some(fenced) = scan.fenced(at) {
            blocks.push(Block::Code(fenced.code.to_owned()));
            return fenced.len;
        }
        if within != Within::Item {
            if let Some(heading) = lines::heading(rest) {
                return push_heading(blocks, &heading);
            }
            if let Some(len) = lines::table(rest, false) {
                blocks.push(Block::Table(cells(&rest[..len])));
                return len;
            }
        }
        if let Some(heading) = lines::underlined_heading(rest) {
            return push_heading(blocks, &heading);
        }
        if within != Within::Document
            && let Some(len) = lines::rule(rest)
        {
            blocks.push(Block::Rule);
            return len;
        }
        if let Some(len) = lines::quote(rest, b'^') {
            blocks.push(self.quote(&rest[..len]));
            return len;
        }
        if let Some(len) = list::block(scan, at) {
            blocks.push(self.list(&rest[..len]));
            return len;
        }
        if let Some((html, len)) = tag::block(scan, at) {
            blocks.push(Block::Html(html.to_owned()));
            return len;
        }
        if within == Within::Document
            && let Some(len) = self.definition(scan, at, blocks)
        {
            return len;
        }
        if within == Within::Item {
            let line = lines::first(rest);
            blocks.push(Block::Text(line.to_owned()));
            return line.len();
        }
        if let Some(len) = lines::table(rest, true) {
            blocks.push(Block::Table(cells(&rest[..len])));
            return len;
        }
        let paragraph = paragraph(scan, at);
        blocks.push(Block::Paragraph(rest[..paragraph].to_owned()));
        lines::with_breaks(rest, paragraph)
    }

    fn definition(&mut self, scan: &Scan<'_>, at: usize, blocks: &mut Vec<Block>) -> Option<usize> {
        if let Some((label, target, len)) = scan.link_definition(at) {
            if let Some(key) = references::key(label) {
                self.references.links.insert(key, target);
            }
            return Some(len);
        }
        let (label, text, len) = scan.footnote_definition(at)?;
        if let Some(key) = references::key(label)
            && self.references.footnotes.insert(key.clone())
        {
            let text = outdent_note(text);
            let inner = self.parse(&text, Within::Footnote);
            blocks.push(Block::Footnote { key, blocks: inner });
        }
        Some(len)
    }

    fn quote(&mut self, text: &str) -> Block {
        self.quotes += 1;
        let blocks = if self.quotes > DEEPEST {
            vec![Block::Text(text.to_owned())]
        } else {
            let inner: String = text.split_inclusive('\n').map(without_mark).collect();
            self.parse(&inner, Within::Document)
        };
        self.quotes -= 1;
        Block::Quote(blocks)
    }

    fn list(&mut self, text: &str) -> Block {
        self.lists += 1;
        let items = if self.lists > DEEPEST {
            let blocks = vec![Block::Text(text.to_owned())];
            vec![Item { loose: false, blocks }]
        } else {
            let items = list::items(text);
            let items = items.into_iter().map(|item| Item {
                loose: item.loose,
                blocks: self.parse(&item.text, Within::Item),
            });
            items.collect()
        };
        self.lists -= 1;
        Block::List {
            ordered: list::is_ordered(text),
            items,
        }
    }
}

fn push_heading(blocks: &mut Vec<Block>, heading: &lines::Heading<'_>) -> usize {
    blocks.push(Block::Heading {
        level: heading.level,
        text: heading.text.to_owned(),
    });
    heading.len
}

/// The length of the paragraph that starts here: lines up to an empty one, or to one that starts something else.
fn paragraph(scan: &Scan<'_>, at: usize) -> usize {
    let mut end = at;
    loop {
        end += lines::first(&scan.text[end..]).len();
        let next = end + 1;
        if next >= scan.text.len() || scan.text[next..].starts_with('\n') || interrupts(scan, next) {
            return end - at;
        }
        end = next;
    }
}

/// Whether a line ends the paragraph before it. Unlike elsewhere `>` starts a quote here, `+` is a bullet, `•` is none,
/// and there has to be a space after a bullet.
fn interrupts(scan: &Scan<'_>, at: usize) -> bool {
    let rest = &scan.text[at..];
    scan.fenced(at).is_some()
        || list::interrupts(rest)
        || lines::rule(rest).is_some()
        || lines::heading(rest).is_some()
        || lines::underlined_heading(rest).is_some()
        || starts_angle_quote(rest)
        || scan.link_definition(at).is_some()
        || scan.footnote_definition(at).is_some()
        || scan.tags.starts_block(scan.text, at)
}

fn starts_angle_quote(text: &str) -> bool {
    let line = lines::first(text).trim_start_matches(' ');
    line.len() > 1 && line.starts_with('>')
}

/// Without the mark of a quote, the spaces before it and one after.
fn without_mark(line: &str) -> &str {
    match line.trim_start_matches(' ').strip_prefix('^') {
        Some(inner) => inner.strip_prefix(' ').unwrap_or(inner),
        None => line,
    }
}

/// Without four spaces in front of each line.
fn outdent(text: &str) -> String {
    let lines = text.split_inclusive('\n');
    lines.map(|line| line.strip_prefix("    ").unwrap_or(line)).collect()
}

/// Without the white space in front of further lines that the least indented of them has.
fn outdent_note(text: &str) -> String {
    let further = || text.split('\n').skip(1);
    let indent = |line: &str| {
        let inner = line.trim_start_matches(crate::text::is_space);
        line[..line.len() - inner.len()].chars().count()
    };
    let least = further().map(indent).filter(|indent| *indent > 0).min();
    let mut out = lines::first(text).to_owned();
    for line in further() {
        out.push('\n');
        out.extend(line.chars().skip(least.unwrap_or(0)));
    }
    out
}

/// Texts between the bars of a table, without the line that gives the alignment.
fn cells(table: &str) -> Vec<String> {
    let rows = table.split('\n').enumerate().filter(|(row, _)| *row != 1);
    rows.flat_map(|(_, row)| row.split('|'))
        .map(|cell| cell.trim_matches(' ').to_owned())
        .collect()
}
