//! Rates of a namespace, and the refusal of what goes beyond a quota.

use coretex_domain::{Reason, Refusal, Span, Time};

/// So much per second, with a burst of one second. What is taken may go beyond once; what follows waits for it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bucket {
    /// When it will be full again, in microseconds of the monotonic clock.
    full_at: u64,
}

const SECOND: u64 = 1_000_000;

// === impl Bucket ===

impl Bucket {
    /// Refuses while the burst is used up.
    pub(super) fn check(&self, name: &'static str, limit: Option<u64>, now: Time) -> Result<(), Refusal> {
        let Some(limit) = limit else { return Ok(()) };
        let burst_ends = now.0.saturating_mul(1_000).saturating_add(SECOND);
        if self.full_at < burst_ends {
            return Ok(());
        }
        let wait = Span((self.full_at - burst_ends).div_ceil(1_000).max(1));
        Err(exceeded(name, limit, limit).retry_after(wait))
    }

    pub(super) fn take(&mut self, limit: Option<u64>, amount: u64, now: Time) {
        let Some(limit) = limit else { return };
        let cost = u128::from(amount) * u128::from(SECOND) / u128::from(limit.max(1));
        let start = self.full_at.max(now.0.saturating_mul(1_000));
        self.full_at = start.saturating_add(u64::try_from(cost).unwrap_or(u64::MAX));
    }
}

/// What goes beyond a quota.
pub(super) fn exceeded(quota: &'static str, limit: u64, value: u64) -> Refusal {
    let message = format!("{quota}: {value} of {limit} are used in this namespace");
    Refusal::new(Reason::QuotaExceeded, message)
        .fact("quota", quota)
        .fact("limit", limit.to_string())
        .fact("value", value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_a_second_then_the_rate_and_a_large_take_is_paid_back() {
        let mut bucket = Bucket::default();
        let mut taken = |count: u64, at: u64| {
            let fits = bucket.check("submits_per_second", Some(10), Time(at));
            if fits.is_ok() {
                bucket.take(Some(10), count, Time(at));
            }
            fits
        };
        assert_eq!((0..100).take_while(|_| taken(1, 5_000).is_ok()).count(), 10);
        let refused = taken(1, 5_000).expect_err("used up");
        assert_eq!(refused.reason, Reason::QuotaExceeded);
        assert!(refused.retry_after.is_some_and(|wait| wait.0 <= 100), "{refused:?}");
        assert!(taken(1, 5_101).is_ok());
        assert!(taken(100, 9_000).is_ok(), "beyond once");
        assert!(taken(1, 17_000).is_err() && taken(1, 18_101).is_ok(), "ten seconds later, less the burst");
    }
}
