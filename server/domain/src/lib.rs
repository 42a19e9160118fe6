//! The nouns of Coretex: jobs, leases, topics, sessions, decisions, and the laws they keep.
//!
//! Nothing here does I/O, reads a clock or rolls dice: time and chance are arguments.
//! The state machine of a job is one value, [`job::machine::TABLE`]; documents and checks are made from it.

pub mod access;
pub mod approval;
pub mod config;
pub mod dead_letter;
pub mod filter;
pub mod house;
pub mod id;
pub mod job;
pub mod limits;
pub mod names;
pub mod nearest;
pub mod payload;
pub mod policy;
pub mod receipt;
pub mod redact;
pub mod refusal;
pub mod resource;
pub mod run;
pub mod session;
pub mod time;
pub mod topic;

pub use id::{JobId, JobKey, Namespace, SessionId, ShardId};
pub use job::Job;
pub use payload::Payload;
pub use refusal::{Reason, Refusal, Violation};
pub use resource::{Resource, ResourceKey};
pub use run::{Run, RunId, RunKey};
pub use time::{Span, Time};
