//! Straight quotes into curly ones, by the rules of SmartyPants: an order of passes, each of which sees what the one
//! before has left.

use crate::text::is_space;

/// Text in these elements is left alone. Any tag that begins so counts.
const SKIPPED: [&str; 9] = ["pre", "samp", "code", "tt", "kbd", "script", "style", "math", "a"];

/// Curls quotes outside tags and outside those elements. Escaped ones (`\"`) become entities.
pub fn curl(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 16);
    let mut skipped = Vec::new();
    let mut before = None;
    for token in tokens(text) {
        match token {
            Token::Tag(tag) => {
                out.push_str(tag);
                follow(&mut skipped, tag);
            }
            Token::Text(text) if skipped.is_empty() => {
                push_curled(&mut out, text, before);
                before = text.chars().next_back();
            }
            Token::Text(text) => {
                out.push_str(text);
                before = text.chars().next_back();
            }
        }
    }
    out
}

#[derive(Debug, Clone, Copy)]
enum Token<'a> {
    Tag(&'a str),
    Text(&'a str),
}

/// Cuts text into tags, comments and what stands between them.
fn tokens(text: &str) -> impl Iterator<Item = Token<'_>> {
    let last_tag_end = text.rfind('>').unwrap_or(0);
    let last_comment_end = text
        .rmatch_indices("--")
        .map(|(at, _)| at)
        .find(|at| comment_end(text, *at).is_some());
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = text.get(at..).filter(|rest| !rest.is_empty())?;
        let token = match rest.find('<').filter(|tag| at + tag < last_tag_end) {
            None => Token::Text(rest),
            Some(0) if rest.starts_with("<!--") => {
                let closes = last_comment_end.is_some_and(|last| at + 4 <= last);
                let end = if closes { first_comment_end(rest) } else { None };
                comment(&rest[..end.or_else(|| Some(rest.find('>')? + 1))?])
            }
            Some(0) => Token::Tag(&rest[..=rest.find('>')?]),
            Some(tag) => Token::Text(&rest[..tag]),
        };
        at += match token {
            Token::Tag(token) | Token::Text(token) => token.len(),
        };
        Some(token)
    })
}

/// Where a comment ends whose last dashes are here.
fn comment_end(text: &str, dashes: usize) -> Option<usize> {
    let after = text[dashes + 2..].trim_start_matches(is_space).strip_prefix('>')?;
    Some(text.len() - after.len())
}

fn first_comment_end(text: &str) -> Option<usize> {
    let mut from = 4;
    loop {
        let dashes = from + text[from..].find("--")?;
        let end = comment_end(text, dashes);
        if end.is_some() {
            return end;
        }
        from = dashes + 1;
    }
}

/// A comment with further dashes in it counts as text.
fn comment(whole: &str) -> Token<'_> {
    let inner = whole[4..]
        .trim_end_matches('>')
        .trim_end_matches(is_space)
        .trim_end_matches('-');
    if inner.contains("--") {
        Token::Text(whole)
    } else {
        Token::Tag(whole)
    }
}

/// Keeps account of which skipped elements are open. An end tag counts if it closes the last one.
fn follow(open: &mut Vec<&'static str>, tag: &str) {
    let inner = &tag[1..];
    let (closes, name) = inner.strip_prefix('/').map_or((false, inner), |name| (true, name));
    let starts = |known: &&str| {
        name.get(..known.len())
            .is_some_and(|name| name.eq_ignore_ascii_case(known))
    };
    let Some(known) = SKIPPED.into_iter().find(starts) else {
        return;
    };
    if !closes {
        open.push(known);
    } else if open.last() == Some(&known) {
        open.pop();
    }
}

/// `before` is the last character of the text before the last tag: a lone quote between two tags leans on it.
fn push_curled(out: &mut String, text: &str, before: Option<char>) {
    if !text.contains(['"', '\'', '\\']) {
        return out.push_str(text);
    }
    let text = escape(text);
    let closes = before.is_some_and(|char| !is_space(char));
    match (text.as_str(), closes) {
        ("'", true) => out.push('’'),
        ("'", false) => out.push('‘'),
        ("\"", true) => out.push('”'),
        ("\"", false) => out.push('“'),
        (text, _) => {
            let mut chars: Vec<char> = text.chars().collect();
            curl_pairs(&mut chars);
            curl_single(&mut chars);
            curl_double(&mut chars);
            out.extend(chars);
        }
    }
}

