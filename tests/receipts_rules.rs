//! golden/receipts.json against the pure rules: callback → receipt → status. Routes and rows are tested elsewhere.

use herald_message::receipt::ses::{self, Notice};
use herald_message::receipt::sns::Envelope;
use herald_message::receipt::{CallbackError, Receipt, SmsCallback, decide, firetext, mmg};
use herald_message::status::Status;
use serde_json::{Value, json};
use uuid::Uuid;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/receipts.json");
const ID: Uuid = Uuid::from_u128(0x1f6a_28d5_6d0d_4f5b_9a27_6f3f_7a2b_9ce1);
const REFERENCE: &str = "ses-message-id";

/// Cases (by position in the file) where Herald differs on purpose, or where the rule lives elsewhere.
const EXCEPTIONS: &[(usize, &str)] = &[
    (
        117,
        "a body that is no JSON is the caller's mistake: 400 instead of 500",
    ),
    (118, "a JSON list instead of an object: 400 instead of 500"),
    (
        138,
        "whether a country sends receipts is looked up by phone prefix, outside these rules",
    ),
    (
        141,
        "whether a country sends receipts is looked up by phone prefix, outside these rules",
    ),
    (
        179,
        "a bounce that does not repeat the recipients is still a bounce; they are never read",
    ),
];

struct Notification {
    status: Status,
    sent_by: Option<String>,
    complaints: Vec<Value>,
}

#[test]
fn receipts_change_statuses_as_recorded() {
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(GOLDEN).unwrap()).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    let mut agreed = 0;
    let mut differences = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let outcome = play(case);
        let exception = EXCEPTIONS.iter().find(|(n, _)| *n == number);
        match (outcome, exception) {
            (Ok(()), None) => agreed += 1,
            (Err(_), Some(_)) => {}
            (Ok(()), Some(_)) => differences.push(format!("{number}: agrees, so it is no exception")),
            (Err(why), None) => differences.push(format!("{number} {}: {why}", case["group"])),
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert_eq!(agreed + EXCEPTIONS.len(), cases.len());
}

fn play(case: &Value) -> Result<(), String> {
    let mut notification = Notification {
        status: case["notification"]["status"].as_str().unwrap().parse().unwrap(),
        sent_by: case["notification"]["sent_by"].as_str().map(str::to_owned),
        complaints: Vec::new(),
    };
    for step in case["steps"].as_array().unwrap() {
        match step["callback"]["provider"].as_str().unwrap() {
            "ses" => email_step(step, &mut notification)?,
            provider => sms_step(provider, step, &mut notification)?,
        }
        let result = &step["result"];
        expect("status", &json!(notification.status), &result["status"])?;
        expect("sent_by", &json!(notification.sent_by), &result["sent_by"])?;
        if let Some(recorded) = result.get("complaints") {
            expect("complaints", &json!(notification.complaints), recorded)?;
        }
    }
    Ok(())
}

fn sms_step(provider: &str, step: &Value, notification: &mut Notification) -> Result<(), String> {
    let body = sms_body(&step["callback"]);
    let parsed = match provider {
        "mmg" => mmg::parse(body.as_bytes()),
        _ => firetext::parse(body.as_bytes()),
    };
    let answer = match &parsed {
        Ok(_) => json!({"status": 200, "json": {"result": "success"}}),
        Err(error) => {
            json!({"status": 400, "json": {"result": "error", "message": error.message()}})
        }
    };
    expect("http", &answer, &step["http"])?;
    let Ok(SmsCallback {
        notification_id,
        receipt,
    }) = parsed
    else {
        return Ok(());
    };
    if let Some(recorded) = step["task"]
        .as_str()
        .and_then(|t| t.strip_prefix("failed: ClientException: "))
    {
        expect("error", &json!(receipt.unknown_status_error()), &json!(recorded))?;
    }
    if notification_id == Some(ID) {
        apply(notification, &receipt);
    }
    Ok(())
}

fn email_step(step: &Value, notification: &mut Notification) -> Result<(), String> {
    let envelope = Envelope::parse(sns_body(&step["callback"]).as_bytes());
    match envelope.and_then(|envelope| ses::read(&envelope)) {
        Ok(Notice::Receipt { reference, receipt, .. }) if reference == REFERENCE => {
            apply(notification, &receipt);
        }
        Ok(Notice::Complaint(complaint)) if complaint.reference == REFERENCE => {
            notification.complaints.push(json!({
                "ses_feedback_id": complaint.feedback_id,
                "complaint_type": complaint.complaint_type,
                "complaint_date": complaint.at.map(|at| at.format("%Y-%m-%dT%H:%M:%S").to_string()),
            }));
        }
        Ok(Notice::Receipt { .. } | Notice::Complaint(_)) => {}
        Err(CallbackError::Unreadable(..) | CallbackError::Missing(_)) => {
            expect("task", &step["task"], &json!("retry"))?;
        }
    }
    Ok(())
}

