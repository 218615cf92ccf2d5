//! Prometheus fetches what was measured since the start of the process.

use std::net::SocketAddr;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder};

use crate::StartError;

pub const REQUEST: &str = "http_request_duration_seconds";
pub const PROVIDER_REQUEST: &str = "provider_request_duration_seconds";
pub const PROVIDER_RAW_REQUEST: &str = "provider_raw_request_duration_seconds";
pub const QUEUE: &str = "notification_queue_duration_seconds";
pub const SEND: &str = "notification_send_duration_seconds";
pub const RECEIPT: &str = "notification_callback_duration_seconds";
pub const SERVICE_CALLBACK: &str = "service_callback_forward_duration_seconds";

/// Calls: upper bounds in seconds.
const CALLS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// From acceptance to a claim, or to a provider's yes, as in Notify.
const SENDING: [f64; 12] = [0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 600.0];

/// From a provider's yes to its receipt: a second to thirty hours.
const RECEIPTS: [f64; 12] = [
    1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 43_200.0, 108_000.0,
];

pub fn start(address: SocketAddr) -> Result<(), StartError> {
    let mut builder = PrometheusBuilder::new().with_http_listener(address);
    let buckets = [
        (REQUEST, CALLS),
        (PROVIDER_REQUEST, CALLS),
        (PROVIDER_RAW_REQUEST, CALLS),
        (SERVICE_CALLBACK, CALLS),
        (QUEUE, SENDING),
        (SEND, SENDING),
        (RECEIPT, RECEIPTS),
    ];
    for (name, bounds) in buckets {
        builder = builder
            .set_buckets_for_metric(Matcher::Full(name.to_owned()), &bounds)
            .map_err(|error| refused(&error))?;
    }
    builder.install().map_err(|error| refused(&error))
}

fn refused(error: &BuildError) -> StartError {
    StartError(error.to_string())
}
