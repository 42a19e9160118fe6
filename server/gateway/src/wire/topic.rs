//! Topics: settings and masks from the wire, topics and their counters to it.

use super::Faults;
use super::spec::{retry_policy, timeouts, write_retry, write_timeouts};
use super::time::{duration, span, timestamp};
use coretex_contract::v1 as pb;
use coretex_domain::job::StateKind;
use coretex_domain::job::spec::{RetryPolicy, Timeouts};
use coretex_domain::limits;
use coretex_domain::names::shown;
use coretex_domain::topic::{Rate, Settings};
use coretex_domain::{Refusal, Span, Time};
use coretex_engine::TopicView;

/// A change of settings, to be applied to what the topic has now.
pub(crate) type Change = Box<dyn FnOnce(&mut Settings) + Send>;

const RETRY_FIELDS: [&str; 6] =
    ["max_attempts", "initial_backoff", "multiplier", "max_backoff", "jitter", "non_retryable_errors"];
const TIMEOUT_FIELDS: [&str; 4] = ["schedule_to_start", "start_to_close", "stall", "total"];
const FIELDS: [&str; 9] = [
    "concurrency_per_key",
    "max_running",
    "rate",
    "priority_ageing",
    "retention",
    "dead_letter_retention",
    "dead_letters",
    "default_retry_policy",
    "default_timeouts",
];

/// Waiting that never raises a priority.
const NEVER: Span = Span(u64::MAX);

/// Reads settings and the paths to change. Without paths every field that is set changes.
pub(crate) fn change(given: pb::TopicSettings, mask: &[String]) -> Result<Change, Refusal> {
    let mut faults = Faults::default();
    let paths = if mask.is_empty() { set_paths(&given) } else { mask.to_vec() };
    for path in &paths {
        check_path(&mut faults, path);
    }
    let next = settings(&mut faults, given);
    faults.into_result()?;
    Ok(Box::new(move |present| {
        for path in &paths {
            apply(present, &next, path);
        }
    }))
}

fn settings(faults: &mut Faults, given: pb::TopicSettings) -> Settings {
    let count = |faults: &mut Faults, field: &str, value: Option<u32>, most: u32| {
        if let Some(n) = value.filter(|n| !(1..=most).contains(n)) {
            faults.add(field, format!("must be 1..={most}, got {n}"));
        }
        value
    };
    let (least, most) = (limits::RETENTION_MIN, limits::RETENTION_MAX);
    let dead_letters = pb::DeadLetterMode::try_from(given.dead_letters);
    if dead_letters.is_err() {
        faults.add("settings.dead_letters", format!("unknown, got {}", given.dead_letters));
    }
    let rate = given.rate.map(|rate| read_rate(faults, rate));
    let ageing = span(faults, "settings.priority_ageing", given.priority_ageing, Span::ZERO, limits::HORIZON);
    if ageing.is_some_and(|a| a > Span::ZERO && a < Span::secs(1)) {
        faults.add("settings.priority_ageing", "must be 0s for never, or at least 1s");
    }
    Settings {
        concurrency_per_key: count(
            faults,
            "settings.concurrency_per_key",
            given.concurrency_per_key,
            100_000,
        ),
        max_running: count(faults, "settings.max_running", given.max_running, u32::MAX),
        rate,
        rate_per_key: rate,
        ageing: ageing.map(|a| if a == Span::ZERO { NEVER } else { a }),
        retention: span(faults, "settings.retention", given.retention, least, most),
        dead_letter_retention: span(
            faults,
            "settings.dead_letter_retention",
            given.dead_letter_retention,
            least,
            most,
        ),
        dead_letters_off: dead_letters == Ok(pb::DeadLetterMode::Off),
        retry: retry_policy(faults, "settings.default_retry_policy", given.default_retry_policy),
        timeouts: timeouts(faults, "settings.default_timeouts", given.default_timeouts),
    }
}

fn read_rate(faults: &mut Faults, rate: pb::RateLimit) -> Rate {
    if rate.limit == 0 {
        faults.add("settings.rate.limit", "must be at least 1, got 0");
    }
    if rate.per.is_none() {
        faults.add("settings.rate.per", "required");
    }
    let per = span(faults, "settings.rate.per", rate.per, Span(1), Span::hours(24));
    Rate { limit: rate.limit, per: per.unwrap_or(Span::secs(1)) }
}

