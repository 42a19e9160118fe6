//! Jobs as the server keeps them.

use crate::error::{Error, Result};
use crate::names::{JobCauseKind, JobEventType, JobState, JobWatchKind, Verdict};
use crate::payload::{FromPayload, Payload, json_of_struct};
use crate::raw::pb;
use crate::request::JobRequest;
use crate::time::{of_span, of_stamp};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// A job and where it stands.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Job {
    /// Id, unique in the namespace.
    pub job_id: String,
    /// Namespace it lives in.
    pub namespace: String,
    /// What was asked for, with defaults filled in. Absent in the REF view.
    pub request: Option<JobRequest>,
    /// Where it stands.
    pub state: JobState,
    /// Number of the current or last attempt. 0 before the first one started.
    pub attempt: u32,
    /// Attempts started so far, the lost and released ones included.
    pub attempts: u32,
    /// Attempts closed because their worker was lost.
    pub lost: u32,
    /// Attempts their worker gave back.
    pub released: u32,
    /// Hand-outs since the last start that did not lead to one.
    pub deliveries: u32,
    /// When it was accepted.
    pub create_time: Option<SystemTime>,
    /// Last change of the record.
    pub update_time: Option<SystemTime>,
    /// Start of the current or last attempt.
    pub start_time: Option<SystemTime>,
    /// When it became terminal.
    pub end_time: Option<SystemTime>,
    /// Not started before.
    pub schedule_time: Option<SystemTime>,
    /// Earliest next move.
    pub not_before: Option<SystemTime>,
    /// When the total deadline passes.
    pub deadline_time: Option<SystemTime>,
    /// When the record may be deleted.
    pub expire_time: Option<SystemTime>,
    /// Worker that holds or last held it.
    pub worker_id: String,
    /// What the handler returned.
    pub result: Option<Payload>,
    /// Why the last attempt, or the job, did not succeed.
    pub failure: Option<Failure>,
    /// The policy's answer.
    pub decision: Option<Decision>,
    /// The running attempt's word about itself.
    pub progress: Option<Progress>,
    /// Rises by one with each change.
    pub revision: u64,
    /// Run it is a step of. Empty for a job on its own.
    pub run_id: String,
    /// Step of that run.
    pub step_id: String,
    /// Trace it belongs to.
    pub trace_id: String,
    /// Terminal job that this one repeats.
    pub retry_of: String,
    /// Newer job that repeats this one.
    pub retried_as: String,
    /// True from an accepted cancel on.
    pub cancel_requested: bool,
    /// Why it was cancelled.
    pub cancel_reason: String,
    /// Why a PENDING job has no verdict yet.
    pub pending_reason: String,
    /// What its attempts used so far.
    pub usage: Option<Usage>,
    /// Who submitted it.
    pub submitter: String,
    /// Digest of the configuration it was submitted under. Empty without one.
    pub config_digest: String,
}

/// Why an attempt, or a job, did not succeed.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Failure {
    /// Kind of failure: a name of the handler's own, or one the server gives, for example `WORKER_LOST`.
    pub kind: String,
    /// For people.
    pub message: String,
    /// Whether the retry policy would try again.
    pub retryable: bool,
    /// Facts for programs.
    pub details: Option<serde_json::Value>,
    /// Stack trace as text.
    pub stack: String,
    /// What caused it.
    pub cause: Option<Box<Failure>>,
}

/// A recorded answer of the policy.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Decision {
    /// Id of the record.
    pub decision_id: String,
    /// The answer.
    pub verdict: Verdict,
    /// The rule that decided; `default` when none did and the default of the policy holds.
    pub rule_id: String,
    /// Why, in words for the submitter.
    pub reason: String,
    /// What the execution must observe.
    pub constraints: Option<serde_json::Value>,
    /// What the submitter could change to get another answer.
    pub remediations: Vec<Remediation>,
    /// Name of the policy that answered.
    pub policy: String,
    /// Its version.
    pub policy_version: String,
    /// When it answered.
    pub decide_time: Option<SystemTime>,
}

/// A way out of a refusal.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Remediation {
    /// Short name, unique within the rule.
    pub remediation_id: String,
    /// One line.
    pub title: String,
    /// What to do.
    pub summary: String,
    /// Topic to use instead.
    pub replacement_topic: String,
    /// Capability to ask for instead.
    pub replacement_capability: String,
    /// Labels to add.
    pub add_labels: BTreeMap<String, String>,
    /// Label keys to remove.
    pub remove_labels: Vec<String>,
}

