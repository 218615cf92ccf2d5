//! Files in the personalisation of an email: the recipient gets a link to download each.
//!
//! Uploading is not built yet. What there is: every check that comes before it, and the fixed link that simulated
//! recipients get.

use std::sync::LazyLock;

use herald_message::python::repr;
use regex::Regex;
use serde_json::{Map, Value};

use crate::{App, Error, auth::Caller, validation::Fields};

/// Puts links in the place of files.
///
/// # Errors
/// When a file is not described as it should be, the service cannot send files, or there is a file to upload.
pub fn replace_with_links(
    app: &App,
    caller: &Caller,
    personalisation: &mut Map<String, Value>,
    simulated: bool,
) -> Result<(), Error> {
    let mut files = personalisation.values_mut().filter(|value| is_file(value)).peekable();
    if files.peek().is_none() {
        return Ok(());
    }
    let service = caller.service();
    let link = format!(
        "{}/services/{}/documents/test-document",
        app.settings.document_host, service.id
    );
    for value in files {
        if let Value::Object(file) = value {
            check(std::mem::take(file))?;
        }
        *value = Value::String(link.clone());
    }
    if service.contact_link.is_none() {
        return Err(Error::bad_request(format!(
            "Send files by email has not been set up - add contact details for your service at {}/services/{}/service-settings/send-files-by-email",
            app.settings.admin_host, service.id
        )));
    }
    if !simulated {
        return Err(Error::NotAvailable("Herald cannot send files by email yet"));
    }
    Ok(())
}

pub fn is_file(value: &Value) -> bool {
    value.get("file").is_some()
}

fn check(file: Map<String, Value>) -> Result<(), Error> {
    // That both are there is a fault even if one is null.
    let both_names = file.contains_key("is_csv") && file.contains_key("filename");
    let mut fields = Fields::of(file);
    let content = fields.take("file");
    let is_csv = fields.take("is_csv").filter(|value| !value.is_null());
    let confirm = fields
        .take("confirm_email_before_download")
        .filter(|value| !value.is_null());
    let retention = fields.take("retention_period").filter(|value| !value.is_null());
    let filename = fields.take("filename").filter(|value| !value.is_null());

    if let Some(fault) = fields.unexpected() {
        fields.whole_fault(fault);
    }
    if let Some(other) = content.filter(|content| !content.is_string()) {
        fields.fault("file", &format!("{} is not of type string", repr(&other)));
    }
    for (name, value) in [("is_csv", &is_csv), ("confirm_email_before_download", &confirm)] {
        if let Some(other) = value.as_ref().filter(|value| !value.is_boolean()) {
            let what = format!(
                "Unsupported value for {name}: {}. Use a boolean true or false value.",
                repr(other)
            );
            fields.fault(name, &what);
        }
    }
    if let Some(other) = retention.filter(|retention| !is_retention_period(retention)) {
        let what = format!(
            "Unsupported value for retention_period: {}. Supported periods are from 1 to 78 weeks.",
            repr(&other)
        );
        fields.fault("retention_period", &what);
    }
    if filename
        .as_ref()
        .is_some_and(|name| !name.as_str().is_some_and(|name| name.contains('.')))
    {
        fields.fault(
            "filename",
            "`filename` must end with a file extension. For example, filename.csv",
        );
    }
    if both_names {
        fields.whole_fault("Do not set a value for `is_csv` if `filename` is set.".to_owned());
    }
    fields.finish_open()
}

/// `1 week` to `78 weeks`.
fn is_retention_period(value: &Value) -> bool {
    static FORM: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(?i)^([0-9]{1,2}) weeks?$").expect("the pattern is constant"));
    let weeks = value
        .as_str()
        .and_then(|text| FORM.captures(text))
        .and_then(|form| form[1].parse::<u32>().ok());
    weeks.is_some_and(|weeks| (1..=78).contains(&weeks))
}
