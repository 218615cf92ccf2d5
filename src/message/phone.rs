//! Phone numbers: what a request may contain, how it is normalised, and who may be sent a text.
//!
//! Lengths, ranges and types are those of libphonenumber's metadata; prices and senders those of Notify's rates.
//! A number that `parse` returns always has an entry in the rates; written with a plus it parses to itself again.

mod rates;

use std::ops::RangeInclusive;

use rlibphonenumber::{
    NumberLengthType, PHONE_NUMBER_UTIL, PhoneNumber as Dialled, PhoneNumberFormat, PhoneNumberType, Region,
    ValidationError,
};
use thiserror::Error;

use crate::text::{is_ascii_space, is_no_break_space, is_zero_width};

const UK: i32 = 44;
const NORTH_AMERICA: i32 = 1;
/// National numbers that Ofcom keeps for film and television. No network has them, so they are safe in tests.
const FICTIONAL_MOBILES: RangeInclusive<u64> = 7_700_900_000..=7_700_900_999;
/// libphonenumber's own limit, in characters. Longer input is no number, however many leading zeros it begins with.
const LONGEST_INPUT: usize = 250;

/// A number that a message can be addressed to, given the permission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhoneNumber {
    /// E.164 without the plus: `447700900001`.
    pub normalised: String,
    /// Key of the billing rates, digits only: the calling code, or four digits for some of the +1 countries.
    pub country_prefix: String,
    /// Outside Great Britain and Northern Ireland. True in the crown dependencies although they share +44.
    pub international: bool,
    /// One fragment counts as this many; 1 at home.
    pub rate_multiplier: u8,
    /// Jersey, Guernsey or the Isle of Man.
    pub crown_dependency: bool,
    /// A +44 number that may be a landline, so that texting it needs the permission for landlines.
    pub uk_landline: bool,
    /// Whether receipts of that country can be waited for.
    pub has_delivery_receipts: bool,
    /// Whether the sender must be a number instead of a name.
    pub needs_numeric_sender: bool,
}

/// Why request validation refuses a number. Displays as the public API words it, without the field's name.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum PhoneError {
    /// The length would do, but no such number is assigned, or none that receives texts.
    #[error("Number is not valid – double check the phone number you entered")]
    InvalidNumber,
    #[error("Not enough digits")]
    TooShort,
    #[error("Too many digits")]
    TooLong,
    #[error("Must not contain letters or symbols")]
    UnknownCharacter,
    /// No such calling code, or one that Notify has no price for.
    #[error("Not a valid country prefix")]
    UnsupportedCountryCode,
}

/// What a service may send to, besides UK mobiles and those of the crown dependencies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    pub international: bool,
    pub landline: bool,
}

/// Why a service may not send to a number that is well formed. Displays as the public API words it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum NotAllowed {
    /// Answered as an `InvalidPhoneError`.
    #[error("Not a UK mobile number")]
    NotAUkMobile,
    /// Answered as a `BadRequestError`.
    #[error("Cannot send to international mobile numbers")]
    InternationalForbidden,
}

impl PhoneError {
    /// The name in reports of invalid rows: `too_short`.
    pub const fn code(self) -> &'static str {
        match self {
            Self::InvalidNumber => "invalid_number",
            Self::TooShort => "too_short",
            Self::TooLong => "too_long",
            Self::UnknownCharacter => "unknown_character",
            Self::UnsupportedCountryCode => "unsupported_country_code",
        }
    }
}

impl PhoneNumber {
    /// Whether a service with these permissions may text the number.
    pub const fn allowed(&self, permissions: Permissions) -> Result<(), NotAllowed> {
        if self.uk_landline && !permissions.landline {
            Err(NotAllowed::NotAUkMobile)
        } else if self.international && !self.crown_dependency && !permissions.international {
            Err(NotAllowed::InternationalForbidden)
        } else {
            Ok(())
        }
    }
}

/// Whether a country's networks send delivery receipts, by the prefix of a stored notification.
pub fn has_delivery_receipts(prefix: &str) -> bool {
    rates::rate(prefix).is_some_and(|rate| rate.has_delivery_receipts)
}

