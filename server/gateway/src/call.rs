//! One call: who makes it, in which namespace, and until when. Made at the door, found by every handler.

use crate::access::principal::Principal;
use crate::connection::InUse;
use crate::status;
use coretex_domain::access::Roles;
use coretex_domain::{Namespace, Refusal, Span};
use coretex_engine::api::Caller;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tonic::{Request, Response, Status};

/// What a handler answers.
pub(crate) type Answer<T> = Result<Response<T>, Status>;

/// Bytes of a subject that the audit keeps.
const SUBJECT_LEN_MAX: usize = 256;

#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) request_id: Arc<str>,
    pub(crate) namespace: Namespace,
    pub(crate) principal: Arc<Principal>,
    pub(crate) deadline: Option<Instant>,
    /// Trace id of the call.
    pub(crate) trace: Option<Arc<str>>,
    /// The connection it came on, kept in use for as long as the call lives.
    pub(crate) link: Option<InUse>,
    /// What it is done to, for the audit.
    pub(crate) subject: OnceLock<Box<str>>,
}

impl Call {
    /// The call a request belongs to. The door puts it there; without it nobody is known and nothing is bounded.
    pub(crate) fn of<T>(request: &Request<T>) -> Arc<Call> {
        request.extensions().get::<Arc<Call>>().cloned().unwrap_or_else(|| Arc::new(Call::unknown()))
    }

    fn unknown() -> Call {
        Call {
            request_id: "".into(),
            namespace: Namespace::new("default"),
            principal: Arc::new(Principal::anonymous(Roles::NONE)),
            deadline: None,
            trace: None,
            link: None,
            subject: OnceLock::new(),
        }
    }

    /// Says what the call is done to, for the audit: once, as the caller named it, cut to what is kept.
    pub(crate) fn subject(&self, what: &str) {
        let end = what.floor_char_boundary(SUBJECT_LEN_MAX);
        let _ = self.subject.set(what.get(..end).unwrap_or_default().into());
    }

    pub(crate) fn subject_set(&self) -> Option<&str> {
        self.subject.get().map(AsRef::as_ref)
    }

    pub(crate) fn caller(&self) -> Caller {
        Caller { namespace: self.namespace.clone(), actor: self.actor() }
    }

    /// Name of the identity; empty when nobody was asked. A session belongs to it.
    pub(crate) fn actor(&self) -> Arc<str> {
        self.principal.name.clone()
    }

    pub(crate) fn may_use(&self, namespace: &str) -> bool {
        self.principal.may_use(namespace)
    }

    /// A refusal as the status of this call.
    pub(crate) fn refuse(&self, refusal: &Refusal) -> Status {
        status::of(refusal, &self.request_id)
    }

    pub(crate) fn answer<T>(&self, result: Result<T, Refusal>) -> Answer<T> {
        result.map(Response::new).map_err(|refusal| self.refuse(&refusal))
    }

    /// A wait, cut so that its answer is back before the caller's own deadline.
    pub(crate) fn within_deadline(&self, wait: Span) -> Span {
        let Some(deadline) = self.deadline else { return wait };
        let left = deadline.saturating_duration_since(Instant::now());
        let margin = (left / 10).min(Duration::from_millis(100));
        let usable = left.saturating_sub(margin).as_millis();
        wait.min(Span(u64::try_from(usable).unwrap_or(u64::MAX)))
    }
}
