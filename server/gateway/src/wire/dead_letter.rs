//! Dead letters and redrives to the wire.

use super::job::{self, Look, state};
use super::time::timestamp;
use crate::call::Call;
use crate::status;
use coretex_contract::v1 as pb;
use coretex_domain::dead_letter::DeadLetter;
use coretex_domain::job::Event;
use coretex_domain::{Job, Reason};
use coretex_engine::{Group, RedriveEnd, RedrivePhase, RedriveStep};

/// The dead letter of a job that left one.
pub(crate) fn write(job: &Job, look: Look) -> pb::DeadLetter {
    let Some(letter) = DeadLetter::of(job, job.expire_time.unwrap_or_default()) else {
        return pb::DeadLetter { dead_letter_id: job.id.to_string(), ..pb::DeadLetter::default() };
    };
    let short = pb::DeadLetter {
        dead_letter_id: job.id.to_string(),
        state: state(letter.state).into(),
        create_time: Some(timestamp(job.create_time)),
        ..pb::DeadLetter::default()
    };
    if look.view == pb::View::Ref {
        return short;
    }
    let is_full = look.view == pb::View::Full;
    let id = |id: &Option<coretex_domain::JobId>| id.as_ref().map(ToString::to_string).unwrap_or_default();
    pb::DeadLetter {
        namespace: job.namespace.to_string(),
        topic: letter.topic.to_string(),
        reason: letter.reason.to_string(),
        message: job.failure().map(|f| f.message.to_string()).unwrap_or_default(),
        fingerprint: letter.fingerprint_text(),
        end_time: Some(timestamp(letter.create_time)),
        expire_time: job.expire_time.map(timestamp),
        attempts: job.counters.attempts,
        retried_as: id(&job.rare().retried_as),
        retry_of: id(&job.rare().retry_of),
        job: is_full.then(|| job::write(job, look)),
        attempt_list: if is_full { attempts(job) } else { Vec::new() },
        ..short
    }
}

/// What the attempts of a job came to: each start, with what closed it.
fn attempts(job: &Job) -> Vec<pb::DeadLetterAttempt> {
    let mut all = Vec::new();
    let mut worker_id = "";
    let mut open = None;
    let mut started = 0;
    for entry in &job.history {
        let (reason, message) = match &entry.event {
            Event::Dispatched(lease) => {
                worker_id = &lease.worker_id;
                continue;
            }
            Event::Started => {
                started += 1;
                open = Some(pb::DeadLetterAttempt {
                    attempt: started,
                    worker_id: worker_id.to_owned(),
                    start_time: Some(timestamp(entry.time)),
                    ..pb::DeadLetterAttempt::default()
                });
                continue;
            }
            Event::AttemptFailed(closed) => (&*closed.0.kind, &*closed.0.message),
            Event::Failed(closed) => (&*closed.kind, &*closed.message),
            Event::Released => ("RELEASED", ""),
            Event::TimedOut { total: true } => (Reason::TotalTimeout.name(), ""),
            Event::TimedOut { total: false } => (Reason::StartToCloseTimeout.name(), ""),
            Event::Submitted { .. }
            | Event::Admitted { .. }
            | Event::Deferred(_)
            | Event::ApprovalRequested
            | Event::Approved { .. }
            | Event::ApprovalVoided(_)
            | Event::Rejudged
            | Event::Denied(_)
            | Event::Returned(_)
            | Event::Succeeded
            | Event::RetryDue { .. }
            | Event::Expired
            | Event::CancelRequested(_)
            | Event::Cancelled(_)
            | Event::Annotated(_) => continue,
        };
        let end_time = Some(timestamp(entry.time));
        let closed = open.take().map(|attempt| pb::DeadLetterAttempt {
            end_time,
            reason: reason.to_owned(),
            message: message.to_owned(),
            ..attempt
        });
        all.extend(closed);
    }
    all
}

pub(crate) fn group(group: &Group) -> pb::DeadLetterGroup {
    pb::DeadLetterGroup {
        fingerprint: group.newest.fingerprint_text(),
        topic: group.newest.topic.to_string(),
        state: state(group.newest.state).into(),
        reason: group.newest.reason.to_string(),
        message: group.message.to_string(),
        count: group.count,
        retried: group.retried,
        first_time: Some(timestamp(group.first_time)),
        last_time: Some(timestamp(group.newest.create_time)),
        sample_ids: group.sample.iter().map(ToString::to_string).collect(),
    }
}

pub(crate) fn redrive(step: RedriveStep, call: &Call) -> pb::BatchRetryDeadLettersResponse {
    let (stop_reason, stop_job) = match &step.end {
        None | Some(RedriveEnd::Done) => (pb::RedriveStopReason::Unspecified, None),
        Some(RedriveEnd::Repeated(id)) => (pb::RedriveStopReason::Repeated, Some(id)),
        Some(RedriveEnd::CanaryFailed(id)) => (pb::RedriveStopReason::CanaryFailed, Some(id)),
    };
    let phase = match step.phase {
        RedrivePhase::Retrying => pb::RedrivePhase::Retrying,
        RedrivePhase::Waiting => pb::RedrivePhase::Waiting,
        RedrivePhase::Over if stop_job.is_some() => pb::RedrivePhase::Stopped,
        RedrivePhase::Over => pb::RedrivePhase::Done,
    };
    let results = step.results.iter().map(|(old, accepted)| pb::RetriedDeadLetter {
        dead_letter_id: old.to_string(),
        job_id: accepted.job.id.to_string(),
        existing: accepted.existing,
    });
    pb::BatchRetryDeadLettersResponse {
        phase: phase.into(),
        stage: step.stage,
        retried: step.counts.retried,
        existing: step.counts.existing,
        skipped: step.counts.skipped,
        refused: step.counts.refused,
        first_error: step.first_error.as_ref().map(|refusal| status::item(refusal, &call.request_id)),
        succeeded: step.counts.succeeded,
        failed: step.counts.failed,
        repeated: step.counts.repeated,
        results: results.collect(),
        stop_reason: stop_reason.into(),
        stop_job_id: stop_job.map(ToString::to_string).unwrap_or_default(),
        ..pb::BatchRetryDeadLettersResponse::default()
    }
}
