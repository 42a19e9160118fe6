//! Job specs. In: a spec from the wire. Out: a checked ask and warnings. Refused: every bad field at once.

use super::time::{instant, positive, span};
use super::{Faults, payload, time};
use coretex_contract::v1 as pb;
use coretex_domain::job::spec::{Budget, Metadata, Options, Placement, RetryPolicy, Timeouts};
use coretex_domain::job::{JobId, Spec};
use coretex_domain::limits;
use coretex_domain::names::{self, shown};
use coretex_domain::payload::Payload;
use coretex_domain::{Reason, Refusal, Time};
use coretex_engine::api::Ask;
use std::sync::Arc;

mod write;

pub(crate) use write::{labels, write, write_metadata, write_retry, write_timeouts};

/// Topics remembered by one reader: a stream uses few, and the text of each is kept once.
const TOPICS_MAX: usize = 16;

/// Reads the specs of one call or stream.
pub(crate) struct SpecReader {
    pub(crate) now: Time,
    payload_max: usize,
    /// Trace of the call, for specs that name none.
    trace: Option<Arc<str>>,
    topics: Vec<Arc<str>>,
}

impl SpecReader {
    pub(crate) fn new(now: Time, payload_max: usize, trace: Option<Arc<str>>) -> SpecReader {
        SpecReader { now, payload_max, trace, topics: Vec::new() }
    }

    /// Reads one spec. `frame` is about the size of the buffer its payload shares.
    pub(crate) fn read(
        &mut self,
        spec: Option<pb::JobSpec>,
        frame: usize,
    ) -> Result<(Ask, Vec<pb::Warning>), Refusal> {
        let Some(mut spec) = spec else { return Err(Refusal::field("spec", "required: topic is missing")) };
        let mut faults = Faults::default();
        let topic = self.topic(&mut faults, &spec.topic);
        let payload =
            payload::read(&mut faults, "spec.payload", spec.payload.take(), self.payload_max, frame);
        let priority = priority(&mut faults, spec.priority);
        let mut warnings = Vec::new();
        let (job_id, options) = if is_plain(&spec) && self.trace.is_none() {
            (None, None)
        } else {
            self.rare(&mut faults, spec, &mut warnings)
        };
        faults.into_result()?;
        Ok((Ask { spec: Arc::new(Spec { topic, payload, priority, options }), job_id }, warnings))
    }

    /// Reads the edited input of a retry.
    pub(crate) fn edited(&self, given: Option<pb::Payload>) -> Result<Option<Payload>, Refusal> {
        let Some(given) = given else { return Ok(None) };
        let mut faults = Faults::default();
        let payload = payload::read(&mut faults, "edited_input", Some(given), self.payload_max, usize::MAX);
        faults.into_result().map(|()| Some(payload))
    }

    fn topic(&mut self, faults: &mut Faults, name: &str) -> Arc<str> {
        if let Some(known) = self.topics.iter().find(|t| t.as_ref() == name) {
            return known.clone();
        }
        let topic: Arc<str> = name.into();
        if name.is_empty() {
            faults.add("spec.topic", "required");
        } else if let Err(message) = names::check_topic(name) {
            faults.add("spec.topic", message);
        } else if self.topics.len() < TOPICS_MAX {
            self.topics.push(topic.clone());
        }
        topic
    }

    fn rare(
        &self,
        faults: &mut Faults,
        spec: pb::JobSpec,
        warnings: &mut Vec<pb::Warning>,
    ) -> (Option<JobId>, Option<Box<Options>>) {
        let job_id = chosen_id(faults, &spec.job_id);
        let idempotency_key = faults.key("spec.idempotency_key", &spec.idempotency_key);
        let trace_id = match trace_id(faults, &spec.trace_id) {
            // A repeat under the same key comes with another trace, and is the same request all the same.
            None if job_id.is_none() && idempotency_key.is_none() => self.trace.clone(),
            named => named,
        };
        let schedule_time = instant(faults, "spec.schedule_time", spec.schedule_time, self.now);
        if schedule_time.is_some_and(|t| t < self.now) {
            let message = "the schedule time is in the past; the job runs now";
            warnings.push(warning(Reason::ScheduleTimePast, "spec.schedule_time", message));
        }
        let options = Options {
            labels: faults.labels("spec.labels", spec.labels.into_iter()),
            schedule_time,
            retry: retry_policy(faults, "spec.retry_policy", spec.retry_policy),
            timeouts: timeouts(faults, "spec.timeouts", spec.timeouts),
            concurrency_key: faults.key("spec.concurrency_key", &spec.concurrency_key),
            rate_key: faults.key("spec.rate_key", &spec.rate_key),
            placement: Placement {
                pool: faults.name("spec.pool", &spec.pool),
                pool_required: required(faults, "pool", spec.pool_required, &spec.pool),
                worker_id: faults.name("spec.worker_id", &spec.worker_id),
                worker_required: required(faults, "worker", spec.worker_required, &spec.worker_id),
                requires: faults.names("spec.requires", &spec.requires, limits::REQUIRES_MAX),
            },
            parent_job_id: parent(faults, &spec.parent_job_id),
            metadata: metadata(faults, spec.metadata),
            budget: budget(faults, spec.budget),
            retention: span(
                faults,
                "spec.retention",
                spec.retention,
                limits::RETENTION_MIN,
                limits::RETENTION_MAX,
            ),
            idempotency_key,
            trace_id,
        };
        (job_id, (options != Options::default()).then(|| Box::new(options)))
    }
}

