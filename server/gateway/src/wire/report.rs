//! What workers report, into the words of the engine. Updates that make no sense are rejected one by one; the rest goes on.

use super::{Faults, json, payload, time};
use coretex_contract::v1 as pb;
use coretex_domain::Reason;
use coretex_domain::job::{Failure, Usage};
use coretex_domain::limits::{self, HORIZON};
use coretex_domain::names::shown;
use coretex_domain::payload::Payload;
use coretex_domain::{Refusal, Span};
use coretex_engine::api::{Directive, LeaseName, Update, UpdateKind};
use std::sync::Arc;

/// Causes of a failure that are kept.
const CAUSES_MAX: usize = 8;
/// Bytes of a stack trace that are kept.
const STACK_LEN_MAX: usize = 64 << 10;

/// A report, split into what goes on and what does not.
#[derive(Default)]
pub(crate) struct Read {
    pub(crate) updates: Vec<Update>,
    /// Index in the report of each update, when it is not its own.
    pub(crate) indexes: Option<Vec<u32>>,
    pub(crate) rejected: Vec<pb::RejectedUpdate>,
}

/// Reads the updates of one report. With `by_token` every lease is named by its token.
pub(crate) fn read(
    updates: Vec<pb::JobUpdate>,
    seq: u64,
    payload_max: usize,
    by_token: bool,
) -> Result<Read, Refusal> {
    if updates.len() > limits::REPORT_BATCH_MAX {
        let message =
            format!("updates: at most {} in one report, got {}", limits::REPORT_BATCH_MAX, updates.len());
        return Err(Refusal::new(Reason::BatchTooLarge, message));
    }
    let mut read = Read { updates: Vec::with_capacity(updates.len()), ..Read::default() };
    for (index, update) in (0u32..).zip(updates) {
        let before = read.updates.len();
        if let Err((code, message)) = one(update, payload_max, by_token, &mut read.updates) {
            read.rejected.push(pb::RejectedUpdate { seq, index, code: code.into(), message });
        }
        note(&mut read, before, index);
    }
    Ok(read)
}

/// Remembers the index of updates from the first one on that does not keep its own.
fn note(read: &mut Read, before: usize, index: u32) {
    let count = read.updates.len() - before;
    if read.indexes.is_none() {
        if count == 1 && before == index as usize {
            return;
        }
        read.indexes = Some((0..u32::try_from(before).unwrap_or(u32::MAX)).collect());
    }
    if let Some(indexes) = &mut read.indexes {
        indexes.extend(std::iter::repeat_n(index, count));
    }
}

type Rejected = (pb::UpdateRejection, String);

fn one(
    mut update: pb::JobUpdate,
    payload_max: usize,
    by_token: bool,
    out: &mut Vec<Update>,
) -> Result<(), Rejected> {
    let lease = lease(&update, by_token)?;
    let before = out.len();
    let usage = update.usage.take().map(|usage| read_usage(&usage)).transpose()?;
    let read = read_kind(lease, update, payload_max, out);
    // What was used is said once, with the first of the updates that one update became.
    if let Some(first) = out.get_mut(before) {
        first.usage = usage.map(Box::new);
    }
    read
}

