//! The circuit breaker before a remote policy kernel: closed → open after failures in a row → half-open → closed.
//!
//! Pure: time is an argument. It never decides about a job; it says whether to ask, or when to ask again.

use coretex_domain::{Span, Time};

/// Failures in a row that open it.
const FAILURES_MAX: u32 = 5;
/// First and longest wait before it lets one question through.
const WAIT_MIN: Span = Span::secs(1);
const WAIT_MAX: Span = Span::secs(30);

/// Whether questions go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Closed,
    /// One question goes through at the time; until then none.
    Open(Time),
    /// One question is on its way and decides for the others.
    HalfOpen,
}

#[derive(Debug)]
pub(super) struct Breaker {
    standing: Standing,
    failures: u32,
    wait: Span,
}

// === impl Breaker ===

impl Default for Breaker {
    fn default() -> Breaker {
        Breaker { standing: Standing::Closed, failures: 0, wait: WAIT_MIN }
    }
}

impl Breaker {
    pub(super) fn standing(&self) -> Standing {
        self.standing
    }

    /// Whether a question may be asked now; else the time of the next try.
    pub(super) fn admit(&mut self, now: Time) -> Result<(), Time> {
        match self.standing {
            Standing::Closed => Ok(()),
            Standing::Open(until) if now >= until => {
                self.standing = Standing::HalfOpen;
                Ok(())
            }
            Standing::Open(until) => Err(until),
            Standing::HalfOpen => Err(now + WAIT_MIN),
        }
    }

    pub(super) fn succeeded(&mut self) {
        *self = Breaker::default();
    }

    /// Says when to try again.
    pub(super) fn failed(&mut self, now: Time) -> Time {
        self.failures = self.failures.saturating_add(1);
        match self.standing {
            Standing::Closed if self.failures < FAILURES_MAX => now + WAIT_MIN,
            Standing::Closed => self.open(now),
            Standing::HalfOpen => {
                self.wait = Span((self.wait.0 * 2).min(WAIT_MAX.0));
                self.open(now)
            }
            // Asked before it opened.
            Standing::Open(until) => until.max(now),
        }
    }

    fn open(&mut self, now: Time) -> Time {
        let until = now + self.wait;
        self.standing = Standing::Open(until);
        until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_failures_in_a_row_and_lets_one_through() {
        let mut breaker = Breaker::default();
        for _ in 0..FAILURES_MAX - 1 {
            breaker.failed(Time(0));
        }
        breaker.succeeded();
        for n in 1..=FAILURES_MAX {
            assert_eq!(breaker.admit(Time(0)), Ok(()));
            assert_eq!(breaker.failed(Time(0)), Time(1_000), "failure {n}");
        }
        assert_eq!(breaker.standing(), Standing::Open(Time(1_000)));
        assert_eq!(breaker.admit(Time(999)), Err(Time(1_000)));
        assert_eq!(breaker.admit(Time(1_000)), Ok(()));
        assert!(breaker.admit(Time(1_000)).is_err(), "one question decides for all");
        breaker.succeeded();
        assert_eq!((breaker.standing(), breaker.admit(Time(1_000))), (Standing::Closed, Ok(())));
    }

    #[test]
    fn waits_double_up_to_a_bound() {
        let mut breaker = Breaker::default();
        let mut now = Time(0);
        for _ in 0..FAILURES_MAX {
            breaker.failed(now);
        }
        let mut waits = Vec::new();
        for _ in 0..7 {
            let Standing::Open(until) = breaker.standing() else { panic!("open") };
            waits.push(until.since(now).0 / 1_000);
            now = until;
            breaker.admit(now).expect("one goes through");
            breaker.failed(now);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
    }
}
