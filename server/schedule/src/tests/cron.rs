//! What expressions mean, and what is refused.

use super::{at, cron, every, next};
use crate::{Cron, Rule, Zone};
use coretex_domain::{Span, Time};

#[test]
fn fields_have_values_ranges_steps_lists_and_names() {
    let table: [(&str, [&str; 3]); 16] = [
        ("0 9 * * *", ["2026-01-01T09:00", "2026-01-02T09:00", "2026-01-03T09:00"]),
        ("*/20 * * * *", ["2026-01-01T00:20", "2026-01-01T00:40", "2026-01-01T01:00"]),
        ("5/25 * * * *", ["2026-01-01T00:05", "2026-01-01T00:30", "2026-01-01T00:55"]),
        ("10-12 0 * * *", ["2026-01-01T00:10", "2026-01-01T00:11", "2026-01-01T00:12"]),
        ("0 8-18/5 * * *", ["2026-01-01T08:00", "2026-01-01T13:00", "2026-01-01T18:00"]),
        ("0 0 1,15 * *", ["2026-01-15T00:00", "2026-02-01T00:00", "2026-02-15T00:00"]),
        ("0 0 L * *", ["2026-01-31T00:00", "2026-02-28T00:00", "2026-03-31T00:00"]),
        ("0 0 15,L * *", ["2026-01-15T00:00", "2026-01-31T00:00", "2026-02-15T00:00"]),
        ("0 0 29 2 *", ["2028-02-29T00:00", "2032-02-29T00:00", "2036-02-29T00:00"]),
        ("0 0 * jan,Mar MON", ["2026-01-05T00:00", "2026-01-12T00:00", "2026-01-19T00:00"]),
        ("0 0 * * 7", ["2026-01-04T00:00", "2026-01-11T00:00", "2026-01-18T00:00"]),
        ("0 0 * * FRI-7", ["2026-01-02T00:00", "2026-01-03T00:00", "2026-01-04T00:00"]),
        // Both days are restricted: either is enough.
        ("0 0 3 * SUN", ["2026-01-03T00:00", "2026-01-04T00:00", "2026-01-11T00:00"]),
        // One begins with a star: both must hold.
        ("0 0 */2 * SUN", ["2026-01-11T00:00", "2026-01-25T00:00", "2026-02-01T00:00"]),
        ("@monthly", ["2026-02-01T00:00", "2026-03-01T00:00", "2026-04-01T00:00"]),
        ("@Weekly", ["2026-01-04T00:00", "2026-01-11T00:00", "2026-01-18T00:00"]),
    ];
    for (expression, wanted) in table {
        let wanted: Vec<String> = wanted.iter().map(|local| format!("{local}:00+00:00")).collect();
        assert_eq!(next(&cron(expression, ""), "2026-01-01T00:00:00Z", 3), wanted, "{expression}");
    }
}

#[test]
fn bad_expressions_are_refused_with_field_rule_and_value() {
    let table = [
        ("", "5 fields", "got 0"),
        ("* * * *", "5 fields", "got 4"),
        ("* * * * * *", "5 fields", "got 6"),
        ("60 * * * *", "minute", "0..=59"),
        ("* 24 * * *", "hour", "0..=23"),
        ("* * 0 * *", "day of month", "1..=31"),
        ("* * * 13 *", "month", "1..=12 or JAN..=DEC"),
        ("* * * * 8", "day of week", "0..=7 or SUN..=SAT"),
        ("* * * * FUN", "day of week", "\"FUN\""),
        ("5-1 * * * *", "minute", "backwards"),
        ("*/0 * * * *", "minute", "a step is 1..=59"),
        ("1-2-3 * * * *", "minute", "\"1-2-3\""),
        ("1,, * * * *", "minute", "\"\""),
        ("+1 * * * *", "minute", "\"+1\""),
        ("-1 * * * *", "minute", "\"-1\""),
        ("999999999999 * * * *", "minute", "999999999999"),
        ("0 0 30 2 *", "never happens", "30 2"),
        ("0 0 31 4,6,9,11 *", "never happens", "31"),
        ("@reboot", "there is no", "@reboot"),
        ("@dayly", "@daily", "there is no"),
        ("* * L-3 * *", "day of month", "\"L-3\""),
    ];
    for (expression, field, why) in table {
        let refused = Cron::parse(expression).expect_err(expression);
        assert!(refused.contains(field) && refused.contains(why), "{expression}: {refused}");
    }
    assert!(Cron::parse(&"1,".repeat(200)).expect_err("long").contains("256"));
}

#[test]
fn zones_are_found_by_their_names_and_typos_hinted() {
    assert_eq!(Zone::find("europe/berlin").expect("a zone").name(), "Europe/Berlin");
    assert_eq!(Zone::find("").expect("a zone").name(), "UTC");
    assert!(Zone::find("Europe/Berlim").expect_err("a typo").contains("Europe/Berlin"));
    for name in ["Mars/Olympus", "../etc/passwd", "+01:00", "local", &"x".repeat(5_000)] {
        assert!(Zone::find(name).is_err(), "{name}");
    }
}

#[test]
fn intervals_keep_their_distance_from_the_anchor() {
    let rule = every(Span::mins(15));
    assert_eq!(rule.next(Time(1)).map(|one| one.time), Some(Time(900_000)));
    assert_eq!(rule.next(Time(900_000)).map(|one| one.time), Some(Time(1_800_000)));
    let anchored = Rule {
        timing: crate::Timing::Every { interval: Span::hours(36), anchor: at("2026-03-01T06:00:00Z") },
        ..rule
    };
    assert_eq!(
        next(&anchored, "2026-02-27T12:00:00Z", 3),
        ["2026-02-27T18:00:00+00:00", "2026-03-01T06:00:00+00:00", "2026-03-02T18:00:00+00:00"]
    );
    assert_eq!(anchored.next(Time(u64::MAX - 5)), None);
}

#[test]
fn bounds_hold_the_first_and_not_the_last() {
    let rule = Rule {
        start: Some(at("2026-01-02T09:00:00Z")),
        end: Some(at("2026-01-04T09:00:00Z")),
        ..cron("0 9 * * *", "")
    };
    let wanted = ["2026-01-02T09:00:00+00:00", "2026-01-03T09:00:00+00:00"];
    assert_eq!(next(&rule, "2020-01-01T00:00:00Z", 5), wanted);
    let all = rule.latest(Time(0), at("2030-01-01T00:00:00Z"), 10);
    assert_eq!(all.iter().map(|time| rule.timing.print(*time)).collect::<Vec<_>>(), wanted);
    assert_eq!(rule.between(at("2026-01-03T09:00:00Z"), Time::NEVER, 10), [at("2026-01-03T09:00:00Z")]);
}
