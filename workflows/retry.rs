//! When a send is attempted again.

use std::time::Duration;

use herald_engine::{Backoff, OnUnknown, RetryPolicy, Signal};

use crate::{queues, receipts::ReceiptSignal};

/// Notify's schedule for sending: 48 repetitions, the first at once and then every five minutes, about four hours.
/// An attempt whose outcome is unknown is repeated only after no receipt for it has come for `patience`.
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
        },
    }
}

/// A receipt may be faster than the commit of the send that it is about; five minutes later it is a stranger's.
pub fn finding_email() -> RetryPolicy {
    RetryPolicy {
        attempts: 8,
        backoff: Backoff {
            first: Duration::from_secs(1),
            then: Duration::from_secs(50),
            jitter: 0.1,
        },
        queue: queues::RECEIPTS,
        on_unknown: OnUnknown::Repeat,
    }
}

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