fn apply(notification: &mut Notification, receipt: &Receipt) {
    if let Some(status) = decide(notification.status, notification.sent_by.as_deref(), receipt) {
        notification.status = status;
        notification
            .sent_by
            .get_or_insert_with(|| receipt.provider.name().to_owned());
    }
}

fn sms_body(callback: &Value) -> String {
    if let Some(form) = callback["form"].as_object() {
        let mut body = form_urlencoded::Serializer::new(String::new());
        for (name, value) in form {
            body.append_pair(name, &with_ids(value.as_str().unwrap()));
        }
        body.finish()
    } else if let Some(raw) = callback["raw"].as_str() {
        raw.to_owned()
    } else {
        with_ids(&callback["json"].to_string())
    }
}

fn sns_body(callback: &Value) -> String {
    match callback.get("envelope") {
        Some(envelope) => envelope.to_string(),
        None => {
            let message = callback["message"].to_string().replace("<ref>", REFERENCE);
            json!({"Type": "Notification", "Message": message}).to_string()
        }
    }
}

fn with_ids(text: &str) -> String {
    text.replace("<id>", &ID.to_string())
        .replace("<ID>", &ID.to_string().to_uppercase())
        .replace("<id no hyphens>", &ID.simple().to_string())
}

fn expect(what: &str, got: &Value, recorded: &Value) -> Result<(), String> {
    if got == recorded {
        Ok(())
    } else {
        Err(format!("{what}: got {got}, recorded {recorded}"))
    }
}

/// Each status of MMG, what becomes of the message, and its substatuses with their words, as Notify has them.
const MMG: [&str; 4] = [
    "2 permanent-failure: 1 Number does not exist; 4 Rejected by operator; 5 Unidentified Subscriber; 9 Undelivered; \
     11 Service for Subscriber suspended; 12 Illegal equipment; 2049 Subscriber IMSI blacklisted; \
     2050 Number blacklisted in do-not-disturb blacklist; 2052 Destination number blacklisted; \
     2053 Source address blacklisted",
    "3 delivered: 2 Delivered to operator; 5 Delivered to handset",
    "4 temporary-failure: 6 Absent Subscriber; 8 Roaming not allowed; 13 SMS Not Supported; 15 Expired; \
     27 Absent Subscriber; 29 Invalid delivery report; 32 Delivery Failure",
    "5 permanent-failure: 6 Network out of coverage; 8 Incorrect number prefix; 10 Number on do-not-disturb service; \
     11 Sender id not registered; 13 Sender id blacklisted; 14 Destination number blacklisted; 19 Routing unavailable; \
     20 Rejected by anti-flooding mechanism; 21 System error; 23 Duplicate message id; 24 Message formatted incorrectly; \
     25 Message too long; 51 Missing recipient value; 52 Invalid destination",
];

/// Firetext's codes of failures, and what becomes of the message.
const FIRETEXT: [&str; 2] = [
    "temporary-failure: 000 No error reported; 102 Absent Subscriber; 103 Subscriber Busy; 104 No Subscriber Memory; \
     302 SMS Not Supported; 900 Routing Error",
    "permanent-failure: 101 Unknown Subscriber; 201 Invalid Number; 301 SMS Not Supported; 401 Message Rejected",
];

#[test]
fn every_code_of_both_firms_has_its_status_and_its_words() {
    let mut codes = 0;
    let mut check = |receipt: Receipt, becomes: &str, reason: &str| {
        let after = decide(Status::Sending, Some(receipt.provider.name()), &receipt);
        assert_eq!(after.map(Status::as_str), Some(becomes), "{receipt:?}");
        assert_eq!(receipt.detailed_status().as_deref(), Some(reason), "{receipt:?}");
        codes += 1;
    };
    for row in MMG {
        let (status, reasons) = row.split_once(": ").unwrap();
        let (status, becomes) = status.split_once(' ').unwrap();
        for reason in reasons.split("; ") {
            let (code, _) = reason.split_once(' ').unwrap();
            let body = json!({"CID": ID, "status": status, "substatus": code});
            check(
                mmg::parse(body.to_string().as_bytes()).unwrap().receipt,
                becomes,
                reason,
            );
        }
    }
    for row in FIRETEXT {
        let (becomes, reasons) = row.split_once(": ").unwrap();
        for reason in reasons.split("; ") {
            let (code, _) = reason.split_once(' ').unwrap();
            let body = format!("status=1&reference={ID}&code={code}");
            check(firetext::parse(body.as_bytes()).unwrap().receipt, becomes, reason);
        }
    }
    assert_eq!(codes, 43);
}