/// The latest word of a running attempt about itself.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Progress {
    /// Done share, 0 to 1.
    pub fraction: Option<f64>,
    /// One line for people.
    pub message: String,
    /// Facts for people and dashboards.
    pub attributes: BTreeMap<String, String>,
    /// State the next attempt can continue from.
    pub checkpoint: Option<Payload>,
    /// When the server recorded it.
    pub update_time: Option<SystemTime>,
}

/// What an attempt used; on a job, the sum over its attempts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Processor time, milliseconds.
    pub cpu_ms: u64,
    /// Largest resident memory, bytes.
    pub peak_rss: u64,
    /// Model tokens read.
    pub tokens_in: u64,
    /// Model tokens written.
    pub tokens_out: u64,
    /// Cost in millionths of the installation's currency.
    pub cost_micros: u64,
    /// Model used.
    pub model: String,
    /// Calls of tools.
    pub tool_calls: u64,
}

/// One thing that happened to a job.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct JobEvent {
    /// When.
    pub time: Option<SystemTime>,
    /// What.
    pub kind: JobEventType,
    /// State before.
    pub from_state: JobState,
    /// State after.
    pub to_state: JobState,
    /// Attempt it is about. 0 when about none.
    pub attempt: u32,
    /// Who caused it.
    pub actor: String,
    /// In words.
    pub message: String,
    /// Shard, 0 to 255.
    pub shard: u32,
    /// Number within the shard, rising.
    pub sequence: u64,
    /// Worker it is about.
    pub worker_id: String,
    /// Decision it rests on.
    pub decision_id: String,
    /// Kind of the failure, with events that are about one.
    pub failure_kind: String,
}

/// Why a job is where it is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Explanation {
    /// In one or two sentences.
    pub summary: String,
    /// Everything that holds it, most important first.
    pub causes: Vec<JobCause>,
}

/// One thing that keeps a job where it is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct JobCause {
    /// Which.
    pub kind: JobCauseKind,
    /// In words, with names and numbers.
    pub message: String,
    /// Who stands in the way.
    pub holders: Vec<String>,
    /// Time left as far as it can be known.
    pub eta: Option<Duration>,
}

/// One step of a watch.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct JobChange {
    /// What this message tells.
    pub kind: JobWatchKind,
    /// The job without payloads as it now stands. Absent with CURRENT.
    pub job: Option<Job>,
    /// What last happened to the job.
    pub event: JobEventType,
    /// Pass this to go on after this message.
    pub resume_token: String,
}

/// A piece of what a job's worker wrote.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OutputChunk {
    /// Stream it belongs to.
    pub stream: String,
    /// Offset of its first byte.
    pub offset: u64,
    /// The bytes.
    pub chunk: bytes::Bytes,
    /// True on the last piece.
    pub end: bool,
    /// Bytes missing before this piece.
    pub dropped: u64,
}

/// Something the caller should know about a call that was accepted all the same.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Warning {
    /// Stable name, for example `TOPIC_PAUSED`.
    pub reason: String,
    /// Field it is about.
    pub field: String,
    /// In words.
    pub message: String,
}

// === impl Job ===

impl Job {
    /// The result of a job that succeeded, read as `T`. Refuses when the job is in any other state, with the job in the error.
    pub fn output<T: FromPayload>(self) -> Result<T> {
        if self.state != JobState::Succeeded {
            return Err(Error::not_succeeded(self));
        }
        T::from_payload(self.result.unwrap_or_default())
    }

    /// Topic it was submitted to. Empty in the REF view.
    pub fn topic(&self) -> &str {
        self.request.as_ref().map_or("", |request| request.topic())
    }

    pub(crate) fn of(job: Option<pb::Job>) -> Result<Self> {
        job.map(Self::from_pb).ok_or_else(|| Error::unexpected("the reply has no job"))
    }

    pub(crate) fn from_pb(job: pb::Job) -> Self {
        Self {
            job_id: job.job_id,
            namespace: job.namespace,
            request: job.spec.map(JobRequest::from_pb),
            state: JobState::of(job.state),
            attempt: job.attempt,
            attempts: job.attempts,
            lost: job.lost,
            released: job.released,
            deliveries: job.deliveries,
            create_time: of_stamp(job.create_time),
            update_time: of_stamp(job.update_time),
            start_time: of_stamp(job.start_time),
            end_time: of_stamp(job.end_time),
            schedule_time: of_stamp(job.schedule_time),
            not_before: of_stamp(job.not_before),
            deadline_time: of_stamp(job.deadline_time),
            expire_time: of_stamp(job.expire_time),
            worker_id: job.worker_id,
            result: job.result.map(Payload::from_pb),
            failure: job.failure.map(Failure::from_pb),
            decision: job.decision.map(Decision::from_pb),
            progress: job.progress.map(Progress::from_pb),
            revision: job.revision,
            run_id: job.run_id,
            step_id: job.step_id,
            trace_id: job.trace_id,
            retry_of: job.retry_of,
            retried_as: job.retried_as,
            cancel_requested: job.cancel_requested,
            cancel_reason: job.cancel_reason,
            pending_reason: job.pending_reason,
            usage: job.usage.map(Usage::from_pb),
            submitter: job.submitter,
            config_digest: job.config_digest,
        }
    }
}

