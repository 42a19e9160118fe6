#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod api_key;
mod approval;
mod ask;
mod client;
mod config;
mod constraints;
mod ctx;
mod dead_letter;
mod error;
mod fleet;
mod handler;
mod job;
mod names;
mod payload;
mod poll;
pub mod raw;
mod receipt;
mod request;
mod run;
mod schedule;
mod secret;
mod spawn;
pub mod testing;
mod time;
mod verdict;
mod worker;
mod workflow;

pub use api_key::*;
pub use approval::*;
pub use ask::{Action, BudgetDimension, Granted, Guarded};
pub use client::*;
pub use config::*;
pub use constraints::{BudgetLeft, Constraints, Redaction};
#[cfg(feature = "macros")]
pub use coretex_sdk_macros::{job, jobs};
pub use ctx::Ctx;
pub use dead_letter::*;
pub use error::{Code, Error, Result, Violation, reason};
pub use fleet::*;
pub use handler::{Bind, Binding, Handler, JobResult, JobSet, JobType};
pub use job::*;
pub use names::*;
pub use payload::{FromPayload, IntoPayload, JSON, Payload};
pub use poll::{CancelNotice, LeaseReport, LeaseToken, Poll, Polled, PolledJob, Reported};
pub use receipt::*;
pub use request::{Budget, JobRequest, RetryPolicy, Timeouts, priority};
pub use run::*;
pub use schedule::*;
pub use secret::Secret;
pub use spawn::{Child, Spawn};
pub use verdict::{Cancelled, ErrorExt, HandlerError, Release, RetryAfter, Terminal};
pub use worker::{EndedBy, Server, Worker, WorkerBuilder, WorkerHandle, WorkerReport};
pub use workflow::*;
