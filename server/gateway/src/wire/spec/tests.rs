use super::*;
use coretex_contract::{Duration, Timestamp};

const NOW: Time = Time(1_767_225_600_000);

fn read(spec: pb::JobSpec) -> Result<(Ask, Vec<pb::Warning>), Refusal> {
    SpecReader::new(NOW, limits::PAYLOAD_MAX, None).read(Some(spec), 0)
}

fn spec() -> pb::JobSpec {
    pb::JobSpec { topic: "job.echo".into(), ..pb::JobSpec::default() }
}

fn fields(spec: pb::JobSpec) -> Vec<String> {
    read(spec).err().map(|r| r.violations.into_iter().map(|v| v.field).collect()).unwrap_or_default()
}

fn secs(seconds: i64) -> Option<Duration> {
    Some(Duration { seconds, nanos: 0 })
}

#[test]
fn a_plain_spec_has_no_options() {
    let (ask, warnings) = read(pb::JobSpec { priority: Some(9), ..spec() }).expect("plain");
    assert_eq!((ask.spec.priority, ask.spec.options.is_none(), ask.job_id.is_none()), (9, true, true));
    assert!(warnings.is_empty());
    assert_eq!(read(spec()).expect("plain").0.spec.priority, 4);
}

#[test]
fn an_empty_body_names_the_topic() {
    let refusal = SpecReader::new(NOW, 10, None).read(None, 0).expect_err("empty");
    assert_eq!(refusal.violations[0].field, "spec");
    assert_eq!(fields(pb::JobSpec::default()), ["spec.topic"]);
}

#[test]
fn topics_are_names() {
    for bad in ["a b", "a\0", "a\nb", "😀", "../x", "a*b>", &"a".repeat(10_000), "A"] {
        assert_eq!(
            fields(pb::JobSpec { topic: bad.into(), ..pb::JobSpec::default() }),
            ["spec.topic"],
            "{bad:?}"
        );
    }
}

#[test]
fn retry_policies_are_bounded() {
    let with = |policy: pb::RetryPolicy| fields(pb::JobSpec { retry_policy: Some(policy), ..spec() });
    let base = pb::RetryPolicy::default();
    for multiplier in [0.0, 0.5, f64::NAN, 1e308, -1.0] {
        let found = with(pb::RetryPolicy { multiplier: Some(multiplier), ..base.clone() });
        assert_eq!(found, ["spec.retry_policy.multiplier"], "{multiplier}");
    }
    for jitter in [2.0, -0.1, f64::NAN] {
        assert_eq!(
            with(pb::RetryPolicy { jitter: Some(jitter), ..base.clone() }),
            ["spec.retry_policy.jitter"]
        );
    }
    for attempts in [0, 101] {
        let found = with(pb::RetryPolicy { max_attempts: Some(attempts), ..base.clone() });
        assert_eq!(found, ["spec.retry_policy.max_attempts"]);
    }
    let found = with(pb::RetryPolicy { initial_backoff: secs(10), max_backoff: secs(5), ..base.clone() });
    assert_eq!(found, ["spec.retry_policy.initial_backoff"]);
    assert_eq!(with(pb::RetryPolicy { max_backoff: secs(0), ..base }), ["spec.retry_policy.max_backoff"]);
}

#[test]
fn time_limits_are_above_zero_and_within_the_horizon() {
    for bad in [secs(0), secs(-1), secs(300 * 366 * 86_400)] {
        let timeouts = pb::Timeouts { start_to_close: bad, ..pb::Timeouts::default() };
        let refusal = read(pb::JobSpec { timeouts: Some(timeouts), ..spec() }).expect_err("refused");
        assert_eq!(refusal.violations[0].field, "spec.timeouts.start_to_close");
        assert!(refusal.violations[0].message.contains("for example 90s"));
    }
}

#[test]
fn schedule_times_may_be_past_but_not_far() {
    let at = |seconds| pb::JobSpec { schedule_time: Some(Timestamp { seconds, nanos: 0 }), ..spec() };
    let (ask, warnings) = read(at(1_767_225_000)).expect("past");
    assert_eq!(warnings[0].reason, "SCHEDULE_TIME_PAST");
    assert!(ask.spec.options().schedule_time.is_some());
    assert!(read(at(1_767_225_600 + 86_400)).is_ok_and(|(_, warnings)| warnings.is_empty()));
    for bad in [0, -1, 253_402_300_799] {
        assert_eq!(fields(at(bad)), ["spec.schedule_time"], "{bad}");
    }
}

#[test]
fn keys_and_ids_are_checked() {
    let key = |key: &str| fields(pb::JobSpec { idempotency_key: key.into(), ..spec() });
    assert_eq!(key(&"k".repeat(300)), ["spec.idempotency_key"]);
    assert_eq!(key("   "), ["spec.idempotency_key"]);
    assert_eq!(key("a\nb"), ["spec.idempotency_key"]);
    assert!(key("order 1").is_empty());
    let id = |id: &str| fields(pb::JobSpec { job_id: id.into(), ..spec() });
    for bad in ["job_01ARZ3NDEKTSV4RRFFQ69G5FAV", "run_1", "-a", "a b", "a/b", &"x".repeat(129)] {
        assert_eq!(id(bad), ["spec.job_id"], "{bad}");
    }
    assert!(id("order-1").is_empty());
    assert_eq!(fields(pb::JobSpec { parent_job_id: "job_!".into(), ..spec() }), ["spec.parent_job_id"]);
}

