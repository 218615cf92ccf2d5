//! What is measured on the way of a message: told to whoever watches the metrics, and to the one in this process who
//! looks after the providers. Neither is waited for.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use herald_message::{receipt::Provider, status::Status};
use herald_providers::{Outcome, SendError, Timing};
use herald_store::{NotificationType, notifications::Settled};

/// Whoever counts. It is called in the middle of everything, so it must not wait.
pub trait Measures: Send + Sync + 'static {
    /// A provider was called, and answered yes or, by this error, not.
    fn called(&self, provider: &str, timing: Timing, error: Option<&SendError>);

    /// A provider has taken a message, so long after it was accepted, all attempts and a wish for later included. Told where
    /// that is written: a write that has to be repeated is told again.
    fn sent(&self, provider: &str, waited: Duration);

    /// A receipt has brought a message into this status, so long after a provider took it. Told as [`Self::sent`].
    fn receipted(&self, provider: &str, status: Status, after: Duration);
}

/// The process' one listener: what is measured comes from stories, attempts and the batches of effects alike.
static LISTENER: OnceLock<Arc<dyn Measures>> = OnceLock::new();

/// From now on this one is told everything. The first of a process stays.
pub fn listen(listener: Arc<dyn Measures>) {
    let _ = LISTENER.set(listener);
}

/// See [`Measures::called`].
pub(crate) fn called(provider: &str, timing: Timing, error: Option<&SendError>) {
    let word = error.map(|error| match error.outcome {
        Outcome::Refused => "refused",
        Outcome::Throttled { .. } => "throttled",
        Outcome::Never => "never",
        Outcome::Unknown => "unknown",
    });
    herald_metrics::provider_called(provider, timing.whole, timing.raw, word);
    tell(|listener| listener.called(provider, timing, error));
}

/// A worker has claimed a message for the first time, so long after it was due.
pub(crate) fn queued(kind: NotificationType, waited: Duration) {
    herald_metrics::message_queued(kind.as_str(), waited);
}

/// See [`Measures::sent`].
pub(crate) fn sent(provider: &str, waited: Duration) {
    let is_email = provider == Provider::Ses.name();
    herald_metrics::message_sent(if is_email { "email" } else { "sms" }, provider, waited);
    tell(|listener| listener.sent(provider, waited));
}

/// See [`Measures::receipted`].
pub(crate) fn receipted(provider: &str, status: Status, after: Duration) {
    herald_metrics::receipt_settled(provider, status.as_str(), after);
    tell(|listener| listener.receipted(provider, status, after));
}

/// No final receipt of these messages has come in time. Those that nobody took have another reason.
pub(crate) fn timed_out(settled: &[Settled]) {
    for provider in settled.iter().filter_map(|settled| settled.sent_by.as_deref()) {
        herald_metrics::receipt_missing(provider);
    }
}

fn tell(what: impl FnOnce(&dyn Measures)) {
    if let Some(listener) = LISTENER.get() {
        what(listener.as_ref());
    }
}
