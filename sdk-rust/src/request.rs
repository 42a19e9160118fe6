//! What a caller wants done.

use crate::error::{Error, Result};
use crate::payload::{FromPayload, IntoPayload, Payload};
use crate::raw::pb;
use crate::time::{of_span, of_stamp, span, stamp};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::time::{Duration, SystemTime};

/// Named priority levels.
pub mod priority {
    /// Work that can wait.
    pub const BATCH: u8 = 2;
    /// The default.
    pub const NORMAL: u8 = 4;
    /// Somebody waits.
    pub const INTERACTIVE: u8 = 6;
    /// Before everything else.
    pub const CRITICAL: u8 = 8;
}

/// A job to submit. `O` is what its handler returns; a request made by hand has [`Payload`], one made by a `#[job]` the handler's own type.
///
/// ```
/// # use coretex_sdk::{JobRequest, priority};
/// # use std::time::Duration;
/// let request = JobRequest::new("mail.send")
///     .json(&serde_json::json!({"to": "a@example.org"}))?
///     .priority(priority::INTERACTIVE)
///     .label("team", "a")
///     .timeout(Duration::from_secs(30));
/// # Ok::<(), coretex_sdk::Error>(())
/// ```
#[must_use = "a request does nothing until it is submitted"]
pub struct JobRequest<O = Payload> {
    spec: Box<pb::JobSpec>,
    refused: Option<Error>,
    output: PhantomData<fn() -> O>,
}

/// How often and how fast failed attempts are repeated. What is left out takes the topic's value.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// Attempts in all, 1 to 100. Default 3.
    pub max_attempts: Option<u32>,
    /// Wait before the second attempt. Default 1 s.
    pub initial_backoff: Option<Duration>,
    /// Factor from each wait to the next. Default 2.
    pub multiplier: Option<f64>,
    /// Longest wait. Default 5 min.
    pub max_backoff: Option<Duration>,
    /// Share of the wait that is random. Default 0.2.
    pub jitter: Option<f64>,
    /// Failure kinds that end the job at once.
    pub non_retryable_errors: Vec<String>,
}

/// Time limits of a job. What is left out takes the topic's value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timeouts {
    /// Until the first start. Off by default.
    pub schedule_to_start: Option<Duration>,
    /// Of one attempt. Default 1 h.
    pub start_to_close: Option<Duration>,
    /// Longest silence of an attempt. Off by default.
    pub stall: Option<Duration>,
    /// Over all attempts. Off by default.
    pub total: Option<Duration>,
}

/// The most a job may use over all its attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Budget {
    /// Model tokens read.
    pub max_tokens_in: Option<u64>,
    /// Model tokens written.
    pub max_tokens_out: Option<u64>,
    /// Model tokens together.
    pub max_tokens_total: Option<u64>,
    /// Cost in millionths of the installation's currency.
    pub max_cost_micros: Option<u64>,
    /// Calls of tools.
    pub max_tool_calls: Option<u64>,
}

// === impl JobRequest ===

impl JobRequest {
    /// A job for a topic.
    pub fn new(topic: impl Into<String>) -> Self {
        let spec = pb::JobSpec { topic: topic.into(), ..Default::default() };
        Self { spec: Box::new(spec), refused: None, output: PhantomData }
    }

    /// Input as JSON.
    pub fn json<T: serde::Serialize + ?Sized>(self, value: &T) -> Result<Self> {
        Ok(self.payload(Payload::json(value)?))
    }
}

impl<O> JobRequest<O> {
    /// A job for a topic with its input. What cannot be written as a payload is refused by the submit.
    pub fn typed(topic: impl Into<String>, input: impl IntoPayload) -> Self {
        let spec = pb::JobSpec { topic: topic.into(), ..Default::default() };
        let mut request = Self { spec: Box::new(spec), refused: None, output: PhantomData };
        match input.into_payload() {
            Ok(payload) => request.spec.payload = Some(payload.into_pb()),
            Err(error) => request.refused = Some(error),
        }
        request
    }

    /// The same job with its result read as another type.
    pub fn returning<P: FromPayload>(self) -> JobRequest<P> {
        JobRequest { spec: self.spec, refused: self.refused, output: PhantomData }
    }

    /// Input as it is.
    pub fn payload(mut self, payload: Payload) -> Self {
        self.spec.payload = Some(payload.into_pb());
        self
    }

    /// Id chosen by the caller, unique in the namespace.
    pub fn job_id(mut self, id: impl Into<String>) -> Self {
        self.spec.job_id = id.into();
        self
    }