// === impl parts of a job ===

impl Failure {
    pub(crate) fn from_pb(failure: pb::Failure) -> Self {
        Self {
            kind: failure.r#type,
            message: failure.message,
            retryable: failure.retryable,
            details: failure.details.map(json_of_struct),
            stack: failure.stack,
            cause: failure.cause.map(|cause| Box::new(Self::from_pb(*cause))),
        }
    }
}

impl Decision {
    pub(crate) fn from_pb(decision: pb::Decision) -> Self {
        let remediations = decision.remediations.into_iter().map(|way| Remediation {
            remediation_id: way.remediation_id,
            title: way.title,
            summary: way.summary,
            replacement_topic: way.replacement_topic,
            replacement_capability: way.replacement_capability,
            add_labels: way.add_labels,
            remove_labels: way.remove_labels,
        });
        Self {
            remediations: remediations.collect(),
            decision_id: decision.decision_id,
            verdict: Verdict::of(decision.verdict),
            rule_id: decision.rule_id,
            reason: decision.reason,
            constraints: decision.constraints.map(json_of_struct),
            policy: decision.policy,
            policy_version: decision.policy_version,
            decide_time: of_stamp(decision.decide_time),
        }
    }
}

impl Progress {
    pub(crate) fn from_pb(progress: pb::Progress) -> Self {
        Self {
            fraction: progress.fraction,
            message: progress.message,
            attributes: progress.attributes,
            checkpoint: progress.checkpoint.map(Payload::from_pb),
            update_time: of_stamp(progress.update_time),
        }
    }
}

impl Usage {
    /// Tokens of a model, read and written.
    pub fn of_tokens(tokens_in: u64, tokens_out: u64) -> Self {
        Self { tokens_in, tokens_out, ..Self::default() }
    }

    pub(crate) fn into_pb(self) -> pb::Usage {
        let Self { cpu_ms, peak_rss, tokens_in, tokens_out, cost_micros, model, tool_calls } = self;
        pb::Usage { cpu_ms, peak_rss, tokens_in, tokens_out, cost_micros, model, tool_calls }
    }

    pub(crate) fn from_pb(usage: pb::Usage) -> Self {
        let pb::Usage { cpu_ms, peak_rss, tokens_in, tokens_out, cost_micros, model, tool_calls } = usage;
        Self { cpu_ms, peak_rss, tokens_in, tokens_out, cost_micros, model, tool_calls }
    }
}

impl JobEvent {
    pub(crate) fn from_pb(event: pb::JobEvent) -> Self {
        Self {
            time: of_stamp(event.time),
            kind: JobEventType::of(event.r#type),
            from_state: JobState::of(event.from_state),
            to_state: JobState::of(event.to_state),
            attempt: event.attempt,
            actor: event.actor,
            message: event.message,
            shard: event.shard,
            sequence: event.sequence,
            worker_id: event.worker_id,
            decision_id: event.decision_id,
            failure_kind: event.failure_type,
        }
    }
}

impl Explanation {
    pub(crate) fn from_pb(reply: pb::ExplainJobResponse) -> Self {
        let causes = reply.causes.into_iter().map(|cause| JobCause {
            kind: JobCauseKind::of(cause.kind),
            message: cause.message,
            holders: cause.holders,
            eta: of_span(cause.eta),
        });
        Self { summary: reply.summary, causes: causes.collect() }
    }
}

impl JobChange {
    pub(crate) fn from_pb(step: pb::WatchJobsResponse) -> Self {
        Self {
            kind: JobWatchKind::of(step.kind),
            job: step.job.map(Job::from_pb),
            event: JobEventType::of(step.r#type),
            resume_token: step.resume_token,
        }
    }
}

impl Warning {
    pub(crate) fn from_pb(warnings: Vec<pb::Warning>) -> Vec<Self> {
        let warnings = warnings.into_iter();
        warnings.map(|w| Self { reason: w.reason, field: w.field, message: w.message }).collect()
    }
}
