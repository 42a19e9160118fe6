//! The one error of the client: what was refused, why, and whether to try again.

use crate::job::Job;
use crate::run::Run;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;
use tonic_types::StatusExt as _;

/// Result of a client call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call did not succeed.
///
/// Decide by [`reason`](Error::reason): reasons are stable names such as `JOB_NOT_FOUND`, and each has a page in the documentation.
/// The client has already repeated what was worth repeating; [`is_retryable`](Error::is_retryable) says whether a later try may help.
pub struct Error(Box<Parts>);

#[derive(Debug)]
struct Parts {
    code: Code,
    reason: Cow<'static, str>,
    message: String,
    violations: Vec<Violation>,
    facts: BTreeMap<String, String>,
    retry_after: Option<Duration>,
    job: Option<Job>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// One field that was refused, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// Path of the field from the request, for example `spec.priority`.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

/// Class of an error: the gRPC status codes that Coretex uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Code {
    /// The caller went away.
    Cancelled,
    /// The request, an option or a payload is not valid.
    InvalidArgument,
    /// Time was up.
    DeadlineExceeded,
    /// There is no such thing.
    NotFound,
    /// It is there already, and different.
    AlreadyExists,
    /// The credential does not allow it.
    PermissionDenied,
    /// A limit is reached.
    ResourceExhausted,
    /// It cannot be done as things stand.
    FailedPrecondition,
    /// Another took over.
    Aborted,
    /// Beyond what is kept.
    OutOfRange,
    /// The server does not offer it.
    Unimplemented,
    /// Not now.
    Unavailable,
    /// Stored data is damaged.
    DataLoss,
    /// No valid credential.
    Unauthenticated,
    /// None of the above.
    Unknown,
}

/// Reasons given by the SDK itself. All others come from the server.
pub mod reason {
    /// UNAVAILABLE: the server could not be reached.
    pub const UNREACHABLE: &str = "UNREACHABLE";
    /// UNAVAILABLE: the connection broke during the call. A change may or may not have been made.
    pub const CONNECTION_LOST: &str = "CONNECTION_LOST";
    /// INVALID_ARGUMENT: an option of a builder cannot be used.
    pub const INVALID_OPTION: &str = "INVALID_OPTION";
    /// INVALID_ARGUMENT: a value could not be written as a payload.
    pub const PAYLOAD_ENCODE: &str = "PAYLOAD_ENCODE";
    /// INVALID_ARGUMENT: a payload could not be read as the type asked for.
    pub const PAYLOAD_DECODE: &str = "PAYLOAD_DECODE";
    /// FAILED_PRECONDITION: the job ended, but not in success. See [`Error::job`](super::Error::job).
    pub const JOB_NOT_SUCCEEDED: &str = "JOB_NOT_SUCCEEDED";
    /// FAILED_PRECONDITION: the run is over, but not in success. The facts `run_id` and `state` say which and how.
    pub const RUN_NOT_SUCCEEDED: &str = "RUN_NOT_SUCCEEDED";
    /// UNKNOWN: the server sent something this version of the SDK does not understand.
    pub const UNEXPECTED_REPLY: &str = "UNEXPECTED_REPLY";
    /// CANCELLED: the stream was closed.
    pub const STREAM_CLOSED: &str = "STREAM_CLOSED";
    /// DEADLINE_EXCEEDED: the deadline of the call passed.
    pub const DEADLINE_EXCEEDED: &str = "DEADLINE_EXCEEDED";
    /// ABORTED: a newer session of the same worker id took over.
    pub const REPLACED: &str = "REPLACED";
}

// === impl Error ===

