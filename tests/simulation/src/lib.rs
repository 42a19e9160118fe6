//! A whole cluster on one thread with virtual time: nodes around the real kernel, a store, workers, clients, links.
//!
//! A run is a function of its [`Options`], and those of one number. Every fault is drawn from it, every promise is
//! checked after the event that could break it.

mod asks;
mod calls;
mod calm;
mod client;
mod clock;
mod cover;
mod event;
pub mod evidence;
mod fault;
mod handler;
mod hands;
mod loops;
mod net;
mod node;
mod options;
mod oracle;
mod ownership;
mod pipe;
mod plan;
mod planted;
mod rng;
mod rules;
pub mod run;
mod runs;
mod sessions;
pub mod shrink;
mod store;
mod submit;
mod wanting;
mod wire;
mod worker;
mod workflows;
mod workload;
mod world;

pub use cover::Cover;
pub use fault::{Fault, FaultSet};
pub use options::{DURATION, Narrow, Options};
pub use planted::{Planted, Shell};
pub use world::Outcome;
