//! Counters of the engine. Labels are few and resolved outside hot paths.

use coretex_domain::job::StateKind;
use std::sync::atomic::{AtomicU64, Ordering};

/// Upper bounds of the histograms, seconds.
pub const BUCKETS: [f64; 16] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0];

/// A histogram with fixed buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    counts: [AtomicU64; BUCKETS.len() + 1],
    sum_nanos: AtomicU64,
}

impl Histogram {
    pub fn observe(&self, seconds: f64) {
        let at = BUCKETS.iter().position(|bound| seconds <= *bound).unwrap_or(BUCKETS.len());
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        self.sum_nanos.fetch_add((seconds * 1e9) as u64, Ordering::Relaxed);
    }

    /// Counts per bucket (the last one is unbounded) and the sum in seconds.
    pub fn snapshot(&self) -> ([u64; BUCKETS.len() + 1], f64) {
        let counts = std::array::from_fn(|n| self.counts[n].load(Ordering::Relaxed));
        (counts, self.sum_nanos.load(Ordering::Relaxed) as f64 / 1e9)
    }
}

/// Everything the engine counts.
#[derive(Debug, Default)]
pub struct EngineMetrics {
    pub jobs_submitted: AtomicU64,
    /// By state number.
    pub jobs_completed: [AtomicU64; 13],
    pub attempts: AtomicU64,
    pub dead_letters: AtomicU64,
    /// Allow, deny, require approval, throttle, allow with constraints.
    pub decisions: [AtomicU64; 5],
    pub commits: AtomicU64,
    pub commit_writes: AtomicU64,
    pub commit_seconds: Histogram,
    pub schedule_to_start: Histogram,
    pub run_seconds: Histogram,
    pub stale_updates: AtomicU64,
    pub returned_offers: AtomicU64,
    pub protocol_errors: AtomicU64,
    pub invariant_violations: AtomicU64,
}

impl EngineMetrics {
    pub fn completed(&self, state: StateKind) -> u64 {
        self.jobs_completed[state as usize].load(Ordering::Relaxed)
    }
}

pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}
