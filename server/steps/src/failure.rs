//! Why a step did not do what it was asked.

use serde_json::Value;
use std::fmt;
use std::time::Duration;

/// A step that failed, in words for whoever wrote it.
#[derive(Clone, Debug, PartialEq)]
pub struct StepFailure {
    /// Stable, for example `HTTP_STATUS`.
    pub kind: &'static str,
    pub message: String,
    /// Trying again may help.
    pub retryable: bool,
    /// When to try again, if somebody said so.
    pub retry_after: Option<Duration>,
    pub details: Option<Value>,
}

// === impl StepFailure ===

impl StepFailure {
    /// One that trying again does not mend.
    pub fn new(kind: &'static str, message: impl Into<String>) -> StepFailure {
        StepFailure { kind, message: message.into(), retryable: false, retry_after: None, details: None }
    }

    /// One that may be over the next time.
    pub fn passing(kind: &'static str, message: impl Into<String>) -> StepFailure {
        StepFailure { retryable: true, ..StepFailure::new(kind, message) }
    }

    pub(crate) fn with(self, details: Value) -> StepFailure {
        StepFailure { details: Some(details), ..self }
    }
}

impl fmt::Display for StepFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}

impl std::error::Error for StepFailure {}
