//! Runs of workflows through a whole engine.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod crashes;
mod graphs;
mod kit;
mod people;
mod waits;