fn read_kind(
    lease: LeaseName,
    update: pb::JobUpdate,
    payload_max: usize,
    out: &mut Vec<Update>,
) -> Result<(), Rejected> {
    let named = pb::JobUpdateKind::try_from(update.kind).unwrap_or(pb::JobUpdateKind::Unspecified);
    let kind = match named {
        pb::JobUpdateKind::Unspecified => {
            return Err(invalid(format!("kind: required, got {}", update.kind)));
        }
        pb::JobUpdateKind::Started => UpdateKind::Started,
        pb::JobUpdateKind::Cancelled => UpdateKind::Cancelled,
        pb::JobUpdateKind::Progress | pb::JobUpdateKind::Checkpoint => {
            return progress(lease, update.progress, payload_max, out);
        }
        pb::JobUpdateKind::Succeeded => match content("result", update.result, payload_max) {
            Ok(result) => UpdateKind::Succeeded(result),
            Err((pb::UpdateRejection::TooLarge, message)) => {
                let failure = Failure {
                    kind: Reason::ResultTooLarge.name().into(),
                    message: message.as_str().into(),
                    retryable: true,
                    details: Payload::empty(),
                    stack: "".into(),
                };
                out.push(failed(lease, failure, Directive::Default));
                return Err((pb::UpdateRejection::TooLarge, message));
            }
            Err(other) => return Err(other),
        },
        pb::JobUpdateKind::Failed => {
            let (failure, directive) = read_failure(update.failure.unwrap_or_default())?;
            out.push(failed(lease, failure, directive));
            return Ok(());
        }
        pb::JobUpdateKind::Released => {
            let checkpoint = update.progress.and_then(|p| p.checkpoint);
            let checkpoint =
                checkpoint.map(|c| content("progress.checkpoint", Some(c), payload_max)).transpose()?;
            UpdateKind::Released { checkpoint }
        }
    };
    out.push(Update::new(lease, kind));
    Ok(())
}

fn read_usage(used: &pb::Usage) -> Result<Usage, Rejected> {
    if used.model.len() > limits::MODEL_NAME_LEN_MAX {
        let most = limits::MODEL_NAME_LEN_MAX;
        return Err(invalid(format!("usage.model: must be at most {most} bytes, got {}", used.model.len())));
    }
    Ok(Usage {
        cpu_ms: used.cpu_ms,
        peak_rss: used.peak_rss,
        tokens_in: used.tokens_in,
        tokens_out: used.tokens_out,
        cost_micros: used.cost_micros,
        tool_calls: used.tool_calls,
        model: used.model.as_str().into(),
    })
}

fn failed(lease: LeaseName, failure: Failure, retry: Directive) -> Update {
    Update::new(lease, UpdateKind::Failed { failure: Box::new(failure), retry })
}

fn lease(update: &pb::JobUpdate, by_token: bool) -> Result<LeaseName, Rejected> {
    if update.lease_id != 0 && !by_token {
        return Ok(LeaseName::Id(update.lease_id));
    }
    if update.lease_token.is_empty() {
        let what = if by_token { "lease_token: required here" } else { "lease_id or lease_token: required" };
        return Err(invalid(what));
    }
    // Tokens are short; a copy keeps the frame from being held.
    Ok(LeaseName::Token(bytes::Bytes::copy_from_slice(&update.lease_token)))
}

fn invalid(message: impl Into<String>) -> Rejected {
    (pb::UpdateRejection::Invalid, message.into())
}

fn content(field: &str, given: Option<pb::Payload>, payload_max: usize) -> Result<Payload, Rejected> {
    let mut faults = Faults::default();
    let payload = payload::read(&mut faults, field, given, payload_max, usize::MAX);
    faults.into_result().map(|()| payload).map_err(|refusal| match refusal.reason {
        Reason::PayloadTooLarge => (pb::UpdateRejection::TooLarge, refusal.message),
        _ => invalid(refusal.message),
    })
}

