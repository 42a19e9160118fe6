//! Jobs to the wire, in the view that was asked for.

use super::time::timestamp;
use super::{constraints, json, payload, spec};
use coretex_contract::v1 as pb;
use coretex_domain::job::{Event, Failure, Job, Progress, State, StateKind, Usage};
use coretex_domain::policy::{Decision, Remediation, Verdict};
use coretex_domain::{Reason, limits};
use coretex_ports::AckLevel;

/// What a caller wants to see of a job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) view: pb::View,
    pub(crate) format: pb::PayloadFormat,
}

impl Look {
    pub(crate) const BASIC: Look = Look { view: pb::View::Basic, format: pb::PayloadFormat::Data };

    fn payloads(self) -> Option<pb::PayloadFormat> {
        (self.view == pb::View::Full).then_some(self.format)
    }
}

/// `job_id`, `state`, `create_time`, and the decision when it is not ALLOW.
pub(crate) fn reference(job: &Job) -> pb::Job {
    let decision = job.decision.as_ref().filter(|d| d.verdict != Verdict::Allow).map(|d| decision(job, d));
    pb::Job {
        job_id: job.id.to_string(),
        state: state(job.state.kind()).into(),
        create_time: Some(timestamp(job.create_time)),
        decision,
        ..pb::Job::default()
    }
}

pub(crate) fn write(job: &Job, look: Look) -> pb::Job {
    if look.view == pb::View::Ref {
        return reference(job);
    }
    let rare = job.rare();
    let options = job.spec.options();
    let id = |id: &Option<coretex_domain::JobId>| id.as_ref().map(ToString::to_string).unwrap_or_default();
    let (run_id, step_id) = run_and_step(job);
    let counters = job.counters;
    pb::Job {
        job_id: job.id.to_string(),
        namespace: job.namespace.to_string(),
        spec: Some(spec::write(&job.spec, &job.id, look.payloads())),
        state: state(job.state.kind()).into(),
        attempt: counters.attempts,
        create_time: Some(timestamp(job.create_time)),
        update_time: Some(timestamp(job.update_time)),
        start_time: job.start_time.map(timestamp),
        end_time: job.end_time.map(timestamp),
        worker_id: job.worker_id.as_deref().unwrap_or_default().to_owned(),
        result: job.result.as_ref().zip(look.payloads()).and_then(|(r, format)| payload::write(r, format)),
        failure: rare.failure.as_ref().map(|f| failure(f, look.view)),
        decision: job.decision.as_ref().map(|d| decision(job, d)),
        progress: progress(job, look),
        revision: job.revision,
        run_id,
        step_id,
        trace_id: options.trace_id.as_deref().map(trace_part).unwrap_or_default().to_owned(),
        retry_of: id(&rare.retry_of),
        retried_as: id(&rare.retried_as),
        cancel_requested: rare.cancel.is_some(),
        cancel_reason: rare.cancel.as_ref().map(|c| c.reason.to_string()).unwrap_or_default(),
        attempts: counters.attempts,
        lost: counters.lost,
        deliveries: counters.deliveries,
        released: counters.released,
        schedule_time: options.schedule_time.map(timestamp),
        not_before: not_before(job).map(timestamp),
        pending_reason: pending_reason(job),
        deadline_time: deadline(job).map(timestamp),
        expire_time: job.expire_time.map(timestamp),
        usage: rare.usage.as_ref().map(usage),
        submitter: job.submitter().unwrap_or_default().to_owned(),
        config_digest: rare.config.as_ref().map(|config| config.digest_text()).unwrap_or_default(),
    }
}

fn run_and_step(job: &Job) -> (String, String) {
    match &job.id {
        coretex_domain::JobId::Named(name) if name.starts_with("run_") => match name.split_once(':') {
            Some((run, step)) => (run.to_owned(), step.to_owned()),
            None => (name.to_string(), String::new()),
        },
        coretex_domain::JobId::Named(_) | coretex_domain::JobId::Made(_) => Default::default(),
    }
}