fn set_paths(given: &pb::TopicSettings) -> Vec<String> {
    let mut paths = Vec::new();
    let set = [
        given.concurrency_per_key.is_some(),
        given.max_running.is_some(),
        given.rate.is_some(),
        given.priority_ageing.is_some(),
        given.retention.is_some(),
        given.dead_letter_retention.is_some(),
        given.dead_letters != 0,
    ];
    paths.extend(FIELDS.iter().zip(set).filter(|(_, is_set)| *is_set).map(|(name, _)| (*name).to_owned()));
    if let Some(retry) = &given.default_retry_policy {
        let set = [
            retry.max_attempts.is_some(),
            retry.initial_backoff.is_some(),
            retry.multiplier.is_some(),
            retry.max_backoff.is_some(),
            retry.jitter.is_some(),
            !retry.non_retryable_errors.is_empty(),
        ];
        let set = RETRY_FIELDS.iter().zip(set).filter(|(_, is_set)| *is_set);
        paths.extend(set.map(|(name, _)| format!("default_retry_policy.{name}")));
    }
    if let Some(t) = &given.default_timeouts {
        let set =
            [t.schedule_to_start.is_some(), t.start_to_close.is_some(), t.stall.is_some(), t.total.is_some()];
        let set = TIMEOUT_FIELDS.iter().zip(set).filter(|(_, is_set)| *is_set);
        paths.extend(set.map(|(name, _)| format!("default_timeouts.{name}")));
    }
    paths
}

fn check_path(faults: &mut Faults, path: &str) {
    let known = match path.split_once('.') {
        None => FIELDS.contains(&path),
        Some(("default_retry_policy", field)) => RETRY_FIELDS.contains(&field),
        Some(("default_timeouts", field)) => TIMEOUT_FIELDS.contains(&field),
        Some(("rate", _)) => false,
        Some(_) => false,
    };
    if !known {
        faults.add("update_mask", format!("no field {} in settings", shown(path)));
    }
}

fn apply(present: &mut Settings, next: &Settings, path: &str) {
    match path.split_once('.') {
        Some(("default_retry_policy", field)) => apply_retry(&mut present.retry, &next.retry, field),
        Some(("default_timeouts", field)) => apply_timeout(&mut present.timeouts, &next.timeouts, field),
        _ => match path {
            "concurrency_per_key" => present.concurrency_per_key = next.concurrency_per_key,
            "max_running" => present.max_running = next.max_running,
            "rate" => (present.rate, present.rate_per_key) = (next.rate, next.rate_per_key),
            "priority_ageing" => present.ageing = next.ageing,
            "retention" => present.retention = next.retention,
            "dead_letter_retention" => present.dead_letter_retention = next.dead_letter_retention,
            "dead_letters" => present.dead_letters_off = next.dead_letters_off,
            "default_retry_policy" => present.retry = next.retry.clone(),
            "default_timeouts" => present.timeouts = next.timeouts.clone(),
            _ => {}
        },
    }
}

fn apply_retry(present: &mut RetryPolicy, next: &RetryPolicy, field: &str) {
    match field {
        "max_attempts" => present.max_attempts = next.max_attempts,
        "initial_backoff" => present.initial_backoff = next.initial_backoff,
        "multiplier" => present.multiplier = next.multiplier,
        "max_backoff" => present.max_backoff = next.max_backoff,
        "jitter" => present.jitter = next.jitter,
        "non_retryable_errors" => present.non_retryable_errors.clone_from(&next.non_retryable_errors),
        _ => {}
    }
}

fn apply_timeout(present: &mut Timeouts, next: &Timeouts, field: &str) {
    match field {
        "schedule_to_start" => present.schedule_to_start = next.schedule_to_start,
        "start_to_close" => present.start_to_close = next.start_to_close,
        "stall" => present.stall = next.stall,
        "total" => present.total = next.total,
        _ => {}
    }
}

// === to the wire ===