impl Error {
    pub(crate) fn new(code: Code, reason: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            code,
            reason: reason.into(),
            message: message.into(),
            violations: Vec::new(),
            facts: BTreeMap::new(),
            retry_after: None,
            job: None,
            source: None,
        }))
    }

    pub(crate) fn option(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, reason::INVALID_OPTION, message)
    }

    pub(crate) fn unexpected(message: impl Into<String>) -> Self {
        Self::new(Code::Unknown, reason::UNEXPECTED_REPLY, message)
    }

    pub(crate) fn closed(message: impl Into<String>) -> Self {
        Self::new(Code::Cancelled, reason::STREAM_CLOSED, message)
    }

    pub(crate) fn not_succeeded(job: Job) -> Self {
        let why = match &job.failure {
            Some(failure) => format!(": {}: {}", failure.kind, failure.message),
            None => String::new(),
        };
        let message = format!("job {} is {}{why}", job.job_id, job.state);
        let mut error = Self::new(Code::FailedPrecondition, reason::JOB_NOT_SUCCEEDED, message);
        error.0.job = Some(job);
        error
    }

    pub(crate) fn run_not_succeeded(run: &Run) -> Self {
        let why = match &run.error {
            Some(error) if error.step_id.is_empty() => format!(": {}: {}", error.kind, error.message),
            Some(error) => format!(": step {}: {}: {}", error.step_id, error.kind, error.message),
            None => String::new(),
        };
        let message = format!("run {} is {}{why}", run.run_id, run.state);
        Self::new(Code::FailedPrecondition, reason::RUN_NOT_SUCCEEDED, message)
            .with_fact("run_id", run.run_id.clone())
            .with_fact("state", run.state.as_str())
    }

    pub(crate) fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    pub(crate) fn with_fact(mut self, name: &str, value: impl Into<String>) -> Self {
        self.0.facts.insert(name.to_owned(), value.into());
        self
    }

    pub(crate) fn with_retry_after(mut self, wait: Duration) -> Self {
        self.0.retry_after = Some(wait);
        self
    }

    /// The same refusal once more, for another waiter.
    pub(crate) fn again(&self) -> Self {
        let mut error = Self::new(self.code(), self.0.reason.clone(), self.message());
        error.0.violations = self.0.violations.clone();
        error.0.facts = self.0.facts.clone();
        error.0.retry_after = self.0.retry_after;
        error
    }

    /// Its class.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// Its stable name, for example `IDEMPOTENCY_CONFLICT`. Those of the SDK itself are in [`reason`]. Empty when the server gave none.
    pub fn reason(&self) -> &str {
        &self.0.reason
    }

    /// What happened, in words.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Every field that was refused.
    pub fn violations(&self) -> &[Violation] {
        &self.0.violations
    }

    /// A fact that came with the error, for example `oldest_token`.
    pub fn fact(&self, name: &str) -> Option<&str> {
        self.0.facts.get(name).map(String::as_str)
    }

    /// How long the server asks to wait before another try.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The job, when it ended in another way than the call wanted.
    pub fn job(&self) -> Option<&Job> {
        self.0.job.as_ref()
    }

    /// True when the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        self.0.code == Code::Unavailable || self.0.retry_after.is_some()
    }

    /// True when a change may or may not have been made. Repeat with the same keys to learn which.
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(self.reason(), "OUTCOME_UNKNOWN" | reason::CONNECTION_LOST | reason::DEADLINE_EXCEEDED)
    }

    /// True if a handler was told no: another attempt would be told the same.
    pub(crate) fn is_final_no(&self) -> bool {
        matches!(self.reason(), "POLICY_DENIED" | "APPROVAL_REQUIRED" | "BUDGET_EXCEEDED" | "SECRET_REFUSED")
    }

    /// What the client repeats by itself: the rest of what may be retried is for the caller to decide.
    pub(crate) fn is_passing(&self) -> bool {
        self.0.code == Code::Unavailable || matches!(self.reason(), "OVERLOADED" | "RATE_LIMITED")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())?;
        if !self.reason().is_empty() {
            write!(f, " ({})", self.reason())?;
        }
        for violation in self.violations() {
            write!(f, "; {}: {}", violation.field, violation.message)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { code, reason, message, violations, .. } = &*self.0;
        let mut out = f.debug_struct("Error");
        out.field("code", code).field("reason", reason).field("message", message);
        if !violations.is_empty() {
            out.field("violations", violations);
        }
        out.finish_non_exhaustive()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        let details = status.get_error_details();
        let Some(info) = details.error_info() else { return of_transport(status) };
        let mut error = Self::new(Code::from(status.code()), info.reason.clone(), status.message());
        error.0.facts = info.metadata.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        error.0.retry_after = details.retry_info().and_then(|retry| retry.retry_delay);
        if let Some(bad) = details.bad_request() {
            let violations = bad.field_violations.iter();
            error.0.violations = violations
                .map(|v| Violation { field: v.field.clone(), message: v.description.clone() })
                .collect();
        }
        error
    }
}

/// Coretex names a reason with every refusal: what has none comes from the transport, or from something in between.
fn of_transport(status: tonic::Status) -> Error {
    let (code, reason) = match status.code() {
        tonic::Code::Cancelled if status.message() == "Timeout expired" => {
            (Code::DeadlineExceeded, reason::DEADLINE_EXCEEDED)
        }
        tonic::Code::DeadlineExceeded => (Code::DeadlineExceeded, reason::DEADLINE_EXCEEDED),
        tonic::Code::Unavailable => (Code::Unavailable, reason::UNREACHABLE),
        tonic::Code::Unknown | tonic::Code::Internal | tonic::Code::Cancelled => {
            (Code::Unavailable, reason::CONNECTION_LOST)
        }
        other => (Code::from(other), ""),
    };
    let mut message = status.message().to_owned();
    let mut cause = std::error::Error::source(&status);
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        cause = inner.source();
    }
    Error::new(code, reason, message).with_source(status)
}

// === impl Code ===

impl From<tonic::Code> for Code {
    fn from(code: tonic::Code) -> Self {
        match code {
            tonic::Code::Cancelled => Self::Cancelled,
            tonic::Code::InvalidArgument => Self::InvalidArgument,
            tonic::Code::DeadlineExceeded => Self::DeadlineExceeded,
            tonic::Code::NotFound => Self::NotFound,
            tonic::Code::AlreadyExists => Self::AlreadyExists,
            tonic::Code::PermissionDenied => Self::PermissionDenied,
            tonic::Code::ResourceExhausted => Self::ResourceExhausted,
            tonic::Code::FailedPrecondition => Self::FailedPrecondition,
            tonic::Code::Aborted => Self::Aborted,
            tonic::Code::OutOfRange => Self::OutOfRange,
            tonic::Code::Unimplemented => Self::Unimplemented,
            tonic::Code::Unavailable => Self::Unavailable,
            tonic::Code::DataLoss => Self::DataLoss,
            tonic::Code::Unauthenticated => Self::Unauthenticated,
            tonic::Code::Ok | tonic::Code::Unknown | tonic::Code::Internal => Self::Unknown,
        }
    }
}
