//! MMG: JSON goes out; any JSON that comes back with a 2xx means taken.

use herald_message::receipt::Provider;
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use serde::Serialize;
use serde::de::IgnoredAny;
use uuid::Uuid;

use crate::http;
use crate::timing::Stopwatch;
use crate::{Accepted, ReceiptUrl, Secret, SendError, SetupError, Text, Timeouts};

/// Where MMG listens.
pub const DEFAULT_URL: &str = "https://api.mmg.co.uk/jsonv2a/api.php";

#[derive(Clone, Debug)]
pub struct Settings {
    pub url: String,
    /// Goes out as it is after `Basic`.
    pub api_key: Secret,
    pub receipts: Option<ReceiptUrl>,
    pub timeouts: Timeouts,
}

#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    url: Url,
    authorization: HeaderValue,
    receipt_url: Option<Secret>,
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "reqType")]
    kind: &'static str,
    #[serde(rename = "MSISDN")]
    to: &'a str,
    msg: &'a str,
    sender: &'a str,
    cid: Uuid,
    multi: bool,
    #[serde(rename = "delurl", skip_serializing_if = "Option::is_none")]
    receipt_url: Option<&'a str>,
}

impl Client {
    pub fn new(settings: Settings) -> Result<Self, SetupError> {
        let url = http::provider_url("the MMG URL", &settings.url)?;
        let mut authorization = HeaderValue::try_from(format!("Basic {}", settings.api_key.expose()))
            .map_err(|_| SetupError::Key("the MMG key"))?;
        authorization.set_sensitive(true);
        Ok(Self {
            http: http::client(&url, settings.timeouts)?,
            url,
            authorization,
            receipt_url: http::receipt_url("the MMG receipt URL", settings.receipts.as_ref())?.map(Secret),
        })
    }

    /// Sends once.
    pub async fn send(&self, text: &Text) -> Result<Accepted, SendError> {
        let stopwatch = Stopwatch::start();
        let sent = self.exchange(text, &stopwatch).await;
        stopwatch.stop(sent.map(|()| None))
    }

    async fn exchange(&self, text: &Text, stopwatch: &Stopwatch) -> Result<(), SendError> {
        let body = Body {
            kind: "BULK",
            to: &text.to,
            msg: &text.body,
            sender: &text.from,
            cid: text.reference,
            multi: true,
            receipt_url: self.receipt_url.as_ref().map(Secret::expose),
        };
        let request = self
            .http
            .post(self.url.clone())
            .header(AUTHORIZATION, self.authorization.clone())
            .json(&body);
        let answer = http::exchange(Provider::Mmg, request, stopwatch).await?;
        serde_json::from_slice::<IgnoredAny>(&answer.body)
            .map(drop)
            .map_err(|_| SendError::unclear(answer.status, "Invalid response JSON"))
    }
}
