//! Texts that are unreadable at rest.

use herald_store::sealed::{Key, NotifySigner, OpenError, Sealed, Sealer, context};

use super::sealer;

#[test]
fn a_sealed_text_opens_for_its_purpose_only_and_not_when_it_was_touched() {
    let sealer = sealer();
    let sealed = sealer.seal(context::PERSONALISATION, "Siân ŵ 👍");
    assert_eq!(sealer.open(context::PERSONALISATION, &sealed).unwrap(), "Siân ŵ 👍");
    assert_ne!(
        sealed,
        sealer.seal(context::PERSONALISATION, "Siân ŵ 👍"),
        "each seal has its own nonce"
    );
    assert_eq!(sealer.open(context::API_KEY, &sealed), Err(OpenError::Forged));
    assert!(!format!("{sealed:?} {sealer:?}").contains(sealed.as_str()));
    let body = sealed.as_str().rfind('.').unwrap() + 1;
    for i in body..sealed.as_str().len() {
        let mut touched = sealed.as_str().as_bytes().to_vec();
        touched[i] = if touched[i] == b'A' { b'B' } else { b'A' };
        let touched = Sealed::from_stored(String::from_utf8(touched).unwrap());
        assert!(sealer.open(context::PERSONALISATION, &touched).is_err(), "byte {i}");
    }
    for broken in ["", "h1", "h1.test", "h1.test.", "h1.test.AAAA", "plain text", "a.b"] {
        let broken = Sealed::from_stored(broken.into());
        assert!(sealer.open(context::PERSONALISATION, &broken).is_err());
    }
}

#[test]
fn a_retired_key_still_opens_and_a_lost_one_is_named() {
    let old = || Key::parse("2025:BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=").unwrap();
    let sealed = Sealer::new(old(), Vec::new()).seal("c", "text");
    let new = || Key::new("2026", &[8; 32]).unwrap();
    assert_eq!(Sealer::new(new(), vec![old()]).open("c", &sealed).unwrap(), "text");
    assert_eq!(
        Sealer::new(new(), Vec::new()).open("c", &sealed),
        Err(OpenError::UnknownKey("2025".into()))
    );
    assert!(Key::parse("2025").is_err() && Key::parse("a.b:AAAA").is_err() && Key::parse("a:AAAA").is_err());
}

/// Made with itsdangerous 2.2.0: `URLSafeSerializer(secrets, salt="the-salt").dumps(…)`.
#[test]
fn what_notify_signed_is_read() {
    let secrets = ["old-secret".to_owned(), "new-secret".to_owned()];
    let sealer = sealer().reading_notify(NotifySigner::new(&secrets, "the-salt"));
    let open = |text: &str| sealer.open(context::API_KEY, &Sealed::from_stored(text.into()));
    let key = "6d1c5a01-8f1b-4a40-9b6d-0b0c8a2c6e1f";
    let by_new = "IjZkMWM1YTAxLThmMWItNGE0MC05YjZkLTBiMGM4YTJjNmUxZiI.y3mWJb8WmVtZSE40crbaA1HuMPU";
    let by_old = "IjZkMWM1YTAxLThmMWItNGE0MC05YjZkLTBiMGM4YTJjNmUxZiI.SvXoopVplaj_p1wA7JKmQ5mZ6po";
    assert_eq!(open(by_new).unwrap(), key);
    assert_eq!(open(by_old).unwrap(), key);
    let object = "eyJuYW1lIjoiU2nDom4gxbUg8J-RjSIsImxpc3QiOlsiYSIsImIiXSwibiI6M30.EaFgQdtgGP_FPu0p83dnvc9mfvk";
    assert_eq!(open(object).unwrap(), r#"{"name":"Siân ŵ 👍","list":["a","b"],"n":3}"#);
    assert_eq!(open("e30.ZJgL9yyEcHWE_JpAbuPU5PQF9Lo").unwrap(), "{}");
    let packed = ".eJyrVipJrShRslKqGAWDCijpKOUl5qYCY8YxL0-pFgC6U8Ks.XngjMBfYbmwc4EmW-WjCkGk6bU0";
    assert_eq!(
        open(packed).unwrap(),
        format!(r#"{{"text":"{}","name":"Ann"}}"#, "x".repeat(400))
    );

    let other_salt = "ImhlbGxvIg.Z4O7A77flcRjw6wKWxiXy2ampgs";
    assert_eq!(open(other_salt), Err(OpenError::Forged));
    let swapped = "ImhlbGxvIg.y3mWJb8WmVtZSE40crbaA1HuMPU";
    assert_eq!(open(swapped), Err(OpenError::Forged));
    assert_eq!(open(&by_new[1..]), Err(OpenError::Forged));
    assert_eq!(
        sealer.open("c", &Sealed::from_stored("no-dot".into())),
        Err(OpenError::Form)
    );
}
