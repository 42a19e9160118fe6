//! A job into bytes, straight from the record in memory.

use crate::config::put_applied;
use crate::event::{put_cancel, put_entry, put_id, put_lease};
use crate::of_run::put_of_run;
use crate::terms::{put_remediation, put_terms};
use crate::{VERSION, put};
use coretex_domain::Payload;
use coretex_domain::job::spec::{Options, RetryPolicy, Timeouts};
use coretex_domain::job::{Event, Failure, Family, Job, Rare, Spec, State, Usage};
use coretex_domain::payload::ContentType;
use coretex_domain::policy::{Decision, Verdict};
use coretex_ports::memory::events::Standing;
use std::sync::Arc;

/// How much of a job is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Everything; the last `fresh` entries are told to be new.
    Whole { fresh: u32 },
    /// All but the spec and the entries before the last `fresh`; the checkpoint is left out where it is the
    /// same as in the record before.
    Change { fresh: u32, keeps_checkpoint: bool },
}

/// Appends one job. `refer` may answer with the number of a decision in a table kept elsewhere.
pub fn put_job(
    buf: &mut Vec<u8>,
    job: &Job,
    form: Form,
    refer: &mut dyn FnMut(&Arc<Decision>) -> Option<u32>,
) {
    put::uint(buf, 1, u64::from(VERSION));
    put_id(buf, 2, &job.id);
    put::text(buf, 3, job.namespace.as_str());
    let (known, fresh, keeps_checkpoint) = match form {
        Form::Whole { fresh } => {
            put_spec(buf, 4, &job.spec);
            (0, fresh, false)
        }
        Form::Change { fresh, keeps_checkpoint } => {
            (job.history.len().saturating_sub(fresh as usize), fresh, keeps_checkpoint)
        }
    };
    put_head(buf, job, refer);
    for entry in &job.history[known..] {
        put_entry(buf, 6, entry);
    }
    if let Some(result) = &job.result {
        put_payload(buf, 7, result);
    }
    if let Some(rare) = &job.rare {
        put_rare(buf, rare, keeps_checkpoint);
    }
    if let Form::Change { .. } = form {
        put_prior(buf, job, known);
    }
    put::flag(buf, 10, keeps_checkpoint);
    put::uint(buf, 11, u64::from(fresh));
}

fn put_prior(buf: &mut Vec<u8>, job: &Job, known: usize) {
    let standing = Standing::after(&job.history[..known]);
    put::nested(buf, 9, |buf| {
        put::uint(buf, 1, known as u64);
        put::uint(buf, 2, standing.state.map_or(0, |s| s as u64));
        put::uint(buf, 3, u64::from(standing.attempts));
        put::opt_text(buf, 4, standing.worker_id.as_deref());
        put::text(buf, 5, &job.spec.topic);
        put_pairs(buf, 6, &job.spec.options().labels);
    });
}

pub(crate) fn put_pairs(buf: &mut Vec<u8>, tag: u32, pairs: &[(Arc<str>, Arc<str>)]) {
    for (key, value) in pairs {
        put::nested(buf, tag, |buf| {
            put::text(buf, 1, key);
            put::text(buf, 2, value);
        });
    }
}

pub(crate) fn put_texts(buf: &mut Vec<u8>, tag: u32, texts: &[Arc<str>]) {
    for text in texts {
        put::some_bytes(buf, tag, text.as_bytes());
    }
}

pub(crate) fn put_payload(buf: &mut Vec<u8>, tag: u32, payload: &Payload) {
    put::nested(buf, tag, |buf| {
        match &payload.content_type {
            ContentType::None => {}
            ContentType::Json => put::uint(buf, 1, 1),
            ContentType::Binary => put::uint(buf, 1, 2),
            ContentType::Other(name) => {
                put::uint(buf, 1, 3);
                put::text(buf, 2, name);
            }
        }
        put::bytes(buf, 3, &payload.data);
    });
}

pub(crate) fn put_spec(buf: &mut Vec<u8>, tag: u32, spec: &Spec) {
    put::nested(buf, tag, |buf| {
        put::text(buf, 1, &spec.topic);
        put_payload(buf, 2, &spec.payload);
        put::uint(buf, 3, u64::from(spec.priority));
        if let Some(options) = &spec.options {
            put_options(buf, options);
        }
    });
}

