//! Instants and durations: protobuf has nanoseconds and signs, the domain whole milliseconds since 1970.

use super::Faults;
use coretex_contract::{Duration, Timestamp};
use coretex_domain::limits::HORIZON;
use coretex_domain::{Span, Time};

const NANOS_PER_SEC: i32 = 1_000_000_000;

pub(crate) fn timestamp(time: Time) -> Timestamp {
    let nanos = i32::try_from(time.0 % 1_000).unwrap_or_default() * 1_000_000;
    Timestamp { seconds: i64::try_from(time.0 / 1_000).unwrap_or(i64::MAX), nanos }
}

pub(crate) fn duration(span: Span) -> Duration {
    let nanos = i32::try_from(span.0 % 1_000).unwrap_or_default() * 1_000_000;
    Duration { seconds: i64::try_from(span.0 / 1_000).unwrap_or(i64::MAX), nanos }
}

/// A duration given or left out, from `least` to `most`. Rounded up to the millisecond.
pub(crate) fn span(
    faults: &mut Faults,
    field: &str,
    given: Option<Duration>,
    least: Span,
    most: Span,
) -> Option<Span> {
    let given = given?;
    match span_of(given) {
        Some(span) if span >= least && span <= most => Some(span),
        found => {
            let got = found.map_or_else(|| shown(given), print);
            faults.add(
                field,
                format!("must be from {} to {}, got {got}; for example 90s", print(least), print(most)),
            );
            None
        }
    }
}

/// A duration above zero and within the horizon.
pub(crate) fn positive(faults: &mut Faults, field: &str, given: Option<Duration>) -> Option<Span> {
    span(faults, field, given, Span(1), HORIZON)
}

fn span_of(given: Duration) -> Option<Span> {
    if !(0..NANOS_PER_SEC).contains(&given.nanos) {
        return None;
    }
    let seconds = u64::try_from(given.seconds).ok()?;
    let millis = u64::try_from(given.nanos).ok()?.div_ceil(1_000_000);
    seconds.checked_mul(1_000)?.checked_add(millis).map(Span)
}

/// A point in time that may lie ahead, up to the horizon.
pub(crate) fn instant(faults: &mut Faults, field: &str, given: Option<Timestamp>, now: Time) -> Option<Time> {
    let given = given?;
    let valid = given.seconds > 0 && (0..NANOS_PER_SEC).contains(&given.nanos);
    let millis = u64::try_from(given.nanos).ok().map(|n| n.div_ceil(1_000_000));
    let time = u64::try_from(given.seconds).ok().and_then(|s| s.checked_mul(1_000)).zip(millis);
    match time.filter(|_| valid) {
        None => {
            faults.add(field, format!("must be after 1970, got {} s and {} ns", given.seconds, given.nanos));
            None
        }
        Some((seconds, millis)) if seconds > (now + HORIZON).0 => {
            let got = coretex_domain::filter::print_time(Time(
                (seconds + millis).min(u64::from(u32::MAX) * 100_000),
            ));
            faults.add(field, format!("must lie within the horizon of 5 y, got {got}"));
            None
        }
        Some((seconds, millis)) => Some(Time(seconds + millis)),
    }
}

/// A span as people write it.
pub(crate) fn print(span: Span) -> String {
    let ms = span.0;
    match ms {
        0 => "0s".into(),
        _ if ms.is_multiple_of(86_400_000) => format!("{}d", ms / 86_400_000),
        _ if ms.is_multiple_of(3_600_000) => format!("{}h", ms / 3_600_000),
        _ if ms.is_multiple_of(60_000) => format!("{}m", ms / 60_000),
        _ if ms.is_multiple_of(1_000) => format!("{}s", ms / 1_000),
        _ => format!("{ms}ms"),
    }
}

fn shown(given: Duration) -> String {
    format!("{} s and {} ns", given.seconds, given.nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(seconds: i64, nanos: i32) -> (Option<Span>, bool) {
        let mut faults = Faults::default();
        let span = positive(&mut faults, "t", Some(Duration { seconds, nanos }));
        (span, faults.into_result().is_ok())
    }

    #[test]
    fn durations_are_bounded_and_round_up() {
        assert_eq!(parse(90, 0), (Some(Span(90_000)), true));
        assert_eq!(parse(0, 1), (Some(Span(1)), true));
        for bad in [(0, 0), (-1, 0), (1, -1), (1, NANOS_PER_SEC), (300 * 366 * 86_400, 0), (i64::MAX, 0)] {
            assert_eq!(parse(bad.0, bad.1), (None, false), "{bad:?}");
        }
    }

    #[test]
    fn instants_within_the_horizon_are_taken() {
        let now = Time(1_767_225_600_000);
        let parse = |seconds, nanos| {
            let mut faults = Faults::default();
            let time = instant(&mut faults, "t", Some(Timestamp { seconds, nanos }), now);
            (time, faults.into_result().is_ok())
        };
        assert_eq!(parse(1_767_225_600, 5_000_000), (Some(Time(1_767_225_600_005)), true));
        assert_eq!(parse(1, 0), (Some(Time(1_000)), true));
        for bad in [(0, 0), (-1, 0), (253_402_300_799, 0), (i64::MAX, 0), (1, -1), (1, NANOS_PER_SEC)] {
            assert_eq!(parse(bad.0, bad.1), (None, false), "{bad:?}");
        }
    }
}
