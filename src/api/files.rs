//! Files in the personalisation of an email: the recipient gets a link to download each.
//!
//! Files are uploaded before the email is accepted, so that no email goes out whose links lead nowhere. If it is
//! refused after that, its files stay behind where they are until their retention period is over; nobody has the links.

use std::sync::LazyLock;

use futures::{StreamExt, TryStreamExt, stream};
use herald_message::{email_address::EmailAddress, python::repr};
use herald_providers::documents::{Document, UploadError};
use regex::Regex;
use serde_json::{Map, Value};

use crate::{App, Error, auth::Caller, validation::Fields};

/// Of one email. Notify knows no limit but the size of the request, into which many thousands of tiny ones would fit.
const MOST_FILES: usize = 20;

/// Uploads of one email at the same time.
const UPLOADS_AT_ONCE: usize = 4;

/// How long a file is kept if nothing is said.
const RETENTION_PERIOD: &str = "26 weeks";

/// What stands in a file's place until its link is known.
const STAND_IN: &str = "file";

/// A file as it was described, and the placeholder whose value it is.
pub struct File {
    placeholder: String,
    description: Map<String, Value>,
}

pub fn is_file(value: &Value) -> bool {
    value.get("file").is_some()
}

/// Takes the files out of a personalisation, so that nothing fills a template with megabytes. Others see that there is
/// a value.
pub fn take(personalisation: &mut Map<String, Value>) -> Vec<File> {
    let mut files = Vec::new();
    for (placeholder, value) in personalisation.iter_mut().filter(|(_, value)| is_file(value)) {
        if let Value::Object(description) = std::mem::replace(value, STAND_IN.into()) {
            let placeholder = placeholder.clone();
            files.push(File {
                placeholder,
                description,
            });
        }
    }
    files
}

/// Uploads files for a recipient. Returns a link for each placeholder. Files for simulated recipients stay here.
///
/// # Errors
/// When a file is not described as it should be, the service cannot send files, or a file could not be uploaded.
pub async fn upload(
    app: &App,
    caller: &Caller,
    files: Vec<File>,
    recipient: &EmailAddress,
    simulated: bool,
) -> Result<Map<String, Value>, Error> {
    if files.is_empty() {
        return Ok(Map::new());
    }
    if files.len() > MOST_FILES {
        return Err(Error::bad_request(format!(
            "You cannot send more than {MOST_FILES} files in one email"
        )));
    }
    let documents = files
        .into_iter()
        .map(|file| Ok((file.placeholder, read(file.description, recipient)?)))
        .collect::<Result<Vec<_>, Error>>()?;
    let service = caller.service();
    if service.contact_link.as_ref().is_none_or(String::is_empty) {
        return Err(Error::bad_request(format!(
            "Send files by email has not been set up - add contact details for your service at {}/services/{}/service-settings/send-files-by-email",
            app.settings.admin_host, service.id
        )));
    }
    if simulated {
        let link = format!(
            "{}/services/{}/documents/test-document",
            app.settings.document_host, service.id
        );
        let links = documents
            .into_iter()
            .map(|(placeholder, _)| (placeholder, Value::String(link.clone())));
        return Ok(links.collect());
    }
    let Some(client) = &app.documents else {
        return Err(Error::Unavailable("there is no document-download service".into()));
    };
    let uploads = documents.into_iter().map(|(placeholder, document)| async move {
        let link = client.upload(service.id, &document).await?;
        Ok::<_, Error>((placeholder, Value::String(link)))
    });
    stream::iter(uploads).buffered(UPLOADS_AT_ONCE).try_collect().await
}

/// How many files an email has, for its row.
pub fn count(links: &Map<String, Value>) -> Option<i32> {
    i32::try_from(links.len()).ok().filter(|count| *count > 0)
}

impl From<UploadError> for Error {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::Refused(message) => Self::bad_request(message),
            UploadError::Unavailable(_) => Self::Unavailable(error.into()),
        }
    }
}

fn read(description: Map<String, Value>, recipient: &EmailAddress) -> Result<Document, Error> {
    // That both are there is a fault even if one is null.
    let both_names = description.contains_key("is_csv") && description.contains_key("filename");
    let mut fields = Fields::of(description);
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
    if let Some(other) = content.as_ref().filter(|content| !content.is_string()) {
        fields.fault("file", &format!("{} is not of type string", repr(other)));
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
    if let Some(other) = retention.as_ref().filter(|retention| !is_retention_period(retention)) {
        let what = format!(
            "Unsupported value for retention_period: {}. Supported periods are from 1 to 78 weeks.",
            repr(other)
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
    fields.finish_open()?;
    let must_confirm = confirm.as_ref().and_then(Value::as_bool).unwrap_or(true);
    Ok(Document {
        content: text(content).unwrap_or_default(),
        is_csv: is_csv.as_ref().and_then(Value::as_bool).unwrap_or(false),
        confirmation_email: must_confirm.then(|| recipient.address.clone()),
        retention_period: text(retention).unwrap_or_else(|| RETENTION_PERIOD.to_owned()),
        filename: text(filename),
    })
}

fn text(value: Option<Value>) -> Option<String> {
    match value {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
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