/// The trace id, also when a whole `traceparent` was given.
pub(crate) fn trace_part(trace: &str) -> &str {
    match trace.get(3..35) {
        Some(id) if trace.len() == 55 => id,
        _ => trace,
    }
}

/// Why there is no verdict yet, or that a rule has a rate.
fn pending_reason(job: &Job) -> String {
    let is_throttled = job.decision.as_ref().is_some_and(|decision| decision.verdict == Verdict::Throttle);
    match &job.state {
        State::Pending(Some(_)) if is_throttled => Reason::Throttled.name().to_owned(),
        State::Pending(Some(why)) => why.1.to_string(),
        _ => String::new(),
    }
}

fn not_before(job: &Job) -> Option<coretex_domain::Time> {
    match &job.state {
        State::Pending(Some(why)) => Some(why.0),
        State::Retrying { due } => Some(*due),
        State::Pending(None)
        | State::AwaitingApproval
        | State::Scheduled
        | State::Dispatched(_)
        | State::Running(_)
        | State::Succeeded
        | State::Failed
        | State::TimedOut
        | State::Cancelled
        | State::Denied
        | State::Expired => None,
    }
}

fn deadline(job: &Job) -> Option<coretex_domain::Time> {
    let options = job.spec.options();
    let from = options.schedule_time.map_or(job.create_time, |t| t.max(job.create_time));
    options.timeouts.total.map(|total| from + total)
}

pub(crate) fn failure(failure: &Failure, view: pb::View) -> pb::Failure {
    pb::Failure {
        r#type: failure.kind.to_string(),
        message: failure.message.to_string(),
        retryable: failure.retryable,
        details: json::to_object(&failure.details.data),
        stack: if view == pb::View::Full { failure.stack.to_string() } else { String::new() },
        ..pb::Failure::default()
    }
}

fn progress(job: &Job, look: Look) -> Option<pb::Progress> {
    let rare = job.rare();
    let checkpoint = rare.checkpoint.as_ref().zip(look.payloads()).and_then(|(c, f)| payload::write(c, f));
    if rare.progress.is_none() && checkpoint.is_none() {
        return None;
    }
    let said = rare.progress.as_ref();
    Some(pb::Progress {
        fraction: said.map(|p: &Progress| p.fraction).filter(|f| *f >= 0.0),
        message: said.map(|p| p.message.to_string()).unwrap_or_default(),
        attributes: said.map(|p| spec::labels(&p.attributes)).unwrap_or_default(),
        checkpoint,
        update_time: said.map(|p| timestamp(p.time)),
    })
}

fn usage(used: &Usage) -> pb::Usage {
    pb::Usage {
        cpu_ms: used.cpu_ms,
        peak_rss: used.peak_rss,
        tokens_in: used.tokens_in,
        tokens_out: used.tokens_out,
        cost_micros: used.cost_micros,
        model: used.model.to_string(),
        tool_calls: used.tool_calls,
    }
}

/// The decision a job stands on. Its id names the job and the revision that recorded it.
fn decision(job: &Job, decision: &Decision) -> pb::Decision {
    let at = job.history.iter().rposition(|entry| rests_on_decision(&entry.event));
    pb::Decision {
        decision_id: at.map(|n| decision_id(job, n)).unwrap_or_default(),
        decide_time: at.and_then(|n| job.history.get(n)).map(|entry| timestamp(entry.time)),
        ..unrecorded(decision)
    }
}

/// The same, as far as there is one.
pub(crate) fn decision_on(job: &Job) -> Option<pb::Decision> {
    job.decision.as_deref().map(|on| decision(job, on))
}

/// What a policy says, without the record of it.
pub(crate) fn unrecorded(decision: &Decision) -> pb::Decision {
    pb::Decision {
        decision_id: String::new(),
        verdict: verdict(decision.verdict).into(),
        rule_id: decision.rule_id.to_string(),
        reason: decision.reason.to_string(),
        constraints: decision.constraints().map(constraints::write),
        remediations: decision.remediations.iter().map(remediation).collect(),
        policy_version: decision.policy_version.to_string(),
        policy: decision.policy.to_string(),
        decide_time: None,
    }
}

