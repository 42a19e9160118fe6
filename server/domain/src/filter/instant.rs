//! RFC 3339 instants with a zone, to the millisecond. Strict: no leap second, no local time, nothing rounded.

use crate::time::Time;

/// Parses `2026-01-01T00:00:00Z`, `2026-01-01T01:00:00.250+01:00`.
pub fn parse_time(text: &str) -> Result<Time, String> {
    let bytes = text.as_bytes();
    let number = |from: usize, len: usize| digits(bytes.get(from..from + len)?);
    let sign = |at: usize, wanted: &[u8]| bytes.get(at).is_some_and(|b| wanted.contains(b));
    let form = || "must be RFC 3339 with a zone, such as 2026-01-01T00:00:00Z".to_owned();
    let (Some(year), Some(month), Some(day)) = (number(0, 4), number(5, 2), number(8, 2)) else {
        return Err(form());
    };
    let (Some(hour), Some(minute), Some(second)) = (number(11, 2), number(14, 2), number(17, 2)) else {
        return Err(form());
    };
    let signs = [(4, &b"-"[..]), (7, b"-"), (10, b"Tt "), (13, b":"), (16, b":")];
    if !signs.iter().all(|(at, wanted)| sign(*at, wanted)) {
        return Err(form());
    }
    if second == 60 {
        return Err("leap seconds are not accepted".into());
    }
    if year < 1970 || !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) {
        return Err("is no day of the calendar since 1970".into());
    }
    if hour > 23 || minute > 59 || second > 59 {
        return Err("is no time of the day".into());
    }
    let (millis, rest) =
        fraction(&bytes[19..]).ok_or_else(|| "has digits beyond the millisecond".to_owned())?;
    let offset_minutes = zone(rest).ok_or("needs a zone: Z or an offset such as +01:00")?;
    let minutes = (days_before(year, month, day) * 24 + hour) * 60 + minute - offset_minutes;
    let total = (minutes * 60 + second) * 1_000 + millis;
    u64::try_from(total).map(Time).map_err(|_| "is before 1970".to_owned())
}

/// Prints in UTC with milliseconds when there are any.
pub fn print_time(time: Time) -> String {
    let (secs, millis) = (time.0 / 1_000, time.0 % 1_000);
    let (days, of_day) = (secs / 86_400, secs % 86_400);
    let (year, month, day) = date_of(days);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    let fraction = if millis == 0 { String::new() } else { format!(".{millis:03}") };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

fn digits(bytes: &[u8]) -> Option<i64> {
    bytes.iter().try_fold(0i64, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))
}

/// Milliseconds and what follows them; `None` when there are finer digits than that.
fn fraction(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let Some(rest) = bytes.strip_prefix(b".") else { return Some((0, bytes)) };
    let len = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let (digits_, rest) = rest.split_at(len);
    let mut millis = 0;
    for n in 0..3 {
        millis = millis * 10 + digits_.get(n).map_or(0, |b| i64::from(b - b'0'));
    }
    let exact = len > 0 && digits_.iter().skip(3).all(|b| *b == b'0');
    exact.then_some((millis, rest))
}

fn zone(bytes: &[u8]) -> Option<i64> {
    match bytes {
        b"Z" | b"z" => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?);
            let offset = hours * 60 + minutes;
            (hours <= 23 && minutes <= 59).then_some(if *sign == b'-' { -offset } else { offset })
        }
        _ => None,
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_before(year: i64, month: i64, day: i64) -> i64 {
    let past = year - 1;
    let leaps = past / 4 - past / 100 + past / 400;
    let before = (1969 / 4) - (1969 / 100) + (1969 / 400);
    (year - 1970) * 365 + leaps - before + (1..month).map(|m| days_in(year, m)).sum::<i64>() + day - 1
}

fn date_of(days: u64) -> (u64, u64, u64) {
    let days = i64::try_from(days).unwrap_or(i64::MAX);
    // 146,097 days make 400 years; the guess is at most one year off in either direction.
    let mut year = 1970 + days / 146_097 * 400 + days % 146_097 * 400 / 146_097;
    while days_before(year + 1, 1, 1) <= days {
        year += 1;
    }
    while days_before(year, 1, 1) > days {
        year -= 1;
    }
    let mut rest = days - days_before(year, 1, 1);
    let mut month = 1;
    while rest >= days_in(year, month) {
        rest -= days_in(year, month);
        month += 1;
    }
    (year.unsigned_abs(), month.unsigned_abs(), (rest + 1).unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn instants_are_strict() {
        assert_eq!(parse_time("1970-01-01T00:00:00Z"), Ok(Time(0)));
        assert_eq!(parse_time("2000-02-29T12:30:45.250+01:00"), Ok(Time(951_823_845_250)));
        assert_eq!(parse_time("2026-01-01T00:00:00-00:30"), Ok(Time(1_767_227_400_000)));
        for bad in [
            "",
            "2026-01-01",
            "2026-01-01T00:00:00",
            "2026-02-30T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "1969-12-31T23:59:59Z",
            "2026-06-30T23:59:60Z",
            "2026-01-01T00:00:00.0001Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00+1:00",
            "2026-01-01T00:00:00ZZ",
            "9999999-01-01T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "+026-01-01T00:00:00Z",
            "é026-01-01T00:00:00Z",
        ] {
            assert!(parse_time(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn printed_instants_parse_back(ms in 0u64..253_402_300_800_000) {
            prop_assert_eq!(parse_time(&print_time(Time(ms))), Ok(Time(ms)));
        }
        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = parse_time(&text);
        }
    }
}
