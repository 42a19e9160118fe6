//! Work: the settings of a job, or of a step of the step library.

use super::{Reader, literal, template, templates};
use crate::library;
use crate::limits::*;
use crate::model::{Doer, Work};
use coretex_document::{Fields, Node, Notes, Spot};
use coretex_domain::job::spec::{Budget, Placement, RetryPolicy, Timeouts};
use coretex_domain::limits::{
    ATTEMPTS_MAX, HORIZON, KEY_LEN_MAX, LABELS_MAX, MULTIPLIER_MAX, NON_RETRYABLE_MAX, PRIORITY_MAX,
    REQUIRES_MAX, RISK_TAGS_MAX, WORKER_ID_LEN_MAX,
};
use coretex_domain::names::{self, shown};
use coretex_domain::nearest::hint;
use coretex_domain::{Span, config};
use std::sync::Arc;

/// Keys of a step that does work, beside those of every step.
pub(crate) const WORK_KEYS: &[&str] = &[
    "input",
    "retry",
    "timeout",
    "timeouts",
    "labels",
    "pool",
    "pool_required",
    "worker_id",
    "worker_required",
    "requires",
    "priority",
    "concurrency_key",
    "rate_key",
    "idempotency_key",
    "capability",
    "risk_tags",
    "budget",
    "config",
];
/// Keys of a step done for each item.
pub(crate) const FOR_EACH_KEYS: &[&str] = &["for_each", "max_parallel", "on_item_failure"];
pub(crate) const RETRY_KEYS: &[&str] =
    &["max_attempts", "initial_backoff", "multiplier", "max_backoff", "jitter", "non_retryable_errors"];
pub(crate) const TIMEOUT_KEYS: &[&str] = &["schedule_to_start", "start_to_close", "stall", "total"];
pub(crate) const BUDGET_KEYS: &[&str] = &["max_tokens", "max_cost_micros"];

/// Hints to workers mean nothing to steps the server runs itself.
const WORKER_KEYS: &[&str] = &["pool", "pool_required", "worker_id", "worker_required", "requires"];

impl Reader {
    /// The work of a step whose kind is `word`: `topic` or `uses`.
    pub(super) fn work(&mut self, word: &str, fields: &Fields<'_>) -> Option<Work> {
        let doer = match word {
            "topic" => topic(fields, &mut self.notes).map(Doer::Topic),
            _ => built_in(fields, &mut self.notes).map(Doer::BuiltIn),
        };
        let input = fields.spot("input").and_then(|spot| self.shape(spot, &fields.path("input")));
        let notes = &mut self.notes;
        if let Some(Doer::BuiltIn(name)) = &doer {
            for key in WORKER_KEYS {
                if let Some(spot) = fields.spot(key) {
                    let told = format!("means nothing to `uses: {name}`, which no worker does");
                    notes.at(spot, &fields.path(key), told);
                }
            }
            library::check(name, fields, input.as_ref(), notes);
        }
        let keyed = |name: &str, notes: &mut Notes| {
            fields.spot(name).and_then(|spot| template(spot, &fields.path(name), notes))
        };
        Some(Work {
            input,
            retry: retry(fields, notes),
            timeouts: timeouts(fields, notes),
            labels: templates(fields, "labels", LABELS_MAX, notes),
            placement: placement(fields, notes),
            priority: fields
                .count("priority", 0, PRIORITY_MAX.into(), notes)
                .and_then(|n| u8::try_from(n).ok()),
            concurrency_key: keyed("concurrency_key", notes),
            rate_key: keyed("rate_key", notes),
            idempotency_key: keyed("idempotency_key", notes),
            capability: fields.text("capability", KEY_LEN_MAX, notes),
            risk_tags: texts(fields, "risk_tags", RISK_TAGS_MAX, notes),
            budget: budget(fields, notes),
            config: own_config(fields, notes),
            doer: doer?,
        })
    }

    /// What undoes a step: work without conditions of its own.
    pub(super) fn compensation(&mut self, spot: &Spot, path: &str) -> Option<Box<Work>> {
        let Node::Map(found) = &spot.value else {
            let told = format!("is {}, where work is wanted, as in {{topic: job.undo}}", spot.value.kind());
            self.notes.at(spot, path, told);
            return None;
        };
        let has = |word: &str| found.iter().any(|(key, _)| key.value == word);
        let word = match (has("topic"), has("uses")) {
            (true, false) => "topic",
            (false, true) => "uses",
            (true, true) => {
                self.notes.at(spot, path, "has both `topic` and `uses`; it does one thing");
                return None;
            }
            (false, false) => {
                self.notes.at(spot, path, "does nothing; it has a `topic`, or `uses` a step of the library");
                return None;
            }
        };
        let keys: Vec<&str> = std::iter::once(word).chain(WORK_KEYS.iter().copied()).collect();
        let fields = self.notes.map(spot, path, &keys)?;
        self.work(word, &fields).map(Box::new)
    }
}

fn topic(fields: &Fields<'_>, notes: &mut Notes) -> Option<Arc<str>> {
    let topic = fields.text("topic", TEXT_LEN_MAX, notes)?;
    if let Err(told) = names::check_topic(&topic)
        && let Some(spot) = fields.spot("topic")
    {
        notes.at(spot, &fields.path("topic"), told);
    }
    Some(topic)
}

