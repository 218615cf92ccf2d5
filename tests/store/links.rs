//! Tokens in links to unsubscribe.

use chrono::{DateTime, TimeDelta, Utc};
use herald_store::sealed::{Key, NotifySigner, NotifyTokenKey, Sealed, Sealer, context};
use uuid::{Uuid, uuid};

use super::sealer;

const ID: Uuid = uuid!("3b241101-e2bb-4255-8caf-4136c566a962");
const READER: &str = "Ann.Reader@example.com";

fn made() -> DateTime<Utc> {
    DateTime::from_timestamp(1_750_000_000, 0).unwrap()
}

fn years_later() -> [(TimeDelta, bool); 3] {
    let year = TimeDelta::days(365);
    let second = TimeDelta::seconds(1);
    [(TimeDelta::zero(), true), (year, true), (year + second, false)]
}

#[test]
fn a_token_of_ours_is_for_one_notification_and_one_year_and_cannot_be_read() {
    let sealer = sealer();
    let token = sealer.unsubscribe_token(ID, READER, made());
    assert!(
        token
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)),
        "{token}"
    );
    assert!(!token.contains(READER));
    for (later, good) in years_later() {
        let address = sealer.unsubscribing_address(ID, &token, made() + later);
        assert_eq!(address.as_deref(), good.then_some(READER), "{later}");
    }
    assert_eq!(sealer.unsubscribing_address(Uuid::nil(), &token, made()), None);
    for touched in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[touched] = if bytes[touched] == b'A' { b'B' } else { b'A' };
        let touched = String::from_utf8(bytes).unwrap();
        assert_eq!(sealer.unsubscribing_address(ID, &touched, made()), None, "{touched}");
    }
    // What is sealed for another purpose is no link.
    let other = sealer.seal(context::PERSONALISATION, &format!("{} {READER}", made().timestamp()));
    assert_eq!(sealer.unsubscribing_address(ID, other.as_str(), made()), None);
}

/// Made with Python's cryptography 48.0.0, `Fernet(key).encrypt_at_time(…, 1750000000)`, and with itsdangerous 2.2.0,
/// `URLSafeTimedSerializer(secrets).dumps(…, "the-salt")` at the same time.
#[test]
fn links_in_emails_that_notify_sent_still_work() {
    let key = NotifyTokenKey::parse("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
    let secrets = ["old-secret".to_owned(), "new-secret".to_owned()];
    let sealer = sealer()
        .reading_notify(NotifySigner::new(&secrets, "the-salt"))
        .reading_notify_tokens(key);
    let encrypted = "gAAAAABoTuGALo45xZZKfzU9fkapT-MZyfpHZ95rxQCh1P07KEpcDIekbo_Es4alh_F_Wpbt3NpZAN5lT54jzaRV-mOZb-nKQcNHgxXe1hd2YYrVZg4Ktgk=";
    let by_new = "IkFubi5SZWFkZXJAZXhhbXBsZS5jb20i.aE7hgA.ZqEmq-e0Q-ObCrwpUnDIMx0Q8JI";
    let by_old = "IkFubi5SZWFkZXJAZXhhbXBsZS5jb20i.aE7hgA.e2GX5oX3qqSYqC0xktiep9Z_vqw";
    for token in [encrypted, by_new, by_old] {
        for (later, good) in years_later() {
            let address = sealer.unsubscribing_address(ID, token, made() + later);
            assert_eq!(address.as_deref(), good.then_some(READER), "{token}, {later}");
        }
        let stranger = Sealer::new(Key::new("test", &[7; 32]).unwrap(), Vec::new());
        assert_eq!(stranger.unsubscribing_address(ID, token, made()), None);
    }
    let packed = ".eJxTShwmwCG1IjG3ICdVLzk_VwkA2q1Qpg.aE7hgA.cEwsBBsO4yzWOLFDb3Xg9O8ZafA";
    let long = format!("{}@example.com", "a".repeat(200));
    assert_eq!(sealer.unsubscribing_address(ID, packed, made()), Some(long));

    let no_address =
        "gAAAAABoTuGAWM0ILtGJ8aumXTOR-XwdyNLy_OVSKb0Ukz3loxtkBYJzj_u502C5gpMBm-ubRsMnS601aA8KYcnmPOKB1xz-HA==";
    let without_time = "IkFubi5SZWFkZXJAZXhhbXBsZS5jb20i.ZqkkezUAE9a-aLrk5WvlXhdhSik";
    // A version, an absurd time, and nothing of what a token needs.
    let forged = "gP__________AAAA";
    for token in [no_address, without_time, forged, "", "x", ".", "..", "gAAAAABo", "é"] {
        assert_eq!(sealer.unsubscribing_address(ID, token, made()), None, "{token}");
    }

    // One secret signs both forms; neither passes for the other.
    let open = |text: &str| sealer.open(context::API_KEY, &Sealed::from_stored(text.to_owned()));
    assert_eq!(open(without_time).as_deref(), Ok(READER));
    assert!(open(by_new).is_err());
}

#[test]
fn a_key_of_another_form_is_refused() {
    for text in ["", "short", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg=="] {
        assert!(NotifyTokenKey::parse(text).is_none(), "{text}");
    }
}