/// Backslashes before some characters make entities of them.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let entity = match rest.as_bytes().get(at + 1) {
            Some(b'\\') => "&#92;",
            Some(b'"') => "&#34;",
            Some(b'\'') => "&#39;",
            Some(b'.') => "&#46;",
            Some(b'-') => "&#45;",
            Some(b'`') => "&#96;",
            _ => "",
        };
        out.push_str(if entity.is_empty() { "\\" } else { entity });
        rest = &rest[at + if entity.is_empty() { 1 } else { 2 }..];
    }
    out.push_str(rest);
    out
}

/// A quote in a quote that opens with it, and decades such as '80s.
fn curl_pairs(chars: &mut [char]) {
    for at in 0..chars.len() {
        let Some(quote @ ('"' | '\'')) = chars.get(at).copied() else {
            continue;
        };
        let word_follows = chars.get(at + 2).copied().is_some_and(is_word);
        match (quote, chars.get(at + 1)) {
            ('"', Some('\'')) if word_follows => chars[at..at + 2].copy_from_slice(&['“', '‘']),
            ('\'', Some('"')) if word_follows => chars[at..at + 2].copy_from_slice(&['‘', '“']),
            _ => {}
        }
    }
    for at in 1..chars.len() {
        if chars[at] == '\''
            && is_word(chars[at - 1])
            && matches!(chars.get(at + 1..at + 4), Some([ten, one, 's']) if ten.is_numeric() && one.is_numeric())
        {
            chars[at] = '’';
        }
    }
}

fn curl_single(chars: &mut [char]) {
    curl_opening(chars, '\'', '‘');
    // A match takes the character before the quote, so of two quotes in a row a pass turns the first at most.
    let mut taken = 0;
    for at in 1..chars.len() {
        let stays = |next: char| is_space(next) || next.is_numeric() || ends_in_s(chars, at);
        if chars[at] == '\'' && at > taken && can_close(chars[at - 1]) && !chars.get(at + 1).copied().is_some_and(stays)
        {
            chars[at] = '’';
            taken = at + 1;
        }
    }
    let mut taken = 0;
    for at in 1..chars.len() {
        let closes = |next: char| is_space(next) || ends_in_s(chars, at);
        if chars[at] == '\'' && at > taken && can_close(chars[at - 1]) && chars.get(at + 1).copied().is_some_and(closes)
        {
            chars[at] = '’';
            taken = at + 2;
        }
    }
    replace_all(chars, '\'', '‘');
}

fn curl_double(chars: &mut [char]) {
    curl_opening(chars, '"', '“');
    for at in 0..chars.len() {
        if chars[at] == '"' && chars.get(at + 1).copied().is_some_and(is_space) {
            chars[at] = '”';
        }
    }
    let mut taken = 0;
    for at in 1..chars.len() {
        if chars[at] == '"' && at > taken && can_close(chars[at - 1]) {
            chars[at] = '”';
            taken = at + 1;
        }
    }
    replace_all(chars, '"', '“');
}

/// After white space, dashes or entities of these, and before a word.
fn curl_opening(chars: &mut [char], straight: char, curly: char) {
    const BEFORE: [&str; 8] = [
        "&nbsp;", "--", "&mdash;", "&ndash;", "&#8211;", "&#8212;", "&#x2013;", "&#x2014;",
    ];
    for at in 1..chars.len() {
        if chars[at] != straight || !chars.get(at + 1).copied().is_some_and(is_word) {
            continue;
        }
        let ends_with = |end: &str| chars[..at].iter().rev().copied().take(end.len()).eq(end.chars().rev());
        if is_space(chars[at - 1]) || BEFORE.into_iter().any(ends_with) {
            chars[at] = curly;
        }
    }
}

fn replace_all(chars: &mut [char], from: char, to: char) {
    for char in chars.iter_mut().filter(|char| **char == from) {
        *char = to;
    }
}

/// Whether the quote here is followed by an s that ends the word.
fn ends_in_s(chars: &[char], quote: usize) -> bool {
    chars.get(quote + 1) == Some(&'s') && !chars.get(quote + 2).copied().is_some_and(is_word)
}

/// Whether a quote after this character is a closing one.
fn can_close(char: char) -> bool {
    !matches!(char, ' ' | '\t' | '\r' | '\n' | '[' | '{' | '(' | '-')
}

fn is_word(char: char) -> bool {
    char == '_' || char.is_alphanumeric()
}
