//! What the tests of schedules have in common.

mod cron;
mod decisions;
mod dst;
mod properties;

use crate::{Cron, Rule, Timing, Zone};
use coretex_domain::{Span, Time};

/// A time as RFC 3339.
fn at(text: &str) -> Time {
    let stamp: jiff::Timestamp = text.parse().expect(text);
    Time(u64::try_from(stamp.as_millisecond()).expect("after 1970"))
}

fn cron(expression: &str, zone: &str) -> Rule {
    let cron = Cron::parse(expression).unwrap_or_else(|why| panic!("{expression}: {why}"));
    let zone = Zone::find(zone).unwrap_or_else(|why| panic!("{zone}: {why}"));
    Rule { timing: Timing::Cron { cron, zone }, start: None, end: None, jitter: Span::ZERO }
}

fn every(interval: Span) -> Rule {
    Rule { timing: Timing::Every { interval, anchor: Time(0) }, start: None, end: None, jitter: Span::ZERO }
}

/// The next times as clocks of the zone show them.
fn next(rule: &Rule, after: &str, count: usize) -> Vec<String> {
    let first = rule.next(at(after));
    let found = std::iter::successors(first, |last| rule.next(last.time));
    found.take(count).map(|one| rule.timing.print(one.time)).collect()
}
