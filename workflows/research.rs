//! Messages of test keys: no provider is called, and the receipts are made up by rules that clients rely on
//! (the last digits of a number, two addresses; NOTIFY 2.7).

use herald_message::receipt::{Provider, Receipt, Verdict, firetext, mmg, ses};

/// The receipts that a number gets from the provider that would have been chosen.
pub fn sms(normalised_to: &str, provider: Provider) -> Vec<Receipt> {
    let statuses: &[(&str, Option<&str>)] = match provider {
        Provider::Firetext if normalised_to.ends_with("7700900003") => &[("2", None), ("1", Some("102"))],
        Provider::Firetext if normalised_to.ends_with("7700900002") => &[("1", None)],
        Provider::Firetext => &[("0", None)],
        _ if normalised_to.ends_with("7700900003") => &[("4", None)],
        _ if normalised_to.ends_with("7700900002") => &[("5", None)],
        _ => &[("3", None)],
    };
    let verdict = match provider {
        Provider::Firetext => firetext::verdict,
        _ => mmg::verdict,
    };
    statuses
        .iter()
        .map(|(status, code)| receipt(provider, verdict(status), status, *code))
        .collect()
}

/// The receipt that an address gets.
pub fn email(to: &str) -> Receipt {
    match to {
        "perm-fail@simulator.notify" => receipt(
            Provider::Ses,
            ses::bounce_verdict("Permanent"),
            "Bounce",
            Some("Permanent"),
        ),
        "temp-fail@simulator.notify" => receipt(
            Provider::Ses,
            ses::bounce_verdict("Transient"),
            "Bounce",
            Some("Transient"),
        ),
        _ => receipt(Provider::Ses, Verdict::Delivered, "Delivery", None),
    }
}

fn receipt(provider: Provider, verdict: Verdict, status: &str, code: Option<&str>) -> Receipt {
    Receipt {
        provider,
        status: verdict.status(),
        raw_status: status.to_owned(),
        detailed_code: code.map(str::to_owned),
        at: None,
    }
}
