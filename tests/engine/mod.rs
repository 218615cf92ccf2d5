//! The engine's guarantees, each by name, on a toy workflow.

mod toy;

mod guarantees;
mod simulation;
