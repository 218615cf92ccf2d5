//! The SQL of the notification tables, one aggregate a file: plain row structs, and functions on `&mut PgConnection`.
//!
//! - Whoever does the deed opens and commits the transaction; nothing here does, but the fixture.
//! - Functions that change rows take a whole batch and send one statement for it, and say what they changed.
//! - Tables keep Notify's names and columns. Its timestamps have no zone and mean UTC: here they are [`DateTime`],
//!   and new ones are the database's `now()`, never a worker's clock.
//! - Personal data is sealed ([`sealed`]) before it comes here, and no error holds any.

pub mod callbacks;
pub mod complaints;
mod error;
pub mod fixture;
pub mod idempotency;
pub mod limits;
mod migrate;
pub mod notifications;
pub mod providers;
pub mod rates;
pub mod received;
pub mod recipients;
pub mod sealed;
pub mod senders;
pub mod services;
pub mod templates;
pub mod unsubscribes;
pub mod users;
mod words;

pub use error::Error;
pub use migrate::{MIGRATOR, migrate, missing as missing_migrations, schema_version};
pub use words::{CallbackType, KeyType, NotificationType, UnknownWord};

pub type Result<T> = std::result::Result<T, Error>;

/// An instant. Columns of type `timestamp` hold it without a zone, as UTC.
pub type DateTime = chrono::DateTime<chrono::Utc>;

/// The service that Notify's own messages (codes, invitations) belong to.
pub const NOTIFY_SERVICE_ID: uuid::Uuid = uuid::uuid!("d6aa2c68-a2d9-4437-ab19-3ae8eb202553");

/// The user in whose name the system acts.
pub const NOTIFY_USER_ID: uuid::Uuid = uuid::uuid!("6af522d0-2915-4e52-83a3-3690455a5fe6");

/// One array for `unnest`.
fn column<'a, R, T>(rows: &'a [R], value: impl Fn(&'a R) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}