fn put_options(buf: &mut Vec<u8>, o: &Options) {
    put::nested(buf, 4, |buf| {
        put::opt_text(buf, 1, o.idempotency_key.as_deref());
        put_pairs(buf, 2, &o.labels);
        put::opt_uint(buf, 3, o.schedule_time.map(|t| t.0));
        put_retry(buf, 4, &o.retry);
        put_timeouts(buf, 5, &o.timeouts);
        put::opt_text(buf, 6, o.concurrency_key.as_deref());
        put::opt_text(buf, 7, o.rate_key.as_deref());
        put::opt_text(buf, 8, o.placement.pool.as_deref());
        put::flag(buf, 9, o.placement.pool_required);
        put::opt_text(buf, 10, o.placement.worker_id.as_deref());
        put::flag(buf, 11, o.placement.worker_required);
        put_texts(buf, 12, &o.placement.requires);
        put::opt_text(buf, 13, o.parent_job_id.as_deref());
        put::opt_text(buf, 14, o.metadata.actor_id.as_deref());
        put::opt_text(buf, 15, o.metadata.actor_type.as_deref());
        put::opt_text(buf, 16, o.metadata.capability.as_deref());
        put_texts(buf, 17, &o.metadata.risk_tags);
        put::opt_uint(buf, 18, o.budget.max_tokens);
        put::opt_uint(buf, 19, o.budget.max_cost_micros);
        put::opt_uint(buf, 20, o.retention.map(|s| s.0));
        put::opt_text(buf, 21, o.trace_id.as_deref());
    });
}

pub(crate) fn put_retry(buf: &mut Vec<u8>, tag: u32, retry: &RetryPolicy) {
    put::nested(buf, tag, |buf| {
        put::opt_uint(buf, 1, retry.max_attempts.map(u64::from));
        put::opt_uint(buf, 2, retry.initial_backoff.map(|s| s.0));
        put::opt_double(buf, 3, retry.multiplier);
        put::opt_uint(buf, 4, retry.max_backoff.map(|s| s.0));
        put::opt_double(buf, 5, retry.jitter);
        put_texts(buf, 6, &retry.non_retryable_errors);
    });
}

pub(crate) fn put_timeouts(buf: &mut Vec<u8>, tag: u32, timeouts: &Timeouts) {
    put::nested(buf, tag, |buf| {
        put::opt_uint(buf, 1, timeouts.schedule_to_start.map(|s| s.0));
        put::opt_uint(buf, 2, timeouts.start_to_close.map(|s| s.0));
        put::opt_uint(buf, 3, timeouts.stall.map(|s| s.0));
        put::opt_uint(buf, 4, timeouts.total.map(|s| s.0));
    });
}

fn put_head(buf: &mut Vec<u8>, job: &Job, refer: &mut dyn FnMut(&Arc<Decision>) -> Option<u32>) {
    put::nested(buf, 5, |buf| {
        put::uint(buf, 1, job.state.kind() as u64);
        put_state(buf, job);
        put::uint(buf, 6, job.revision);
        put::uint(buf, 7, job.place);
        put::uint(buf, 8, u64::from(job.counters.attempts));
        put::uint(buf, 9, u64::from(job.counters.lost));
        put::uint(buf, 10, u64::from(job.counters.released));
        put::uint(buf, 11, u64::from(job.counters.deliveries));
        put::uint(buf, 12, u64::from(job.counters.lease_serial));
        put::uint(buf, 13, job.create_time.0);
        put::uint(buf, 14, job.update_time.0);
        put::opt_uint(buf, 15, job.start_time.map(|t| t.0));
        put::opt_uint(buf, 16, job.end_time.map(|t| t.0));
        put::opt_uint(buf, 17, job.expire_time.map(|t| t.0));
        if let Some(decision) = &job.decision {
            // One of many keys would only fill the table.
            let number = if decision.is_keyed() { None } else { refer(decision) };
            match number {
                Some(number) => put::uint(buf, 18, u64::from(number) + 1),
                None => put::nested(buf, 19, |buf| put_decision(buf, decision)),
            }
        }
        put::opt_text(buf, 20, job.worker_id.as_deref());
        put::uint(buf, 21, u64::from(job.shard.0));
    });
}

fn put_state(buf: &mut Vec<u8>, job: &Job) {
    match &job.state {
        State::Pending(Some(why)) => {
            put::uint(buf, 3, why.0.0);
            put::opt_text(buf, 4, Some(&why.1));
        }
        State::Dispatched(lease) | State::Running(lease) => {
            let newest = job.history.iter().rev().find_map(|entry| {
                if let Event::Dispatched(lease) = &entry.event { Some(lease) } else { None }
            });
            if newest != Some(lease) {
                put_lease(buf, 2, lease);
            }
        }
        State::Retrying { due } => put::uint(buf, 5, due.0),
        State::Pending(None)
        | State::AwaitingApproval
        | State::Scheduled
        | State::Succeeded
        | State::Failed
        | State::TimedOut
        | State::Cancelled
        | State::Denied
        | State::Expired => {}
    }
}

