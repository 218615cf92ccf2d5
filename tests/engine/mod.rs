//! The engine's guarantees, each by name, on a toy workflow.

mod toy;

mod control;
mod flow;
mod frontier;
mod guarantees;
mod housekeeping;
mod look;
mod schedules;
mod simulation;
mod unknown;
mod versions;
