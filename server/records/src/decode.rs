//! Bytes into a job. What a later record leaves out is taken from the job before it.

use crate::config::applied_of;
use crate::event::{cancel_of, entry_of, id_of, lease_of};
use crate::intern::Interner;
use crate::of_run::of_run_of;
use crate::terms::{remediation_of, terms_of};
use crate::{Damaged, check_version, wire};
use bytes::Bytes;
use coretex_domain::job::spec::{Budget, Metadata, Options, Placement, RetryPolicy, Timeouts};
use coretex_domain::job::{
    Counters, Event, Failure, Family, Job, Progress, Rare, Reserved, Spawn, Spec, State, StateKind, Usage,
};
use coretex_domain::payload::ContentType;
use coretex_domain::policy::{Decision, Verdict};
use coretex_domain::{Namespace, Payload, ShardId, Span, Time};
use prost::Message;
use std::sync::Arc;

/// Finds a decision by its number in the table that goes with the record.
pub type Decisions<'a> = &'a dyn Fn(u32) -> Option<Arc<Decision>>;

/// Decodes a whole job.
pub fn decode_job(bytes: &[u8], interner: &mut Interner, decisions: Decisions<'_>) -> Result<Job, Damaged> {
    decode_job_log(&wire::Job::decode(bytes)?, None, interner, decisions)
}

/// Restores a job from a log record and, where that is a change, the job before it.
pub fn decode_job_log(
    record: &wire::Job,
    base: Option<&Job>,
    interner: &mut Interner,
    decisions: Decisions<'_>,
) -> Result<Job, Damaged> {
    check_version(record.version)?;
    let id = id_of(record.id.as_ref())?;
    let head = record.head.as_ref().ok_or_else(|| Damaged(format!("job {id} without a head")))?;
    let mut history = Vec::new();
    let spec = match (&record.spec, base) {
        (Some(spec), _) => {
            history.reserve(record.entries.len());
            Arc::new(spec_of(spec, interner))
        }
        (None, Some(base)) => {
            let known = record.prior.as_ref().map_or(0, |p| p.known as usize);
            let kept = base.history.get(..known).ok_or_else(|| {
                Damaged(format!(
                    "job {id} continues after entry {known}, but only {} are known",
                    base.history.len()
                ))
            })?;
            history.reserve(known + record.entries.len());
            history.extend_from_slice(kept);
            base.spec.clone()
        }
        (None, None) => return Err(Damaged(format!("job {id} was changed, but never made"))),
    };
    for entry in &record.entries {
        history.push(entry_of(entry, interner)?);
    }
    let kept_checkpoint = base.filter(|_| record.keeps_checkpoint).and_then(|b| b.rare().checkpoint.clone());
    let namespace = match base {
        Some(base) if base.namespace.as_str() == record.namespace => base.namespace.clone(),
        Some(_) | None => Namespace::new(interner.text(&record.namespace)),
    };
    Ok(Job {
        shard: ShardId(u8::try_from(head.shard).map_err(|_| Damaged(format!("job {id} with a bad shard")))?),
        namespace,
        spec,
        state: state_of(head, &history, interner)?,
        revision: head.revision,
        place: head.place,
        counters: Counters {
            attempts: head.attempts,
            lost: head.lost,
            released: head.released,
            deliveries: head.deliveries,
            lease_serial: head.lease_serial,
        },
        create_time: Time(head.create_time),
        update_time: Time(head.update_time),
        start_time: head.start_time.map(Time),
        end_time: head.end_time.map(Time),
        expire_time: head.expire_time.map(Time),
        decision: find_decision(head, interner, decisions)?,
        worker_id: interner.opt_text(head.worker_id.as_deref()),
        result: record.result.as_ref().map(payload_of),
        rare: record
            .rare
            .as_ref()
            .map(|rare| rare_of(rare, kept_checkpoint, interner))
            .transpose()?
            .map(Box::new),
        history,
        id,
    })
}

pub(crate) fn find_decision(
    head: &wire::Head,
    interner: &mut Interner,
    decisions: Decisions<'_>,
) -> Result<Option<Arc<Decision>>, Damaged> {
    if let Some(number) = head.decision_ref.checked_sub(1) {
        let found =
            decisions(number).ok_or_else(|| Damaged(format!("decision {number} is not in its table")))?;
        return Ok(Some(found));
    }
    head.decision.as_ref().map(|d| decision_of(d, interner)).transpose()
}

