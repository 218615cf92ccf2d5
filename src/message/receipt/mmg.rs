//! MMG's receipts: a JSON object with `status`, `substatus`, `CID` (our id), `deliverytime` and `MSISDN`.

use serde_json::Value;
use uuid::Uuid;

use super::{CallbackError, Provider, Receipt, SmsCallback, Verdict, bounded, london_time, missing};

/// What a status means.
#[must_use]
pub fn verdict(status: &str) -> Verdict {
    match status {
        "2" | "5" => Verdict::Permanent,
        "3" => Verdict::Delivered,
        "4" => Verdict::Temporary,
        _ => Verdict::Unknown,
    }
}

/// MMG's words for a substatus, which mean something together with the status only.
#[must_use]
pub fn substatus(status: &str, substatus: &str) -> Option<&'static str> {
    Some(match (status, substatus) {
        ("2", "1") => "Number does not exist",
        ("2", "4") => "Rejected by operator",
        ("2", "5") => "Unidentified Subscriber",
        ("2", "9") => "Undelivered",
        ("2", "11") => "Service for Subscriber suspended",
        ("2", "12") => "Illegal equipment",
        ("2", "2049") => "Subscriber IMSI blacklisted",
        ("2", "2050") => "Number blacklisted in do-not-disturb blacklist",
        ("2", "2052") => "Destination number blacklisted",
        ("2", "2053") => "Source address blacklisted",
        ("3", "2") => "Delivered to operator",
        ("3", "5") => "Delivered to handset",
        ("4", "6" | "27") => "Absent Subscriber",
        ("4", "8") => "Roaming not allowed",
        ("4", "13") => "SMS Not Supported",
        ("4", "15") => "Expired",
        ("4", "29") => "Invalid delivery report",
        ("4", "32") => "Delivery Failure",
        ("5", "6") => "Network out of coverage",
        ("5", "8") => "Incorrect number prefix",
        ("5", "10") => "Number on do-not-disturb service",
        ("5", "11") => "Sender id not registered",
        ("5", "13") => "Sender id blacklisted",
        ("5", "14") => "Destination number blacklisted",
        ("5", "19") => "Routing unavailable",
        ("5", "20") => "Rejected by anti-flooding mechanism",
        ("5", "21") => "System error",
        ("5", "23") => "Duplicate message id",
        ("5", "24") => "Message formatted incorrectly",
        ("5", "25") => "Message too long",
        ("5", "51") => "Missing recipient value",
        ("5", "52") => "Invalid destination",
        _ => return None,
    })
}

/// Reads the callback's JSON body. Numbers count as their text, so `5` and `"5"` are the same status.
pub fn parse(body: &[u8]) -> Result<SmsCallback, CallbackError> {
    let Ok(Value::Object(fields)) = serde_json::from_slice(body) else {
        return Err(CallbackError::Unreadable("MMG", "the body is not a JSON object"));
    };
    let field = |name: &str| match fields.get(name) {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.clone()).filter(|text| !text.is_empty()),
        Some(other) => Some(other.to_string()),
    };
    let (status, reference) = (field("status"), field("CID"));
    missing(
        Provider::Mmg,
        &[("status", status.is_some()), ("CID", reference.is_some())],
    )?;
    let status = status.unwrap_or_default();
    Ok(SmsCallback {
        notification_id: reference.and_then(|text| Uuid::parse_str(&text).ok()),
        receipt: Receipt {
            detailed_code: field("substatus").map(|code| bounded(&code)),
            at: field("deliverytime").and_then(|time| london_time(&time)),
            ..Receipt::new(Provider::Mmg, verdict(&status), &status)
        },
    })
}
