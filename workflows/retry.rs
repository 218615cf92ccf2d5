//! When a send is attempted again.

use std::time::Duration;

use herald_engine::{Backoff, OnUnknown, Proof, RetryPolicy, Signal};
use rand::Rng;

use crate::{queues, receipts::ReceiptSignal};

/// Notify's schedule for sending: 48 repetitions, the first at once and then every five minutes, about four hours.
/// An attempt whose outcome is unknown is repeated only after no receipt for it has come for `patience`, which doubles with
/// each such attempt up to the five minutes.
pub fn sending(patience: Duration) -> RetryPolicy {
    RetryPolicy {
        attempts: 49,
        backoff: Backoff {
            first: Duration::ZERO,
            then: Duration::from_secs(300),
            jitter: 0.1,
        },
        queue: queues::RETRY,
        on_unknown: OnUnknown::AwaitThenRepeat {
            signal: ReceiptSignal::NAME,
            patience,
            queue: queues::RECEIPTS,
            proves: |plan, receipt| match receipt["status"].as_str() {
                _ if plan["send"]["sent_by"] != receipt["provider"] => Proof::None,
                Some("delivered" | "pending") => Proof::Done,
                _ => Proof::InVain,
            },
        },
    }
}

/// Of emails, from the policy of texts: as with Notify their first repetition comes after five minutes too.
pub fn sending_emails(texts: &RetryPolicy) -> RetryPolicy {
    RetryPolicy {
        backoff: Backoff {
            first: texts.backoff.then,
            ..texts.backoff.clone()
        },
        queue: queues::RETRY_EMAIL,
        ..texts.clone()
    }
}

/// The pauses between looks for the email that a receipt is about: it may be faster than the commit of the send. What
/// nobody knows five minutes later is a stranger's.
pub const BETWEEN_LOOKS: [Duration; 7] = {
    const LONG: Duration = Duration::from_secs(50);
    [Duration::from_secs(1), LONG, LONG, LONG, LONG, LONG, LONG]
};

/// Work by the clock: until the clock has started the next one, about.
pub fn housekeeping() -> RetryPolicy {
    RetryPolicy {
        attempts: 60,
        backoff: Backoff {
            first: Duration::from_secs(1),
            then: Duration::from_secs(60),
            jitter: 0.2,
        },
        queue: queues::PERIODIC,
        on_unknown: OnUnknown::Repeat,
    }
}

/// Work that the clock starts anew every few minutes anyway.
pub fn until_the_next() -> RetryPolicy {
    RetryPolicy {
        attempts: 3,
        backoff: Backoff {
            first: Duration::from_secs(2),
            then: Duration::from_secs(10),
            jitter: 0.2,
        },
        queue: queues::PERIODIC,
        on_unknown: OnUnknown::Repeat,
    }
}

/// Of our own database: as long as it takes to come back.
pub fn reading() -> RetryPolicy {
    RetryPolicy {
        attempts: 1000,
        backoff: Backoff {
            first: Duration::from_secs(1),
            then: Duration::from_secs(30),
            jitter: 0.2,
        },
        queue: queues::RECEIPTS,
        on_unknown: OnUnknown::Repeat,
    }
}

/// For how long after an event its call is repeated.
pub const TELLING_PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// Of a service, until [`TELLING_PATIENCE`] ends it: attempts bound only how long the journal of a run can become. The
/// delays are those of [`calling_after`]. Services know an event that comes twice by its id.
pub fn telling() -> RetryPolicy {
    RetryPolicy {
        attempts: 250,
        queue: queues::SERVICE_CALLBACKS_RETRY,
        ..resting()
    }
}

/// The time before the next call to a service that has failed so often before in a row: from five seconds, three times
/// as long each time, to half an hour, and up to a fifth more.
#[expect(
    clippy::disallowed_methods,
    reason = "drawn in an attempt, whose back-off is recorded"
)]
pub(crate) fn calling_after(failures: usize) -> Duration {
    let growth = 3_u32.saturating_pow(u32::try_from(failures).unwrap_or(u32::MAX));
    let delay = Duration::from_secs(5).saturating_mul(growth);
    delay
        .min(Duration::from_secs(30 * 60))
        .mul_f64(rand::rng().random_range(1.0..1.2))
}

/// Whether a service that has failed so often in a row has done so for half an hour: long enough to ask whether it is one
/// event that it cannot bear, and to give up what has waited for [`TELLING_PATIENCE`].
pub(crate) fn is_long(failures: usize) -> bool {
    failures >= 6
}

/// Of our own database, between two services.
pub fn resting() -> RetryPolicy {
    RetryPolicy {
        queue: queues::SERVICE_CALLBACKS,
        ..reading()
    }
}
