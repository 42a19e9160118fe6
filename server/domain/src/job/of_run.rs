//! Jobs that are steps of runs: where in its run a job stands.

use super::Job;
use crate::policy::ApprovalTerms;
use crate::run::{At, RunId, RunKey};
use std::sync::Arc;

/// The place of a job in its run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfRun {
    pub at: At,
    /// The item it is done for.
    pub index: Option<u32>,
    /// It undoes what the step did.
    pub is_undo: bool,
    /// People are asked before it runs, whatever the policy says beside a denial.
    pub asks: Option<ApprovalTerms>,
    /// Handlers get the same token for all jobs with this key.
    pub token_key: Option<Arc<str>>,
}

// === impl Job: its run ===

impl Job {
    pub fn of_run(&self) -> Option<&OfRun> {
        self.rare.as_deref()?.of_run.as_deref()
    }

    /// The run whose step it is.
    pub fn run(&self) -> Option<RunKey> {
        self.of_run()?;
        Some(RunId::of_job(&self.id)?.key(&self.namespace))
    }
}
