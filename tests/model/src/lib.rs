//! A model of leases and ownership, small enough to be exhausted: every order of every fault within its bounds.
//!
//! Two owners take turns at one store, one shard, a few jobs, two workers; frames get lost and doubled; owners crash
//! and are paused (the old one goes on believing); sessions expire whenever they may. It is written from the protocol,
//! not from the code: what holds here holds for any code that keeps to it.

mod rules;
mod state;

pub use rules::Rules;
pub use state::{Action, Flaw, Frame, Group, Job, JobState, Lease, Owner, State};
