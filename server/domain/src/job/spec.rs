//! What a caller asks for: immutable once submitted.

use crate::limits;
use crate::payload::Payload;
use crate::time::{Span, Time};
use std::sync::Arc;

/// A job as it was asked for. Rare settings sit in [`Options`] so that plain jobs stay small.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    pub topic: Arc<str>,
    pub payload: Payload,
    /// 0 (least) ..= 9 (most).
    pub priority: u8,
    pub options: Option<Box<Options>>,
}

/// Everything about a job that most jobs leave out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    pub idempotency_key: Option<Arc<str>>,
    pub labels: Vec<(Arc<str>, Arc<str>)>,
    /// Not before this time.
    pub schedule_time: Option<Time>,
    pub retry: RetryPolicy,
    pub timeouts: Timeouts,
    pub concurrency_key: Option<Arc<str>>,
    pub rate_key: Option<Arc<str>>,
    pub placement: Placement,
    pub parent_job_id: Option<Arc<str>>,
    pub metadata: Metadata,
    pub budget: Budget,
    pub retention: Option<Span>,
    pub trace_id: Option<Arc<str>>,
}

/// Who may serve the job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Placement {
    pub pool: Option<Arc<str>>,
    pub pool_required: bool,
    pub worker_id: Option<Arc<str>>,
    pub worker_required: bool,
    pub requires: Vec<Arc<str>>,
}

impl Placement {
    pub fn is_free(&self) -> bool {
        self.pool.is_none() && self.worker_id.is_none() && self.requires.is_empty()
    }
}

/// Who asks, in the words policy understands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    pub actor_id: Option<Arc<str>>,
    pub actor_type: Option<Arc<str>>,
    pub capability: Option<Arc<str>>,
    pub risk_tags: Vec<Arc<str>>,
}

/// What the job may spend; carried to the worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    pub max_tokens: Option<u64>,
    pub max_cost_micros: Option<u64>,
}

/// How to try again; absent values fall back to the topic's, then to the defaults.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RetryPolicy {
    pub max_attempts: Option<u32>,
    pub initial_backoff: Option<Span>,
    pub multiplier: Option<f64>,
    pub max_backoff: Option<Span>,
    pub jitter: Option<f64>,
    pub non_retryable_errors: Vec<Arc<str>>,
}

/// How long a job may take; absent values fall back to the topic's, then to the defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// From the later of create and schedule time to the first start.
    pub schedule_to_start: Option<Span>,
    /// From each start to its end; 1 h unless given.
    pub start_to_close: Option<Span>,
    /// Longest silence without progress, checkpoint or output.
    pub stall: Option<Span>,
    /// From create to the end, whatever happens.
    pub total: Option<Span>,
}

static PLAIN: std::sync::LazyLock<Options> = std::sync::LazyLock::new(Options::default);

impl Spec {
    pub fn new(topic: impl Into<Arc<str>>, payload: Payload) -> Spec {
        Spec { topic: topic.into(), payload, priority: limits::PRIORITY_DEFAULT, options: None }
    }

    /// The rare settings, or their defaults.
    pub fn options(&self) -> &Options {
        self.options.as_deref().unwrap_or(&PLAIN)
    }

    pub fn options_mut(&mut self) -> &mut Options {
        self.options.get_or_insert_default()
    }

    /// A hash over everything that was asked for; the same request gives the same number.
    pub fn fingerprint(&self) -> u128 {
        let mut hash = blake3::Hasher::new();
        let mut part = |bytes: &[u8]| {
            hash.update(&(bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        part(self.topic.as_bytes());
        part(self.payload.content_type.name().as_bytes());
        part(&self.payload.data);
        part(&[self.priority]);
        // The debug form lists every field in order; it is only compared with itself within one version,
        // and a changed form after an upgrade means a conflict is reported, never a second job.
        if let Some(options) = &self.options {
            part(format!("{options:?}").as_bytes());
        }
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.finalize().as_bytes()[..16]);
        u128::from_be_bytes(bytes)
    }
}

impl RetryPolicy {
    /// `self` where it speaks, `fallback` where it is silent.
    pub fn or(&self, fallback: &RetryPolicy) -> RetryPolicy {
        RetryPolicy {
            max_attempts: self.max_attempts.or(fallback.max_attempts),
            initial_backoff: self.initial_backoff.or(fallback.initial_backoff),
            multiplier: self.multiplier.or(fallback.multiplier),
            max_backoff: self.max_backoff.or(fallback.max_backoff),
            jitter: self.jitter.or(fallback.jitter),
            non_retryable_errors: if self.non_retryable_errors.is_empty() {
                fallback.non_retryable_errors.clone()
            } else {
                self.non_retryable_errors.clone()
            },
        }
    }
    pub fn max_attempts(&self) -> u32 {
        self.max_attempts.unwrap_or(limits::ATTEMPTS_DEFAULT)
    }
}

impl Timeouts {
    pub fn or(&self, fallback: &Timeouts) -> Timeouts {
        Timeouts {
            schedule_to_start: self.schedule_to_start.or(fallback.schedule_to_start),
            start_to_close: self.start_to_close.or(fallback.start_to_close),
            stall: self.stall.or(fallback.stall),
            total: self.total.or(fallback.total),
        }
    }
    pub fn start_to_close(&self) -> Span {
        self.start_to_close.unwrap_or(limits::START_TO_CLOSE_DEFAULT)
    }
}