/// Reads a number as people type it, at home if it says nothing else: `07700 900001`, `+44(0)7700-900001`, `33612345678`.
///
/// What fails as typed is tried once more without pluses and leading zeros, and that second try's error is reported.
pub fn parse(input: &str) -> Result<PhoneNumber, PhoneError> {
    let (dialled, kind) = read(input).or_else(|_| read(&tidied(input)))?;
    describe(&dialled, kind)
}

/// One attempt at a number, exactly as it is written. Whether it has a price is not asked yet.
fn read(input: &str) -> Result<(Dialled, PhoneNumberType), PhoneError> {
    if !input.chars().all(is_allowed) {
        return Err(PhoneError::UnknownCharacter);
    }
    if input.is_empty() {
        return Err(PhoneError::TooShort);
    }
    if input.chars().nth(LONGEST_INPUT).is_some() {
        return Err(PhoneError::InvalidNumber);
    }
    let dialled = of_possible_length(input)?;
    let kind = dialled.get_type();
    if !(receives_texts(kind) || is_fictional(&dialled)) {
        return Err(PhoneError::InvalidNumber);
    }
    Ok((dialled, kind))
}

/// A number of home or with a calling code; failing that by its length, a number abroad whose plus was forgotten.
fn of_possible_length(input: &str) -> Result<Dialled, PhoneError> {
    let dialled = PHONE_NUMBER_UTIL
        .parse(input, Some(Region::GB))
        .map_err(|_| PhoneError::InvalidNumber)?;
    let refusal = match dialled.is_possible_with_reason() {
        Ok(NumberLengthType::IsPossible) => return Ok(dialled),
        Ok(NumberLengthType::IsPossibleLocalOnly) | Err(ValidationError::TooShort) => PhoneError::TooShort,
        Err(ValidationError::TooLong) => PhoneError::TooLong,
        Err(ValidationError::InvalidCountryCode) => PhoneError::UnsupportedCountryCode,
        Err(ValidationError::InvalidLength) => PhoneError::InvalidNumber,
    };
    PHONE_NUMBER_UTIL
        .parse(format!("+{input}"), None)
        .ok()
        .filter(|abroad| PHONE_NUMBER_UTIL.is_possible_number(abroad))
        .ok_or(refusal)
}

fn describe(dialled: &Dialled, kind: PhoneNumberType) -> Result<PhoneNumber, PhoneError> {
    let normalised = dialled
        .format_as(PhoneNumberFormat::E164)
        .trim_start_matches('+')
        .to_owned();
    let (country_prefix, rate) = priced(dialled, &normalised).ok_or(PhoneError::UnsupportedCountryCode)?;
    let from_uk_plan = dialled.country_code == UK;
    let international = !is_fictional(dialled) && dialled.get_region_code() != Some(Region::GB);
    Ok(PhoneNumber {
        international,
        rate_multiplier: if international { rate.multiplier } else { 1 },
        crown_dependency: from_uk_plan && international,
        uk_landline: from_uk_plan && may_be_landline(kind),
        has_delivery_receipts: rate.has_delivery_receipts,
        needs_numeric_sender: rate.needs_numeric_sender,
        country_prefix,
        normalised,
    })
}

/// The key and entry of the rates: in the North American plan by area code, if that has an entry of its own.
fn priced(dialled: &Dialled, normalised: &str) -> Option<(String, rates::Rate)> {
    let area = normalised.get(..4).filter(|_| dialled.country_code == NORTH_AMERICA);
    if let Some((area, rate)) = area.and_then(|area| Some((area, rates::rate(area)?))) {
        return Some((area.to_owned(), rate));
    }
    let prefix = dialled.country_code.to_string();
    let rate = rates::rate(&prefix)?;
    Some((prefix, rate))
}

fn is_fictional(dialled: &Dialled) -> bool {
    dialled.country_code == UK && FICTIONAL_MOBILES.contains(&dialled.national_number)
}

/// Kinds that may be sent to. Numbers that no plan contains are of unknown kind and never pass.
const fn receives_texts(kind: PhoneNumberType) -> bool {
    may_be_landline(kind) || matches!(kind, PhoneNumberType::Mobile | PhoneNumberType::PersonalNumber)
}

const fn may_be_landline(kind: PhoneNumberType) -> bool {
    matches!(
        kind,
        PhoneNumberType::FixedLine | PhoneNumberType::FixedLineOrMobile | PhoneNumberType::UAN
    )
}

