//! The record a call leaves in the audit: whether it leaves one, what it says, and that it is durable before the answer leaves.

use crate::access::principal::{Principal, PrincipalKind};
use crate::call::Call;
use crate::gate::Gate;
use crate::methods::Audit;
use coretex_domain::{Reason, Refusal};
use coretex_engine::audit::Record;
use futures::future::BoxFuture;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// A record that is not durable by then counts as one that cannot be written.
const WRITTEN_WITHIN: Duration = Duration::from_secs(10);
/// Bytes of a path that is no method of ours.
const PATH_LEN_MAX: usize = 128;

/// A call that has not ended yet, as the audit will see it.
pub(super) struct Trail {
    pub(super) gate: Arc<Gate>,
    pub(super) method: usize,
    pub(super) path: String,
    pub(super) request_id: Arc<str>,
    pub(super) peer: Option<IpAddr>,
    /// Who calls, once it is known.
    pub(super) principal: Option<Arc<Principal>>,
    /// Why a credential was refused, which the caller is not told.
    pub(super) why: String,
    /// The call, once it is let in.
    pub(super) call: Option<Arc<Call>>,
}

/// How a call went.
pub(super) struct Outcome {
    pub(super) code: Code,
    pub(super) reason: String,
}

/// What a call leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaves {
    Nothing,
    One,
    /// One, up to a number in a minute.
    Limited,
}

fn leaves(audit: Audit, outcome: &Outcome, is_known: bool, is_let_in: bool) -> Leaves {
    let code = outcome.code;
    // A namespace that is not theirs is told as one that is not there.
    let is_hidden = !is_let_in && outcome.reason == Reason::NamespaceNotFound.name();
    let is_denied = is_hidden || matches!(code, Code::Unauthenticated | Code::PermissionDenied);
    // Where nobody was let in, it is for the credential: also when an address has to wait.
    match (is_known, audit) {
        (false, _) if code == Code::Cancelled => Leaves::Nothing,
        (false, _) => Leaves::Limited,
        (true, _) if is_denied => Leaves::One,
        (true, Audit::Never) => Leaves::Nothing,
        // Who calls too often must not fill the store by it.
        (true, Audit::Record) if code == Code::ResourceExhausted => Leaves::Limited,
        (true, Audit::Record) => Leaves::One,
        (true, Audit::History) if is_told_by_history(code) => Leaves::Nothing,
        (true, Audit::History) => Leaves::Limited,
    }
}

/// Done, or refused for load, reachability or time, which says nothing about the caller.
fn is_told_by_history(code: Code) -> bool {
    match code {
        Code::Ok
        | Code::Cancelled
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::Unavailable => true,
        Code::Unknown
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss
        | Code::Unauthenticated => false,
    }
}

/// The name of a code in the contract.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

fn kind(principal: &Principal) -> &'static str {
    match principal.kind {
        PrincipalKind::Anonymous => "anonymous",
        PrincipalKind::Key => "key",
        PrincipalKind::Token => "token",
        PrincipalKind::Certificate => "certificate",
    }
}

// === impl Outcome ===

impl Outcome {
    pub(super) fn ok() -> Outcome {
        Outcome { code: Code::Ok, reason: String::new() }
    }

    pub(super) fn of(status: &Status) -> Outcome {
        let info = status.get_details_error_info();
        Outcome { code: status.code(), reason: info.map(|info| info.reason).unwrap_or_default() }
    }

    /// The caller went away.
    pub(super) fn abandoned() -> Outcome {
        Outcome { code: Code::Cancelled, reason: Reason::CallCancelled.name().into() }
    }
}

// === impl Trail ===

impl Trail {
    fn audit(&self) -> Audit {
        self.gate.metrics.methods.known(self.method).map_or(Audit::Never, |method| method.audit)
    }

