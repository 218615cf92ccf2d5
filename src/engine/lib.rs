//! Durable workflow runs on Postgres. Knows nothing of notifications.
//!
//! A *workflow* is a story in plain Rust; a *run* is one life of it. A run is a row ([`statements`]), its journal is
//! append-only ([`journal`]). Workers claim due runs in batches ([`claims`]) under leases with a growing epoch
//! ([`leases`]), play each story from the top with recorded steps replayed ([`run`], [`executor`]), and write through
//! one [`committer`] a process, which turns many small writes into one transaction.

mod batch;
mod claims;
mod committer;
mod effect;
mod error;
mod executor;
mod journal;
mod leases;
mod registry;
mod retry;
mod run;
#[cfg(feature = "simulation")]
pub mod simulation;
mod statements;
mod submission;
mod upkeep;
mod wake;
mod worker;
mod workflow;

pub use committer::{BatchLimits, Client};
pub use effect::{Effect, EffectError, EffectResult};
pub use error::Error;
pub use journal::{Attempted, Outcome, PastAttempt};
pub use registry::Registry;
pub use retry::{Backoff, OnUnknown, RetryPolicy};
pub use run::{Prepared, Run};
pub use submission::{NewRun, NewSignal, Submission, Submitted};
pub use upkeep::make_partitions;
pub use worker::{Worker, WorkerSettings};
pub use workflow::{AttemptError, Failure, Queue, Signal, StepFailure, Workflow};