/// The fields of a decision, without a tag of their own.
pub fn put_decision(buf: &mut Vec<u8>, decision: &Decision) {
    let verdict = match decision.verdict {
        Verdict::Allow => 1,
        Verdict::Deny => 2,
        Verdict::RequireApproval => 3,
        Verdict::Throttle => 4,
        Verdict::AllowWithConstraints => 5,
    };
    put::uint(buf, 1, verdict);
    put::text(buf, 2, &decision.rule_id);
    put::text(buf, 3, &decision.reason);
    for remediation in &decision.remediations {
        put_remediation(buf, 4, remediation);
    }
    put::text(buf, 5, &decision.policy);
    put::uint(buf, 6, decision.policy_version);
    if let Some(terms) = &decision.terms {
        put_terms(buf, 7, terms);
    }
}

fn put_rare(buf: &mut Vec<u8>, rare: &Rare, keeps_checkpoint: bool) {
    put::nested(buf, 8, |buf| {
        if let Some(cancel) = &rare.cancel {
            put_cancel(buf, 1, cancel);
        }
        if let Some(progress) = &rare.progress {
            put::nested(buf, 2, |buf| {
                put::double(buf, 1, progress.fraction);
                put::text(buf, 2, &progress.message);
                put::uint(buf, 3, progress.time.0);
                put_pairs(buf, 4, &progress.attributes);
            });
        }
        if let Some(checkpoint) = rare.checkpoint.as_ref().filter(|_| !keeps_checkpoint) {
            put_payload(buf, 3, checkpoint);
        }
        if let Some(failure) = &rare.failure {
            put_failure(buf, failure);
        }
        if let Some(id) = &rare.retry_of {
            put_id(buf, 5, id);
        }
        if let Some(id) = &rare.retried_as {
            put_id(buf, 6, id);
        }
        put::opt_uint(buf, 7, rare.last_sign.map(|t| t.0));
        if let Some(usage) = &rare.usage {
            put_usage(buf, 8, usage);
        }
        if let Some(print) = rare.submitted_as {
            put::some_bytes(buf, 9, &print.to_be_bytes());
        }
        if let Some(config) = &rare.config {
            put_applied(buf, 40, config);
        }
        put::uint(buf, 41, rare.reserved.tokens);
        put::uint(buf, 42, rare.reserved.cost_micros);
        if let Some(family) = &rare.family {
            put_family(buf, 43, family);
        }
        if let Some(of_run) = &rare.of_run {
            put_of_run(buf, 44, of_run);
        }
    });
}

fn put_family(buf: &mut Vec<u8>, tag: u32, family: &Family) {
    put::nested(buf, tag, |buf| {
        put::uint(buf, 1, u64::from(family.depth));
        put::flag(buf, 2, family.closes_with_parent);
        put::uint(buf, 3, family.borrowed.tokens);
        put::uint(buf, 4, family.borrowed.cost_micros);
        put::uint(buf, 5, family.lent.tokens);
        put::uint(buf, 6, family.lent.cost_micros);
        for spawn in &family.spawns {
            put::nested(buf, 7, |buf| {
                put::text(buf, 1, &spawn.name);
                put::some_bytes(buf, 2, &spawn.asked.to_be_bytes());
                put::uint(buf, 3, u64::from(spawn.count));
                put::uint(buf, 4, spawn.time.0);
            });
        }
        if let Some(root) = &family.root {
            put_id(buf, 8, root);
        }
    });
}

fn put_usage(buf: &mut Vec<u8>, tag: u32, usage: &Usage) {
    put::nested(buf, tag, |buf| {
        put::uint(buf, 1, usage.cpu_ms);
        put::uint(buf, 2, usage.peak_rss);
        put::uint(buf, 3, usage.tokens_in);
        put::uint(buf, 4, usage.tokens_out);
        put::uint(buf, 5, usage.cost_micros);
        put::uint(buf, 6, usage.tool_calls);
        put::text(buf, 7, &usage.model);
    });
}

fn put_failure(buf: &mut Vec<u8>, failure: &Failure) {
    put::nested(buf, 4, |buf| {
        put::text(buf, 1, &failure.kind);
        put::text(buf, 2, &failure.message);
        put::flag(buf, 3, failure.retryable);
        put_payload(buf, 4, &failure.details);
        put::text(buf, 5, &failure.stack);
    });
}
