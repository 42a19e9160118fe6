//! The verbs of Coretex: a shard group as a pure function from inputs to writes and effects.
//!
//! [`decide`] takes one [`Input`], changes the [`View`] and adds to the [`Turn`]. Nothing here does I/O, reads a
//! clock or rolls dice. The path of a job, top to bottom: [`path::submit`], `admit`, `dispatch`, `settle`.
//! Runs of workflows go on in the same turns; see the module `runs`.

pub mod dispatcher;
pub mod input;
pub mod limits;
pub mod mutant;
mod packed;
mod parked;
pub mod path;
mod rate;
pub mod ready;
mod runs;
mod throttle;
pub mod timers;
mod turn;
mod view;

pub use dispatcher::Dispatcher;
pub use input::{Effect, Input, Reply, Write};
pub use path::{decide, dispatch};
pub use runs::{TAKEN, value_of};
pub use turn::{Finished, Turn};
pub use view::{Footprint, Retentions, View};
