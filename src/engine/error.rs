//! What a caller of the engine can meet, and which database errors are worth another try.

use std::error::Error as StdError;

/// Why a submission was not written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The run belongs to another worker by now: nothing was written, and this worker must let go of it.
    #[error("the lease on the run is lost")]
    LeaseLost,
    /// The database could not be reached in time. It is not known whether the submission will be written.
    #[error("the database did not answer in time")]
    Unavailable,
    /// The database refused the submission; repeating it would be refused again.
    #[error("the database refused the submission: {0}")]
    Refused(String),
    /// A payload could not be turned into JSON or back.
    #[error("a payload does not fit its type: {0}")]
    Payload(#[from] serde_json::Error),
    /// A schedule is not one: its expression does not parse, or never comes, or its name is taken.
    #[error("the schedule {name}: {why}")]
    Schedule { name: &'static str, why: String },
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// What an effect answers when the same transaction may succeed if it is repeated, in words. An effect that passes a
/// `sqlx::Error` on, wrapped or not, need not say so.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Transient(pub String);

/// What an effect answers when it has waited too long for a lock that somebody keeps. An effect that passes a `sqlx::Error`
/// on, wrapped or not, need not say so.
#[derive(Debug, thiserror::Error)]
#[error("a lock was waited for too long")]
pub struct Locked;

/// What an effect answers where Postgres says that its machine fails (SQLSTATE class 58), in words: if that goes on, it may be
/// about one row of many. An effect that passes a `sqlx::Error` on, wrapped or not, need not say so.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct MachineFails(pub String);

/// Whether somebody keeps a lock that the transaction needs.
pub(crate) fn is_locked(error: &(dyn StdError + 'static)) -> bool {
    const LOCK_NOT_AVAILABLE: &str = "55P03";
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(sqlx::Error::Database(error)) = error.downcast_ref() {
            return error.code().is_some_and(|code| code == LOCK_NOT_AVAILABLE);
        }
        if error.is::<Locked>() {
            return true;
        }
        next = error.source();
    }
    false
}

/// Whether Postgres broke the transaction off, for the sake of another one: nothing of it was written.
pub(crate) fn is_broken_off(error: &sqlx::Error) -> bool {
    const ROLLBACK: &str = "40";
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| code.starts_with(ROLLBACK))
}

/// Whether the same transaction may succeed when it is repeated: connection trouble, a restart of the server,
/// deadlocks and serialization failures. Looks inside wrapped errors too.
pub(crate) fn is_transient(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<Transient>() || error.is::<MachineFails>() {
            return true;
        }
        if let Some(error) = error.downcast_ref::<sqlx::Error>() {
            return is_transient_sqlx(error);
        }
        next = error.source();
    }
    false
}

/// Whether Postgres has answered that its machine fails, as it does at a block that cannot be read. Where that goes on, it may
/// be about one row of many. Not where it has no room left: that is about all of them.
pub(crate) fn is_of_the_machine(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(sqlx::Error::Database(error)) = error.downcast_ref() {
            return error.code().is_some_and(|code| code.starts_with("58"));
        }
        if error.is::<MachineFails>() {
            return true;
        }
        next = error.source();
    }
    false
}

fn is_transient_sqlx(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::BeginFailed
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| is_transient_state(&code)),
        _ => false,
    }
}

/// SQLSTATE classes 08 (connection), 40 (rollback: deadlock, serialization), 53 (resources), 57 (operator
/// intervention, such as a shutdown), 58 (the server's own machine); 55P03, a lock that was waited for too long; 25006, a
/// standby that is not yet promoted; and 25P03, a transaction in which nothing happened for too long, as it seems after
/// the clock has jumped or our process was stopped.
fn is_transient_state(code: &str) -> bool {
    ["08", "40", "53", "57", "58"]
        .iter()
        .any(|class| code.starts_with(class))
        || ["25006", "25P03", "55P03"].contains(&code)
}
