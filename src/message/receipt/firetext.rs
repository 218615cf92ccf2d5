//! Firetext's receipts: a form with `status`, `reference`, `code`, `time` and `mobile`.

use uuid::Uuid;

use super::{CallbackError, Provider, Receipt, SmsCallback, Verdict, bounded, london_time, missing};

/// What a status means.
#[must_use]
pub fn verdict(status: &str) -> Verdict {
    match status {
        "0" => Verdict::Delivered,
        "1" => Verdict::Permanent,
        "2" => Verdict::Pending,
        _ => Verdict::Unknown,
    }
}

/// What the detailed code of a failure means; none when Firetext does not document it.
#[must_use]
pub fn code(code: &str) -> Option<(Verdict, &'static str)> {
    Some(match code {
        "000" => (Verdict::Temporary, "No error reported"),
        "101" => (Verdict::Permanent, "Unknown Subscriber"),
        "102" => (Verdict::Temporary, "Absent Subscriber"),
        "103" => (Verdict::Temporary, "Subscriber Busy"),
        "104" => (Verdict::Temporary, "No Subscriber Memory"),
        "201" => (Verdict::Permanent, "Invalid Number"),
        "301" => (Verdict::Permanent, "SMS Not Supported"),
        "302" => (Verdict::Temporary, "SMS Not Supported"),
        "401" => (Verdict::Permanent, "Message Rejected"),
        "900" => (Verdict::Temporary, "Routing Error"),
        _ => return None,
    })
}

/// Reads the callback's form body. Of a field given twice the first counts.
pub fn parse(body: &[u8]) -> Result<SmsCallback, CallbackError> {
    let field = |name: &str| {
        form_urlencoded::parse(body)
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
            .filter(|value| !value.is_empty())
    };
    let (status, reference) = (field("status"), field("reference"));
    missing(
        Provider::Firetext,
        &[("status", status.is_some()), ("reference", reference.is_some())],
    )?;
    let status = status.unwrap_or_default();
    Ok(SmsCallback {
        notification_id: reference.and_then(|text| Uuid::parse_str(&text).ok()),
        receipt: Receipt {
            detailed_code: field("code").map(|code| bounded(&code)),
            at: field("time").and_then(|time| london_time(&time)),
            ..Receipt::new(Provider::Firetext, verdict(&status), &status)
        },
    })
}