fn progress(
    lease: LeaseName,
    said: Option<pb::Progress>,
    payload_max: usize,
    out: &mut Vec<Update>,
) -> Result<(), Rejected> {
    let Some(said) = said else { return Err(invalid("progress: required")) };
    if let Some(fraction) = said.fraction.filter(|f| !(0.0..=1.0).contains(f)) {
        return Err(invalid(format!("progress.fraction: must be 0..=1, got {fraction}")));
    }
    if said.message.len() > limits::PROGRESS_MESSAGE_LEN_MAX {
        let message = format!(
            "progress.message: must be at most {} bytes, got {}",
            limits::PROGRESS_MESSAGE_LEN_MAX,
            said.message.len()
        );
        return Err((pb::UpdateRejection::TooLarge, message));
    }
    let checkpoint =
        said.checkpoint.map(|c| content("progress.checkpoint", Some(c), payload_max)).transpose()?;
    let attributes = attributes(said.attributes)?;
    let has_word =
        said.fraction.is_some() || !said.message.is_empty() || !attributes.is_empty() || checkpoint.is_none();
    if let Some(checkpoint) = checkpoint {
        out.push(Update::new(lease.clone(), UpdateKind::Checkpoint(checkpoint)));
    }
    if has_word {
        // Below zero: the worker does not know how far it is.
        let fraction = said.fraction.unwrap_or(-1.0);
        let message = said.message.as_str().into();
        out.push(Update::new(lease, UpdateKind::Progress { fraction, message, attributes }));
    }
    Ok(())
}

type Pairs = Vec<(Arc<str>, Arc<str>)>;

fn attributes(given: impl IntoIterator<Item = (String, String)>) -> Result<Pairs, Rejected> {
    let (count_max, len_max) = (limits::PROGRESS_ATTRIBUTES_MAX, limits::PROGRESS_ATTRIBUTE_LEN_MAX);
    let pairs: Pairs = given.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
    if pairs.len() > count_max {
        let message =
            format!("progress.attributes: must have at most {count_max} items, got {}", pairs.len());
        return Err((pb::UpdateRejection::TooLarge, message));
    }
    match pairs.iter().find(|(key, value)| key.len() > len_max || value.len() > len_max) {
        None => Ok(pairs),
        Some((key, value)) => {
            let (key, len) = (shown(key), value.len());
            let what = format!("progress.attributes: key and value must be at most {len_max} bytes each");
            Err((pb::UpdateRejection::TooLarge, format!("{what}, got {key} with a value of {len}")))
        }
    }
}

fn read_failure(given: pb::Failure) -> Result<(Failure, Directive), Rejected> {
    let directive = match &given.retry {
        None => Directive::Default,
        Some(retry) => match pb::RetryMode::try_from(retry.mode) {
            Ok(pb::RetryMode::Unspecified | pb::RetryMode::Default) => Directive::Default,
            Ok(pb::RetryMode::NoRetry) => Directive::NoRetry,
            Ok(pb::RetryMode::RetryAfter) => {
                let mut faults = Faults::default();
                let delay = time::span(&mut faults, "failure.retry.delay", retry.delay, Span::ZERO, HORIZON);
                faults.into_result().map_err(|refusal| invalid(refusal.message))?;
                Directive::After(delay.unwrap_or(Span::ZERO))
            }
            Err(_) => return Err(invalid(format!("failure.retry.mode: unknown, got {}", retry.mode))),
        },
    };
    let details = given.details.as_ref().map(json::canonical_object).transpose();
    let details = details.map_err(|rule| invalid(format!("failure.details: {rule}")))?.unwrap_or_default();
    if details.len() > limits::FAILURE_DETAILS_LEN_MAX {
        let message = format!(
            "failure.details: must be at most {} bytes, got {}",
            limits::FAILURE_DETAILS_LEN_MAX,
            details.len()
        );
        return Err((pb::UpdateRejection::TooLarge, message));
    }
    let kind = if given.r#type.is_empty() { "Error" } else { given.r#type.as_str() };
    if kind.len() > limits::FAILURE_TYPE_LEN_MAX {
        let message = format!(
            "failure.type: must be at most {} bytes, got {}",
            limits::FAILURE_TYPE_LEN_MAX,
            shown(kind)
        );
        return Err(invalid(message));
    }
    let failure = Failure {
        kind: kind.into(),
        message: cut(&given.message, limits::FAILURE_MESSAGE_LEN_MAX).into(),
        retryable: directive != Directive::NoRetry,
        details: if details.is_empty() { Payload::empty() } else { Payload::json(details) },
        stack: cut(&with_causes(&given), STACK_LEN_MAX).into(),
    };
    Ok((failure, directive))
}