fn state_of(
    head: &wire::Head,
    history: &[coretex_domain::job::Entry],
    interner: &mut Interner,
) -> Result<State, Damaged> {
    let kind = StateKind::from_number(head.state)
        .ok_or_else(|| Damaged(format!("job in unknown state {}", head.state)))?;
    let mut lease = || match &head.lease {
        Some(lease) => Ok(lease_of(lease, interner)),
        None => {
            let newest = history.iter().rev().find_map(|entry| {
                if let Event::Dispatched(lease) = &entry.event { Some(lease.clone()) } else { None }
            });
            newest.ok_or_else(|| Damaged("leased job without a lease".into()))
        }
    };
    Ok(match kind {
        StateKind::Pending => {
            let until = Time(head.pending_until);
            State::Pending(head.pending_reason.as_deref().map(|why| Box::new((until, why.into()))))
        }
        StateKind::AwaitingApproval => State::AwaitingApproval,
        StateKind::Scheduled => State::Scheduled,
        StateKind::Dispatched => State::Dispatched(lease()?),
        StateKind::Running => State::Running(lease()?),
        StateKind::Retrying => State::Retrying { due: Time(head.retry_due) },
        StateKind::Succeeded => State::Succeeded,
        StateKind::Failed => State::Failed,
        StateKind::TimedOut => State::TimedOut,
        StateKind::Cancelled => State::Cancelled,
        StateKind::Denied => State::Denied,
        StateKind::Expired => State::Expired,
    })
}

/// Payload bytes get memory of their own, so that a small payload never keeps a log segment alive.
pub(crate) fn own(bytes: &Bytes) -> Bytes {
    if bytes.is_empty() { Bytes::new() } else { Bytes::copy_from_slice(bytes) }
}

pub(crate) fn payload_of(payload: &wire::Payload) -> Payload {
    let content_type = match payload.kind {
        0 => ContentType::None,
        1 => ContentType::Json,
        2 => ContentType::Binary,
        _ => ContentType::Other(payload.name.as_str().into()),
    };
    Payload { content_type, data: own(&payload.data) }
}

pub(crate) fn spec_of(spec: &wire::Spec, interner: &mut Interner) -> Spec {
    Spec {
        topic: interner.text(&spec.topic),
        payload: spec.payload.as_ref().map(payload_of).unwrap_or_default(),
        priority: u8::try_from(spec.priority).unwrap_or(u8::MAX),
        options: spec.options.as_ref().map(|o| Box::new(options_of(o, interner))),
    }
}

pub(crate) fn pairs_of(pairs: &[wire::Pair], interner: &mut Interner) -> Vec<(Arc<str>, Arc<str>)> {
    pairs.iter().map(|p| (interner.text(&p.key), interner.text(&p.value))).collect()
}

pub(crate) fn texts_of(texts: &[String], interner: &mut Interner) -> Vec<Arc<str>> {
    texts.iter().map(|t| interner.text(t)).collect()
}

fn options_of(o: &wire::Options, interner: &mut Interner) -> Options {
    Options {
        idempotency_key: o.idempotency_key.as_deref().map(Into::into),
        labels: pairs_of(&o.labels, interner),
        schedule_time: o.schedule_time.map(Time),
        retry: o.retry.as_ref().map(|r| retry_of(r, interner)).unwrap_or_default(),
        timeouts: o.timeouts.as_ref().map(timeouts_of).unwrap_or_default(),
        concurrency_key: interner.opt_text(o.concurrency_key.as_deref()),
        rate_key: interner.opt_text(o.rate_key.as_deref()),
        placement: Placement {
            pool: interner.opt_text(o.pool.as_deref()),
            pool_required: o.pool_required,
            worker_id: interner.opt_text(o.worker_id.as_deref()),
            worker_required: o.worker_required,
            requires: texts_of(&o.requires, interner),
        },
        parent_job_id: o.parent_job_id.as_deref().map(Into::into),
        metadata: Metadata {
            actor_id: interner.opt_text(o.actor_id.as_deref()),
            actor_type: interner.opt_text(o.actor_type.as_deref()),
            capability: interner.opt_text(o.capability.as_deref()),
            risk_tags: texts_of(&o.risk_tags, interner),
        },
        budget: Budget { max_tokens: o.max_tokens, max_cost_micros: o.max_cost_micros },
        retention: o.retention.map(Span),
        trace_id: o.trace_id.as_deref().map(Into::into),
    }
}