#[test]
fn labels_are_counted_and_named() {
    let labels =
        |pairs: Vec<(String, String)>| fields(pb::JobSpec { labels: pairs.into_iter().collect(), ..spec() });
    assert_eq!(labels((0..65).map(|n| (format!("k{n}"), String::new())).collect()), ["spec.labels"]);
    assert_eq!(labels(vec![("coretex.x".into(), "1".into())]), ["spec.labels[\"coretex.x\"]"]);
    assert_eq!(labels(vec![("k".into(), "v".repeat(257))]), ["spec.labels[\"k\"]"]);
    assert_eq!(
        labels(vec![("Team".into(), "a".into()), ("team".into(), "b".into())]),
        ["spec.labels[\"team\"]"]
    );
}

#[test]
fn every_fault_is_reported_at_once() {
    let found = fields(pb::JobSpec {
        topic: "A".into(),
        priority: Some(11),
        concurrency_key: " ".into(),
        pool_required: true,
        trace_id: "xyz".into(),
        retention: secs(1),
        requires: vec!["a b".into(); 3],
        ..pb::JobSpec::default()
    });
    for field in [
        "spec.topic",
        "spec.priority",
        "spec.concurrency_key",
        "spec.pool_required",
        "spec.trace_id",
        "spec.retention",
        "spec.requires[2]",
    ] {
        assert!(found.iter().any(|f| f == field), "{field}: {found:?}");
    }
}

#[test]
fn reasons_are_as_narrow_as_the_faults_allow() {
    let big = pb::Payload::data("", vec![0u8; limits::PAYLOAD_MAX + 1]);
    let refusal = read(pb::JobSpec { payload: Some(big.clone()), ..spec() }).expect_err("too large");
    assert_eq!(refusal.reason, Reason::PayloadTooLarge);
    let both = pb::JobSpec { payload: Some(big), priority: Some(-1), ..spec() };
    assert_eq!(read(both).expect_err("two faults").reason, Reason::InvalidField);
}

#[test]
fn traces_come_from_the_call_unless_a_key_repeats_it() {
    let trace: Arc<str> = "0af7651916cd43dd8448eb211c80319c".into();
    assert_eq!(trace_of("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), Some(trace.clone()));
    assert_eq!(trace_of("00-00000000000000000000000000000000-b7ad6b7169203331-01"), None);
    let mut reader = SpecReader::new(NOW, 1, Some(trace.clone()));
    let (ask, _) = reader.read(Some(spec()), 0).expect("plain");
    assert_eq!(ask.spec.options().trace_id, Some(trace));
    let (ask, _) =
        reader.read(Some(pb::JobSpec { idempotency_key: "k".into(), ..spec() }), 0).expect("keyed");
    assert_eq!(ask.spec.options().trace_id, None);
}

#[test]
fn a_spec_survives_the_way_back() {
    let given = pb::JobSpec {
        job_id: "order-1".into(),
        labels: [("team".to_owned(), "a".to_owned())].into(),
        timeouts: Some(pb::Timeouts { total: secs(60), ..pb::Timeouts::default() }),
        retry_policy: Some(pb::RetryPolicy { max_attempts: Some(5), ..pb::RetryPolicy::default() }),
        pool: "gpu".into(),
        pool_required: true,
        payload: Some(pb::Payload::data("text/plain", &b"hi"[..])),
        priority: Some(6),
        ..spec()
    };
    let (ask, _) = read(given.clone()).expect("valid");
    let id = ask.job_id.expect("chosen");
    assert_eq!(write(&ask.spec, &id, Some(pb::PayloadFormat::Data)), given);
}

/// Prints figures; run it with `--release -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn measure_plain_specs() {
    use prost::Message;
    let batch = pb::SubmitJobStreamRequest {
        specs: vec![
            pb::JobSpec {
                payload: Some(pb::Payload::data("", &b"0123456789abcdef0123456789abcdef"[..])),
                ..spec()
            };
            256
        ],
        ..Default::default()
    };
    let bytes: bytes::Bytes = batch.encode_to_vec().into();
    let rounds = 8_000;
    let mut reader = SpecReader::new(NOW, limits::PAYLOAD_MAX, None);
    let (mut decoding, mut reading, mut count) = (std::time::Duration::ZERO, std::time::Duration::ZERO, 0);
    for _ in 0..rounds {
        let start = std::time::Instant::now();
        let batch = pb::SubmitJobStreamRequest::decode(bytes.clone()).expect("decodes");
        decoding += start.elapsed();
        let start = std::time::Instant::now();
        for spec in batch.specs {
            count += usize::from(reader.read(Some(spec), bytes.len()).is_ok());
        }
        reading += start.elapsed();
    }
    let per = |d: std::time::Duration| d.as_nanos() / (rounds * 256);
    println!("{count} specs: decode {} ns each, read {} ns each", per(decoding), per(reading));
    let job = coretex_domain::Job::submitted(
        JobId::make(1, 2 << 8, coretex_domain::ShardId(3)),
        coretex_domain::Namespace::new("default"),
        Arc::new(Spec::new("job.echo", Payload::empty())),
        1,
        NOW,
        None,
    );
    let start = std::time::Instant::now();
    let mut bytes = 0;
    for _ in 0..rounds {
        let mut put = crate::wire::put::Put::with_capacity(256 * 64);
        for _ in 0..256 {
            crate::wire::put::accepted(&mut put, 2, &job, false, &[]);
        }
        bytes += put.finish().len();
    }
    println!("results: {} ns and {} bytes each", per(start.elapsed()), bytes / (rounds as usize * 256));
}
