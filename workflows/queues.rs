//! The queues, by which worker processes are scaled. Their names are data in the database: frozen.

use herald_engine::Queue;

pub const SEND_SMS: Queue = Queue("send-sms");
pub const SEND_EMAIL: Queue = Queue("send-email");
/// Messages of test keys, which no provider sees.
pub const RESEARCH: Queue = Queue("research");
/// Texts that are to be attempted again.
pub const RETRY: Queue = Queue("retry");
/// Emails that are. After an outage of SES they come at the pace that SES allows, and no text waits for that.
pub const RETRY_EMAIL: Queue = Queue("retry-email");
/// Everything that a receipt sets going: a flood of them cannot delay sending.
pub const RECEIPTS: Queue = Queue("receipts");

/// What services are told.
pub const SERVICE_CALLBACKS: Queue = Queue("service-callbacks");
/// Services that did not answer: they cannot delay those that do.
pub const SERVICE_CALLBACKS_RETRY: Queue = Queue("service-callbacks-retry");

/// What the schedules start.
pub const PERIODIC: Queue = Queue("periodic");

pub const ALL: [Queue; 9] = [
    SEND_SMS,
    SEND_EMAIL,
    RESEARCH,
    RETRY,
    RETRY_EMAIL,
    RECEIPTS,
    SERVICE_CALLBACKS,
    SERVICE_CALLBACKS_RETRY,
    PERIODIC,
];

/// Those in which somebody waits for each message.
pub const URGENT: [Queue; 2] = [SEND_SMS, SEND_EMAIL];

/// The queue of that name.
pub fn named(name: &str) -> Option<Queue> {
    ALL.into_iter().find(|queue| queue.0 == name)
}
