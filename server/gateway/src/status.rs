//! The only place that makes a gRPC status. In: a refusal, or what the transport has to say. Out: a status with typed
//! details. INTERNAL and UNKNOWN never leave: a defect is UNAVAILABLE `SERVER_FAULT`.

use coretex_contract::ERROR_DOMAIN;
use coretex_domain::refusal::Class;
use coretex_domain::{Reason, Refusal, Span, Violation};
use prost::Message;
use std::collections::HashMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// Bytes of violations one status carries: clients accept headers of 8 KiB.
const VIOLATIONS_LEN_MAX: usize = 2_048;
const MESSAGE_LEN_MAX: usize = 1_024;
/// A hint for refusals that pass by themselves and name no time.
const RETRY_DEFAULT: Span = Span(500);

/// The status of a refusal.
pub(crate) fn of(refusal: &Refusal, request_id: &str) -> Status {
    if !coretex_secrets::is_on() {
        return with_code(code(refusal.reason), refusal, request_id);
    }
    // What a refusal quotes may have a secret in it.
    let mut plain = refusal.clone();
    plain.message = coretex_secrets::text(&plain.message).into_owned();
    for (_, value) in &mut plain.facts {
        *value = coretex_secrets::text(value).into_owned();
    }
    for violation in &mut plain.violations {
        violation.field = coretex_secrets::text(&violation.field).into_owned();
        violation.message = coretex_secrets::text(&violation.message).into_owned();
    }
    with_code(code(plain.reason), &plain, request_id)
}

/// The status of one item of a batch, details included.
pub(crate) fn item(refusal: &Refusal, request_id: &str) -> coretex_contract::Status {
    let status = of(refusal, request_id);
    coretex_contract::Status::decode(status.details()).unwrap_or_else(|_| coretex_contract::Status {
        code: status.code().into(),
        message: status.message().to_owned(),
        details: Vec::new(),
    })
}

/// The caller's own deadline passed. A change may have been made all the same.
pub(crate) fn deadline_passed(mutates: bool, request_id: &str) -> Status {
    let refusal = if mutates {
        let message =
            "the deadline passed; the change may or may not have been made: repeat it with the same key";
        Refusal::new(Reason::OutcomeUnknown, message)
    } else {
        Refusal::new(Reason::DeadlineExceeded, "the deadline passed before the answer was there")
    };
    with_code(Code::DeadlineExceeded, &refusal, request_id)
}

/// A change whose audit record could not be written.
pub(crate) fn unrecorded(request_id: &str) -> Status {
    let message = "the audit record of this change could not be written; repeat it with the same key to learn whether it was made";
    of(&Refusal::new(Reason::OutcomeUnknown, message), request_id)
}

/// A defect of ours.
pub(crate) fn fault(request_id: &str) -> Status {
    let message = "the server has a defect here; it is logged with the request id, and repeating with the same keys does no harm";
    of(&Refusal::new(Reason::ServerFault, message), request_id)
}

pub(crate) fn code(reason: Reason) -> Code {
    match reason.class() {
        Class::InvalidArgument => Code::InvalidArgument,
        Class::NotFound => Code::NotFound,
        Class::AlreadyExists => Code::AlreadyExists,
        Class::FailedPrecondition | Class::Recorded => Code::FailedPrecondition,
        Class::PermissionDenied => Code::PermissionDenied,
        Class::Unauthenticated => Code::Unauthenticated,
        Class::ResourceExhausted => Code::ResourceExhausted,
        Class::OutOfRange => Code::OutOfRange,
        Class::Unavailable => Code::Unavailable,
        Class::DataLoss => Code::DataLoss,
        Class::Unimplemented => Code::Unimplemented,
        Class::Aborted => Code::Aborted,
        Class::Cancelled => Code::Cancelled,
        Class::DeadlineExceeded => Code::DeadlineExceeded,
    }
}

