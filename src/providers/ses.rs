//! Amazon SES through the AWS SDK (SendRawEmail, which alone allows unsubscribe headers in that API).
//! The SDK's own retries are off: the engine owns them, and theirs would be blind.

mod mime;
mod pace;

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_ses::config::interceptors::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextMut,
};
use aws_sdk_ses::config::retry::RetryConfig;
use aws_sdk_ses::config::timeout::TimeoutConfig;
use aws_sdk_ses::config::{
    BehaviorVersion, ConfigBag, Credentials, Intercept, Region, RuntimeComponents, StalledStreamProtectionConfig,
};
use aws_sdk_ses::error::{BoxError, ProvideErrorMetadata, SdkError};
use aws_sdk_ses::primitives::Blob;
use aws_sdk_ses::types::{MessageTag, RawMessage};
use aws_smithy_http_client::tls::Provider::Rustls;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_types::body::SdkBody;

use crate::outcome::{DAILY_QUOTA, NO_CREDENTIALS};
use crate::timing::{Stopwatch, TimedBody};
use crate::{Accepted, Email, Outcome, Secret, SendError, SetupError, Timeouts, certificate, http};
use pace::Pace;

pub use herald_message::receipt::ses::REFERENCE_TAG;

#[derive(Clone, Debug)]
pub struct Settings {
    pub region: String,
    /// Where SES is, if not at AWS: a stub.
    pub endpoint_url: Option<String>,
    /// Whose event destinations hear what becomes of emails. Its events bring back our tag, the email's id, so that they
    /// prove a send whose answer was lost; the plain notices of an identity do not.
    pub configuration_set: Option<String>,
    /// Fixed credentials. None: the SDK looks in its usual places (environment, profile, instance, container).
    pub credentials: Option<AwsCredentials>,
    pub timeouts: Timeouts,
}

#[derive(Clone, Debug)]
pub struct AwsCredentials {
    pub access_key_id: String,
    pub secret_access_key: Secret,
    pub session_token: Option<Secret>,
}

/// Cheap to clone; clones share their connections and their pace.
#[derive(Clone, Debug)]
pub struct Client {
    ses: aws_sdk_ses::Client,
    configuration_set: Option<String>,
    pace: Arc<Pace>,
}

/// How long SES' word about its limits holds. An account's limits change about once a month.
const LIMITS_HOLD: Duration = Duration::from_secs(10 * 60);

/// When it is asked again that did not answer.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// The quota of a day fills up again bit by bit, as each send becomes a day old.
const QUOTA_PAUSE: Duration = Duration::from_secs(15 * 60);

impl Client {
    pub async fn new(settings: Settings) -> Result<Self, SetupError> {
        let endpoint = settings.endpoint_url.as_deref();
        let endpoint = endpoint
            .map(|url| http::provider_url("the SES endpoint", url))
            .transpose()?;
        let connector = aws_smithy_http_client::Builder::new();
        let connector = if endpoint.is_some_and(|url| url.scheme() == "http") {
            // A stub: it must be reachable from a machine that has no certificates installed.
            connector.build_http()
        } else {
            http::use_ring();
            connector.tls_provider(Rustls(CryptoMode::Ring)).build_https()
        };
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(settings.timeouts.connect)
            .read_timeout(settings.timeouts.read)
            .operation_timeout(settings.timeouts.total)
            .build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(settings.region))
            .http_client(connector)
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        if let Some(credentials) = settings.credentials {
            loader = loader.credentials_provider(Credentials::new(
                credentials.access_key_id,
                credentials.secret_access_key.expose(),
                credentials.session_token.map(|token| token.expose().to_owned()),
                None,
                "settings",
            ));
        }
        if let Some(url) = settings.endpoint_url {
            loader = loader.endpoint_url(url);
        }
        Ok(Self {
            ses: aws_sdk_ses::Client::new(&loader.load().await),
            configuration_set: settings.configuration_set,
            pace: Arc::default(),
        })
    }

    /// The text of `sent_by`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        "ses"
    }

    /// Learns now and then how many emails a second SES takes. Whatever it answers, or none at all, this goes on. From this call
    /// on, not only from when the future is polled, sends wait a while for the first answer.
    pub fn keep_pace(self) -> impl Future<Output = Infallible> {
        self.pace.asks();
        self.ask_for_ever()
    }

    async fn ask_for_ever(self) -> Infallible {
        loop {
            let asked = self.learn_pace().await;
            self.pace.has_asked();
            let pause = match asked {
                Ok(_) => LIMITS_HOLD,
                Err(error) => {
                    tracing::warn!(
                        reason = error.reason,
                        "SES does not tell its sending rate; the last one known holds"
                    );
                    ASK_AGAIN
                }
            };
            tokio::time::sleep(pause.mul_f64(rand::random_range(1.0..1.2))).await;
        }
    }

    /// Asks SES how many emails a second it takes, and keeps to that from here on.
    pub async fn learn_pace(&self) -> Result<f64, SendError> {
        let stopwatch = Stopwatch::start();
        let asked = self
            .ses
            .get_send_quota()
            .customize()
            .interceptor(Timed(stopwatch.clone()));
        let quota = asked.send().await.map_err(|error| classify(&error, &stopwatch))?;
        let limit = quota.max_send_rate();
        // SES says -1 where there is no limit.
        if limit > 0.0 && self.pace.allow(limit) {
            tracing::info!(emails_a_second = limit, "SES tells its sending rate");
        }
        Ok(limit)
    }

    /// Returns when SES may be called again, by its own limits. To be waited for before each send.
    pub async fn turn(&self) {
        self.pace.turn().await;
    }

    /// Sends once.
    pub async fn send(&self, email: &Email) -> Result<Accepted, SendError> {
        let stopwatch = Stopwatch::start();
        let sent = self.exchange(email, &stopwatch).await;
        stopwatch.stop(sent.map(Some))
    }

    /// Answers with SES's name for the email.
    async fn exchange(&self, email: &Email, stopwatch: &Stopwatch) -> Result<String, SendError> {
        let message = mime::build(email)?;
        let (Ok(raw), Ok(tag)) = (
            RawMessage::builder().data(Blob::new(message.content)).build(),
            MessageTag::builder()
                .name(REFERENCE_TAG)
                .value(email.reference.to_string())
                .build(),
        ) else {
            return Err(SendError::new(
                Outcome::Never,
                None,
                "Request failed: it cannot be built",
            ));
        };
        let answer = self
            .ses
            .send_raw_email()
            .source(message.from)
            .destinations(message.to)
            .raw_message(raw)
            .tags(tag)
            .set_configuration_set_name(self.configuration_set.clone())
            .customize()
            .interceptor(Timed(stopwatch.clone()))
            .send()
            .await
            .map_err(|error| self.refused(classify(&error, stopwatch)))?;
        if answer.message_id.is_empty() {
            return Err(SendError::unclear(200, "Invalid response: no MessageId"));
        }
        Ok(answer.message_id)
    }

    /// Takes note of what a refusal says about limits.
    fn refused(&self, error: SendError) -> SendError {
        match error.outcome {
            // Each is said once for many that are refused at the same time, or wait for it and come by meanwhile.
            Outcome::Throttled { after: None } if self.pace.refused() => {
                tracing::warn!("SES refuses emails because there are too many a second");
            }
            Outcome::Throttled {
                after: Some(QUOTA_PAUSE),
            } if self.pace.quota_is_news() => {
                tracing::error!("SES refuses emails because the quota of the day is used up");
            }
            _ => {}
        }
        error
    }
}

