//! The document-download service: it takes a file, and gives the link from which its recipient downloads it.
//!
//! Uploads are not repeated here: whoever asked for one can ask again, and what was left behind ends by itself when its
//! retention period is over.

use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Secret, SetupError, Timeouts, http};

/// Bytes of a link: more would not survive every mail program.
const LONGEST_LINK: usize = 2000;

/// Characters of a refusal that are passed on.
const LONGEST_REFUSAL: usize = 1000;

#[derive(Clone, Debug)]
pub struct Settings {
    /// What stands before `/services/…`.
    pub url: String,
    /// Goes out as it is after `Bearer`.
    pub api_key: Secret,
    pub timeouts: Timeouts,
}

#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    /// Without a slash at its end.
    base: String,
    authorization: HeaderValue,
}

/// A file for one recipient, as it goes over the wire. It is personal throughout, so it cannot be printed.
#[derive(Serialize)]
pub struct Document {
    /// In base64.
    #[serde(rename = "document")]
    pub content: String,
    pub is_csv: bool,
    /// Whoever downloads it has to name this address first. None: the link is enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirmation_email: Option<String>,
    /// Such as `26 weeks`.
    pub retention_period: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filename: Option<String>,
}

/// There is no link.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum UploadError {
    /// This file will never be taken. The words are for whoever sent it, and may name it: they are not for logs.
    #[error("the document-download service refused a file")]
    Refused(String),
    /// It is not the file's fault. The reason holds no personal data.
    #[error("the document-download service gave no link: {0}")]
    Unavailable(String),
}

#[derive(Deserialize)]
struct Uploaded {
    document: Link,
}

#[derive(Deserialize)]
struct Link {
    url: String,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
}

impl Client {
    pub fn new(settings: Settings) -> Result<Self, SetupError> {
        let url = http::provider_url("the URL of the document-download service", &settings.url)?;
        let mut authorization = HeaderValue::try_from(format!("Bearer {}", settings.api_key.expose()))
            .map_err(|_| SetupError::Key("the key of the document-download service"))?;
        authorization.set_sensitive(true);
        Ok(Self {
            http: http::client(&url, settings.timeouts)?,
            base: url.as_str().trim_end_matches('/').to_owned(),
            authorization,
        })
    }

    /// Uploads once and returns the link.
    pub async fn upload(&self, service_id: Uuid, document: &Document) -> Result<String, UploadError> {
        let outcome = self.try_upload(service_id, document).await;
        if let Err(UploadError::Unavailable(reason)) = &outcome {
            tracing::debug!(reason, "not uploaded");
        }
        outcome
    }

    async fn try_upload(&self, service_id: Uuid, document: &Document) -> Result<String, UploadError> {
        let request = self
            .http
            .post(format!("{}/services/{service_id}/documents", self.base))
            .header(AUTHORIZATION, self.authorization.clone())
            .json(document);
        let unavailable = |reason: &str| UploadError::Unavailable(reason.to_owned());
        let mut response = request
            .send()
            .await
            .map_err(|error| unavailable(&http::no_answer(&error).reason))?;
        let status = response.status();
        let body = http::read(&mut response).await;
        match (status.as_u16(), body) {
            // A proxy in front says so too, in its own form.
            (413, body) => Err(UploadError::Refused(
                body.ok()
                    .and_then(|body| refusal(&body))
                    .unwrap_or_else(|| "The file is too large".to_owned()),
            )),
            (_, Err(error)) => Err(unavailable(&error.reason)),
            (400, Ok(body)) => Err(refusal(&body).map_or_else(
                || unavailable("Request failed: status 400 without a reason"),
                UploadError::Refused,
            )),
            (_, Ok(body)) if status.is_success() => {
                link(&body).ok_or_else(|| unavailable("Request failed: an answer without a usable link"))
            }
            (status, Ok(_)) => Err(unavailable(&format!("Request failed: status {status}"))),
        }
    }
}

fn refusal(body: &[u8]) -> Option<String> {
    let Refusal { error } = serde_json::from_slice(body).ok()?;
    (!error.is_empty()).then(|| error.chars().take(LONGEST_REFUSAL).collect())
}

/// The link as it was given. It goes into a message, where a space would end it.
fn link(body: &[u8]) -> Option<String> {
    let Uploaded {
        document: Link { url: link },
    } = serde_json::from_slice(body).ok()?;
    let is_whole = link.len() <= LONGEST_LINK && !link.chars().any(|char| char.is_whitespace() || char.is_control());
    let leads_somewhere = |url: Url| url.has_host() && matches!(url.scheme(), "http" | "https");
    (is_whole && Url::parse(&link).is_ok_and(leads_somewhere)).then_some(link)
}