fn with_code(code: Code, refusal: &Refusal, request_id: &str) -> Status {
    let message = cut(&refusal.message, MESSAGE_LEN_MAX);
    let reason = refusal.reason.name();
    let mut metadata: HashMap<String, String> =
        refusal.facts.iter().map(|(name, value)| ((*name).to_owned(), cut(value, MESSAGE_LEN_MAX))).collect();
    if matches!(refusal.reason, Reason::MessageTooLarge | Reason::FrameTooLarge | Reason::PayloadTooLarge) {
        metadata.insert("retryable".to_owned(), "false".to_owned());
    }
    let mut details = ErrorDetails::new();
    if !request_id.is_empty() {
        metadata.insert("request_id".to_owned(), request_id.to_owned());
        details.set_request_info(request_id, "");
    }
    details.set_error_info(reason, ERROR_DOMAIN, metadata);
    add_violations(&mut details, &refusal.violations);
    if let Some(after) = retry_after(refusal) {
        details.set_retry_info(Some(after.as_duration()));
    }
    let subject = || refusal.facts.first().map_or_else(String::new, |(_, value)| cut(value, 256));
    match refusal.reason.class() {
        Class::FailedPrecondition => {
            details.add_precondition_failure_violation(reason, subject(), &message);
        }
        Class::ResourceExhausted => {
            details.add_quota_failure_violation(subject(), &message);
        }
        Class::NotFound | Class::AlreadyExists => {
            if let Some(kind) = resource(refusal.reason) {
                details.set_resource_info(kind, subject(), "", &message);
            }
        }
        Class::InvalidArgument
        | Class::PermissionDenied
        | Class::Unauthenticated
        | Class::OutOfRange
        | Class::Unavailable
        | Class::DataLoss
        | Class::Unimplemented
        | Class::Aborted
        | Class::Cancelled
        | Class::DeadlineExceeded
        | Class::Recorded => {}
    }
    Status::with_error_details(code, message, details)
}

fn add_violations(details: &mut ErrorDetails, violations: &[Violation]) {
    let mut room = VIOLATIONS_LEN_MAX;
    for (n, violation) in violations.iter().enumerate() {
        let message = cut(&violation.message, 512);
        let size = violation.field.len() + message.len();
        if size > room {
            let left = violations.len() - n;
            details.add_bad_request_violation("…", format!("and {left} more violations"));
            return;
        }
        room -= size;
        details.add_bad_request_violation(&violation.field, message);
    }
}

fn retry_after(refusal: &Refusal) -> Option<Span> {
    let passes = match refusal.reason.class() {
        Class::Unavailable => refusal.reason != Reason::BackupFailed,
        Class::ResourceExhausted => matches!(
            refusal.reason,
            Reason::Overloaded
                | Reason::RateLimited
                | Reason::StoreFull
                | Reason::DiskFull
                | Reason::TooManyWatches
        ),
        _ => false,
    };
    refusal.retry_after.or(passes.then_some(RETRY_DEFAULT))
}

fn resource(reason: Reason) -> Option<&'static str> {
    match reason {
        Reason::JobNotFound | Reason::JobExists | Reason::IdempotencyConflict => Some("coretex.v1.Job"),
        Reason::DeadLetterNotFound => Some("coretex.v1.DeadLetter"),
        Reason::TopicNotFound => Some("coretex.v1.Topic"),
        Reason::WorkerNotFound | Reason::WorkerIdTaken => Some("coretex.v1.Worker"),
        Reason::SessionNotFound => Some("session"),
        Reason::ScheduleNotFound => Some("coretex.v1.Schedule"),
        Reason::NodeNotFound => Some("coretex.v1.Node"),
        Reason::NamespaceNotFound | Reason::NamespaceExists => Some("namespace"),
        _ => None,
    }
}