pub(crate) fn retry_of(retry: &wire::Retry, interner: &mut Interner) -> RetryPolicy {
    RetryPolicy {
        max_attempts: retry.max_attempts,
        initial_backoff: retry.initial_backoff.map(Span),
        multiplier: retry.multiplier,
        max_backoff: retry.max_backoff.map(Span),
        jitter: retry.jitter,
        non_retryable_errors: texts_of(&retry.non_retryable_errors, interner),
    }
}

pub(crate) fn timeouts_of(timeouts: &wire::Timeouts) -> Timeouts {
    Timeouts {
        schedule_to_start: timeouts.schedule_to_start.map(Span),
        start_to_close: timeouts.start_to_close.map(Span),
        stall: timeouts.stall.map(Span),
        total: timeouts.total.map(Span),
    }
}

fn rare_of(
    rare: &wire::Rare,
    kept_checkpoint: Option<Payload>,
    interner: &mut Interner,
) -> Result<Rare, Damaged> {
    Ok(Rare {
        cancel: rare.cancel.as_ref().map(|c| cancel_of(c, interner)),
        progress: rare.progress.as_ref().map(|p| Progress {
            fraction: p.fraction,
            message: p.message.as_str().into(),
            attributes: pairs_of(&p.attributes, interner),
            time: Time(p.time),
        }),
        checkpoint: rare.checkpoint.as_ref().map(payload_of).or(kept_checkpoint),
        failure: rare.failure.as_ref().map(|f| Failure {
            kind: interner.text(&f.kind),
            message: interner.text(&f.message),
            retryable: f.retryable,
            details: f.details.as_ref().map(payload_of).unwrap_or_default(),
            stack: f.stack.as_str().into(),
        }),
        retry_of: rare.retry_of.as_ref().and_then(|id| id_of(Some(id)).ok()),
        retried_as: rare.retried_as.as_ref().and_then(|id| id_of(Some(id)).ok()),
        last_sign: rare.last_sign.map(Time),
        usage: rare.usage.as_ref().map(|u| Usage {
            cpu_ms: u.cpu_ms,
            peak_rss: u.peak_rss,
            tokens_in: u.tokens_in,
            tokens_out: u.tokens_out,
            cost_micros: u.cost_micros,
            tool_calls: u.tool_calls,
            model: interner.text(&u.model),
        }),
        config: rare.config.as_ref().and_then(|c| applied_of(c, interner)).map(Arc::new),
        submitted_as: rare
            .submitted_as
            .as_ref()
            .and_then(|print| <[u8; 16]>::try_from(&print[..]).ok())
            .map(u128::from_be_bytes),
        reserved: Reserved { tokens: rare.reserved_tokens, cost_micros: rare.reserved_cost_micros },
        family: rare.family.as_ref().map(|family| Box::new(family_of(family))),
        of_run: rare.of_run.as_ref().map(|one| of_run_of(one, interner)).transpose()?.map(Box::new),
    })
}

fn family_of(family: &wire::Family) -> Family {
    let spawn_of = |spawn: &wire::Spawn| {
        Some(Spawn {
            name: spawn.name.as_str().into(),
            asked: u128::from_be_bytes(<[u8; 16]>::try_from(&spawn.asked[..]).ok()?),
            count: spawn.count,
            time: Time(spawn.time),
        })
    };
    Family {
        root: family.root.as_ref().and_then(|root| id_of(Some(root)).ok()),
        depth: family.depth,
        closes_with_parent: family.closes_with_parent,
        borrowed: Reserved { tokens: family.borrowed_tokens, cost_micros: family.borrowed_cost_micros },
        lent: Reserved { tokens: family.lent_tokens, cost_micros: family.lent_cost_micros },
        spawns: family.spawns.iter().filter_map(spawn_of).collect(),
    }
}

/// The decision of a decoded message, shared with equal ones.
pub fn decision_of(d: &wire::Decision, interner: &mut Interner) -> Result<Arc<Decision>, Damaged> {
    let verdict = match d.verdict {
        1 => Verdict::Allow,
        2 => Verdict::Deny,
        3 => Verdict::RequireApproval,
        4 => Verdict::Throttle,
        5 => Verdict::AllowWithConstraints,
        unknown => return Err(Damaged(format!("decision with unknown verdict {unknown}"))),
    };
    let decision = Decision {
        verdict,
        remediations: d.remediations.iter().map(|r| remediation_of(r, interner)).collect(),
        terms: d.terms.as_ref().map(|terms| terms_of(terms, interner)).transpose()?,
        rule_id: interner.text(&d.rule_id),
        reason: interner.text(&d.reason),
        policy: interner.text(&d.policy),
        policy_version: d.policy_version,
    };
    Ok(interner.decision(decision))
}