/// The stack, and below it those of the causes, as runtimes print them.
fn with_causes(given: &pb::Failure) -> String {
    let mut out = given.stack.clone();
    let mut cause = given.cause.as_deref();
    for _ in 0..CAUSES_MAX {
        let Some(next) = cause else { break };
        out.push_str(&format!("\ncaused by {}: {}\n{}", next.r#type, next.message, next.stack));
        cause = next.cause.as_deref();
    }
    out
}

/// A text within its limit, marked where it was cut.
fn cut(text: &str, len_max: usize) -> String {
    if text.len() <= len_max {
        return text.to_owned();
    }
    let mark = format!("… [cut, {} bytes]", text.len());
    let mut end = len_max - mark.len();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{mark}", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(kind: pb::JobUpdateKind) -> pb::JobUpdate {
        pb::JobUpdate { lease_id: 7, kind: kind.into(), ..pb::JobUpdate::default() }
    }

    fn progress(fraction: f64) -> pb::JobUpdate {
        let progress = pb::Progress { fraction: Some(fraction), ..pb::Progress::default() };
        pb::JobUpdate { progress: Some(progress), ..update(pb::JobUpdateKind::Progress) }
    }

    #[test]
    fn nonsense_is_rejected_and_the_rest_goes_on() {
        let updates = vec![
            update(pb::JobUpdateKind::Started),
            update(pb::JobUpdateKind::Unspecified),
            progress(1.5),
            progress(-0.1),
            progress(f64::NAN),
            progress(0.5),
            pb::JobUpdate { lease_id: 0, ..update(pb::JobUpdateKind::Started) },
            pb::JobUpdate { kind: 99, ..update(pb::JobUpdateKind::Started) },
            update(pb::JobUpdateKind::Succeeded),
        ];
        let read = read(updates, 3, 1 << 20, false).expect("within limits");
        assert_eq!(read.updates.len(), 3);
        assert_eq!(read.indexes, Some(vec![0, 5, 8]));
        let rejected: Vec<u32> = read.rejected.iter().map(|r| r.index).collect();
        assert_eq!(rejected, [1, 2, 3, 4, 6, 7]);
        assert!(read.rejected.iter().all(|r| r.seq == 3 && r.code() == pb::UpdateRejection::Invalid));
    }

    #[test]
    fn a_plain_report_needs_no_index() {
        let read =
            read(vec![update(pb::JobUpdateKind::Succeeded); 5], 1, 1 << 20, false).expect("within limits");
        assert_eq!((read.updates.len(), read.indexes, read.rejected.len()), (5, None, 0));
    }

    #[test]
    fn a_result_too_large_fails_the_attempt() {
        let mut big = update(pb::JobUpdateKind::Succeeded);
        big.result = Some(pb::Payload::data("", vec![0u8; 20]));
        let read = read(vec![big], 1, 10, false).expect("within limits");
        assert_eq!(read.rejected[0].code(), pb::UpdateRejection::TooLarge);
        assert!(
            matches!(&read.updates[0].kind, UpdateKind::Failed { failure, .. } if &*failure.kind == "RESULT_TOO_LARGE")
        );
    }

    #[test]
    fn long_messages_are_cut_and_marked() {
        let failure = pb::Failure { message: "é".repeat(1 << 20), ..pb::Failure::default() };
        let (failure, directive) = read_failure(failure).expect("a failure");
        assert!(failure.message.len() <= limits::FAILURE_MESSAGE_LEN_MAX);
        assert!(failure.message.ends_with("bytes]"));
        assert_eq!(directive, Directive::Default);
    }

    #[test]
    fn too_many_updates_are_refused_whole() {
        let many = vec![update(pb::JobUpdateKind::Started); 513];
        assert!(read(many, 1, 10, false).is_err_and(|r| r.reason == Reason::BatchTooLarge));
    }
}
