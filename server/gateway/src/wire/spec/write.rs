//! Job specs to the wire.

use crate::wire::payload;
use crate::wire::time::{self, timestamp};
use coretex_contract::v1 as pb;
use coretex_domain::job::spec::{Budget, Metadata, Options, RetryPolicy, Timeouts};
use coretex_domain::job::{JobId, Spec};
use std::sync::Arc;

/// A spec as it was asked for, with the defaults that applied.
pub(crate) fn write(spec: &Spec, id: &JobId, format: Option<pb::PayloadFormat>) -> pb::JobSpec {
    let mut out = pb::JobSpec {
        topic: spec.topic.to_string(),
        payload: format.and_then(|f| payload::write(&spec.payload, f)),
        priority: Some(spec.priority.into()),
        ..pb::JobSpec::default()
    };
    if let JobId::Named(name) = id
        && !name.starts_with("run_")
    {
        out.job_id = name.to_string();
    }
    if let Some(options) = &spec.options {
        write_options(options, &mut out);
    }
    out
}

fn write_options(options: &Options, out: &mut pb::JobSpec) {
    let text = |value: &Option<Arc<str>>| value.as_deref().unwrap_or_default().to_owned();
    let texts = |values: &[Arc<str>]| values.iter().map(ToString::to_string).collect::<Vec<_>>();
    out.idempotency_key = text(&options.idempotency_key);
    out.labels = labels(&options.labels);
    out.schedule_time = options.schedule_time.map(timestamp);
    out.retry_policy = (options.retry != RetryPolicy::default()).then(|| write_retry(&options.retry));
    out.timeouts = (options.timeouts != Timeouts::default()).then(|| write_timeouts(&options.timeouts));
    out.concurrency_key = text(&options.concurrency_key);
    out.rate_key = text(&options.rate_key);
    out.pool = text(&options.placement.pool);
    out.pool_required = options.placement.pool_required;
    out.worker_id = text(&options.placement.worker_id);
    out.worker_required = options.placement.worker_required;
    out.requires = texts(&options.placement.requires);
    out.parent_job_id = text(&options.parent_job_id);
    out.metadata = write_metadata(&options.metadata);
    out.budget = (options.budget != Budget::default()).then(|| pb::Budget {
        max_tokens_total: options.budget.max_tokens,
        max_cost_micros: options.budget.max_cost_micros,
        ..pb::Budget::default()
    });
    out.retention = options.retention.map(time::duration);
    out.trace_id = text(&options.trace_id);
}

pub(crate) fn labels(labels: &[(Arc<str>, Arc<str>)]) -> std::collections::BTreeMap<String, String> {
    labels.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
}

pub(crate) fn write_metadata(metadata: &Metadata) -> Option<pb::JobMetadata> {
    let text = |value: &Option<Arc<str>>| value.as_deref().unwrap_or_default().to_owned();
    (*metadata != Metadata::default()).then(|| pb::JobMetadata {
        actor_id: text(&metadata.actor_id),
        actor_type: text(&metadata.actor_type),
        capability: text(&metadata.capability),
        risk_tags: metadata.risk_tags.iter().map(ToString::to_string).collect(),
    })
}

pub(crate) fn write_retry(policy: &RetryPolicy) -> pb::RetryPolicy {
    pb::RetryPolicy {
        max_attempts: policy.max_attempts,
        initial_backoff: policy.initial_backoff.map(time::duration),
        multiplier: policy.multiplier,
        max_backoff: policy.max_backoff.map(time::duration),
        jitter: policy.jitter,
        non_retryable_errors: policy.non_retryable_errors.iter().map(ToString::to_string).collect(),
    }
}

pub(crate) fn write_timeouts(timeouts: &Timeouts) -> pb::Timeouts {
    pb::Timeouts {
        schedule_to_start: timeouts.schedule_to_start.map(time::duration),
        start_to_close: timeouts.start_to_close.map(time::duration),
        stall: timeouts.stall.map(time::duration),
        total: timeouts.total.map(time::duration),
    }
}
