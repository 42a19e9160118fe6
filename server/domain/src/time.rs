//! Points and spans of time in whole milliseconds. Wall time counts from 1970-01-01T00:00:00Z.

use serde::{Deserialize, Serialize};
use std::ops::{Add, Sub};

/// A point in time: milliseconds since the Unix epoch (wall) or since process start (monotonic).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Time(pub u64);

/// A length of time in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub u64);

impl Time {
    /// Later than every real time.
    pub const NEVER: Time = Time(u64::MAX);

    /// The span from `earlier` to `self`, zero if `earlier` is later.
    pub fn since(self, earlier: Time) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

impl Span {
    pub const ZERO: Span = Span(0);

    pub const fn secs(n: u64) -> Span {
        Span(n * 1_000)
    }
    pub const fn mins(n: u64) -> Span {
        Span(n * 60_000)
    }
    pub const fn hours(n: u64) -> Span {
        Span(n * 3_600_000)
    }
    pub const fn days(n: u64) -> Span {
        Span(n * 86_400_000)
    }
    pub fn as_duration(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0)
    }
}

/// Units of written lengths, shortest first.
const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

impl std::fmt::Display for Span {
    /// The largest unit that fits whole, as policy bundles write it: `500ms`, `90s`, `5m`, `2d`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let fit = UNITS.iter().rev().find(|(_, scale)| self.0 > 0 && self.0.is_multiple_of(*scale));
        let (name, scale) = fit.copied().unwrap_or(("ms", 1));
        write!(f, "{}{name}", self.0 / scale)
    }
}

impl From<std::time::Duration> for Span {
    /// Rounds up, so that a wait is never shorter than asked.
    fn from(d: std::time::Duration) -> Span {
        Span(u64::try_from(d.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
    }
}

impl Add<Span> for Time {
    type Output = Time;
    fn add(self, span: Span) -> Time {
        Time(self.0.saturating_add(span.0))
    }
}

impl Sub<Span> for Time {
    type Output = Time;
    fn sub(self, span: Span) -> Time {
        Time(self.0.saturating_sub(span.0))
    }
}

/// The two clocks a decision may need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Wall time; never runs backwards within a process.
    pub wall: Time,
    /// Monotonic time since process start; sessions and offers are timed by it.
    pub mono: Time,
}
