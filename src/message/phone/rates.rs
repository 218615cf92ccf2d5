//! What sending to each country costs and allows: facts of Notify's table of international billing rates (August 2026).
//!
//! Keyed by calling code; a member of the North American plan with its own entry by "1" and its area code.
//! Every list is in ascending order, which the look-up relies on.

/// One calling code of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// One fragment there counts as this many at home, 1 to 12.
    pub multiplier: u8,
    /// Receipts from the handset come back, so that "delivered" can be believed.
    pub has_delivery_receipts: bool,
    /// The sender must be a number, not a name.
    pub needs_numeric_sender: bool,
}

/// The entry of a calling code, digits only without plus: `33`, `1242`. None where Notify does not send.
pub fn rate(prefix: &str) -> Option<Rate> {
    if prefix.starts_with(['0', '+']) {
        return None;
    }
    let prefix: u16 = prefix.parse().ok()?;
    let has = |list: &[u16]| list.binary_search(&prefix).is_ok();
    let (multiplier, _) = MULTIPLIERS.iter().find(|(_, prefixes)| has(prefixes))?;
    Some(Rate {
        multiplier: *multiplier,
        has_delivery_receipts: !has(WITHOUT_RECEIPTS),
        needs_numeric_sender: has(NUMERIC_SENDER),
    })
}

/// Price of one fragment abroad, in fragments of the home price, and the prefixes that cost it.
const MULTIPLIERS: &[(u8, &[u16])] = &[
    (1, &[1, 48, 66, 82, 86, 90, 239, 264, 299, 389, 423, 506, 686, 853]),
    (
        2,
        &[
            30, 33, 34, 36, 39, 40, 41, 43, 44, 45, 46, 47, 53, 55, 56, 57, 58, 61, 64, 65, 81, 91, 246, 298, 350, 351,
            352, 353, 354, 356, 357, 358, 370, 371, 372, 373, 385, 420, 421, 503, 598, 672, 673, 677, 680, 681, 691,
            692, 852, 886, 1684, 1721,
        ],
    ),
    (
        3,
        &[
            27, 31, 32, 52, 54, 244, 254, 262, 266, 267, 291, 297, 355, 376, 387, 500, 595, 687, 689, 971, 973, 1242,
            1809, 1829, 1849,
        ],
    ),
    (
        4,
        &[
            84, 220, 226, 230, 248, 253, 258, 359, 377, 382, 386, 505, 507, 508, 590, 591, 593, 594, 596, 676, 678,
            682, 968, 995,
        ],
    ),
    (
        5,
        &[
            49, 51, 63, 232, 237, 238, 243, 252, 263, 374, 380, 383, 501, 502, 504, 670, 679, 685, 966, 1268, 1284,
        ],
    ),
    (
        6,
        &[
            98, 212, 213, 222, 224, 231, 235, 240, 375, 592, 597, 674, 675, 960, 967, 972, 974, 1264, 1345, 1473, 1649,
            1664, 1869,
        ],
    ),
    (
        7,
        &[
            20, 60, 221, 223, 228, 229, 236, 242, 255, 256, 268, 269, 381, 599, 965, 976, 993, 1246, 1441, 1758, 1767,
            1784, 1868, 1876,
        ],
    ),
    (
        8,
        &[
            211, 227, 233, 234, 241, 245, 249, 250, 257, 260, 265, 378, 509, 683, 690, 855, 856, 962, 977, 996,
        ],
    ),
    (9, &[95, 216, 218, 251, 880, 961, 963, 964, 970, 994]),
    (10, &[7, 93, 225, 975, 992]),
    (12, &[62, 92, 94, 261, 998]),
];

/// Networks send no delivery receipt, or one that says no more than that the carrier took the message.
const WITHOUT_RECEIPTS: &[u16] = &[
    1, 52, 54, 56, 57, 84, 86, 211, 222, 228, 229, 231, 236, 238, 239, 240, 245, 246, 249, 252, 253, 257, 262, 263,
    266, 269, 297, 298, 299, 373, 378, 383, 504, 505, 508, 509, 593, 594, 595, 596, 597, 670, 672, 674, 676, 677, 678,
    680, 681, 682, 683, 685, 686, 690, 691, 692, 886, 960, 967, 970, 975, 993, 1242, 1246, 1441, 1684, 1721, 1809,
    1829, 1849, 1868,
];

/// A name as sender is refused or replaced; the sender must be a number.
const NUMERIC_SENDER: &[u16] = &[
    1, 27, 32, 36, 51, 52, 53, 54, 55, 56, 57, 58, 60, 64, 81, 82, 86, 98, 218, 350, 359, 373, 377, 502, 507, 590, 593,
    598, 855, 856, 886, 961, 963, 976, 977, 1242, 1246, 1664, 1684, 1809, 1829, 1849,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_list_is_in_order_and_every_exception_has_a_price() {
        assert!(MULTIPLIERS.iter().all(|(_, list)| list.is_sorted()));
        assert!(WITHOUT_RECEIPTS.is_sorted() && NUMERIC_SENDER.is_sorted());
        let mut priced: Vec<u16> = MULTIPLIERS.iter().flat_map(|(_, list)| list.iter().copied()).collect();
        priced.sort_unstable();
        assert!(
            priced.windows(2).all(|pair| pair[0] < pair[1]),
            "a prefix has two prices"
        );
        assert_eq!(priced.len(), 223);
        let mut exceptions = WITHOUT_RECEIPTS.iter().chain(NUMERIC_SENDER);
        assert!(exceptions.all(|prefix| priced.binary_search(prefix).is_ok()));
    }

    #[test]
    fn satellites_have_no_price() {
        assert_eq!(rate("870"), None);
        assert_eq!(rate("881"), None);
    }
}
