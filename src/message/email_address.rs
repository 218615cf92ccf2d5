//! Email addresses: which are accepted, and the form that is stored to be searched.
//!
//! Stricter than the RFCs where SES would refuse: no quotes and no Unicode before the "@". After it international
//! domains are judged by the ASCII form in which they are looked up.

use std::borrow::Cow;

use thiserror::Error;

use crate::text::{is_space, strip_and_remove_hidden};

const LONGEST_ADDRESS: usize = 320;
const LONGEST_HOST: usize = 253;
const LONGEST_LABEL: usize = 63;

/// An address that messages can be sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmailAddress {
    /// As typed, without outer white space and hidden characters. This is what messages are sent to.
    pub address: String,
    /// The same in lower case, for searching and comparing.
    pub normalised: String,
}

/// Displays as the public API words it, without the field's name; it gives no closer reason.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("Not a valid email address")]
pub struct EmailAddressError;

/// Reads an address as people type it.
pub fn parse(input: &str) -> Result<EmailAddress, EmailAddressError> {
    let address = strip_and_remove_hidden(input);
    if !is_valid(&address) {
        return Err(EmailAddressError);
    }
    Ok(EmailAddress {
        normalised: address.to_lowercase(),
        address: address.into_owned(),
    })
}

fn is_valid(address: &str) -> bool {
    if address.chars().nth(LONGEST_ADDRESS).is_some() || address.contains("..") {
        return false;
    }
    let Some((local, host)) = address.split_once('@') else {
        return false;
    };
    !local.is_empty() && local.bytes().all(is_local) && ascii_host(host).is_some_and(|host| is_valid_host(&host))
}

/// A dot may be anywhere in the local part, even first or last, except beside another.
const fn is_local(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'.' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'/' | b'=' | b'?'
        )
        || matches!(byte, b'^' | b'_' | b'`' | b'{' | b'|' | b'}' | b'~' | b'-')
}

/// The host with each international label in its `xn--` form. None where a label has none.
///
/// Labels that are ASCII already stay as they are, because many a name in use would fail IDNA's own checks of them.
fn ascii_host(host: &str) -> Option<Cow<'_, str>> {
    if host.is_ascii() {
        return Some(Cow::Borrowed(host));
    }
    if host.contains(is_space) {
        return None;
    }
    let labels: Option<Vec<_>> = host
        .split(['.', '\u{3002}', '\u{ff0e}', '\u{ff61}'])
        .map(ascii_label)
        .collect();
    Some(Cow::Owned(labels?.join(".")))
}

fn ascii_label(label: &str) -> Option<Cow<'_, str>> {
    if label.is_ascii() {
        return Some(Cow::Borrowed(label));
    }
    idna::domain_to_ascii_cow(label.as_bytes(), idna::AsciiDenyList::EMPTY).ok()
}

fn is_valid_host(host: &str) -> bool {
    host.len() <= LONGEST_HOST
        && host.split('.').all(is_valid_label)
        && host.rsplit_once('.').is_some_and(|(_, last)| is_valid_top_level(last))
}

/// Letters and digits in groups, between them one hyphen or two.
fn is_valid_label(label: &str) -> bool {
    let of_host = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=LONGEST_LABEL).contains(&label.len())
        && label.bytes().all(of_host)
        && !label.starts_with('-')
        && !label.ends_with('-')
        && !label.contains("---")
}

/// Two letters or more, or an international name, whose hyphens after `xn--` stand alone.
fn is_valid_top_level(label: &str) -> bool {
    match label.split_at_checked(4) {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case("xn--") => !rest.contains("--"),
        _ => label.len() >= 2 && label.bytes().all(|byte| byte.is_ascii_alphabetic()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_address_is_sent_to_as_typed_and_stored_in_lower_case() {
        let found = parse("\u{a0}Jo.Bloggs@M\u{200b}ÜNCHEN.de\n").expect("a valid address");
        assert_eq!(found.address, "Jo.Bloggs@MÜNCHEN.de");
        assert_eq!(found.normalised, "jo.bloggs@münchen.de");
    }

    #[test]
    fn the_host_is_measured_in_the_form_that_is_looked_up() {
        let label = "ü".repeat(60);
        assert_eq!(
            parse(&format!("jo@{label}.de")),
            Err(EmailAddressError),
            "over 63 bytes as xn--"
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_parse_panic(wild in any::<String>(), close in "[a-zéß\u{200d}.@-]{0,30}@[a-zéß例。\u{ff0e}.-]{0,80}") {
            let _ = parse(&wild);
            let _ = parse(&close);
        }

        #[test]
        fn an_accepted_address_is_accepted_again_in_lower_case(typed in "[A-Za-z.+'_-]{1,8}@\\PC{1,6}\\.[A-Za-zÀ-ž]{2,6}") {
            if let Ok(found) = parse(&typed) {
                let again = parse(&found.normalised);
                prop_assert!(again.is_ok_and(|again| again.address == found.normalised), "{:?}", found);
            }
        }
    }
}
