//! The engine as operators see it: where runs and queues stand and why, hands on them, and who did what.

mod audit;
mod queues;
mod runs;
mod view;

pub use audit::Audit;
pub use queues::Queues;
pub use runs::Runs;

use poem_openapi::{Object, types::Example};
use serde::{Deserialize, Serialize};

/// The length of a page where nothing is said.
fn rows() -> u16 {
    50
}

/// Why somebody does something.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(example)]
struct Reason {
    /// Kept for ever, with who it was.
    #[oai(validator(min_length = 1, max_length = 500))]
    reason: String,
}

impl Example for Reason {
    fn example() -> Self {
        Self {
            reason: "Firetext is down".to_owned(),
        }
    }
}

/// How much was changed.
#[derive(Debug, Serialize, Object)]
#[oai(example)]
struct Changed {
    /// Runs.
    changed: usize,
}

impl Example for Changed {
    fn example() -> Self {
        Self { changed: 12 }
    }
}
