//! Firetext: a form goes out, JSON with a `code` comes back, 0 means taken.

use herald_message::receipt::Provider;
use reqwest::Url;
use serde_json::Value;

use crate::http::{self, Answer};
use crate::outcome::UNKNOWN_KEY;
use crate::timing::Stopwatch;
use crate::{Accepted, Outcome, ReceiptUrl, Secret, SendError, SetupError, Text, Timeouts};

/// Where Firetext listens.
pub const DEFAULT_URL: &str = "https://www.firetext.co.uk/api/sendsms/json";

#[derive(Clone, Debug)]
pub struct Settings {
    pub url: String,
    pub api_key: Secret,
    /// Key of the account for numbers abroad.
    pub international_api_key: Secret,
    pub receipts: Option<ReceiptUrl>,
    pub timeouts: Timeouts,
}

#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    url: Url,
    api_key: Secret,
    international_api_key: Secret,
    receipt_url: Option<Secret>,
}

impl Client {
    pub fn new(settings: Settings) -> Result<Self, SetupError> {
        let url = http::provider_url("the Firetext URL", &settings.url)?;
        Ok(Self {
            http: http::client(&url, settings.timeouts)?,
            url,
            api_key: settings.api_key,
            international_api_key: settings.international_api_key,
            receipt_url: http::receipt_url("the Firetext receipt URL", settings.receipts.as_ref())?.map(Secret),
        })
    }

    /// Sends once.
    pub async fn send(&self, text: &Text) -> Result<Accepted, SendError> {
        let stopwatch = Stopwatch::start();
        let sent = self.exchange(text, &stopwatch).await;
        stopwatch.stop(sent.map(|()| None))
    }

    async fn exchange(&self, text: &Text, stopwatch: &Stopwatch) -> Result<(), SendError> {
        let reference = text.reference.to_string();
        let key = if text.international {
            &self.international_api_key
        } else {
            &self.api_key
        };
        // The order is the one in which Notify sends them.
        let mut form = vec![
            ("apiKey", key.expose()),
            ("from", &text.from),
            ("to", &text.to),
            ("message", &text.body),
            ("reference", &reference),
        ];
        if let Some(url) = &self.receipt_url {
            form.push(("receipt", url.expose()));
        }
        let request = self.http.post(self.url.clone()).form(&form);
        read_answer(&http::exchange(Provider::Firetext, request, stopwatch).await?)
    }
}

/// Whether Firetext said yes. A number other than 0 is a no; anything else in a 2xx tells nothing.
fn read_answer(answer: &Answer) -> Result<(), SendError> {
    let invalid = || SendError::unclear(answer.status, "Invalid response JSON");
    let json: Value = serde_json::from_slice(&answer.body).map_err(|_| invalid())?;
    match &json["code"] {
        Value::Bool(false) => Ok(()),
        Value::Number(code) if code.as_f64() == Some(0.0) => Ok(()),
        Value::Number(code) => Err(SendError::new(
            Outcome::Refused,
            Some(answer.status),
            match code.as_i64() {
                Some(1) => UNKNOWN_KEY.to_owned(),
                Some(code) => format!("Request refused: code {code}"),
                None => "Request refused".to_owned(),
            },
        )),
        _ => Err(invalid()),
    }
}
