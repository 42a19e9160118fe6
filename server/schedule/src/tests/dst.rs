//! What clocks that jump do to schedules: a gap runs once at its end, a fold at the first of both.

use super::{at, cron, next};
use crate::Note;

#[test]
fn gaps_run_once_at_their_end_and_folds_at_the_first() {
    // Zone, expression, after, and the next times as clocks there show them.
    let table: [(&str, &str, &str, &[&str]); 13] = [
        // New York, 8 March 2026: 02:00 to 03:00 does not exist.
        (
            "America/New_York",
            "30 2 * * *",
            "2026-03-07T12:00:00Z",
            &["2026-03-08T03:00:00-04:00", "2026-03-09T02:30:00-04:00"],
        ),
        // Four times in the gap, and one at its end: one.
        (
            "America/New_York",
            "*/15 2,3 * * *",
            "2026-03-08T06:00:00Z",
            &["2026-03-08T03:00:00-04:00", "2026-03-08T03:15:00-04:00"],
        ),
        (
            "America/New_York",
            "30 * * * *",
            "2026-03-08T06:00:00Z",
            &["2026-03-08T01:30:00-05:00", "2026-03-08T03:00:00-04:00", "2026-03-08T03:30:00-04:00"],
        ),
        // 1 November 2026: 01:00 to 02:00 comes twice.
        (
            "America/New_York",
            "30 1 * * *",
            "2026-10-31T12:00:00Z",
            &["2026-11-01T01:30:00-04:00", "2026-11-02T01:30:00-05:00"],
        ),
        (
            "America/New_York",
            "*/30 * * * *",
            "2026-11-01T04:45:00Z",
            &["2026-11-01T01:00:00-04:00", "2026-11-01T01:30:00-04:00", "2026-11-01T02:00:00-05:00"],
        ),
        // Asked in the second pass.
        ("America/New_York", "*/10 1 * * *", "2026-11-01T06:05:00Z", &["2026-11-02T01:00:00-05:00"]),
        ("Europe/Berlin", "0 2 29 3 *", "2026-01-01T00:00:00Z", &["2026-03-29T03:00:00+02:00"]),
        ("Europe/Berlin", "30 2 25 10 *", "2026-01-01T00:00:00Z", &["2026-10-25T02:30:00+02:00"]),
        // Half an hour.
        ("Australia/Lord_Howe", "15 2 * * *", "2026-10-03T12:00:00Z", &["2026-10-04T02:30:00+11:00"]),
        ("Australia/Lord_Howe", "45 1 * * *", "2026-04-04T12:00:00Z", &["2026-04-05T01:45:00+11:00"]),
        // At midnight: the day begins at one.
        ("Africa/Cairo", "0 0 24 4 *", "2026-04-01T00:00:00Z", &["2026-04-24T01:00:00+03:00"]),
        // A whole day was left out: 30 December 2011 does not exist in Samoa.
        (
            "Pacific/Apia",
            "0 9 * * *",
            "2011-12-29T12:00:00Z",
            &["2011-12-29T09:00:00-10:00", "2011-12-31T00:00:00+14:00", "2011-12-31T09:00:00+14:00"],
        ),
        // No daylight saving time.
        ("Asia/Kolkata", "30 2 * * *", "2026-03-08T00:00:00Z", &["2026-03-09T02:30:00+05:30"]),
    ];
    for (zone, expression, after, wanted) in table {
        assert_eq!(next(&cron(expression, zone), after, wanted.len()), wanted, "{zone} {expression}");
    }
}

#[test]
fn what_clocks_did_is_said() {
    let note = |expression: &str, after: &str| {
        let found = cron(expression, "America/New_York").next(at(after)).expect("a time");
        found.note.map(|note| note.to_string()).unwrap_or_default()
    };
    assert_eq!(
        note("30 2 * * *", "2026-03-08T06:00:00Z"),
        "2026-03-08T02:30 does not exist: clocks jump over it"
    );
    assert_eq!(note("30 1 * * *", "2026-11-01T00:00:00Z"), "2026-11-01T01:30 comes twice: this is the first");
    assert_eq!(note("0 9 * * *", "2026-11-01T00:00:00Z"), "");
    let rule = cron("0 3 * * *", "America/New_York");
    let found = rule.next(at("2026-03-08T06:00:00Z")).expect("a time");
    assert!(!matches!(found.note, Some(Note::Gap { .. })), "03:00 exists");
}