/// A topic, with its counters unless they are not wanted.
pub(crate) fn write(view: &TopicView, with_counters: bool, now: Time) -> pb::Topic {
    let topic = &view.topic;
    let time = (topic.update_time > Time(0)).then(|| timestamp(topic.update_time));
    pb::Topic {
        name: topic.name.to_string(),
        settings: Some(write_settings(&topic.settings)),
        paused: topic.paused.is_some(),
        pause_reason: topic.paused.as_ref().map(|p| p.reason.to_string()).unwrap_or_default(),
        revision: topic.revision,
        counters: with_counters.then(|| counters(view, now)),
        create_time: None,
        update_time: time,
    }
}

fn counters(view: &TopicView, now: Time) -> pb::TopicCounters {
    let of = |state: StateKind| view.counts.by_state.get(state as usize).copied().unwrap_or_default();
    let oldest = view.counts.oldest_ready.filter(|ready| *ready <= now);
    pb::TopicCounters {
        queued: of(StateKind::Scheduled),
        running: of(StateKind::Dispatched) + of(StateKind::Running),
        oldest_queued_age: oldest.map(|ready| duration(now.since(ready))),
        pending: of(StateKind::Pending),
        awaiting_approval: of(StateKind::AwaitingApproval),
        delayed: 0,
        retrying: of(StateKind::Retrying),
        workers: view.workers,
        credit: 0,
    }
}

fn write_settings(settings: &Settings) -> pb::TopicSettings {
    pb::TopicSettings {
        concurrency_per_key: settings.concurrency_per_key,
        max_running: settings.max_running,
        rate: settings.rate.map(|rate| pb::RateLimit { limit: rate.limit, per: Some(duration(rate.per)) }),
        priority_ageing: settings.ageing.map(|a| duration(if a == NEVER { Span::ZERO } else { a })),
        retention: settings.retention.map(duration),
        dead_letter_retention: settings.dead_letter_retention.map(duration),
        dead_letters: match settings.dead_letters_off {
            true => pb::DeadLetterMode::Off.into(),
            false => pb::DeadLetterMode::Unspecified.into(),
        },
        default_retry_policy: (settings.retry != RetryPolicy::default())
            .then(|| write_retry(&settings.retry)),
        default_timeouts: (settings.timeouts != Timeouts::default())
            .then(|| write_timeouts(&settings.timeouts)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(given: pb::TopicSettings, mask: &[&str]) -> Settings {
        let mask: Vec<String> = mask.iter().map(ToString::to_string).collect();
        let mut settings = Settings { max_running: Some(7), ..Settings::default() };
        change(given, &mask).expect("valid")(&mut settings);
        settings
    }

    #[test]
    fn without_a_mask_only_what_is_set_changes() {
        let retry = pb::RetryPolicy { max_attempts: Some(9), ..pb::RetryPolicy::default() };
        let given = pb::TopicSettings {
            concurrency_per_key: Some(2),
            default_retry_policy: Some(retry),
            ..pb::TopicSettings::default()
        };
        let settings = changed(given, &[]);
        assert_eq!((settings.concurrency_per_key, settings.max_running), (Some(2), Some(7)));
        assert_eq!(settings.retry.max_attempts, Some(9));
    }

    #[test]
    fn a_path_named_and_left_out_goes_back_to_its_default() {
        assert_eq!(changed(pb::TopicSettings::default(), &["max_running"]).max_running, None);
    }

    #[test]
    fn bad_settings_name_every_field() {
        let given = pb::TopicSettings {
            concurrency_per_key: Some(0),
            max_running: Some(0),
            rate: Some(pb::RateLimit { limit: 0, per: None }),
            dead_letters: 9,
            ..pb::TopicSettings::default()
        };
        let refusal = change(given, &["nope".into()]).err().expect("refused");
        let fields: Vec<&str> = refusal.violations.iter().map(|v| v.field.as_str()).collect();
        for field in [
            "settings.concurrency_per_key",
            "settings.max_running",
            "settings.rate.limit",
            "settings.rate.per",
            "settings.dead_letters",
            "update_mask",
        ] {
            assert!(fields.contains(&field), "{field}: {fields:?}");
        }
    }
}