    /// Business key: the same key gives the same job.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.spec.idempotency_key = key.into();
        self
    }

    /// 0 (last) to 9 (first). Default 4. See [`priority`].
    pub fn priority(mut self, level: u8) -> Self {
        self.spec.priority = Some(level.into());
        self
    }

    /// Sets a label.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.spec.labels.insert(key.into(), value.into());
        self
    }

    /// Not to be started before this time.
    pub fn run_at(mut self, time: SystemTime) -> Self {
        self.spec.schedule_time = Some(stamp(time));
        self
    }

    /// Not to be started before this span is over, by the clock of this machine.
    pub fn run_in(self, delay: Duration) -> Self {
        self.run_at(SystemTime::now() + delay)
    }

    /// How failed attempts are repeated.
    pub fn retry_policy(mut self, policy: RetryPolicy) -> Self {
        self.spec.retry_policy = Some(policy.into_pb());
        self
    }

    /// Attempts in all, first one included.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.spec.retry_policy.get_or_insert_default().max_attempts = Some(attempts);
        self
    }

    /// Time limits.
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.spec.timeouts = Some(timeouts.into_pb());
        self
    }

    /// Time limit of one attempt.
    pub fn timeout(mut self, start_to_close: Duration) -> Self {
        self.spec.timeouts.get_or_insert_default().start_to_close = Some(span(start_to_close));
        self
    }

    /// Jobs of one topic that share this key run at most so many at a time as the topic says.
    pub fn concurrency_key(mut self, key: impl Into<String>) -> Self {
        self.spec.concurrency_key = key.into();
        self
    }

    /// Jobs of one topic that share this key start at most at the topic's rate.
    pub fn rate_key(mut self, key: impl Into<String>) -> Self {
        self.spec.rate_key = key.into();
        self
    }

    /// Pool it should preferably go to.
    pub fn prefer_pool(mut self, pool: impl Into<String>) -> Self {
        (self.spec.pool, self.spec.pool_required) = (pool.into(), false);
        self
    }

    /// Pool it must go to.
    pub fn pool(mut self, pool: impl Into<String>) -> Self {
        (self.spec.pool, self.spec.pool_required) = (pool.into(), true);
        self
    }

    /// Worker it should preferably go to.
    pub fn prefer_worker(mut self, worker_id: impl Into<String>) -> Self {
        (self.spec.worker_id, self.spec.worker_required) = (worker_id.into(), false);
        self
    }

    /// Worker it must go to.
    pub fn worker(mut self, worker_id: impl Into<String>) -> Self {
        (self.spec.worker_id, self.spec.worker_required) = (worker_id.into(), true);
        self
    }

    /// A capability its worker must have.
    pub fn require(mut self, capability: impl Into<String>) -> Self {
        self.spec.requires.push(capability.into());
        self
    }

    /// Job this one comes from.
    pub fn parent(mut self, job_id: impl Into<String>) -> Self {
        self.spec.parent_job_id = job_id.into();
        self
    }

    /// Who stands behind the request, and which kind of actor that is, for example `human` or `agent`.
    pub fn actor(mut self, id: impl Into<String>, kind: impl Into<String>) -> Self {
        let metadata = self.spec.metadata.get_or_insert_default();
        (metadata.actor_id, metadata.actor_type) = (id.into(), kind.into());
        self
    }

    /// What the job is about to exercise, for example `repo.write`. Read by policies.
    pub fn capability(mut self, capability: impl Into<String>) -> Self {
        self.spec.metadata.get_or_insert_default().capability = capability.into();
        self
    }

    /// Names a risk, for example `prod`. Read by policies.
    pub fn risk_tag(mut self, tag: impl Into<String>) -> Self {
        self.spec.metadata.get_or_insert_default().risk_tags.push(tag.into());
        self
    }

    /// What the job may use.
    pub fn budget(mut self, budget: Budget) -> Self {
        let Budget { max_tokens_in, max_tokens_out, max_tokens_total, max_cost_micros, max_tool_calls } =
            budget;
        self.spec.budget = Some(pb::Budget {
            max_tokens_in,
            max_tokens_out,
            max_tokens_total,
            max_cost_micros,
            max_tool_calls,
        });
        self
    }

    /// How long the record is kept after its end.
    pub fn retention(mut self, retention: Duration) -> Self {
        self.spec.retention = Some(span(retention));
        self
    }

    /// Trace it belongs to: a trace id, or a full `traceparent`.
    pub fn trace(mut self, trace: impl Into<String>) -> Self {
        self.spec.trace_id = trace.into();
        self
    }

    /// Its topic.
    pub fn topic(&self) -> &str {
        &self.spec.topic
    }

    /// Its input.
    pub fn input(&self) -> Option<Payload> {
        self.spec.payload.clone().map(Payload::from_pb)
    }

    /// Its labels.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.spec.labels
    }

    /// Its priority, if it says one.
    pub fn priority_level(&self) -> Option<i32> {
        self.spec.priority
    }

    /// Its retry policy, if it says one.
    pub fn retries(&self) -> Option<RetryPolicy> {
        self.spec.retry_policy.clone().map(RetryPolicy::from_pb)
    }

    /// Its time limits, if it says any.
    pub fn limits(&self) -> Option<Timeouts> {
        self.spec.timeouts.map(Timeouts::from_pb)
    }

    /// Its schedule time, if it says one.
    pub fn scheduled(&self) -> Option<SystemTime> {
        of_stamp(self.spec.schedule_time)
    }

    pub(crate) fn into_pb(self) -> Result<pb::JobSpec> {
        match self.refused {
            Some(error) => Err(error),
            None => Ok(*self.spec),
        }
    }
}

