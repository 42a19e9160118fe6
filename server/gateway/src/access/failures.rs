//! Addresses that tried wrong credentials: after so many in a minute they wait for one.

use coretex_domain::{Reason, Refusal, Span, Time};
use rustc_hash::FxHashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Both the span in which failures are counted, and the wait.
const MINUTE: Span = Span(60_000);
/// Addresses kept in mind. Beyond, those that need not wait are forgotten first.
const ADDRESSES_MAX: usize = 10_000;

pub(crate) struct Failures {
    /// 0: nothing is counted.
    most: u32,
    /// How many addresses there are, so that a server nobody attacks takes no lock.
    known: AtomicUsize,
    by_address: Mutex<FxHashMap<IpAddr, Tally>>,
}

#[derive(Clone, Copy)]
struct Tally {
    count: u32,
    since: Time,
    /// Up to when it waits.
    until: Option<Time>,
}

impl Tally {
    fn is_over(&self, now: Time) -> bool {
        match self.until {
            Some(until) => until <= now,
            None => now.0.saturating_sub(self.since.0) >= MINUTE.0,
        }
    }
}

// === impl Failures ===

impl Failures {
    pub(crate) fn new(most: u32) -> Failures {
        Failures { most, known: AtomicUsize::new(0), by_address: Mutex::default() }
    }

    /// Refuses an address that has to wait. `now` is monotonic.
    pub(crate) fn check(&self, address: IpAddr, now: Time) -> Result<(), Refusal> {
        if self.known.load(Ordering::Acquire) == 0 {
            return Ok(());
        }
        let mut all = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(tally) = all.get(&address).copied() else { return Ok(()) };
        if tally.is_over(now) {
            all.remove(&address);
            self.known.store(all.len(), Ordering::Release);
            return Ok(());
        }
        match tally.until {
            None => Ok(()),
            Some(until) => {
                let message =
                    format!("{} wrong credentials came from this address within a minute", tally.count);
                let left = Span(until.0.saturating_sub(now.0));
                Err(Refusal { retry_after: Some(left), ..Refusal::new(Reason::RateLimited, message) })
            }
        }
    }

    /// A wrong credential came from here.
    pub(crate) fn count(&self, address: IpAddr, now: Time) {
        if self.most == 0 {
            return;
        }
        let mut all = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= ADDRESSES_MAX && !all.contains_key(&address) {
            make_room(&mut all, now);
        }
        let fresh = Tally { count: 0, since: now, until: None };
        let tally = all.entry(address).or_insert(fresh);
        if tally.is_over(now) {
            *tally = fresh;
        }
        tally.count = tally.count.saturating_add(1);
        if tally.count >= self.most && tally.until.is_none() {
            tally.until = Some(Time(now.0.saturating_add(MINUTE.0)));
        }
        self.known.store(all.len(), Ordering::Release);
    }
}

fn make_room(all: &mut FxHashMap<IpAddr, Tally>, now: Time) {
    all.retain(|_, tally| !tally.is_over(now));
    if all.len() >= ADDRESSES_MAX {
        all.retain(|_, tally| tally.until.is_some());
    }
    if all.len() >= ADDRESSES_MAX
        && let Some(any) = all.keys().next().copied()
    {
        all.remove(&any);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    #[test]
    fn ten_in_a_minute_wait_for_a_minute() {
        let failures = Failures::new(10);
        let (one, two) = (address(1), address(2));
        for n in 0..10 {
            assert!(failures.check(one, Time(n * 1_000)).is_ok(), "{n}");
            failures.count(one, Time(n * 1_000));
        }
        let refused = failures.check(one, Time(10_000)).expect_err("ten are enough");
        assert_eq!((refused.reason, refused.retry_after), (Reason::RateLimited, Some(Span(59_000))));
        assert!(failures.check(two, Time(10_000)).is_ok(), "another address");
        assert!(failures.check(one, Time(69_000)).is_ok(), "a minute has passed");
        failures.count(one, Time(69_000));
        assert!(failures.check(one, Time(69_001)).is_ok(), "counted anew");
    }

    #[test]
    fn slow_tries_are_not_added_up() {
        let failures = Failures::new(2);
        for n in 0..5 {
            failures.count(address(1), Time(n * 60_000));
            assert!(failures.check(address(1), Time(n * 60_000)).is_ok(), "{n}");
        }
        let off = Failures::new(0);
        (0..100).for_each(|_| off.count(address(1), Time(0)));
        assert!(off.check(address(1), Time(0)).is_ok());
    }

    #[test]
    fn memory_is_bounded() {
        let failures = Failures::new(1);
        for n in 0..30_000 {
            failures.count(address(n), Time(1));
        }
        assert!(failures.known.load(Ordering::Acquire) <= ADDRESSES_MAX);
        assert!(failures.check(address(29_999), Time(2)).is_err(), "the newest is known");
    }
}