fn cut(text: &str, len_max: usize) -> String {
    if text.len() <= len_max {
        return text.to_owned();
    }
    let mut end = len_max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

// === what the transport says ===

/// A refusal in the place of a status the transport made by itself; `None` for a status of ours.
pub(crate) fn mend(code: Code, message: &str) -> Option<Refusal> {
    let too_large = |why: String| Refusal::new(Reason::MessageTooLarge, why);
    match code {
        Code::OutOfRange => sizes(message).map(|(found, limit)| {
            too_large(format!(
                "the message has {found} bytes, the limit is {limit}; repeating it will not help"
            ))
            .fact("size", found)
            .fact("limit", limit)
        }),
        Code::ResourceExhausted if message.contains("exceeded while decompressing") => {
            let limit = numbers(message).next().unwrap_or_default();
            Some(
                too_large(format!("the decompressed size exceeds the limit of {limit} bytes"))
                    .fact("limit", limit),
            )
        }
        Code::Unimplemented if message.contains("compressed with") => {
            let message = format!("{message}; this server reads gzip and zstd");
            Some(Refusal::new(Reason::UnsupportedEncoding, message))
        }
        Code::Unimplemented => Some(Refusal::new(Reason::UnknownMethod, "there is no such method")),
        Code::Internal if is_malformed(message) => {
            Some(Refusal::new(Reason::MalformedRequest, format!("malformed request: {message}")))
        }
        Code::Internal | Code::Unknown => {
            Some(Refusal::new(Reason::ServerFault, "the server has a defect here"))
        }
        _ => None,
    }
}

/// A status of an incoming stream: what its sender did wrong, or that it went away.
pub(crate) fn inbound(status: &Status) -> Refusal {
    match mend(status.code(), status.message()) {
        Some(refusal) if refusal.reason != Reason::ServerFault => refusal,
        _ => Refusal::new(Reason::CallCancelled, "the stream was broken off"),
    }
}

fn is_malformed(message: &str) -> bool {
    [
        "failed to decode",
        "Missing request message",
        "compression flag",
        "compressed-flag",
        "Error decompressing",
        "Unexpected EOF",
        "more than one request message",
    ]
    .iter()
    .any(|part| message.contains(part))
}

fn sizes(message: &str) -> Option<(String, String)> {
    let mut found = numbers(message);
    message.contains("message length too large").then(|| found.next().zip(found.next())).flatten()
}

fn numbers(message: &str) -> impl Iterator<Item = String> {
    message.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use coretex_contract::v1::ErrorReason;

    #[test]
    fn reasons_of_domain_and_contract_are_the_same() {
        let ours: Vec<&str> = Reason::ALL.iter().map(|r| r.name()).collect();
        for name in &ours {
            assert!(ErrorReason::from_short_name(name).is_some(), "{name} is not in the contract");
        }
        let theirs: Vec<&str> =
            (1..400).filter_map(|n| ErrorReason::try_from(n).ok()).map(|r| r.short_name()).collect();
        for name in &theirs {
            assert!(ours.contains(name), "{name} is not in the domain");
        }
        assert_eq!(ours.len(), theirs.len());
    }

    #[test]
    fn every_refusal_carries_its_reason_and_fits_a_header() {
        for reason in Reason::ALL {
            let violations = vec![Violation { field: "f".repeat(100), message: "m".repeat(600) }; 100];
            let refusal = Refusal { violations, ..Refusal::new(*reason, "x".repeat(5_000)) };
            let status = of(&refusal, "req-1");
            let details = status.get_error_details();
            let info = details.error_info().expect("an ErrorInfo");
            assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason.name(), "coretex"));
            assert_eq!(info.metadata.get("request_id").map(String::as_str), Some("req-1"));
            assert!(!matches!(status.code(), Code::Ok | Code::Internal | Code::Unknown), "{}", reason.name());
            assert!(status.details().len() < 6_000, "{}", status.details().len());
        }
    }

    #[test]
    fn details_fit_the_class() {
        let details = |refusal: Refusal| of(&refusal, "").get_error_details();
        assert_eq!(
            details(Refusal::field("a", "b")).bad_request().map(|b| b.field_violations.len()),
            Some(1)
        );
        let busy = Refusal::new(Reason::Overloaded, "full").retry_after(Span::secs(2));
        assert_eq!(
            details(busy).retry_info().and_then(|r| r.retry_delay),
            Some(std::time::Duration::from_secs(2))
        );
        let missing = details(Refusal::job_not_found("job_x"));
        assert_eq!(missing.resource_info().map(|r| r.resource_name.as_str()), Some("job_x"));
        let stale = details(Refusal::new(Reason::StaleLease, "attempt 2 is open"));
        assert!(stale.precondition_failure().is_some());
        assert!(details(Refusal::new(Reason::MessageTooLarge, "x")).retry_info().is_none());
    }

    #[test]
    fn a_late_change_may_have_been_made() {
        for (mutates, reason) in [(true, "OUTCOME_UNKNOWN"), (false, "DEADLINE_EXCEEDED")] {
            let status = deadline_passed(mutates, "r");
            assert_eq!(status.code(), Code::DeadlineExceeded);
            assert_eq!(status.get_error_details().error_info().map(|i| i.reason.as_str()), Some(reason));
        }
    }

    #[test]
    fn statuses_of_the_transport_are_mended() {
        for (code, message, reason) in [
            (
                Code::OutOfRange,
                "Error, decoded message length too large: found 5242880 bytes, the limit is: 4194304 bytes",
                Some(Reason::MessageTooLarge),
            ),
            (
                Code::ResourceExhausted,
                "Error decompressing: size limit, of 4194304 bytes, exceeded while decompressing message",
                Some(Reason::MessageTooLarge),
            ),
            (
                Code::Internal,
                "failed to decode Protobuf message: invalid wire type",
                Some(Reason::MalformedRequest),
            ),
            (Code::Internal, "Missing request message.", Some(Reason::MalformedRequest)),
            (Code::Internal, "anything else", Some(Reason::ServerFault)),
            (Code::Unknown, "", Some(Reason::ServerFault)),
            (Code::Unimplemented, "", Some(Reason::UnknownMethod)),
            (
                Code::Unimplemented,
                "Content is compressed with `br` which isn't supported",
                Some(Reason::UnsupportedEncoding),
            ),
            (Code::NotFound, "", None),
        ] {
            assert_eq!(mend(code, message).map(|r| r.reason), reason, "{message}");
        }
        let refusal = mend(
            Code::OutOfRange,
            "Error, decoded message length too large: found 5 bytes, the limit is: 4 bytes",
        );
        assert!(refusal.is_some_and(|r| r.message.contains("5 bytes") && r.message.contains("limit is 4")));
    }
}
