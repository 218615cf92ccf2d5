//! Durable workflow runs on Postgres. Knows nothing of notifications.
//!
//! A *workflow* is a story in plain Rust; a *run* is one life of it. A run is a row ([`statements`]), its journal is
//! append-only ([`journal`]). Workers claim due runs in batches ([`claims`]) under leases with a growing epoch
//! ([`leases`]), play each story from the top with recorded steps replayed ([`run`], [`executor`]), and write through
//! one [`committer`] a process, which turns many small writes into one transaction. [`beat`]s start the runs of
//! schedules ([`schedule`]), once an instant ([`calendar`]).

mod batch;
mod beat;
mod calendar;
mod claims;
mod committer;
mod control;
mod effect;
mod error;
mod executor;
mod frontier;
mod fronts;
mod journal;
mod leases;
pub mod look;
mod past;
mod registry;
mod retry;
mod run;
mod schedule;
mod seldom;
#[cfg(feature = "simulation")]
pub mod simulation;
mod slots;
mod start;
mod statements;
mod submission;
mod turns;
mod upgrade;
mod upkeep;
mod wake;
mod window;
mod worker;
mod workflow;

pub use beat::Beat;
pub use calendar::Calendar;
pub use committer::{BatchLimits, Client};
pub use control::{ALL_QUEUES, Action, Actor, QueueChange, QueueLimits, Selection, audit, change_queue, control};
pub use effect::{Effect, EffectError, EffectResult};
pub use error::{Error, Locked, MachineFails, Transient};
pub use journal::{Attempted, Outcome, PastAttempt};
pub use registry::Registry;
pub use retry::{Backoff, OnUnknown, Proof, RetryPolicy};
pub use run::{Prepared, Run};
pub use schedule::{CatchUp, Schedule};
pub use seldom::Seldom;
pub use start::{alive, start};
pub use submission::{NewRun, NewSignal, Priority, Submission, Submitted};
pub use upgrade::{WouldPark, check_upgrade};
pub use upkeep::{Tidied, make_partitions, tidy, without_run};
pub use wake::hear;
pub use worker::{Worker, WorkerSettings};
pub use workflow::{AttemptError, Failure, Queue, Signal, StepFailure, Workflow};