fn built_in(fields: &Fields<'_>, notes: &mut Notes) -> Option<Arc<str>> {
    let name = fields.text("uses", TEXT_LEN_MAX, notes)?;
    let known = || library::NAMES.iter().copied();
    if !known().any(|one| *one == *name)
        && let Some(spot) = fields.spot("uses")
    {
        let all = known().collect::<Vec<_>>().join(", ");
        let told = format!("is {}; the step library has {all}{}", shown(&name), hint(&name, known()));
        notes.at(spot, &fields.path("uses"), told);
        return None;
    }
    Some(name)
}

fn retry(fields: &Fields<'_>, notes: &mut Notes) -> RetryPolicy {
    let Some(spot) = fields.spot("retry") else { return RetryPolicy::default() };
    let Some(fields) = notes.map(spot, &fields.path("retry"), RETRY_KEYS) else {
        return RetryPolicy::default();
    };
    RetryPolicy {
        max_attempts: fields.count("max_attempts", 1, ATTEMPTS_MAX, notes),
        initial_backoff: fields.span("initial_backoff", Span(0), HORIZON, notes),
        multiplier: number(&fields, "multiplier", 1.0, MULTIPLIER_MAX, notes),
        max_backoff: fields.span("max_backoff", Span(0), HORIZON, notes),
        jitter: number(&fields, "jitter", 0.0, 1.0, notes),
        non_retryable_errors: texts(&fields, "non_retryable_errors", NON_RETRYABLE_MAX, notes),
    }
}

/// A number with a fraction, or a whole one.
fn number(fields: &Fields<'_>, name: &str, least: f64, most: f64, notes: &mut Notes) -> Option<f64> {
    let spot = fields.spot(name)?;
    let found = match &spot.value {
        Node::Whole(value) => *value as f64,
        Node::Float(value) => *value,
        other => {
            notes.at(spot, &fields.path(name), format!("is {}, where a number is wanted", other.kind()));
            return None;
        }
    };
    if (least..=most).contains(&found) {
        return Some(found);
    }
    notes.at(spot, &fields.path(name), format!("is {found}, outside of {least} … {most}"));
    None
}

fn timeouts(fields: &Fields<'_>, notes: &mut Notes) -> Timeouts {
    let short = fields.span("timeout", TIMER_MIN, TIMER_MAX, notes);
    let Some(spot) = fields.spot("timeouts") else {
        return Timeouts { start_to_close: short, ..Timeouts::default() };
    };
    let Some(inner) = notes.map(spot, &fields.path("timeouts"), TIMEOUT_KEYS) else {
        return Timeouts::default();
    };
    let read = |name: &str, notes: &mut Notes| inner.span(name, TIMER_MIN, TIMER_MAX, notes);
    let start_to_close = read("start_to_close", notes);
    if let (Some(_), Some(spot)) = (start_to_close.and(short), fields.spot("timeout")) {
        notes.at(
            spot,
            &fields.path("timeout"),
            "is `timeouts.start_to_close` by its short name; give one of them",
        );
    }
    Timeouts {
        schedule_to_start: read("schedule_to_start", notes),
        start_to_close: start_to_close.or(short),
        stall: read("stall", notes),
        total: read("total", notes),
    }
}

fn placement(fields: &Fields<'_>, notes: &mut Notes) -> Placement {
    let pool = fields.text("pool", WORKER_ID_LEN_MAX, notes);
    let worker_id = fields.text("worker_id", WORKER_ID_LEN_MAX, notes);
    for (name, value) in [("pool", &pool), ("worker_id", &worker_id)] {
        if let (Some(value), Some(spot)) = (value, fields.spot(name))
            && let Err(told) = names::check_worker_name(value)
        {
            notes.at(spot, &fields.path(name), told);
        }
    }
    for (name, owner) in [("pool_required", "pool"), ("worker_required", "worker_id")] {
        if let (Some(spot), false) = (fields.spot(name), fields.has(owner)) {
            notes.at(spot, &fields.path(name), format!("belongs to `{owner}`, which is not there"));
        }
    }
    Placement {
        pool,
        pool_required: fields.is_true("pool_required", notes).unwrap_or(false),
        worker_id,
        worker_required: fields.is_true("worker_required", notes).unwrap_or(false),
        requires: texts(fields, "requires", REQUIRES_MAX, notes),
    }
}

fn texts(fields: &Fields<'_>, name: &str, most: usize, notes: &mut Notes) -> Vec<Arc<str>> {
    let Some(found) = fields.texts(name, KEY_LEN_MAX, notes) else { return Vec::new() };
    if let (true, Some(spot)) = (found.len() > most, fields.spot(name)) {
        notes.at(spot, &fields.path(name), format!("has {} entries, at most {most}", found.len()));
    }
    found
}

fn budget(fields: &Fields<'_>, notes: &mut Notes) -> Budget {
    let Some(spot) = fields.spot("budget") else { return Budget::default() };
    let Some(fields) = notes.map(spot, &fields.path("budget"), BUDGET_KEYS) else { return Budget::default() };
    let read = |name: &str, notes: &mut Notes| fields.whole(name, 1, i64::MAX as u64, notes);
    Budget { max_tokens: read("max_tokens", notes), max_cost_micros: read("max_cost_micros", notes) }
}

fn own_config(fields: &Fields<'_>, notes: &mut Notes) -> Option<serde_json::Value> {
    let spot = fields.spot("config")?;
    let path = fields.path("config");
    let value = literal(spot, &path, notes)?;
    let faults = config::check_data(&path, &value);
    if faults.is_empty() {
        return Some(value);
    }
    for fault in faults {
        notes.at(spot, &fault.field, fault.message);
    }
    None
}
