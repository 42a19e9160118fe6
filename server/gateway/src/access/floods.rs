//! Refusals that anybody can cause are recorded up to a number for each source and minute; of the rest the count is kept.

use coretex_domain::{Span, Time};
use rustc_hash::FxHashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// The span in which refusals are counted.
const MINUTE: Span = Span(60_000);
/// Records of one source in a minute.
pub(crate) const RECORDS_MAX: u64 = 20;
/// Sources told apart in a minute. The rest is counted together, and none of it recorded one by one.
const SOURCES_MAX: usize = 1_000;

/// An address, and the identity that was known there; empty where none was.
pub(crate) type Source = (IpAddr, Arc<str>);

/// What one minute holds beyond its records.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Untold {
    /// None: sources beyond those told apart.
    pub(crate) source: Option<Source>,
    pub(crate) count: u64,
}

#[derive(Default)]
pub(crate) struct Floods(Mutex<Window>);

#[derive(Default)]
struct Window {
    since: Time,
    by_source: FxHashMap<Source, u64>,
    others: u64,
}

// === impl Floods ===

impl Floods {
    /// Whether one more refusal of this source is recorded by itself. `now` is monotonic.
    pub(crate) fn take(&self, source: Source, now: Time) -> bool {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if window.by_source.is_empty() {
            window.since = now;
        }
        if window.by_source.len() >= SOURCES_MAX && !window.by_source.contains_key(&source) {
            window.others += 1;
            return false;
        }
        let count = window.by_source.entry(source).or_default();
        *count += 1;
        *count <= RECORDS_MAX
    }

    /// What was not recorded by itself, once the minute is over; at once where `is_last`.
    pub(crate) fn untold(&self, now: Time, is_last: bool) -> Vec<Untold> {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_last && now.0.saturating_sub(window.since.0) < MINUTE.0 {
            return Vec::new();
        }
        let Window { by_source, others, .. } = std::mem::take(&mut *window);
        drop(window);
        let beyond = by_source.into_iter().filter(|(_, count)| *count > RECORDS_MAX);
        let mut untold: Vec<Untold> = beyond
            .map(|(source, count)| Untold { source: Some(source), count: count - RECORDS_MAX })
            .collect();
        if others > 0 {
            untold.push(Untold { source: None, count: others });
        }
        untold
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(n: u32) -> Source {
        (IpAddr::from(n.to_be_bytes()), "".into())
    }

    #[test]
    fn so_many_are_recorded_and_the_rest_is_counted_once() {
        let floods = Floods::default();
        let recorded = (0..1_000).filter(|_| floods.take(source(1), Time(5))).count() as u64;
        assert_eq!(recorded, RECORDS_MAX);
        assert!(floods.take(source(2), Time(6)), "another address");
        assert_eq!(floods.untold(Time(60_000), false), [], "the minute is not over");
        let expected = Untold { source: Some(source(1)), count: 1_000 - RECORDS_MAX };
        assert_eq!(floods.untold(Time(60_005), false), [expected]);
        assert_eq!(floods.untold(Time(60_006), false), [], "once");
        assert!(floods.take(source(1), Time(60_007)), "counted anew");
    }

    #[test]
    fn many_sources_are_counted_together() {
        let floods = Floods::default();
        let recorded = (0..30_000).filter(|n| floods.take(source(*n), Time(0))).count();
        assert_eq!(recorded, SOURCES_MAX);
        assert_eq!(floods.untold(Time(1), true), [Untold { source: None, count: 29_000 }]);
    }
}
