//! Times and spans between the standard library and the contract.

use crate::raw::wkt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(crate) fn span(value: Duration) -> wkt::Duration {
    const SECONDS_MAX: u64 = 315_576_000_000; // the most a protobuf duration can say
    let seconds = value.as_secs().min(SECONDS_MAX);
    wkt::Duration {
        seconds: i64::try_from(seconds).expect("invariant: SECONDS_MAX fits"),
        nanos: i32::try_from(value.subsec_nanos()).expect("invariant: below a thousand million"),
    }
}

/// A span that is left out, negative or malformed is `None`.
pub(crate) fn of_span(value: Option<wkt::Duration>) -> Option<Duration> {
    let value = value?;
    let seconds = u64::try_from(value.seconds).ok()?;
    let nanos = u32::try_from(value.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(seconds, nanos))
}

pub(crate) fn stamp(value: SystemTime) -> wkt::Timestamp {
    match value.duration_since(UNIX_EPOCH) {
        Ok(since) => {
            let since = span(since);
            wkt::Timestamp { seconds: since.seconds, nanos: since.nanos }
        }
        Err(before) => {
            let before = span(before.duration());
            let borrow = i64::from(before.nanos > 0);
            wkt::Timestamp {
                seconds: -before.seconds - borrow,
                nanos: (1_000_000_000 - before.nanos) % 1_000_000_000,
            }
        }
    }
}

pub(crate) fn of_stamp(value: Option<wkt::Timestamp>) -> Option<SystemTime> {
    let value = value?;
    let nanos = Duration::from_nanos(u64::try_from(value.nanos).ok()?);
    match u64::try_from(value.seconds) {
        Ok(seconds) => UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?.checked_add(nanos),
        Err(_) => {
            UNIX_EPOCH.checked_sub(Duration::from_secs(value.seconds.unsigned_abs()))?.checked_add(nanos)
        }
    }
}

/// A random number, good enough to spread retries. Not for secrets.
pub(crate) fn dice() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

/// A random span between zero and `most`.
pub(crate) fn below(most: Duration) -> Duration {
    let nanos = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(if nanos == 0 { 0 } else { dice() % nanos })
}

/// The wait before try number `tries` (from 0): full jitter under a ceiling that doubles from 50 ms to 5 s.
pub(crate) fn backoff(tries: u32) -> Duration {
    const FIRST: Duration = Duration::from_millis(50);
    const MOST: Duration = Duration::from_secs(5);
    below(FIRST.saturating_mul(1 << tries.min(16)).min(MOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_the_wire() {
        for time in [
            UNIX_EPOCH,
            UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789),
            UNIX_EPOCH - Duration::new(5, 250_000_000),
            UNIX_EPOCH - Duration::from_secs(7),
        ] {
            assert_eq!(of_stamp(Some(stamp(time))), Some(time));
        }
        assert_eq!(of_span(Some(span(Duration::from_millis(1500)))), Some(Duration::from_millis(1500)));
        assert_eq!(of_span(Some(wkt::Duration { seconds: -1, nanos: 0 })), None);
    }

    #[test]
    fn backoff_stays_under_its_ceiling() {
        for tries in 0..40 {
            assert!(backoff(tries) < Duration::from_secs(5));
        }
        assert!(backoff(0) < Duration::from_millis(50));
    }
}