/// Tells the stopwatch when the body goes out, and when the head of the answer is there.
#[derive(Debug)]
struct Timed(Stopwatch);

impl Intercept for Timed {
    fn name(&self) -> &'static str {
        "Timed"
    }

    /// After the signing, which goes through the whole body.
    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.is_signed();
        let body = context.request_mut().body_mut();
        *body = SdkBody::from_body_1_x(TimedBody {
            body: std::mem::replace(body, SdkBody::taken()),
            stopwatch: self.0.clone(),
        });
        Ok(())
    }

    fn read_after_transmit(
        &self,
        _: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.is_answered();
        Ok(())
    }
}

fn classify<E: ProvideErrorMetadata>(error: &SdkError<E>, stopwatch: &Stopwatch) -> SendError {
    let classified = match error {
        SdkError::ConstructionFailure(_) => {
            SendError::new(Outcome::Refused, None, "Request failed: it could not be signed")
        }
        // Credentials, to sign it with, are all that is waited for before.
        _ if !stopwatch.was_signed() => SendError::new(Outcome::Refused, None, NO_CREDENTIALS),
        SdkError::TimeoutError(_) => SendError::timeout(stopwatch.has_left()),
        SdkError::DispatchFailure(failure) => {
            let connected = failure
                .as_connector_error()
                .is_none_or(|error| !failed_to_connect(error));
            let distrusted = failure
                .as_connector_error()
                .and_then(|error| certificate::distrusted(error));
            if let Some(reason) = distrusted {
                SendError::new(Outcome::Refused, None, reason)
            } else if failure.is_timeout() {
                SendError::timeout(connected)
            } else {
                SendError::no_response(connected)
            }
        }
        SdkError::ResponseError(response) => unreadable(response.raw().status().as_u16()),
        SdkError::ServiceError(service) => by_code(
            service.raw().status().as_u16(),
            error.code().unwrap_or_default(),
            error.message().unwrap_or_default(),
        ),
        _ => SendError::no_response(true),
    };
    tracing::debug!(
        provider = "ses",
        status = classified.status,
        reason = classified.reason,
        "not sent"
    );
    classified
}

/// What SES said. Its messages repeat addresses, so that they serve for a decision here and go no further.
fn by_code(status: u16, code: &str, message: &str) -> SendError {
    let message = message.to_ascii_lowercase();
    match code {
        "InvalidParameterValue" | "ValidationError" => {
            SendError::new(Outcome::Never, Some(status), format!("Request refused: {code}"))
        }
        _ if message.contains("daily message quota exceeded") => SendError::new(
            Outcome::Throttled {
                after: Some(QUOTA_PAUSE),
            },
            Some(status),
            DAILY_QUOTA,
        ),
        "Throttling" | "ThrottlingException" | "TooManyRequestsException" => SendError::new(
            Outcome::Throttled { after: None },
            Some(status),
            "Request refused: maximum sending rate exceeded",
        ),
        "" => unreadable(status),
        _ if !matches!(status, 429 | 502 | 503 | 504) && is_a_word(code) => {
            SendError::new(Outcome::Refused, Some(status), format!("Request refused: {code}"))
        }
        _ => SendError::from_status(status, None),
    }
}

fn unreadable(status: u16) -> SendError {
    if (200..300).contains(&status) {
        SendError::unclear(status, "Invalid response XML")
    } else {
        SendError::from_status(status, None)
    }
}

fn is_a_word(code: &str) -> bool {
    code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Whether the error arose before a request could leave: name resolution, TCP or TLS, timeouts there included.
fn failed_to_connect(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<hyper_util::client::legacy::Error>() {
            return error.is_connect();
        }
        next = error.source();
    }
    false
}
