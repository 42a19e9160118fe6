//! Rows 1 to 22: specs that make no sense.

use crate::{Expected, Target, check, field, refusal};
use coretex_contract::v1 as pb;
use coretex_contract::{Duration, Timestamp};
use coretex_e2e::api::{Refused, proto_duration, spec};
use std::collections::BTreeMap;
use std::time::SystemTime;
use tonic::Code;

type Row = (u32, &'static str, pb::JobSpec, Expected);

async fn refuse_all(rows: Vec<Row>, distinct: u64) {
    let mut target = Target::start().await;
    target.mark().await;
    for (row, what, spec, expected) in rows {
        match target.api.try_submit(spec.clone()).await {
            Err(status) => check(row, what, &status, expected),
            Ok(reply) => panic!("row {row}, {what}: accepted as {reply:?}"),
        }
        // The same in a batch is an error of the item, and its neighbour is not held back by it.
        let good = pb::JobSpec { job_id: "good".into(), ..spec_of_row() };
        let request = pb::BatchSubmitJobsRequest { specs: vec![spec, good], request_id: String::new() };
        let reply = target.api.jobs().batch_submit_jobs(request).await;
        let results = reply.unwrap_or_else(|s| panic!("row {row}, {what}: {s}")).into_inner().results;
        match results.as_slice() {
            [pb::SubmitResult { outcome: Some(pb::submit_result::Outcome::Error(error)), .. }, good] => {
                assert_eq!(error.code, i32::from(expected.code), "row {row}, {what}: {error:?}");
                assert!(
                    matches!(good.outcome, Some(pb::submit_result::Outcome::Job(_))),
                    "row {row}, {what}"
                );
            }
            other => panic!("row {row}, {what}: {other:?}"),
        }
        target.jobs = 1;
    }
    target.unharmed(distinct).await;
}

fn spec_of_row() -> pb::JobSpec {
    spec("job.good")
}

fn good() -> pb::JobSpec {
    spec("job.bad")
}

fn topic(name: &str) -> pb::JobSpec {
    spec(name)
}

fn json(text: &[u8]) -> pb::JobSpec {
    pb::JobSpec { payload: Some(pb::Payload::data("application/json", text.to_vec())), ..good() }
}

fn retry(policy: pb::RetryPolicy) -> pb::JobSpec {
    pb::JobSpec { retry_policy: Some(policy), ..good() }
}

fn labelled(labels: impl IntoIterator<Item = (String, String)>) -> pb::JobSpec {
    pb::JobSpec { labels: labels.into_iter().collect::<BTreeMap<_, _>>(), ..good() }
}

fn total(seconds: i64, nanos: i32) -> pb::JobSpec {
    let timeouts = pb::Timeouts { total: Some(Duration { seconds, nanos }), ..Default::default() };
    pb::JobSpec { timeouts: Some(timeouts), ..good() }
}

fn at(seconds: i64, nanos: i32) -> pb::JobSpec {
    pb::JobSpec { schedule_time: Some(Timestamp { seconds, nanos }), ..good() }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_1_and_2_topics() {
    let named = field("spec.topic");
    let mut rows = vec![(1, "all defaults", pb::JobSpec::default(), named)];
    for (what, name) in [
        ("10,000 characters", "x".repeat(10_000)),
        ("129 characters", "x".repeat(129)),
        ("a space", "job echo".into()),
        ("NUL", "job\0echo".into()),
        ("a newline", "job\necho".into()),
        ("an emoji", "job.😀".into()),
        ("a path", "../x".into()),
        ("a subject with wildcards", "a*b>".into()),
        ("an upper-case letter", "Job.echo".into()),
        ("a dot first", ".job".into()),
        ("a right-to-left override", "job\u{202e}cod".into()),
    ] {
        rows.push((2, what, topic(&name), named));
    }
    refuse_all(rows, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_1_an_empty_request_and_all_faults_at_once() {
    let mut target = Target::start().await;
    target.mark().await;
    let empty = target.api.jobs().submit_job(pb::SubmitJobRequest::default()).await;
    check(1, "no spec", &empty.expect_err("refused"), field("spec"));
    let many = pb::JobSpec {
        topic: "A B".into(),
        priority: Some(77),
        job_id: "run_x/y".into(),
        concurrency_key: "k".repeat(300),
        labels: BTreeMap::from([("coretex.internal".to_owned(), "x".to_owned())]),
        ..Default::default()
    };
    let refused = Refused::of(&target.api.try_submit(many).await.expect_err("refused"));
    for name in ["spec.topic", "spec.priority", "spec.job_id", "spec.concurrency_key", "spec.labels"] {
        assert!(refused.fields.iter().any(|f| f.contains(name)), "{name} is missing in {refused:#?}");
    }
    target.unharmed(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_4_and_5_payloads_that_declare_json() {
    let bad = Expected { code: Code::InvalidArgument, reasons: &["INVALID_JSON"], names: ":" };
    let deep = format!("{}1{}", "[".repeat(65), "]".repeat(65));
    let texts: [(u32, &str, &[u8]); 14] = [
        (4, "truncated", br#"{"a": "#),
        (4, "a byte order mark", b"\xef\xbb\xbf{}"),
        (4, "NaN", b"[NaN]"),
        (4, "a trailing comma", b"[1,2,]"),
        (4, "a key twice", br#"{"a":1,"b":2,"a":3}"#),
        (4, "a key twice, once escaped", br#"{"a":1,"\u0061":3}"#),
        (4, "a lone surrogate", br#"["\ud800"]"#),
        (4, "65 deep", deep.as_bytes()),
        (4, "two documents", b"{} {}"),
        (4, "nothing but blanks", b"   "),
        (4, "single quotes", b"{'a': 1}"),
        (4, "bytes that are no UTF-8", b"[\"\xff\"]"),
        (5, "a number beyond doubles", b"[1e400]"),
        (5, "an integer of more than 64 bits between doubles", b"[18446744073709551617]"),
    ];
    refuse_all(texts.into_iter().map(|(row, what, text)| (row, what, json(text), bad)).collect(), 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_4_and_5_good_json_next_to_the_limits_is_taken_byte_for_byte() {
    let target = Target::start().await;
    let deep = format!("{}1{}", "[".repeat(64), "]".repeat(64));
    for text in [
        deep.as_str(),
        "9223372036854775808",
        "9007199254740993",
        "-0",
        "0.1",
        "\"\\ud83d\\ude00\"",
        " {\"b\":1, \"a\":2} ",
    ] {
        let id = target.api.submit(json(text.as_bytes())).await;
        let payload = target.api.job(&id).await.spec.and_then(|s| s.payload).expect("a payload");
        assert_eq!(payload, pb::Payload::data("application/json", text.as_bytes().to_vec()), "{text}");
    }
    let other = pb::Payload::data("text/plain", b"{\"a\": ".to_vec());
    target.api.submit(pb::JobSpec { payload: Some(other), ..good() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_12_and_13_retries_and_timeouts() {
    let policy = pb::RetryPolicy::default;
    let span = |seconds| Some(proto_duration(std::time::Duration::from_secs(seconds)));
    let backoff = pb::RetryPolicy { initial_backoff: span(60), max_backoff: span(1), ..policy() };
    let factor = |multiplier| retry(pb::RetryPolicy { multiplier: Some(multiplier), ..policy() });
    let jitter = |jitter| retry(pb::RetryPolicy { jitter: Some(jitter), ..policy() });
    let attempts = |n| retry(pb::RetryPolicy { max_attempts: Some(n), ..policy() });
    let negative = pb::RetryPolicy { initial_backoff: Some(Duration { seconds: -1, nanos: 0 }), ..policy() };
    let (m, t) = (field("spec.retry_policy.multiplier"), field("spec.timeouts.total"));
    let years = 300 * 366 * 86_400;
    refuse_all(
        vec![
            (12, "initial above max", retry(backoff), field("spec.retry_policy.initial_backoff")),
            (12, "negative backoff", retry(negative), field("spec.retry_policy.initial_backoff")),
            (12, "multiplier 0", factor(0.0), m),
            (12, "multiplier 0.5", factor(0.5), m),
            (12, "multiplier NaN", factor(f64::NAN), m),
            (12, "multiplier infinite", factor(f64::INFINITY), m),
            (12, "multiplier 1e308", factor(1e308), m),
            (12, "jitter 2", jitter(2.0), field("spec.retry_policy.jitter")),
            (12, "jitter -0.1", jitter(-0.1), field("spec.retry_policy.jitter")),
            (12, "no attempts", attempts(0), field("spec.retry_policy.max_attempts")),
            (12, "101 attempts", attempts(101), field("spec.retry_policy.max_attempts")),
            (13, "-1 s", total(-1, 0), t),
            (13, "0 s", total(0, 0), t),
            (13, "300 years", total(years, 0), t),
            (13, "mixed signs", total(1, -5), t),
            (13, "too many nanoseconds", total(1, 2_000_000_000), t),
            (13, "the largest number", total(i64::MAX, 999_999_999), t),
        ],
        2,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_14_and_15_schedule_times() {
    let named = field("spec.schedule_time");
    refuse_all(
        vec![
            (15, "the year 9999", at(253_402_300_799, 0), named),
            (15, "nanoseconds out of range", at(4_000_000_000, 2_000_000_000), named),
            (15, "the largest number", at(i64::MAX, 0), named),
            (15, "the smallest number", at(i64::MIN, 0), named),
            (15, "before 1970", at(-1, 0), named),
        ],
        1,
    )
    .await;
    let mut target = Target::start().await;
    let past = target.api.try_submit(at(1_000_000_000, 0)).await.expect("the past runs now");
    assert!(past.warnings.iter().any(|w| w.reason == "SCHEDULE_TIME_PAST"), "{past:?}");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    let soon = target.api.submit(at(i64::try_from(now).expect("a time") + 3_600, 0)).await;
    assert!(target.api.job(&soon).await.schedule_time.is_some());
    target.mark().await;
    target.unharmed(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_16_to_19_keys_and_ids() {
    let mut target = Target::start().await;
    let api = target.api.clone();
    let keyed = |key: &str| pb::JobSpec { idempotency_key: key.to_owned(), ..good() };
    let named = |id: &str| pb::JobSpec { job_id: id.to_owned(), ..good() };
    let first = api.submit(keyed("order-1")).await;
    let again = api.try_submit(keyed("order-1")).await.expect("the same is the same");
    assert!(again.existing);
    assert_eq!(again.job.expect("a job").job_id, first);
    let elsewhere = api.in_namespace("other").try_submit(keyed("order-1")).await.expect("another tenant's");
    assert!(!elsewhere.existing);
    assert_ne!(elsewhere.job.expect("a job").job_id, first);
    api.submit(named("chosen-1")).await;
    let again = api.try_submit(named("chosen-1")).await.expect("the same is the same");
    assert!(again.existing);
    target.mark().await;
    let conflict = refusal(Code::AlreadyExists, &["IDEMPOTENCY_CONFLICT"]);
    let taken = refusal(Code::AlreadyExists, &["JOB_ID_TAKEN"]);
    let (key, id) = (field("spec.idempotency_key"), field("spec.job_id"));
    let mut rows = vec![
        (17, "the key with another spec", pb::JobSpec { priority: Some(9), ..keyed("order-1") }, conflict),
        (18, "a key of 300 characters", keyed(&"k".repeat(300)), key),
        (18, "a key of blanks", keyed("   "), key),
        (18, "a key with a newline", keyed("a\nb"), key),
        (19, "an id with another spec", pb::JobSpec { priority: Some(9), ..named("chosen-1") }, taken),
    ];
    for bad in ["a b", "job_mine", "run_mine", "../x", "a/b", "a:b", ".a", "ü", "a\0"] {
        rows.push((19, "a malformed id", named(bad), id));
    }
    rows.push((19, "129 characters", named(&"i".repeat(129)), id));
    for (row, what, spec, expected) in rows {
        let status = api.try_submit(spec).await.expect_err(what);
        check(row, what, &status, expected);
    }
    target.unharmed(4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_21_and_22_labels_and_priorities() {
    let labels = field("spec.labels");
    let one = |key: &str, value: String| labelled([(key.to_owned(), value)]);
    let priority = |n| pb::JobSpec { priority: Some(n), ..good() };
    refuse_all(
        vec![
            (21, "65 labels", labelled((0..65).map(|n| (format!("k{n}"), String::new()))), labels),
            (21, "a reserved prefix", one("coretex.owner", "x".into()), labels),
            (21, "a value of 257 bytes", one("k", "v".repeat(257)), labels),
            (21, "a key of 257 bytes", one(&"k".repeat(257), "v".into()), labels),
            (21, "an empty key", one("", "v".into()), labels),
            (22, "priority 10", priority(10), field("spec.priority")),
            (22, "priority -1", priority(-1), field("spec.priority")),
            (22, "the largest priority", priority(i32::MAX), field("spec.priority")),
        ],
        2,
    )
    .await;
    let target = Target::start().await;
    let pause = pb::PauseTopicRequest { topic: "job.bad".into(), ..Default::default() };
    target.api.topics().pause_topic(pause).await.expect("paused");
    let reply = target.api.try_submit(good()).await.expect("a paused topic takes jobs");
    assert!(reply.warnings.iter().any(|w| w.reason == "TOPIC_PAUSED"), "{reply:?}");
}
