use super::*;
use crate::job::{Entry, Event, Spec};
use crate::{JobId, Namespace, Payload};
use proptest::prelude::*;

fn job() -> Job {
    let mut spec = Spec::new("job.mail", Payload::empty());
    spec.options_mut().labels = vec![("team".into(), "a".into()), ("my key".into(), "x".into())];
    let id = JobId::Named("order-1".into());
    let mut job =
        Job::submitted(id, Namespace::new("default"), Arc::new(spec), 1, Time(1_767_225_600_000), None);
    job.apply(Entry { seq: 2, time: Time(1_767_225_600_500), event: Event::Denied(None) }).expect("legal");
    job
}

fn matches(text: &str) -> bool {
    Filter::parse(text).unwrap_or_else(|e| panic!("{text}: {e}")).matches(&job())
}

#[test]
fn filters_say_what_they_mean() {
    for yes in [
        "",
        "  ",
        "state = DENIED",
        "state=DENIED AND topic=job.mail",
        "state != FAILED",
        "NOT state = FAILED",
        "state IN (FAILED, DENIED)",
        "(state = FAILED OR state = DENIED) AND labels.team = \"a\"",
        "labels.\"my key\" = x",
        "labels.absent = \"\"",
        "labels.absent != \"b\"",
        "priority >= 4 AND priority <= 4",
        "create_time >= \"2026-01-01T00:00:00Z\" AND create_time < \"2026-01-01T01:00:00.001+01:00\"",
        "end_time > \"2025-01-01T00:00:00Z\"",
        "worker_id = \"\"",
        "state = FAILED AND state = FAILED OR topic = job.mail",
    ] {
        assert!(matches(yes), "{yes}");
    }
    for no in [
        "state = FAILED",
        "topic = job.mailer",
        "NOT (topic = job.mail)",
        "failure.type = X",
        "end_time < \"2025-01-01T00:00:00Z\"",
        "labels.team = b",
        "priority > 4",
    ] {
        assert!(!matches(no), "{no}");
    }
}

#[test]
fn faults_name_place_and_nearest_name() {
    for (text, position, part) in [
        ("stat = FAILED", 0, "did you mean `state`"),
        ("state = FAILD", 8, "did you mean `FAILED`"),
        ("state = failed", 8, "did you mean `FAILED`"),
        ("state FAILED", 6, "expected ="),
        ("state = FAILED an topic = x", 15, "did you mean `AND`"),
        ("(state = FAILED", 15, "expected `)`"),
        ("state = ", 8, "expected a value"),
        ("topic > a", 6, "no order"),
        ("priority = high", 11, "whole number"),
        ("create_time > 2026-01-01T00:00:00Z", 14, "in quotes"),
        ("create_time > \"yesterday\"", 14, "RFC 3339"),
        ("labels. = x", 0, "needs a key"),
        ("labels = x", 0, "needs a key"),
        ("topic = \"a", 8, "no end"),
        ("topic = \"\\q\"", 9, "escape"),
        ("topic IN a", 9, "expected `(`"),
        ("AND", 0, "expected a field"),
        ("%' OR 1=1 --", 0, "expected a field"),
    ] {
        let fault = Filter::parse(text).expect_err(text);
        assert_eq!(fault.position, position, "{text}: {fault}");
        assert!(fault.message.contains(part), "{text}: {fault}");
    }
}

#[test]
fn size_and_depth_are_bounded() {
    let deep = format!("{}state = FAILED{}", "(".repeat(40), ")".repeat(40));
    assert!(Filter::parse(&deep).is_err_and(|e| e.message.contains("nested")));
    assert!(Filter::parse(&"NOT ".repeat(40)).is_err_and(|e| e.message.contains("nested")));
    assert!(Filter::parse(&" ".repeat(5_000)).is_err_and(|e| e.message.contains("at most 4096 bytes")));
    let wide = vec!["priority=1"; 280].join(" OR ");
    assert!(Filter::parse(&wide).is_err_and(|e| e.message.contains("at most 256")));
}

#[test]
fn hints_hold_for_every_accepted_row() {
    let filter = Filter::parse(
        "topic = a AND (state = FAILED OR state = DENIED) AND create_time > \"1970-01-01T00:00:01Z\" AND create_time <= \"1970-01-01T00:00:05Z\"",
    )
    .expect("parses");
    assert_eq!(filter.topic().map(|t| t.as_ref()), Some("a"));
    assert_eq!(filter.state(), None);
    assert_eq!(filter.create_time_bounds(), (Time(1_001), Time(5_000)));
    let either = Filter::parse("topic = a OR state = FAILED").expect("parses");
    assert_eq!((either.topic(), either.state()), (None, None));
    assert_eq!(Filter::parse("state IN (FAILED)").expect("parses").state(), Some(StateKind::Failed));
    assert_eq!(Filter::parse("NOT topic = a").expect("parses").topic(), None);
}

#[test]
fn hash_ignores_spacing_and_quotes() {
    let hash = |text| Filter::parse(text).expect("parses").hash();
    assert_eq!(hash("state=FAILED  AND topic=a"), hash("(state = \"FAILED\") AND (topic = \"a\")"));
    assert_ne!(hash("topic = a"), hash("topic = b"));
}

fn term() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("state = FAILED".to_owned()),
        Just("state IN (FAILED, \"DENIED\")".to_owned()),
        Just("priority >= -3".to_owned()),
        Just("create_time < \"2026-01-01T00:00:00.5Z\"".to_owned()),
        "[a-z]{1,5}".prop_map(|v| format!("topic != {v}")),
        "\\PC{0,8}"
            .prop_map(|v| format!("labels.\"k\" = \"{}\"", v.replace('\\', "\\\\").replace('"', "\\\""))),
    ]
}

fn expression() -> impl Strategy<Value = String> {
    term().prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} AND {b}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} OR {b}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) AND ({b})")),
            inner.clone().prop_map(|a| format!("NOT ({a})")),
        ]
    })
}

proptest! {
    #[test]
    fn printed_filters_parse_to_themselves(text in expression()) {
        let first = Filter::parse(&text).map_err(|e| TestCaseError::fail(format!("{text}: {e}")))?;
        let again = Filter::parse(&first.to_string()).map_err(|e| TestCaseError::fail(format!("{first}: {e}")))?;
        prop_assert_eq!(&first, &again);
        prop_assert_eq!(first.matches(&job()), again.matches(&job()));
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,60}") {
        let _ = Filter::parse(&text);
    }

    #[test]
    fn no_near_filter_panics(text in "[a-zA-Z=<>!()\"\\\\., _0-9\u{e9}]{0,60}") {
        let _ = Filter::parse(&text);
    }
}
