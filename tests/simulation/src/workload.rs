//! What is asked for: topics, settings and jobs that reach every corner of the state machine.

use crate::rng::Rng;
use coretex_domain::job::Spec;
use coretex_domain::job::spec::{Options, RetryPolicy, Timeouts};
use coretex_domain::topic::{Rate, Retention, Settings};
use coretex_domain::{Payload, Span, Time};
use std::sync::Arc;

/// Topics that workers serve for the server itself: steps of the library, and what people have answered.
pub(crate) const HOUSE: [&str; 4] = ["sys.step.set", "sys.step.log", "sys.step.emit", "sys.approval"];

/// Topics of every run. The last is one the built-in policy denies.
pub(crate) const TOPICS: [&str; 10] = [
    "plain",
    "keyed",
    "capped",
    "rated",
    "timed",
    "deep",
    "throttled",
    "metered",
    "asked",
    "sys.destroy.all",
];

/// Settings a topic has from the start; `None` leaves it without a row.
pub(crate) fn settings(topic: &str, roll: &mut Rng) -> Option<Settings> {
    let mut settings = Settings::default();
    match topic {
        "keyed" if roll.chance(5_000) => settings.concurrency_per_key = Some(roll.between(1, 3) as u32),
        "capped" => {
            settings.max_running = Some(roll.between(1, 5) as u32);
            settings.concurrency_per_key = Some(roll.between(1, 2) as u32);
        }
        "rated" => {
            settings.rate =
                Some(Rate { limit: roll.between(1, 20) as u32, per: Span::secs(roll.between(1, 3)) });
            let per_key = Rate { limit: roll.between(1, 90) as u32, per: Span::secs(roll.between(1, 5)) };
            settings.rate_per_key = roll.chance(6_000).then_some(per_key);
        }
        "timed" => {
            settings.timeouts = timeouts(roll);
            settings.retry = retry(roll);
            settings.dead_letters_off = roll.chance(2_000);
            let own = retention(roll);
            (settings.retention, settings.dead_letter_retention) = (own.jobs, own.dead_letters);
            settings.ageing = roll.chance(5_000).then(|| Span::secs(roll.between(1, 20)));
        }
        _ => return None,
    }
    Some(settings)
}

/// How long a namespace keeps things.
pub(crate) fn retention(roll: &mut Rng) -> Retention {
    let mut days = |most| roll.chance(7_000).then(|| Span::hours(24 * roll.between(1, most)));
    Retention { jobs: days(20), dead_letters: days(60) }
}

fn timeouts(roll: &mut Rng) -> Timeouts {
    Timeouts {
        schedule_to_start: roll.chance(3_500).then(|| Span(roll.skewed(200, 60_000))),
        start_to_close: roll.chance(5_000).then(|| Span(roll.skewed(300, 60_000))),
        stall: roll.chance(3_000).then(|| Span(roll.skewed(300, 20_000))),
        total: roll.chance(3_500).then(|| Span(roll.skewed(500, 120_000))),
    }
}

fn retry(roll: &mut Rng) -> RetryPolicy {
    RetryPolicy {
        max_attempts: roll.chance(5_000).then(|| roll.between(1, 5) as u32),
        initial_backoff: roll.chance(5_000).then(|| Span(roll.skewed(10, 5_000))),
        multiplier: roll.chance(3_000).then_some(1.5),
        max_backoff: Some(Span(roll.skewed(100, 20_000))),
        jitter: roll.chance(3_000).then_some(0.5),
        non_retryable_errors: if roll.chance(3_000) { vec!["FatalError".into()] } else { Vec::new() },
    }
}

/// One job. `wall` is the caller's idea of the time.
pub(crate) fn spec(roll: &mut Rng, wall: Time, key_space: u64) -> Spec {
    let topic = match roll.below(100) {
        0..=21 => "plain",
        22..=26 => "asked",
        27..=38 => "keyed",
        39..=49 => "capped",
        50..=60 => "rated",
        61..=74 => "timed",
        75..=83 => "deep",
        84..=89 => "throttled",
        90..=95 => "metered",
        _ => "sys.destroy.all",
    };
    let body = match roll.below(100) {
        0 => "poison",
        1..=12 => "fail",
        13 | 14 => "unwanted",
        15..=17 => "family",
        _ => "work",
    };
    let mut spec = Spec::new(topic, Payload::json(format!("{body} {}", roll.below(1_000)).into_bytes()));
    if roll.chance(3_000) {
        spec.priority = roll.below(10) as u8;
    }
    if topic == "plain" && roll.chance(7_000) && body != "family" {
        return spec;
    }
    let options: &mut Options = spec.options_mut();
    if roll.chance(1_000) {
        options.retention = Some(Span::hours(roll.between(1, 100)));
    }
    if body == "family" && roll.chance(5_000) {
        options.budget.max_tokens = Some(roll.between(20, 300));
    }
    if topic != "plain" || roll.chance(3_000) {
        options.retry = retry(roll);
    }
    if topic == "deep"
        || (topic == "asked" && roll.chance(3_000))
        || (topic == "sys.destroy.all" && roll.chance(5_000))
        || roll.chance(500)
    {
        options.timeouts = timeouts(roll);
    }
    if matches!(topic, "keyed" | "capped") || (topic == "metered" && roll.chance(4_000)) || roll.chance(500) {
        options.concurrency_key = Some(format!("c{}", roll.below(key_space)).into());
    }
    if topic == "rated" && roll.chance(6_000) {
        options.rate_key = Some(format!("r{}", roll.below(2)).into());
    }
    if roll.chance(1_500) {
        options.schedule_time = Some(wall + Span(roll.skewed(10, 60_000)));
    }
    if roll.chance(600) {
        options.placement.pool = Some("gpu".into());
        options.placement.pool_required = roll.chance(5_000);
    }
    if roll.chance(300) {
        options.placement.requires = vec!["even".into()];
    }
    spec
}

/// A new set of settings for a topic that changes while it runs.
pub(crate) fn changed(topic: &str, old: &Settings, roll: &mut Rng) -> Settings {
    let mut next = settings(topic, roll).unwrap_or_else(|| old.clone());
    if roll.chance(4_000) {
        next.timeouts = timeouts(roll);
    }
    if roll.chance(3_000) {
        next.max_running = roll.chance(5_000).then(|| roll.between(1, 6) as u32);
    }
    if roll.chance(3_000) {
        next.concurrency_per_key = Some(roll.between(1, 4) as u32);
    }
    next
}

pub(crate) fn key(roll: &mut Rng, client: usize, no: u64) -> Arc<str> {
    // Some keys are shared by all clients: who comes first makes the job.
    if roll.chance(500) {
        format!("shared{}", roll.below(20)).into()
    } else {
        format!("k{client}.{no}").into()
    }
}
