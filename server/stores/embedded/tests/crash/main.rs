//! Crashes and broken disks: what was answered stays, and damage is named. Each test prints its counts.
#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod damage;
mod faults;
mod fixture;
mod processes;
mod recycling;