/// ASCII digits only: those of other scripts would parse, but nobody could dial them as shown.
const fn is_allowed(char: char) -> bool {
    matches!(char, '0'..='9' | '+' | '(' | ')' | '-')
        || is_ascii_space(char)
        || is_zero_width(char)
        || is_no_break_space(char)
}

/// The second try: no pluses, no leading zeros, dashes and spaces of other kinds made plain.
///
/// Other ASCII space, line breaks first, is refused here: two lines are two numbers.
fn tidied(input: &str) -> String {
    let without_pluses = input.replace('+', "");
    without_pluses
        .trim_start_matches('0')
        .chars()
        .filter(|char| !is_zero_width(*char))
        .map(|char| match char {
            '\t' | '\u{a0}' | '\u{202f}' => ' ',
            '\u{2011}' | '\u{2013}' | '\u{2014}' | '\u{2212}' => '-',
            '\n'..='\r' => '?',
            other => other,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UNLIKE_NOTIFY: [&str; 5] = ["07700712345", "07700899999", "07700900", "0770090012", "07700901000"];

    fn number_as_typed() -> impl Strategy<Value = String> {
        let abroad = "\\+(1|1242|33|34|353|39|49|61|683|7|91)[0-9]{5,11}";
        prop_oneof!["(0|44|\\+44|0044)7[1-9][0-9]{8}", "(0|\\+44)[1-3][0-9]{9}", abroad]
    }

    #[test]
    fn a_number_without_a_price_is_not_read_a_second_way() {
        assert_eq!(parse("002908900"), Err(PhoneError::UnsupportedCountryCode));
    }

    #[test]
    fn only_ofcoms_thousand_numbers_count_as_fictional() {
        assert!(
            UNLIKE_NOTIFY
                .iter()
                .all(|typed| parse(typed).is_ok_and(|found| found.international) || {
                    parse(typed) == Err(PhoneError::InvalidNumber)
                })
        );
        for typed in ["07700900000", "+44 (0)7700 900-999", "7700900123"] {
            let found = parse(typed).expect("a number for tests");
            assert!(!found.international && found.rate_multiplier == 1, "{found:?}");
        }
        assert_eq!(parse("+17700900123"), Err(PhoneError::InvalidNumber));
    }

    #[test]
    fn the_second_try_forgives_leading_zeros_however_many() {
        let padded = format!("{}447412345678", "0".repeat(300));
        assert_eq!(parse(&padded), parse("07412345678"));
        assert_eq!(parse(&"1".repeat(100_000)), Err(PhoneError::InvalidNumber));
    }

    #[test]
    fn permissions_open_landlines_and_the_world_but_crown_dependencies_need_none() {
        let none = Permissions::default();
        let [landline, jersey, paris] =
            ["02071234567", "07797712345", "33612345678"].map(|typed| parse(typed).expect("a valid number"));
        assert_eq!(landline.allowed(none), Err(NotAllowed::NotAUkMobile));
        assert_eq!(landline.allowed(Permissions { landline: true, ..none }), Ok(()));
        assert_eq!(jersey.allowed(none), Ok(()));
        assert_eq!(paris.allowed(none), Err(NotAllowed::InternationalForbidden));
        assert_eq!(
            paris.allowed(Permissions {
                international: true,
                ..none
            }),
            Ok(())
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_parse_panic(wild in any::<String>(), close in "[-+() 0-9\u{200b}\u{200c}\t\n–]{0,300}") {
            let _ = parse(&wild);
            let _ = parse(&close);
        }

        #[test]
        fn a_normalised_number_with_its_plus_parses_to_itself(typed in number_as_typed()) {
            if let Ok(found) = parse(&typed) {
                prop_assert_eq!(parse(&format!("+{}", found.normalised)), Ok(found));
            }
        }

        #[test]
        fn spaces_brackets_and_hyphens_change_nothing(
            typed in number_as_typed(),
            between in proptest::collection::vec("[-() ]{0,3}", 16),
        ) {
            if let Ok(found) = parse(&typed) {
                let spaced: String = typed.chars().zip(&between).flat_map(|(char, gap)| gap.chars().chain([char])).collect();
                prop_assert_eq!(parse(&spaced), Ok(found), "{}", spaced);
            }
        }
    }
}
