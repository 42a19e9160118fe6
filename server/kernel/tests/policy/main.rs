//! What the verdicts of a policy do to jobs: rates, slots, caps and budgets, driven as a loop of the engine drives them.
#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod approvals;
mod asks;
mod budgets;
mod kit;
mod slots;
mod spawns;
mod throttle;