fn remediation(way: &Remediation) -> pb::Remediation {
    let text = |text: &Option<std::sync::Arc<str>>| text.as_deref().unwrap_or_default().to_owned();
    pb::Remediation {
        remediation_id: way.id.to_string(),
        title: way.title.to_string(),
        summary: text(&way.summary),
        replacement_topic: text(&way.replacement_topic),
        replacement_capability: text(&way.replacement_capability),
        add_labels: spec::labels(&way.add_labels),
        remove_labels: way.remove_labels.iter().map(ToString::to_string).collect(),
    }
}

/// True for events a verdict of the policy caused.
pub(crate) fn rests_on_decision(event: &Event) -> bool {
    matches!(
        event,
        Event::Admitted { .. }
            | Event::Denied(None)
            | Event::Deferred(_)
            | Event::ApprovalRequested
            | Event::Rejudged
    )
}

pub(crate) fn decision_id(job: &Job, index: usize) -> String {
    format!("dec:{}:{}", job.id, index + 1)
}

/// The id of the newest decision on a job.
pub(crate) fn newest_decision_id(job: &Job) -> String {
    let at = job.history.iter().rposition(|entry| rests_on_decision(&entry.event));
    at.map(|n| decision_id(job, n)).unwrap_or_default()
}

pub(crate) fn verdict(verdict: Verdict) -> pb::Verdict {
    match verdict {
        Verdict::Allow => pb::Verdict::Allow,
        Verdict::Deny => pb::Verdict::Deny,
        Verdict::RequireApproval => pb::Verdict::RequireApproval,
        Verdict::Throttle => pb::Verdict::Throttle,
        Verdict::AllowWithConstraints => pb::Verdict::AllowWithConstraints,
    }
}

pub(crate) fn state(state: StateKind) -> pb::JobState {
    match state {
        StateKind::Pending => pb::JobState::Pending,
        StateKind::AwaitingApproval => pb::JobState::AwaitingApproval,
        StateKind::Scheduled => pb::JobState::Scheduled,
        StateKind::Dispatched => pb::JobState::Dispatched,
        StateKind::Running => pb::JobState::Running,
        StateKind::Retrying => pb::JobState::Retrying,
        StateKind::Succeeded => pb::JobState::Succeeded,
        StateKind::Failed => pb::JobState::Failed,
        StateKind::TimedOut => pb::JobState::TimedOut,
        StateKind::Cancelled => pb::JobState::Cancelled,
        StateKind::Denied => pb::JobState::Denied,
        StateKind::Expired => pb::JobState::Expired,
    }
}

pub(crate) fn ack_level(level: AckLevel) -> pb::AckLevel {
    match level {
        AckLevel::Memory => pb::AckLevel::Memory,
        AckLevel::Os => pb::AckLevel::Os,
        AckLevel::Fsync => pb::AckLevel::Fsync,
        AckLevel::Replicated => pb::AckLevel::Replicated,
        AckLevel::BestEffort => pb::AckLevel::BestEffort,
    }
}

/// Why a job stands where it stands, in the contract's kinds.
pub(crate) fn cause_kind(kind: &str) -> pb::JobCauseKind {
    match kind {
        "CANCEL_REQUESTED" => pb::JobCauseKind::Cancelling,
        "POLICY_DEFERRED" | "POLICY_PENDING" => pb::JobCauseKind::Policy,
        "RATE_KEY" => pb::JobCauseKind::Rate,
        "NO_CREDIT" => pb::JobCauseKind::WorkersBusy,
        other => pb::JobCauseKind::from_str_name(&format!("JOB_CAUSE_KIND_{other}"))
            .unwrap_or(pb::JobCauseKind::QueuedBehind),
    }
}

/// The largest reply a list of jobs should make, so that a page fits a message.
pub(crate) const PAGE_BYTES_AIM: usize = limits::MESSAGE_MAX - (256 << 10);