impl JobRequest {
    /// The request as it goes over the wire.
    pub(crate) fn from_pb(spec: pb::JobSpec) -> Self {
        Self { spec: Box::new(spec), refused: None, output: PhantomData }
    }
}

impl<O> Clone for JobRequest<O> {
    fn clone(&self) -> Self {
        Self {
            spec: self.spec.clone(),
            refused: self.refused.as_ref().map(Error::again),
            output: PhantomData,
        }
    }
}

impl<O> std::fmt::Debug for JobRequest<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = f.debug_struct("JobRequest");
        out.field("topic", &self.spec.topic).field("job_id", &self.spec.job_id);
        out.field("payload_bytes", &self.input().map_or(0, |input| input.len()));
        out.finish_non_exhaustive()
    }
}

// === impl RetryPolicy, Timeouts ===

impl RetryPolicy {
    /// So many attempts in all, first one included.
    pub fn attempts(max_attempts: u32) -> Self {
        Self { max_attempts: Some(max_attempts), ..Self::default() }
    }

    /// From this wait, doubling, to that one.
    pub fn backoff(mut self, initial: Duration, max: Duration) -> Self {
        (self.initial_backoff, self.max_backoff) = (Some(initial), Some(max));
        self
    }

    /// A failure kind that ends the job at once.
    pub fn never_on(mut self, kind: impl Into<String>) -> Self {
        self.non_retryable_errors.push(kind.into());
        self
    }

    pub(crate) fn into_pb(self) -> pb::RetryPolicy {
        pb::RetryPolicy {
            max_attempts: self.max_attempts,
            initial_backoff: self.initial_backoff.map(span),
            multiplier: self.multiplier,
            max_backoff: self.max_backoff.map(span),
            jitter: self.jitter,
            non_retryable_errors: self.non_retryable_errors,
        }
    }

    pub(crate) fn from_pb(policy: pb::RetryPolicy) -> Self {
        Self {
            max_attempts: policy.max_attempts,
            initial_backoff: of_span(policy.initial_backoff),
            multiplier: policy.multiplier,
            max_backoff: of_span(policy.max_backoff),
            jitter: policy.jitter,
            non_retryable_errors: policy.non_retryable_errors,
        }
    }
}

impl Timeouts {
    /// Until the first start.
    pub fn schedule_to_start(mut self, limit: Duration) -> Self {
        self.schedule_to_start = Some(limit);
        self
    }

    /// Of one attempt.
    pub fn start_to_close(mut self, limit: Duration) -> Self {
        self.start_to_close = Some(limit);
        self
    }

    /// Longest silence of an attempt.
    pub fn stall(mut self, limit: Duration) -> Self {
        self.stall = Some(limit);
        self
    }

    /// Over all attempts.
    pub fn total(mut self, limit: Duration) -> Self {
        self.total = Some(limit);
        self
    }

    pub(crate) fn into_pb(self) -> pb::Timeouts {
        pb::Timeouts {
            schedule_to_start: self.schedule_to_start.map(span),
            start_to_close: self.start_to_close.map(span),
            stall: self.stall.map(span),
            total: self.total.map(span),
        }
    }

    pub(crate) fn from_pb(timeouts: pb::Timeouts) -> Self {
        Self {
            schedule_to_start: of_span(timeouts.schedule_to_start),
            start_to_close: of_span(timeouts.start_to_close),
            stall: of_span(timeouts.stall),
            total: of_span(timeouts.total),
        }
    }
}
