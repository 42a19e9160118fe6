//! How an attempt ends when it does not succeed: retried by policy, stopped, retried later, cancelled, given back.

use crate::payload::struct_of;
use crate::raw::pb;
use crate::time::span;
use std::any::Any;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

/// Failure kinds the SDK itself gives.
pub(crate) const INPUT_DECODE: &str = "INPUT_DECODE";
pub(crate) const OUTPUT_ENCODE: &str = "OUTPUT_ENCODE";
pub(crate) const PANIC: &str = "PANIC";
pub(crate) const RESULT_TOO_LARGE: &str = "RESULT_TOO_LARGE";

/// Limits of the contract; longer text is cut and marked.
const KIND_MAX: usize = 128;
const MESSAGE_MAX: usize = 16 << 10;
const DETAILS_MAX: usize = 64 << 10;
const CAUSES_MAX: usize = 8;

/// Why an attempt did not succeed, and what is to follow.
///
/// `?` on any error makes one that is retried by the job's policy. [`Terminal`] stops the job, [`RetryAfter`] says when to try again,
/// [`Cancelled`] and [`Release`] are no failures at all. All of them convert with `?` too.
pub struct HandlerError(Box<Parts>);

#[derive(Debug)]
struct Parts {
    next: Next,
    kind: String,
    message: String,
    details: Option<serde_json::Value>,
    causes: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Retry,
    Stop,
    RetryAfter(Duration),
    Cancelled,
    Released,
}

/// A failure that no retry can mend: the job fails now.
#[derive(Clone, Debug)]
pub struct Terminal {
    kind: String,
    message: String,
    details: Option<serde_json::Value>,
}

/// A failure that is worth another try, but not before a delay.
#[derive(Clone, Debug)]
pub struct RetryAfter {
    delay: Duration,
    message: String,
}

/// The handler stopped because it was told to.
#[derive(Clone, Debug, Default)]
pub struct Cancelled {
    pub(crate) reason: String,
}

/// The handler gives the job back unfinished. The attempt is not counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Release;

/// Decides about errors where they arise.
pub trait ErrorExt<T>: Sized {
    /// No retry: the job fails now.
    fn terminal(self) -> Result<T, HandlerError>;
    /// Another try, but not before this delay.
    fn retry_after(self, delay: Duration) -> Result<T, HandlerError>;
}

impl<T, E: Into<HandlerError>> ErrorExt<T> for Result<T, E> {
    fn terminal(self) -> Result<T, HandlerError> {
        self.map_err(|error| error.into().terminal())
    }

    fn retry_after(self, delay: Duration) -> Result<T, HandlerError> {
        self.map_err(|error| error.into().retry_after(delay))
    }
}

// === impl HandlerError ===

impl HandlerError {
    /// A failure of a kind of the handler's own, retried by policy. `kind` is what `non_retryable_errors` names.
    pub fn new(kind: impl Into<String>, message: impl Into<String>) -> Self {
        let (kind, message) = (kind.into(), message.into());
        Self(Box::new(Parts { next: Next::Retry, kind, message, details: None, causes: Vec::new() }))
    }

    pub(crate) fn terminal_of(kind: &str, message: impl Into<String>) -> Self {
        Self::new(kind, message).terminal()
    }

    /// The same failure, never retried.
    pub fn terminal(mut self) -> Self {
        self.0.next = Next::Stop;
        self
    }

    /// The same failure, retried not before this delay.
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.0.next = Next::RetryAfter(delay);
        self
    }

    /// The same failure under another kind.
    pub fn with_kind(mut self, kind: impl Into<String>) -> Self {
        self.0.kind = kind.into();
        self
    }

    /// Facts for programs.
    pub fn with_details(mut self, details: serde_json::Value) -> Self {
        self.0.details = Some(details);
        self
    }

    /// Its kind.
    pub fn kind(&self) -> &str {
        &self.0.kind
    }

    /// What happened, in words.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// True when the job fails with it.
    pub fn is_terminal(&self) -> bool {
        self.0.next == Next::Stop
    }

    /// True when the handler stopped because it was told to.
    pub fn is_cancelled(&self) -> bool {
        self.0.next == Next::Cancelled
    }

    pub(crate) fn next(&self) -> Next {
        self.0.next
    }

    pub(crate) fn into_pb(self) -> pb::Failure {
        let Parts { next, kind, message, details, causes } = *self.0;
        let (mode, delay) = match next {
            Next::Stop => (pb::RetryMode::NoRetry, None),
            Next::RetryAfter(delay) => (pb::RetryMode::RetryAfter, Some(span(delay))),
            Next::Retry | Next::Cancelled | Next::Released => (pb::RetryMode::Default, None),
        };
        let fits = |details: &serde_json::Value| details.to_string().len() <= DETAILS_MAX;
        let cause = causes.into_iter().rev().fold(None, |inner, message| {
            Some(Box::new(pb::Failure {
                message: cut(message, MESSAGE_MAX),
                cause: inner,
                ..Default::default()
            }))
        });
        pb::Failure {
            r#type: cut(kind, KIND_MAX),
            message: cut(message, MESSAGE_MAX),
            details: details.filter(fits).map(struct_of),
            cause,
            retry: Some(pb::RetryDirective { mode: mode.into(), delay }),
            ..Default::default()
        }
    }
}

