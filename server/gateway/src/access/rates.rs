//! How often one identity may call: a bucket of a second's calls each, filled evenly.

use coretex_domain::{Reason, Refusal, Span, Time};
use rustc_hash::FxHashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Identities looked at before full buckets are forgotten.
const IDENTITIES_MAX: usize = 10_000;

pub(crate) struct Rates {
    per_second: u32,
    /// When each identity's bucket will be full again, in microseconds. One that is full need not be kept.
    full_at: Mutex<FxHashMap<Arc<str>, u64>>,
}

// === impl Rates ===

impl Rates {
    pub(crate) fn new(per_second: u32) -> Rates {
        Rates { per_second: per_second.max(1), full_at: Mutex::default() }
    }

    /// Takes one call out of the bucket. `now` is monotonic.
    pub(crate) fn take(&self, name: &Arc<str>, now: Time) -> Result<(), Refusal> {
        let now = now.0.saturating_mul(1_000);
        let (one, bucket) = (1_000_000 / u64::from(self.per_second), 1_000_000);
        let mut all = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= IDENTITIES_MAX && !all.contains_key(name) {
            all.retain(|_, full_at| *full_at > now);
        }
        let full_at = all.get(name).copied().unwrap_or(0).max(now);
        let next = full_at.saturating_add(one);
        if next > now.saturating_add(bucket) {
            let wait = Span(next.saturating_sub(now + bucket).div_ceil(1_000).max(1));
            let message = format!("this identity may call {} times per second", self.per_second);
            return Err(Refusal { retry_after: Some(wait), ..Refusal::new(Reason::RateLimited, message) });
        }
        match all.get_mut(name) {
            Some(known) => *known = next,
            None => {
                all.insert(name.clone(), next);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_a_second_and_then_the_rate() {
        let rates = Rates::new(5);
        let (one, two): (Arc<str>, Arc<str>) = ("one".into(), "two".into());
        let taken = |name: &Arc<str>, at| (0..100).take_while(|_| rates.take(name, Time(at)).is_ok()).count();
        assert_eq!(taken(&one, 1_000), 5);
        let refused = rates.take(&one, Time(1_000)).expect_err("empty");
        assert_eq!((refused.reason, refused.retry_after), (Reason::RateLimited, Some(Span(200))));
        assert_eq!(taken(&two, 1_000), 5, "another identity");
        assert_eq!(taken(&one, 1_200), 1);
        assert_eq!(taken(&one, 60_000), 5);
    }

    #[test]
    fn full_buckets_are_forgotten() {
        let rates = Rates::new(1_000);
        for n in 0..25_000_u64 {
            rates.take(&n.to_string().into(), Time(n)).expect("one each");
        }
        let kept = rates.full_at.lock().expect("no panic").len();
        assert!(kept <= IDENTITIES_MAX, "{kept}");
    }
}
