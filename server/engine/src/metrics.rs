//! Counters of the engine. Labels are few and resolved outside hot paths.

use coretex_domain::job::StateKind;
use rustc_hash::FxHashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

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
    pub jobs_completed: Completed,
    pub attempts: AtomicU64,
    pub dead_letters: AtomicU64,
    /// Allow, deny, require approval, throttle, allow with constraints.
    pub decisions: [AtomicU64; 5],
    /// Judgements by a bundle, of which some are observed.
    pub policy_seconds: Arc<Histogram>,
    /// Approvals that ended, by their state; the first place stays empty.
    pub approvals: [AtomicU64; 6],
    pub commits: AtomicU64,
    pub commit_writes: AtomicU64,
    pub commit_seconds: Histogram,
    pub schedule_to_start: Histogram,
    pub run_seconds: Histogram,
    pub stale_updates: AtomicU64,
    pub returned_offers: AtomicU64,
    pub protocol_errors: AtomicU64,
    pub invariant_violations: AtomicU64,
    /// Times of schedules that were handled: started, skipped, failed.
    pub schedule_fires: [AtomicU64; 3],
    /// Questions that a policy kernel elsewhere did not answer.
    pub policy_outages: AtomicU64,
}

/// Jobs that ended, by topic and state. Topics beyond the first so many are summed up, so that labels stay few.
#[derive(Debug, Default)]
pub struct Completed(RwLock<FxHashMap<Arc<str>, Arc<States>>>);

/// One counter per state number.
type States = [AtomicU64; 13];

/// Topics counted by name.
pub const TOPICS_MAX: usize = 200;
/// The name of the rest.
pub const OTHER_TOPICS: &str = "other";

impl Completed {
    pub(crate) fn count(&self, topic: &Arc<str>, state: StateKind) {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner).get(topic).cloned();
        let states = known.unwrap_or_else(|| self.learn(topic));
        add(&states[state as usize], 1);
    }

    fn learn(&self, topic: &Arc<str>) -> Arc<States> {
        let mut topics = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let is_full = topics.len() >= TOPICS_MAX && !topics.contains_key(topic);
        let name = if is_full { Arc::from(OTHER_TOPICS) } else { topic.clone() };
        topics.entry(name).or_default().clone()
    }

    /// Topic, state and count of all that is not zero, by topic.
    pub fn all(&self) -> Vec<(Arc<str>, StateKind, u64)> {
        let topics = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut found = Vec::new();
        for (topic, states) in topics.iter() {
            for state in StateKind::ALL.into_iter().filter(|state| state.is_terminal()) {
                let count = states[state as usize].load(Ordering::Relaxed);
                if count > 0 {
                    found.push((topic.clone(), state, count));
                }
            }
        }
        found.sort_by(|a, b| (&a.0, a.1 as usize).cmp(&(&b.0, b.1 as usize)));
        found
    }
}

pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_beyond_the_bound_share_one_count() {
        let completed = Completed::default();
        for n in 0..TOPICS_MAX + 50 {
            completed.count(&format!("job.{n}").into(), StateKind::Failed);
        }
        completed.count(&"job.1".into(), StateKind::Succeeded);
        let all = completed.all();
        assert_eq!(all.len(), TOPICS_MAX + 2);
        assert!(all.contains(&(OTHER_TOPICS.into(), StateKind::Failed, 50)));
        assert!(all.contains(&("job.1".into(), StateKind::Succeeded, 1)));
    }
}
