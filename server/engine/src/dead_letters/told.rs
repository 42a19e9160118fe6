//! What a redrive is asked, and what it tells.

use super::source::Which;
use crate::api::Accepted;
use coretex_domain::{JobId, Refusal};

/// What is to be retried, and how.
#[derive(Clone)]
pub struct Redrive {
    pub which: Which,
    pub request_id: String,
    /// Per second; 0 means no limit.
    pub rate: u32,
    pub stop_on_repeat: bool,
    pub canary: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedrivePhase {
    Retrying,
    Waiting,
    Over,
}

/// How a redrive ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedriveEnd {
    Done,
    /// This job failed with the fingerprint of its dead letter.
    Repeated(JobId),
    /// This job of an early stage did not succeed.
    CanaryFailed(JobId),
}

/// Totals since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RedriveCounts {
    pub retried: u64,
    pub existing: u64,
    pub skipped: u64,
    pub refused: u64,
    pub succeeded: u64,
    pub failed: u64,
    pub repeated: u64,
}

/// How far a redrive is.
#[derive(Clone, Debug)]
pub struct RedriveStep {
    pub phase: RedrivePhase,
    pub stage: u32,
    pub counts: RedriveCounts,
    /// Dead letters and their jobs since the step before.
    pub results: Vec<(JobId, Accepted)>,
    pub first_error: Option<Refusal>,
    /// Set on the last step.
    pub end: Option<RedriveEnd>,
}
