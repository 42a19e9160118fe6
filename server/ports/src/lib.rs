//! The sockets of Coretex: what the engine asks of a store, a clock and a source of ids,
//! and the memory model that every backend is compared with.

pub mod env;
pub mod memory;
pub mod store;

pub use env::{Clock, Dice, Env};
pub use store::{
    AckLevel, BackupReport, BoxFuture, Claim, Cleaned, EventRow, Group, Guarantees, JobSet, KeyRow, Outcome,
    Page, Row, Scan, Stats, Store, StoreError, Write,
};