impl<E: StdError + Send + Sync + 'static> From<E> for HandlerError {
    fn from(error: E) -> Self {
        let any: &dyn Any = &error;
        if let Some(terminal) = any.downcast_ref::<Terminal>() {
            let mut failure = Self::new(&terminal.kind, &terminal.message).terminal();
            failure.0.details.clone_from(&terminal.details);
            return failure;
        }
        if let Some(later) = any.downcast_ref::<RetryAfter>() {
            return Self::new("RetryAfter", &later.message).retry_after(later.delay);
        }
        if let Some(cancelled) = any.downcast_ref::<Cancelled>() {
            let mut stopped = Self::new("Cancelled", &cancelled.reason);
            stopped.0.next = Next::Cancelled;
            return stopped;
        }
        if any.is::<Release>() {
            let mut released = Self::new("Release", "given back by the handler");
            released.0.next = Next::Released;
            return released;
        }
        if let Some(refused) = any.downcast_ref::<crate::Error>().filter(|refused| refused.is_final_no()) {
            return Self::new(refused.reason(), refused.message()).terminal();
        }
        let mut failure = Self::new(short_name(std::any::type_name::<E>()), error.to_string());
        let mut source = error.source();
        while let Some(cause) = source.filter(|_| failure.0.causes.len() < CAUSES_MAX) {
            failure.0.causes.push(cause.to_string());
            source = cause.source();
        }
        failure
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind(), self.message())
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { next, kind, message, .. } = &*self.0;
        f.debug_struct("HandlerError")
            .field("kind", kind)
            .field("message", message)
            .field("next", next)
            .finish()
    }
}

// === impl Terminal, RetryAfter, Cancelled, Release ===

impl Terminal {
    /// What happened, in words.
    pub fn new(message: impl Into<String>) -> Self {
        Self { kind: "Terminal".into(), message: message.into(), details: None }
    }

    /// Kind of the failure.
    pub fn kind(mut self, kind: impl Into<String>) -> Self {
        self.kind = kind.into();
        self
    }

    /// Facts for programs.
    pub fn details(mut self, details: serde_json::Value) -> Self {
        self.details = Some(details);
        self
    }
}

impl RetryAfter {
    /// Not before this delay.
    pub fn new(delay: Duration) -> Self {
        Self { delay, message: format!("asked to be tried again after {delay:?}") }
    }

    /// What happened, in words.
    pub fn because(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }
}

impl Cancelled {
    /// Who or what told the handler to stop.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for Terminal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Display for RetryAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "told to stop: {}", self.reason)
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("given back")
    }
}

impl StdError for Terminal {}
impl StdError for RetryAfter {}
impl StdError for Cancelled {}
impl StdError for Release {}

/// `std::io::error::Error` → `io::Error`, `app::SmtpError` → `SmtpError`.
fn short_name(path: &str) -> String {
    let path = path.split('<').next().unwrap_or(path);
    let parts: Vec<&str> = path.split("::").filter(|part| *part != "error").collect();
    match parts.as_slice() {
        [.., module, "Error"] => format!("{module}::Error"),
        [.., name] => (*name).to_owned(),
        [] => path.to_owned(),
    }
}

/// Text of at most `most` bytes, with a mark where it was cut.
pub(crate) fn cut(mut text: String, most: usize) -> String {
    const MARK: &str = "… [cut]";
    if text.len() > most {
        let end = (0..=most.saturating_sub(MARK.len())).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
        text.push_str(MARK);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails() -> Result<(), HandlerError> {
        Err(std::io::Error::other("disk on fire"))?;
        Ok(())
    }

    #[test]
    fn any_error_is_retried_by_policy_under_its_own_name() {
        let error = fails().unwrap_err();
        assert_eq!((error.kind(), error.message(), error.next()), ("io::Error", "disk on fire", Next::Retry));
        assert_eq!(short_name("app::mail::SmtpError"), "SmtpError");
        assert_eq!(short_name("serde_json::error::Error"), "serde_json::Error");
    }

    #[test]
    fn the_decision_survives_the_question_mark() {
        let terminal: HandlerError = Terminal::new("no such address").kind("BadAddress").into();
        assert!(terminal.is_terminal());
        assert_eq!(terminal.into_pb().r#type, "BadAddress");
        let later: HandlerError = RetryAfter::new(Duration::from_secs(7)).into();
        assert_eq!(later.next(), Next::RetryAfter(Duration::from_secs(7)));
        assert!(HandlerError::from(Cancelled::default()).is_cancelled());
        assert_eq!(HandlerError::from(Release).next(), Next::Released);
        assert!(fails().terminal().unwrap_err().is_terminal());
        assert_eq!(fails().retry_after(Duration::ZERO).unwrap_err().next(), Next::RetryAfter(Duration::ZERO));
    }

    #[test]
    fn long_text_is_cut_and_marked() {
        let failure = HandlerError::new("k".repeat(500), "é".repeat(20_000)).into_pb();
        assert!(failure.r#type.len() <= KIND_MAX && failure.message.len() <= MESSAGE_MAX);
        assert!(failure.message.ends_with("[cut]"));
    }
}