    /// Refuses what must leave a record while none can be written. Nothing was done then.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        if self.audit() != Audit::Record || self.gate.engine.is_audit_sound() {
            return Ok(());
        }
        let message = "the audit record of this call cannot be written; nothing was done";
        Err(Refusal::new(Reason::StoreUnavailable, message))
    }

    /// Begins to write what the call leaves, if it leaves something. It is written whether or not somebody waits for it.
    pub(super) fn write(self, outcome: Outcome) -> Option<BoxFuture<'static, Result<(), Refusal>>> {
        match leaves(self.audit(), &outcome, self.principal.is_some(), self.call.is_some()) {
            Leaves::Nothing => return None,
            Leaves::Limited if !self.take_place() => return None,
            Leaves::One | Leaves::Limited => {}
        }
        let (engine, record) = (self.gate.engine.clone(), self.record(outcome));
        let writing = tokio::spawn(async move { engine.audit(record).await });
        Some(Box::pin(async move {
            let late = || Refusal::new(Reason::StoreUnavailable, "the audit record was not written in time");
            match tokio::time::timeout(WRITTEN_WITHIN, writing).await {
                Ok(Ok(written)) => written,
                Ok(Err(_)) | Err(_) => Err(late()),
            }
            .inspect_err(|refusal| tracing::error!(%refusal, "an audit record was not written"))
        }))
    }

    fn take_place(&self) -> bool {
        let actor = self.principal.as_ref().map_or_else(|| "".into(), |one| one.name.clone());
        let address = self.peer.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        self.gate.floods.take((address, actor), self.gate.engine.env().clock.now().mono)
    }

    fn record(self, outcome: Outcome) -> Record {
        let method = match self.gate.metrics.methods.known(self.method) {
            Some(method) => {
                let service = method.service.rsplit('.').next().unwrap_or_default();
                format!("{service}/{}", method.name)
            }
            None => self.path.trim_start_matches('/').chars().take(PATH_LEN_MAX).collect(),
        };
        let principal = self.principal.as_deref();
        let call = self.call.as_deref();
        let is_unknown = outcome.code == Code::Cancelled && call.is_some();
        Record {
            actor: principal.map_or_else(|| "".into(), |one| one.name.clone()),
            actor_kind: principal.map_or("anonymous", kind).into(),
            namespace: call.map_or_else(|| "".into(), |call| call.namespace.as_str().into()),
            method: method.into(),
            subject: call.and_then(|call| call.subject_set()).unwrap_or_default().into(),
            outcome: name(outcome.code).into(),
            reason: outcome.reason.into(),
            request_id: self.request_id,
            address: self.peer.map(|peer| peer.to_string()).unwrap_or_default().into(),
            detail: match is_unknown {
                true => "the caller went away; it may have been done".into(),
                false => self.why.as_str().into(),
            },
            ..Record::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denials_are_always_recorded_and_reads_and_submits_only_then() {
        let leaves = |audit, code, is_known| {
            let outcome = Outcome { code, reason: String::new() };
            super::leaves(audit, &outcome, is_known, true)
        };
        let hidden = Outcome { code: Code::NotFound, reason: "NAMESPACE_NOT_FOUND".into() };
        assert_eq!(super::leaves(Audit::Never, &hidden, true, false), Leaves::One);
        assert_eq!(super::leaves(Audit::Never, &hidden, true, true), Leaves::Nothing);
        for audit in [Audit::Never, Audit::Record, Audit::History] {
            for code in [Code::Unauthenticated, Code::PermissionDenied] {
                assert_eq!(leaves(audit, code, true), Leaves::One, "{audit:?}");
                assert_eq!(leaves(audit, code, false), Leaves::Limited, "{audit:?}");
            }
        }
        assert_eq!(leaves(Audit::Never, Code::NotFound, true), Leaves::Nothing);
        assert_eq!(leaves(Audit::Record, Code::Ok, true), Leaves::One);
        assert_eq!(leaves(Audit::Record, Code::Unavailable, true), Leaves::One);
        assert_eq!(leaves(Audit::History, Code::Ok, true), Leaves::Nothing);
        assert_eq!(leaves(Audit::History, Code::ResourceExhausted, true), Leaves::Nothing);
        assert_eq!(leaves(Audit::History, Code::InvalidArgument, true), Leaves::Limited);
    }
}
