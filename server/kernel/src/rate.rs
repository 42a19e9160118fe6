//! A token bucket: never more than `limit` at once, never more than `limit` per span in the long run.

use coretex_domain::topic::Rate;
use coretex_domain::{Span, Time};

/// Exact in whole numbers: a start costs `per` units, and every millisecond brings `limit` of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    pub(crate) rate: Rate,
    units: u64,
    filled: Time,
}

impl Bucket {
    pub(crate) fn full(rate: Rate, now: Time) -> Bucket {
        let rate = Rate { limit: rate.limit.max(1), per: Span(rate.per.0.max(1)) };
        Bucket { rate, units: Bucket::capacity(rate), filled: now }
    }

    fn capacity(rate: Rate) -> u64 {
        u64::from(rate.limit).saturating_mul(rate.per.0)
    }

    pub(crate) fn fill(&mut self, now: Time) {
        let gained = now.since(self.filled).0.saturating_mul(u64::from(self.rate.limit));
        self.units = self.units.saturating_add(gained).min(Bucket::capacity(self.rate));
        self.filled = self.filled.max(now);
    }

    pub(crate) fn whole_tokens(&self) -> u32 {
        u32::try_from(self.units / self.rate.per.0).unwrap_or(u32::MAX)
    }

    pub(crate) fn next_token(&self, now: Time) -> Time {
        let missing = self.rate.per.0.saturating_sub(self.units);
        (self.filled + Span(missing.div_ceil(u64::from(self.rate.limit)))).max(now + Span(1))
    }

    pub(crate) fn spend(&mut self, n: u32) {
        self.units = self.units.saturating_sub(u64::from(n).saturating_mul(self.rate.per.0));
    }

    pub(crate) fn refund(&mut self, n: u32) {
        let back = u64::from(n).saturating_mul(self.rate.per.0);
        self.units = self.units.saturating_add(back).min(Bucket::capacity(self.rate));
    }

    pub(crate) fn is_full_at(&self, now: Time) -> bool {
        let mut later = *self;
        later.fill(now);
        later.units == Bucket::capacity(self.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn starts_never_exceed_burst_plus_rate_times_time(
            limit in 1u32..50, per in 1u64..10_000, steps in prop::collection::vec(0u64..500, 1..200),
        ) {
            let mut bucket = Bucket::full(Rate { limit, per: Span(per) }, Time(0));
            let (mut now, mut starts) = (Time(0), 0u64);
            for step in steps {
                now = now + Span(step);
                bucket.fill(now);
                if bucket.whole_tokens() > 0 {
                    bucket.spend(1);
                    starts += 1;
                } else {
                    prop_assert!(bucket.next_token(now) > now);
                }
                prop_assert!(starts <= u64::from(limit) + now.0 * u64::from(limit) / per);
            }
        }
    }
}
