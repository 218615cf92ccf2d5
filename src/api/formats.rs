//! Formats of values: UUIDs, times and links, as Python's libraries read them.

use std::sync::LazyLock;

use chrono::{DateTime, NaiveDate, NaiveDateTime, TimeDelta, Utc};
use regex::Regex;
use uuid::Uuid;

/// A UUID in any form that Python takes: with or without hyphens, braces or `urn:uuid:`.
pub fn uuid(text: &str) -> Option<Uuid> {
    if let Ok(uuid) = Uuid::try_parse(text) {
        return Some(uuid);
    }
    let text = text.replace("urn:", "").replace("uuid:", "");
    let digits: String = text
        .trim_matches(['{', '}'])
        .chars()
        .filter(|char| *char != '-')
        .collect();
    if digits.len() != 32 {
        None
    } else {
        Uuid::try_parse(&digits).ok()
    }
}

/// The characters of RFC 3986, with percent signs only before two hexadecimal digits.
pub fn is_https_url(url: &str) -> bool {
    let Some(rest) = url
        .strip_prefix("https://")
        .filter(|rest| !rest.is_empty() && !rest.starts_with('/'))
    else {
        return false;
    };
    let bytes = rest.as_bytes();
    bytes.iter().enumerate().all(|(index, byte)| match byte {
        b'%' => bytes
            .get(index + 1..index + 3)
            .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)),
        byte => byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=".contains(byte),
    })
}

const NOT_ISO_8601: &str =
    "datetime format is invalid. It must be a valid ISO8601 date time format, https://en.wikipedia.org/wiki/ISO_8601";

/// The instant, if it lies within the next day when it is taken for UTC whatever zone is given: so Notify judges it.
pub fn within_next_day(text: &str) -> Result<DateTime<Utc>, &'static str> {
    let (time, offset) = iso_8601(text).ok_or(NOT_ISO_8601)?;
    let now = Utc::now().naive_utc();
    if time < now {
        Err("datetime can not be in the past")
    } else if time > now + TimeDelta::hours(24) {
        Err("datetime can only be 24 hours in the future")
    } else {
        Ok((time - offset).and_utc())
    }
}

/// The time in it, and how far its zone is ahead of UTC.
pub fn iso_8601(text: &str) -> Option<(NaiveDateTime, TimeDelta)> {
    static FORM: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"(?x)^
            ([0-9]{4}) (?: (?: -([0-9]{1,2}) | ([0-9]{2}) ) (?: (?: -([0-9]{1,2}) | ([0-9]{2}) )
            (?: [\x20T] ([0-9]{2}) (?: :?([0-9]{2}) )? (?: :?([0-9]{1,2}) (?:[.,][0-9]+)? )?
            (?: Z | ([+\-\u{2212}]) ([0-9]{2}) :? ([0-9]{2})? )? )? )? )?
            $",
        )
        .expect("the pattern is constant")
    });
    let parts = FORM.captures(text)?;
    let number = |group: usize| parts.get(group).and_then(|part| part.as_str().parse::<u32>().ok());
    let year = parts.get(1)?.as_str().parse().ok()?;
    let month = number(2).or(number(3)).unwrap_or(1);
    let day = number(4).or(number(5)).unwrap_or(1);
    let [hour, minute, second] = [6, 7, 8].map(|group| number(group).unwrap_or(0));
    let time = NaiveDate::from_ymd_opt(year, month, day)?.and_hms_opt(hour, minute, second)?;
    let minutes = |group: usize| number(group).map_or(0, i64::from);
    let offset = TimeDelta::minutes(minutes(10) * 60 + minutes(11));
    let is_behind = parts.get(9).is_some_and(|sign| sign.as_str() != "+");
    Some((time, if is_behind { -offset } else { offset }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_come_in_many_forms() {
        let uuid_of = |text: &str| uuid(text).map(|uuid| uuid.to_string());
        let expected = Some("b46d9e0f-f41e-4da8-a7d3-eb2e6fd96e6c".to_owned());
        for form in [
            "B46D9E0F-F41E-4DA8-A7D3-EB2E6FD96E6C",
            "b46d9e0ff41e4da8a7d3eb2e6fd96e6c",
            "{b46d9e0f-f41e-4da8-a7d3-eb2e6fd96e6c}",
            "urn:uuid:b46d9e0f-f41e-4da8-a7d3-eb2e6fd96e6c",
            "b46d9e0ff41e-4da8a7d3-eb2e6fd96e6c",
        ] {
            assert_eq!(uuid_of(form), expected, "{form}");
        }
        for form in [
            "",
            "abc",
            "b46d9e0f-f41e-4da8-a7d3-eb2e6fd96e6",
            "é46d9e0ff41e4da8a7d3eb2e6fd96e6",
        ] {
            assert_eq!(uuid(form), None, "{form}");
        }
    }

    #[test]
    fn times_are_read_in_every_iso_8601_form_that_python_reads() {
        for text in [
            "2026-11-21",
            "20261121",
            "2026",
            "2026-1",
            "2026-11-21 10:00",
            "2026-11-21T1000",
            "2026-11-21T10:00:01.5+01:00",
        ] {
            assert!(iso_8601(text).is_some(), "{text}");
        }
        for (text, ahead) in [
            ("10:00Z", 0),
            ("10:00+01:00", 60),
            ("10:00-0530", -330),
            ("10:00+02", 120),
        ] {
            let (_, offset) = iso_8601(&format!("2026-11-21T{text}")).expect(text);
            assert_eq!(offset, TimeDelta::minutes(ahead), "{text}");
        }
        for text in ["", "tomorrow", "2026-13-01", "2026-11-31", "2026-11-21T25:00", "10:00"] {
            assert!(iso_8601(text).is_none(), "{text}");
        }
    }

    #[test]
    fn only_https_urls_are_https_urls() {
        assert!(is_https_url("https://a.uk/u?x=1&y=%20#f"));
        for url in [
            "",
            "httpsx",
            "http://a.uk",
            "https://",
            "https:///x",
            "https://a.uk/ b",
            "https://a.uk/%2",
            "https://é.uk",
        ] {
            assert!(!is_https_url(url), "{url}");
        }
    }
}
