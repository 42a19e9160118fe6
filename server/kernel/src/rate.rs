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

    /// When the `nth` token from now on is there, if all before it are taken as they come.
    pub(crate) fn token_at(&self, nth: u64, now: Time) -> Time {
        let missing = self.rate.per.0.saturating_mul(nth).saturating_sub(self.units);
        (self.filled + Span(missing.div_ceil(u64::from(self.rate.limit)))).max(now + Span(1))
    }

    /// Goes on at another rate with the whole tokens it has.
    pub(crate) fn set_rate(&mut self, rate: Rate) {
        let rate = Rate { limit: rate.limit.max(1), per: Span(rate.per.0.max(1)) };
        if self.rate != rate {
            let tokens = u64::from(self.whole_tokens().min(rate.limit));
            (self.rate, self.units) = (rate, tokens.saturating_mul(rate.per.0));
        }
    }

    /// A token taken `ago` that has come back in part since.
    pub(crate) fn owe(&mut self, ago: Span) {
        self.units = self.units.saturating_sub(self.rate.per.0.saturating_sub(ago.0));
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

    #[test]
    fn the_nth_token_is_there_when_it_is_said_to_be() {
        let mut bucket = Bucket::full(Rate { limit: 3, per: Span(1_000) }, Time(0));
        bucket.spend(3);
        let due: Vec<u64> = (1..=4).map(|nth| bucket.token_at(nth, Time(0)).0).collect();
        assert_eq!(due, [334, 667, 1_000, 1_334]);
        for (n, at) in (1u32..).zip(due.iter().take(3)) {
            bucket.fill(Time(at - 1));
            assert_eq!(bucket.whole_tokens(), n - 1);
            bucket.fill(Time(*at));
            assert_eq!(bucket.whole_tokens(), n);
        }
        bucket.set_rate(Rate { limit: 1, per: Span(50) });
        assert_eq!(bucket.whole_tokens(), 1, "a new rate brings no burst with it");
        bucket.owe(Span(20));
        assert_eq!((bucket.whole_tokens(), bucket.token_at(1, Time(1_000))), (0, Time(1_030)));
    }

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
                    prop_assert!(bucket.token_at(1, now) > now);
                }
                prop_assert!(starts <= u64::from(limit) + now.0 * u64::from(limit) / per);
            }
        }
    }
}
