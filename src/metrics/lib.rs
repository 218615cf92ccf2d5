//! What is measured: under the names that GOV.UK Notify sends to statsd, and for Prometheus under those of its
//! OpenTelemetry meters. Nobody waits for a measurement; where nothing listens, or too slowly, it is lost. No name and no
//! label holds what belongs to a person or a single message.

mod prometheus;
mod statsd;

use std::{net::SocketAddr, time::Duration};

use metrics::{counter, gauge, histogram};

pub use statsd::Settings as Statsd;

#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Where measurements are sent, if anywhere.
    pub statsd: Option<Statsd>,
    /// Where Prometheus fetches them, if anywhere: `GET /metrics`.
    pub prometheus: Option<SocketAddr>,
}

/// Prometheus cannot be served there.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(String);

/// Begins to listen to what this process measures. To be called once, in the runtime that serves Prometheus.
///
/// # Errors
/// When the address for Prometheus cannot be had.
pub fn start(settings: Settings) -> Result<(), StartError> {
    if let Some(settings) = settings.statsd {
        statsd::start(settings);
    }
    if let Some(address) = settings.prometheus {
        prometheus::start(address)?;
    }
    Ok(())
}

/// The API has answered a request. `operation`: its id in the OpenAPI document.
pub fn request_answered(method: &str, operation: &'static str, status: u16, took: Duration) {
    let labels = [
        ("method", method.to_owned()),
        ("path", operation.to_owned()),
        ("code", status.to_string()),
    ];
    counter!("http_server_requests_total", &labels).increment(1);
    histogram!(prometheus::REQUEST, &labels).record(took);
    statsd::count(|| format!("{method}.{operation}.{status}"));
    statsd::time(took, || format!("{method}.{operation}.{status}"));
}

/// Redis was asked in vain.
pub fn redis_failed() {
    counter!("redis_errors_total").increment(1);
    statsd::count(|| "redis.error".to_owned());
}

/// A provider was called. `raw`: from the first byte out to the head of the answer, if there was one. `error`: a word for
/// what went wrong.
pub fn provider_called(provider: &str, whole: Duration, raw: Option<Duration>, error: Option<&'static str>) {
    let labels = [
        ("provider_name", provider.to_owned()),
        ("error_type", error.unwrap_or("").to_owned()),
    ];
    histogram!(prometheus::PROVIDER_REQUEST, &labels).record(whole);
    statsd::time(whole, || format!("clients.{provider}.request-time"));
    if let Some(raw) = raw {
        histogram!(prometheus::PROVIDER_RAW_REQUEST, &labels).record(raw);
        statsd::time(raw, || format!("clients.{provider}.raw-request-time"));
    }
    let outcome = if error.is_some() { "error" } else { "success" };
    statsd::count(|| format!("clients.{provider}.{outcome}"));
}

/// A worker has taken up a message, so long after it was due. `notification_type`: `sms` or `email`.
pub fn message_queued(notification_type: &str, waited: Duration) {
    histogram!(prometheus::QUEUE, "notification_type" => notification_type.to_owned()).record(waited);
    statsd::time(waited, || format!("tasks.send-{notification_type}.queued-for"));
}

/// A provider has taken a message, so long after it was accepted: the queue, all attempts and a wish for later included.
/// `notification_type`: `sms` or `email`.
pub fn message_sent(notification_type: &str, provider: &str, waited: Duration) {
    let labels = [
        ("notification_type", notification_type.to_owned()),
        ("provider_name", provider.to_owned()),
    ];
    histogram!(prometheus::SEND, &labels).record(waited);
    statsd::time(waited, || format!("{notification_type}.total-time"));
}

/// A receipt has brought a message into this status, so long after its provider took it.
pub fn receipt_settled(provider: &str, status: &str, after: Duration) {
    let labels = [
        ("provider_name", provider.to_owned()),
        ("notification_status", status.to_owned()),
    ];
    histogram!(prometheus::RECEIPT, &labels).record(after);
    statsd::count(|| format!("callback.{provider}.{status}"));
    statsd::time(after, || format!("callback.{provider}.elapsed-time"));
    statsd::time(after, || format!("callback.{provider}.{status}.elapsed-time"));
}

/// Nothing came of a message that a provider took three days ago.
pub fn receipt_missing(provider: &str) {
    counter!("notification_timeouts_total", "provider_name" => provider.to_owned()).increment(1);
    statsd::count(|| format!("timeout-sending.{provider}"));
}

/// A provider has passed on a text to one of our numbers.
pub fn text_received(provider: &str, is_good: bool) {
    let outcome = if is_good { "successful" } else { "failed" };
    if is_good {
        counter!("inbound_sms", "provider" => provider.to_owned()).increment(1);
    }
    statsd::count(|| format!("inbound.{provider}.{outcome}"));
}

/// A service's endpoint was called, and answered 2xx or not.
pub fn service_called(kind: &str, is_good: bool, took: Duration) {
    let status = if is_good { "success" } else { "error" };
    let labels = [("callback_type", kind.to_owned()), ("status", status.to_owned())];
    histogram!(prometheus::SERVICE_CALLBACK, &labels).record(took);
    statsd::time(took, || format!("service-callback.{kind}.{status}"));
}

/// The share of the texts that a provider gets, in percent.
pub fn provider_share(provider: &str, percent: i32) {
    gauge!("provider_priority", "provider_name" => provider.to_owned()).set(f64::from(percent));
    statsd::gauge(f64::from(percent), || format!("providers.{provider}.priority"));
}

/// How many of a provider's texts took too long lately: from 0 to 1.
pub fn slow_delivery(provider: &str, ratio: f64) {
    gauge!("provider_sms_slow_delivery_ratio", "provider_name" => provider.to_owned()).set(ratio);
    statsd::gauge(ratio, || format!("slow-delivery.{provider}.ratio"));
}

/// Whether something needs a person: one line on a dashboard for each thing that can.
pub fn alert(name: &'static str, is_on: bool) {
    let value = if is_on { 1.0 } else { 0.0 };
    gauge!("alert", "name" => name).set(value);
    statsd::gauge(value, || format!("alerts.{name}"));
}

/// How many runs of a queue are in a state.
pub fn queue_depth(queue: &str, state: &str, runs: i64) {
    let labels = [("queue", queue.to_owned()), ("state", state.to_owned())];
    gauge!("engine_runs", &labels).set(runs as f64);
    statsd::gauge(runs as f64, || format!("queues.{queue}.{state}"));
}
