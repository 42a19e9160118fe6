//! Schedules: when something is started by itself, and what is done about times that were missed.
//!
//! A [`Rule`] gives *nominal times*: the times at which a schedule is meant to start its target. [`plan`] says which of them
//! are to be handled now, [`Overlap`] what happens when the target of an earlier one still runs. All of it is a function
//! of its arguments: the same schedule, the same cursor and the same clock give the same answer on every machine. The zone data
//! is part of the program for the same reason.

mod cron;
mod field;
pub mod limits;
mod model;
mod names;
mod overlap;
mod plan;
mod rule;
mod zone;

pub use cron::Cron;
pub use model::{Backfill, Cause, Definition, Fire, Outcome, Pause, Pending, Schedule, State, Target};
pub use names::{check_schedule_id, fire_name, seed, target_bits, token_name};
pub use overlap::{Move, Overlap};
pub use plan::{CatchUp, Plan, Planned, Skipped, plan};
pub use rule::{Note, Occurrence, Rule, Timing};
pub use zone::Zone;

#[cfg(test)]
mod tests;
