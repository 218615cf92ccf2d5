//! What a caller can do about a failed statement. Holds codes and names, never a value: Postgres puts whole rows
//! into the details of an error, and rows hold personal data.

use sqlx::{Error as Sqlx, error::DatabaseError, postgres::PgDatabaseError};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database is away, going, overloaded, or it broke off a deadlock. Again, later.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// The row contradicts others: somebody was first, or what it names does not exist.
    #[error("constraint {0} forbids it")]
    Conflict(String),
    /// A stored value cannot be read. Never again: somebody has to look.
    #[error("stored data cannot be read: {0}")]
    Corrupt(String),
    /// The caller's input is wrong: it says where, and what is allowed.
    #[error("{0}")]
    Invalid(String),
    /// The statement does not fit this database: a mistake in Herald, or a migration is missing.
    #[error("the database refused a statement: {0}")]
    Refused(String),
}

impl Error {
    /// Whether the same call may succeed later.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    /// Whether Postgres said that its machine fails, as it does at a block that cannot be read: SQLSTATE class 58.
    #[must_use]
    pub fn is_of_the_machine(&self) -> bool {
        matches!(self, Self::Unavailable(code) if code.len() == 5 && code.starts_with("58"))
    }

    /// Whether somebody keeps a lock that is needed.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        matches!(self, Self::Unavailable(code) if code == LOCK_NOT_AVAILABLE)
    }
}

const LOCK_NOT_AVAILABLE: &str = "55P03";

impl From<Sqlx> for Error {
    fn from(error: Sqlx) -> Self {
        match error {
            Sqlx::Database(error) => from_postgres(error.as_ref()),
            Sqlx::Io(error) => Self::Unavailable(error.to_string()),
            Sqlx::Tls(error) => Self::Unavailable(error.to_string()),
            Sqlx::PoolTimedOut | Sqlx::PoolClosed | Sqlx::WorkerCrashed | Sqlx::BeginFailed => {
                Self::Unavailable(error.to_string())
            }
            Sqlx::Protocol(text) => Self::Unavailable(format!("broken connection ({} characters)", text.len())),
            Sqlx::ColumnDecode { index, .. } => Self::Corrupt(format!("column {index}")),
            Sqlx::Decode(_) => Self::Corrupt("a value of an unexpected form".into()),
            Sqlx::RowNotFound => Self::Corrupt("a row that must exist is missing".into()),
            other => Self::Refused(other.to_string()),
        }
    }
}

impl From<sqlx::migrate::MigrateError> for Error {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        use sqlx::migrate::MigrateError;
        match error {
            MigrateError::Execute(error) => error.into(),
            MigrateError::ExecuteMigration(error, version) => match error.into() {
                Self::Unavailable(why) => Self::Unavailable(why),
                other => Self::Refused(format!("migration {version}: {other}")),
            },
            other => Self::Refused(other.to_string()),
        }
    }
}

fn from_postgres(error: &dyn DatabaseError) -> Error {
    let code = error.code().unwrap_or_default().into_owned();
    let (class, _) = code.split_at_checked(2).unwrap_or((&code, ""));
    match class {
        "23" => Error::Conflict(constraint(error, &code)),
        // Connections; resources; a server that stops or starts; disk; a standby that was a primary.
        "08" | "53" | "58" => Error::Unavailable(code),
        _ if is_transient(&code) => Error::Unavailable(code),
        // Data errors quote the value.
        "22" => Error::Refused(format!("{code} (a value does not fit its column)")),
        _ => Error::Refused(format!("{code} {}", error.message())),
    }
}

/// Serialization failure, deadlock, shutdown by an operator, crash, start, cancelled by a timeout, lock timeout,
/// read-only after a failover.
fn is_transient(code: &str) -> bool {
    matches!(
        code,
        "40001" | "40P01" | "57P01" | "57P02" | "57P03" | "57014" | "55P03" | "25006" | "25P03"
    )
}

/// The constraint's name; a not-null violation names its column instead.
fn constraint(error: &dyn DatabaseError, code: &str) -> String {
    error
        .constraint()
        .or_else(|| {
            error
                .try_downcast_ref::<PgDatabaseError>()
                .and_then(PgDatabaseError::column)
        })
        .unwrap_or(code)
        .to_owned()
}