pub(crate) fn warning(reason: Reason, field: &str, message: &str) -> pb::Warning {
    pb::Warning { reason: reason.name().to_owned(), field: field.to_owned(), message: message.to_owned() }
}

/// True for a spec of topic, payload and priority only.
fn is_plain(spec: &pb::JobSpec) -> bool {
    spec.job_id.is_empty()
        && spec.idempotency_key.is_empty()
        && spec.labels.is_empty()
        && spec.schedule_time.is_none()
        && spec.retry_policy.is_none()
        && spec.timeouts.is_none()
        && spec.concurrency_key.is_empty()
        && spec.rate_key.is_empty()
        && spec.pool.is_empty()
        && spec.worker_id.is_empty()
        && spec.requires.is_empty()
        && spec.parent_job_id.is_empty()
        && spec.metadata.is_none()
        && spec.budget.is_none()
        && spec.retention.is_none()
        && spec.trace_id.is_empty()
        && !spec.pool_required
        && !spec.worker_required
}

fn priority(faults: &mut Faults, given: Option<i32>) -> u8 {
    let priority = given.unwrap_or(limits::PRIORITY_DEFAULT.into());
    match u8::try_from(priority) {
        Ok(level) if level <= limits::PRIORITY_MAX => level,
        _ => {
            faults.add("spec.priority", format!("must be 0..={}, got {priority}", limits::PRIORITY_MAX));
            limits::PRIORITY_DEFAULT
        }
    }
}

fn chosen_id(faults: &mut Faults, text: &str) -> Option<JobId> {
    if text.is_empty() {
        return None;
    }
    match JobId::parse_chosen(text) {
        Ok(id) => Some(id),
        Err(fault) => {
            faults.add("spec.job_id", format!("{}, got {}", fault.0, shown(text)));
            None
        }
    }
}

fn parent(faults: &mut Faults, text: &str) -> Option<Arc<str>> {
    if text.is_empty() {
        return None;
    }
    if let Err(fault) = JobId::parse(text) {
        faults.add("spec.parent_job_id", format!("{}, got {}", fault.0, shown(text)));
    }
    Some(text.into())
}

fn required(faults: &mut Faults, what: &str, is_required: bool, name: &str) -> bool {
    if is_required && name.is_empty() {
        let named = if what == "pool" { "spec.pool" } else { "spec.worker_id" };
        faults.add(format!("spec.{what}_required"), format!("needs {named}"));
    }
    is_required
}

fn trace_id(faults: &mut Faults, text: &str) -> Option<Arc<str>> {
    if text.is_empty() {
        return None;
    }
    if !is_trace(text) {
        let message = format!("must be 32 lower-case hex digits or a W3C traceparent, got {}", shown(text));
        faults.add("spec.trace_id", message);
    }
    Some(text.into())
}

fn is_trace(text: &str) -> bool {
    let hex = |part: &str, len| {
        part.len() == len
            && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            && part.bytes().any(|b| b != b'0')
    };
    let parts: Vec<&str> = text.split('-').collect();
    match parts.as_slice() {
        [trace] => hex(trace, 32),
        ["00", trace, parent, flags] => {
            hex(trace, 32)
                && hex(parent, 16)
                && flags.len() == 2
                && flags.bytes().all(|b| b.is_ascii_hexdigit())
        }
        _ => false,
    }
}

/// The trace id inside a `traceparent`.
pub(crate) fn trace_of(traceparent: &str) -> Option<Arc<str>> {
    is_trace(traceparent).then(|| traceparent.get(3..35)).flatten().map(Arc::from)
}

