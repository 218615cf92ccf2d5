//! How many fragments a text message is sent and billed in.

use super::sanitise::is_extension;

/// One message, and one of several, which gives room to a header. In septets of GSM 03.38 and in characters of UCS-2.
const GSM: (usize, usize) = (160, 153);
const UCS2: (usize, usize) = (70, 67);

/// The fragments of a sanitised message. In GSM a character of the extension counts twice; in UCS-2 all count once.
/// At least one, also for an empty message.
#[must_use]
pub fn fragments(message: &str, is_unicode: bool) -> u32 {
    let (alone, in_several) = if is_unicode { UCS2 } else { GSM };
    let escaped = |c| !is_unicode && is_extension(c);
    let length: usize = message.chars().map(|c| c.len_utf16() + usize::from(escaped(c))).sum();
    if length <= alone {
        return 1;
    }
    u32::try_from(length.div_ceil(in_several)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::fragments;

    #[test]
    fn fragments_end_where_the_standard_says() {
        // The longest that fit into 1, 2, 3 and 4 fragments.
        for (character, is_unicode, longest) in [
            ("a", false, [160, 306, 459, 612]),
            ("€", false, [80, 153, 229, 306]),
            ("ŵ", true, [70, 134, 201, 268]),
        ] {
            for (length, expected) in longest.into_iter().zip(1..) {
                assert_eq!(fragments(&character.repeat(length), is_unicode), expected);
                assert_eq!(fragments(&character.repeat(length + 1), is_unicode), expected + 1);
            }
        }
        assert_eq!(fragments("", false), 1);
    }

    proptest! {
        #[test]
        fn a_longer_message_never_has_fewer_fragments(
            text in "[a-z€\\[ŵé]{0,1000}", more in "[a-z€\\[ŵé]{0,200}", is_unicode: bool,
        ) {
            let (short, long) = (fragments(&text, is_unicode), fragments(&(text.clone() + &more), is_unicode));
            prop_assert!(short <= long);
            let characters = text.chars().count();
            let (at_least, at_most) = if is_unicode { (67, 70) } else { (76, 160) };
            prop_assert!(short as usize * at_most >= characters);
            prop_assert!((short as usize - 1) * at_least <= characters);
        }
    }
}