/// Checks a retry policy, of a job or a topic.
pub(crate) fn retry_policy(faults: &mut Faults, field: &str, given: Option<pb::RetryPolicy>) -> RetryPolicy {
    let Some(given) = given else { return RetryPolicy::default() };
    let at = |name: &str| format!("{field}.{name}");
    let policy = RetryPolicy {
        max_attempts: given.max_attempts,
        initial_backoff: positive(faults, &at("initial_backoff"), given.initial_backoff),
        multiplier: given.multiplier,
        max_backoff: positive(faults, &at("max_backoff"), given.max_backoff),
        jitter: given.jitter,
        non_retryable_errors: failure_types(faults, &at("non_retryable_errors"), &given.non_retryable_errors),
    };
    if let Some(n) = policy.max_attempts.filter(|n| !(1..=limits::ATTEMPTS_MAX).contains(n)) {
        faults.add(at("max_attempts"), format!("must be 1..={}, got {n}", limits::ATTEMPTS_MAX));
    }
    // Written so that NaN is out of range too.
    if let Some(m) = policy.multiplier.filter(|m| !(1.0..=limits::MULTIPLIER_MAX).contains(m)) {
        faults.add(at("multiplier"), format!("must be 1..={}, got {m}", limits::MULTIPLIER_MAX));
    }
    if let Some(j) = policy.jitter.filter(|j| !(0.0..=1.0).contains(j)) {
        faults.add(at("jitter"), format!("must be 0..=1, got {j}"));
    }
    if let (Some(initial), Some(most)) = (policy.initial_backoff, policy.max_backoff)
        && initial > most
    {
        let message =
            format!("must not exceed max_backoff ({}), got {}", time::print(most), time::print(initial));
        faults.add(at("initial_backoff"), message);
    }
    policy
}

fn failure_types(faults: &mut Faults, field: &str, given: &[String]) -> Vec<Arc<str>> {
    if given.len() > limits::NON_RETRYABLE_MAX {
        faults.add(
            field,
            format!("must have at most {} items, got {}", limits::NON_RETRYABLE_MAX, given.len()),
        );
        return Vec::new();
    }
    for (n, kind) in given.iter().enumerate() {
        if kind.trim().is_empty() || kind.len() > limits::FAILURE_TYPE_LEN_MAX {
            let message = format!("must be 1..={} bytes, got {}", limits::FAILURE_TYPE_LEN_MAX, shown(kind));
            faults.add(format!("{field}[{n}]"), message);
        }
    }
    given.iter().map(|kind| kind.as_str().into()).collect()
}

/// Checks time limits, of a job or a topic.
pub(crate) fn timeouts(faults: &mut Faults, field: &str, given: Option<pb::Timeouts>) -> Timeouts {
    let Some(given) = given else { return Timeouts::default() };
    let at = |name: &str| format!("{field}.{name}");
    Timeouts {
        schedule_to_start: positive(faults, &at("schedule_to_start"), given.schedule_to_start),
        start_to_close: positive(faults, &at("start_to_close"), given.start_to_close),
        stall: positive(faults, &at("stall"), given.stall),
        total: positive(faults, &at("total"), given.total),
    }
}

fn metadata(faults: &mut Faults, given: Option<pb::JobMetadata>) -> Metadata {
    let Some(given) = given else { return Metadata::default() };
    Metadata {
        actor_id: faults.key("spec.metadata.actor_id", &given.actor_id),
        actor_type: faults.key("spec.metadata.actor_type", &given.actor_type),
        capability: faults.key("spec.metadata.capability", &given.capability),
        risk_tags: faults.names("spec.metadata.risk_tags", &given.risk_tags, limits::RISK_TAGS_MAX),
    }
}

fn budget(faults: &mut Faults, given: Option<pb::Budget>) -> Budget {
    let Some(given) = given else { return Budget::default() };
    let unkept = [
        ("max_tokens_in", given.max_tokens_in),
        ("max_tokens_out", given.max_tokens_out),
        ("max_tool_calls", given.max_tool_calls),
    ];
    for (name, _) in unkept.iter().filter(|(_, limit)| limit.is_some()) {
        faults.add_as(
            Reason::UnsupportedByStore,
            format!("spec.budget.{name}"),
            "is not offered by this build; max_tokens_total and max_cost_micros are",
        );
    }
    Budget { max_tokens: given.max_tokens_total, max_cost_micros: given.max_cost_micros }
}

#[cfg(test)]
mod tests;
