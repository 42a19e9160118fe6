//! Round trips of anything, golden bytes, and records that must be refused.

use crate::{BatchWriter, Form, Interner, LogWrite, decode_batch, decode_job, put_job, row, wire};
use coretex_domain::config::{Applied, Layer, Level, Scope};
use coretex_domain::dead_letter::DeadLetter;
use coretex_domain::job::OfRun;
use coretex_domain::job::spec::{Budget, Metadata, Options, Placement, RetryPolicy, Timeouts};
use coretex_domain::job::{
    Cancel, Close, Closed, Counters, Entry, Event, Failure, Family, Grounds, Job, Lease, Note, Progress,
    Rare, Reserved, Return, Ruling, Spawn, Spec, State, StateKind, Usage,
};
use coretex_domain::payload::ContentType;
use coretex_domain::policy::{
    ApprovalTerms, Budgets, Constraints, Decision, DiffLimits, OnExpiry, Redaction, Remediation, Sandbox,
    Terms, Throttle, Toolchain, Verdict,
};
use coretex_domain::run::At;
use coretex_domain::{JobId, Namespace, Payload, SessionId, ShardId, Span, Time};
use coretex_ports::{Group, KeyRow, Write};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use prost::Message as _;
use std::sync::Arc;

fn text() -> BoxedStrategy<Arc<str>> {
    prop_oneof![Just(String::new()), "[a-z]{1,12}", "\\PC{0,6}", Just("a\0b🦀".to_owned())]
        .prop_map(Into::into)
        .boxed()
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(u64::MAX), 0_u64..300, any::<u64>()]
}

fn payload() -> impl Strategy<Value = Payload> {
    let kind = prop_oneof![
        Just(ContentType::None),
        Just(ContentType::Json),
        Just(ContentType::Binary),
        text().prop_map(ContentType::Other),
    ];
    (kind, vec(any::<u8>(), 0..300))
        .prop_map(|(content_type, data)| Payload { content_type, data: data.into() })
}

fn id() -> impl Strategy<Value = JobId> {
    prop_oneof![any::<u128>().prop_map(JobId::Made), Just(JobId::Made(0)), text().prop_map(JobId::Named)]
}

fn lease() -> impl Strategy<Value = Box<Lease>> {
    (any::<u32>(), number(), any::<u128>(), text(), text()).prop_map(
        |(serial, id, session, worker_id, lane_id)| {
            Box::new(Lease { serial, id, session: SessionId(session), worker_id, lane_id })
        },
    )
}

fn cancel() -> impl Strategy<Value = Cancel> {
    (text(), text(), number()).prop_map(|(reason, actor, time)| Cancel { reason, actor, time: Time(time) })
}

fn closed() -> impl Strategy<Value = Closed> {
    let close = prop::sample::select(&Close::ALL[..]);
    (close, text(), text()).prop_map(|(close, kind, message)| Closed { close, kind, message })
}

fn ruling() -> impl Strategy<Value = Option<Box<Ruling>>> {
    let grounds = prop::sample::select(&Grounds::ALL[..]);
    of((grounds, vec(text(), 0..3), text()))
        .prop_map(|ruling| ruling.map(|(grounds, by, comment)| Box::new(Ruling { grounds, by, comment })))
}

fn event() -> impl Strategy<Value = Event> {
    let place = number();
    prop_oneof![
        of("[a-z]{0,9}").prop_map(|actor| Event::Submitted { actor: actor.map(Into::into) }),
        place.prop_map(|place| Event::Admitted { place }),
        (number(), text()).prop_map(|(at, why)| Event::Deferred(Box::new((Time(at), why)))),
        Just(Event::ApprovalRequested),
        (number(), ruling()).prop_map(|(place, ruling)| Event::Approved { place, ruling }),
        ruling().prop_map(Event::ApprovalVoided),
        Just(Event::Rejudged),
        ruling().prop_map(Event::Denied),
        lease().prop_map(Event::Dispatched),
        prop::sample::select(&Return::ALL[..]).prop_map(Event::Returned),
        Just(Event::Started),
        Just(Event::Released),
        Just(Event::Succeeded),
        (closed(), number()).prop_map(|(closed, due)| Event::AttemptFailed(Box::new((closed, Time(due))))),
        closed().prop_map(|closed| Event::Failed(Box::new(closed))),
        any::<bool>().prop_map(|total| Event::TimedOut { total }),
        number().prop_map(|place| Event::RetryDue { place }),
        Just(Event::Expired),
        cancel().prop_map(|cancel| Event::CancelRequested(Box::new(cancel))),
        of(cancel()).prop_map(|cancel| Event::Cancelled(cancel.map(Box::new))),
        text().prop_map(|text| Event::Annotated(Box::new(Note::LateResult(text)))),
        id().prop_map(|id| Event::Annotated(Box::new(Note::RetriedAs(id)))),
        text().prop_map(|actor| Event::Annotated(Box::new(Note::DeadLetterDeleted(actor)))),
    ]
}

fn history() -> impl Strategy<Value = Vec<Entry>> {
    let entry = (number(), number(), event());
    vec(entry.prop_map(|(seq, time, event)| Entry { seq, time: Time(time), event }), 1..9)
}

fn state() -> impl Strategy<Value = State> {
    prop_oneof![
        of((number(), text())).prop_map(|why| State::Pending(why.map(|(at, why)| Box::new((Time(at), why))))),
        Just(State::AwaitingApproval),
        Just(State::Scheduled),
        lease().prop_map(State::Dispatched),
        lease().prop_map(State::Running),
        number().prop_map(|due| State::Retrying { due: Time(due) }),
        prop::sample::select(vec![
            State::Succeeded,
            State::Failed,
            State::TimedOut,
            State::Cancelled,
            State::Denied,
            State::Expired
        ]),
    ]
}

fn retry() -> impl Strategy<Value = RetryPolicy> {
    (of(any::<u32>()), of(number()), of(0.0..9.0_f64), of(number()), of(Just(0.0)), vec(text(), 0..3))
        .prop_map(|(max_attempts, initial, multiplier, max_backoff, jitter, non_retryable_errors)| {
            RetryPolicy {
                max_attempts,
                initial_backoff: initial.map(Span),
                multiplier,
                max_backoff: max_backoff.map(Span),
                jitter,
                non_retryable_errors,
            }
        })
}

fn options() -> impl Strategy<Value = Options> {
    let first =
        (of(text()), vec((text(), text()), 0..3), of(number()), retry(), vec(of(number()), 4), of(text()));
    let placement = (of(text()), any::<bool>(), of(text()), any::<bool>(), vec(text(), 0..3));
    let metadata = (of(text()), of(text()), of(text()), vec(text(), 0..3));
    let rest = (of(text()), of(text()), of(number()), of(number()), of(number()), of(text()));
    (first, placement, metadata, rest).prop_map(|(first, p, m, rest)| Options {
        idempotency_key: first.0,
        labels: first.1,
        schedule_time: first.2.map(Time),
        retry: first.3,
        timeouts: Timeouts {
            schedule_to_start: first.4[0].map(Span),
            start_to_close: first.4[1].map(Span),
            stall: first.4[2].map(Span),
            total: first.4[3].map(Span),
        },
        concurrency_key: first.5,
        rate_key: rest.0,
        placement: Placement {
            pool: p.0,
            pool_required: p.1,
            worker_id: p.2,
            worker_required: p.3,
            requires: p.4,
        },
        parent_job_id: rest.1,
        metadata: Metadata { actor_id: m.0, actor_type: m.1, capability: m.2, risk_tags: m.3 },
        budget: Budget { max_tokens: rest.2, max_cost_micros: rest.3 },
        retention: rest.4.map(Span),
        trace_id: rest.5,
    })
}

fn terms() -> impl Strategy<Value = Terms> {
    let approval = (vec(text(), 0..3), any::<u32>(), number(), any::<bool>(), any::<bool>()).prop_map(
        |(approvers, quorum, expires, approves, requester_may_approve)| ApprovalTerms {
            approvers,
            quorum,
            expires: Span(expires),
            on_expiry: if approves { OnExpiry::Approve } else { OnExpiry::Reject },
            requester_may_approve,
        },
    );
    let throttle = (any::<u32>(), number(), text()).prop_map(|(limit, per, key)| Throttle {
        limit,
        per: Span(per),
        key,
    });
    (of(approval), of(throttle), of(constraints())).prop_map(|(approval, throttle, constraints)| Terms {
        approval,
        throttle,
        constraints,
    })
}

fn constraints() -> impl Strategy<Value = Constraints> {
    let redaction = of(prop::sample::select(vec![Redaction::None, Redaction::Standard, Redaction::Strict]));
    let lists = vec(of(vec(text(), 0..3)), 5);
    (vec(of(any::<u32>()), 4), vec(of(number()), 3), of(any::<bool>()), lists, vec(text(), 0..3), redaction)
        .prop_map(|(small, large, isolated, lists, deny_path_globs, redaction)| Constraints {
            budgets: Budgets {
                max_runtime: large[0].map(Span),
                max_retries: small[0],
                max_tokens: large[1],
                max_cost_micros: large[2],
                max_concurrent: small[1],
            },
            sandbox: Sandbox {
                isolated,
                network_allowlist: lists[0].clone(),
                fs_read_only: lists[1].clone(),
                fs_read_write: lists[2].clone(),
            },
            toolchain: Toolchain { allowed_tools: lists[3].clone(), allowed_commands: lists[4].clone() },
            diff: DiffLimits { max_files: small[2], max_lines: small[3], deny_path_globs },
            redaction,
        })
}

fn decision() -> impl Strategy<Value = Decision> {
    let verdict = prop::sample::select(vec![
        Verdict::Allow,
        Verdict::Deny,
        Verdict::RequireApproval,
        Verdict::Throttle,
        Verdict::AllowWithConstraints,
    ]);
    let labels = vec((text(), text()), 0..3);
    let remediation = (text(), text(), vec(of(text()), 3), labels, vec(text(), 0..3)).prop_map(
        |(id, title, rest, add_labels, remove_labels)| Remediation {
            id,
            title,
            summary: rest[0].clone(),
            replacement_topic: rest[1].clone(),
            replacement_capability: rest[2].clone(),
            add_labels,
            remove_labels,
        },
    );
    (verdict, text(), text(), vec(remediation, 0..3), text(), number(), of(terms())).prop_map(
        |(verdict, rule_id, reason, remediations, policy, policy_version, terms)| Decision {
            terms: terms.map(Arc::new),
            verdict,
            rule_id,
            reason,
            remediations,
            policy,
            policy_version,
        },
    )
}

fn rare() -> impl Strategy<Value = Rare> {
    let progress = (0.0..1.0_f64, text(), number(), vec((text(), text()), 0..3)).prop_map(
        |(fraction, message, time, attributes)| Progress { fraction, message, attributes, time: Time(time) },
    );
    let usage = (number(), number(), number(), text()).prop_map(|(cpu_ms, tokens_in, tool_calls, model)| {
        Usage { cpu_ms, tokens_in, tool_calls, model, peak_rss: 7, tokens_out: 8, cost_micros: 9 }
    });
    let failure = (text(), text(), any::<bool>(), payload(), text()).prop_map(
        |(kind, message, retryable, details, stack)| Failure { kind, message, retryable, details, stack },
    );
    let level = prop::sample::select(Level::ALL.to_vec());
    let layer = (level, text(), number())
        .prop_map(|(level, id, revision)| Layer { scope: Scope { level, id }, revision });
    let config = (any::<[u8; 32]>(), vec(layer, 0..5))
        .prop_map(|(digest, layers)| Arc::new(Applied { digest, layers, data: None }));
    let said = (of(cancel()), of(progress), of(payload()), of(failure));
    (
        said,
        of(id()),
        of(id()),
        of(number()),
        of(usage),
        of(config),
        ((number(), number()), of(family()), of(of_run())),
    )
        .prop_map(
            |(
                (cancel, progress, checkpoint, failure),
                retry_of,
                retried_as,
                last_sign,
                usage,
                config,
                (set_aside, family, of_run),
            )| Rare {
                cancel,
                progress,
                checkpoint,
                failure,
                retry_of,
                retried_as,
                last_sign: last_sign.map(Time),
                submitted_as: usage.as_ref().map(|usage: &Usage| u128::from(usage.cpu_ms) << 64 | 7),
                usage,
                config,
                reserved: Reserved { tokens: set_aside.0, cost_micros: set_aside.1 },
                family,
                of_run,
            },
        )
}

prop_compose! {
    fn of_run()(
        scope in any::<u32>(), place in any::<u32>(), index in of(any::<u32>()), is_undo in any::<bool>(),
        asks in terms(), token_key in of(text()),
    ) -> Box<OfRun> {
        Box::new(OfRun { at: At { scope, place }, index, is_undo, asks: asks.approval, token_key })
    }
}

prop_compose! {
    fn family()(
        root in of(id()), depth in any::<u32>(), closes_with_parent in any::<bool>(), budget in vec(number(), 4),
        spawns in vec((text(), any::<u128>(), any::<u32>(), number()), 0..4),
    ) -> Box<Family> {
        let spawn = |(name, asked, count, time)| Spawn { name, asked, count, time: Time(time) };
        Box::new(Family {
            root,
            depth,
            closes_with_parent,
            borrowed: Reserved { tokens: budget[0], cost_micros: budget[1] },
            lent: Reserved { tokens: budget[2], cost_micros: budget[3] },
            spawns: spawns.into_iter().map(spawn).collect(),
        })
    }
}

prop_compose! {
    fn job_parts()(
        id in id(), namespace in text(), shard in any::<u8>(), topic in text(), data in payload(),
        priority in any::<u8>(), options in of(options()), state in state(), numbers in vec(number(), 4),
        counters in vec(any::<u32>(), 5), times in vec(of(number()), 3), decision in of(decision()),
    )(
        worker_id in of(text()), result in of(payload()), rare in of(rare()), history in history(),
        id in Just(id), namespace in Just(namespace), shard in Just(shard),
        spec in Just(Spec { topic, payload: data, priority, options: options.map(Box::new) }),
        state in Just(state), n in Just(numbers), c in Just(counters), t in Just(times), decision in Just(decision),
    ) -> Job {
        Job {
            id, namespace: Namespace::new(namespace), shard: ShardId(shard), spec: Arc::new(spec), state,
            revision: n[0], place: n[1], create_time: Time(n[2]), update_time: Time(n[3]),
            counters: Counters {
                attempts: c[0], lost: c[1], released: c[2], deliveries: c[3], lease_serial: c[4],
            },
            start_time: t[0].map(Time), end_time: t[1].map(Time), expire_time: t[2].map(Time),
            decision: decision.map(Arc::new), worker_id, result, rare: rare.map(Box::new), history,
        }
    }
}

fn job() -> BoxedStrategy<Box<Job>> {
    job_parts().prop_map(Box::new).boxed()
}

fn none(_: u32) -> Option<Arc<Decision>> {
    None
}

fn whole(job: &Job) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_job(&mut bytes, job, Form::Whole { fresh: 0 }, &mut |_| None);
    bytes
}

proptest! {
    fn any_job_comes_back_as_it_was_prop(job in job()) {
        let bytes = whole(&job);
        let back = decode_job(&bytes, &mut Interner::default(), &none);
        prop_assert_eq!(back.as_ref(), Ok(&*job));
        // The bytes are those the messages themselves would make: canonical protobuf.
        prop_assert_eq!(wire::Job::decode(&bytes[..]).map(|m| m.encode_to_vec()), Ok(bytes));
    }

    fn a_job_and_its_changes_come_back_from_a_batch_prop(first in job(), second in job(), fresh in 0_usize..4) {
        // The second version keeps what a change may not touch.
        let mut second = Job { id: first.id.clone(), namespace: first.namespace.clone(), spec: first.spec.clone(), ..*second };
        let own = second.history.split_off(second.history.len().saturating_sub(fresh));
        second.history = [first.history.clone(), own.clone()].concat();
        let (first, second) = (Arc::new(*first), Arc::new(second));
        let group = Group { epoch: 1, time: Time(9), writes: vec![
            Write::Job { job: first.clone(), fresh: first.history.len() as u32 },
            Write::Job { job: second.clone(), fresh: own.len() as u32 },
        ]};
        let mut bytes = Vec::new();
        let mut writer = BatchWriter::default();
        writer.begin(&mut bytes);
        let mut met = 0;
        writer.put_group(&mut bytes, &group, &mut |_, fresh| {
            met += 1;
            if met == 1 { Form::Whole { fresh } } else { Form::Change { fresh, keeps_checkpoint: false } }
        });
        writer.finish(&mut bytes);
        let mut interner = Interner::default();
        let groups = decode_batch(&bytes, &mut interner).unwrap();
        prop_assert_eq!(groups[0].time, Time(9));
        let [LogWrite::Job(a), LogWrite::Job(b)] = &groups[0].writes[..] else { panic!("two jobs") };
        let back = a.restore(None, &mut interner).unwrap();
        prop_assert_eq!(&back, &*first);
        prop_assert_eq!(&b.restore(Some(&back), &mut interner).unwrap(), &*second);
        if !b.is_whole() {
            prop_assert!(b.restore(None, &mut interner).is_err(), "a change alone is damage");
        }
        prop_assert_eq!(wire::Batch::decode(&bytes[..]).map(|m| m.encode_to_vec()), Ok(bytes));
    }

    fn damaged_bytes_never_panic_prop(job in job(), at in any::<prop::sample::Index>(), with in any::<u8>()) {
        let mut bytes = whole(&job);
        let at = at.index(bytes.len());
        bytes[at] = with;
        let _ = decode_job(&bytes, &mut Interner::default(), &none);
        bytes.truncate(at);
        let _ = decode_job(&bytes, &mut Interner::default(), &none);
        let _ = decode_batch(&bytes, &mut Interner::default());
    }

    #[test]
    fn small_rows_come_back(a in text(), b in text(), id in id(), fingerprint in any::<u128>(), time in number()) {
        let mut interner = Interner::default();
        let namespace = Namespace::new(a.clone());
        let key = KeyRow { namespace: namespace.clone(), key: b.clone(), job_id: id.clone(), fingerprint, create_time: Time(time) };
        let mut bytes = Vec::new();
        row::put_key(&mut bytes, &key);
        prop_assert_eq!(row::key_of(&wire::Key::decode(&bytes[..]).unwrap(), &mut interner), Ok(key));
        let letter = DeadLetter {
            namespace, job_id: id, shard: ShardId(7), topic: a, state: StateKind::Expired, reason: b,
            fingerprint: fingerprint as u64, create_time: Time(time), expire_time: Time(time),
        };
        bytes.clear();
        row::put_dead_letter(&mut bytes, &letter);
        let end = (letter.namespace.clone(), letter.job_id.clone());
        prop_assert_eq!(row::dead_letter_of(&wire::DeadLetter::decode(&bytes[..]).unwrap(), &mut interner), Ok(letter));
        bytes.clear();
        row::put_dead_letter_end(&mut bytes, &end.0, &end.1);
        let found = row::dead_letter_end_of(&wire::DeadLetter::decode(&bytes[..]).unwrap(), &mut interner);
        let is_same = matches!(found, Ok(Write::DeadLetterEnd { namespace, job_id }) if (&namespace, &job_id) == (&end.0, &end.1));
        prop_assert!(is_same);
    }
}

/// In a debug build the generators of a whole job need more stack than a test thread has.
fn with_deep_stack(test: fn()) {
    std::thread::Builder::new().stack_size(64 << 20).spawn(test).unwrap().join().unwrap();
}

#[test]
fn any_job_comes_back_as_it_was() {
    with_deep_stack(any_job_comes_back_as_it_was_prop);
}

#[test]
fn a_job_and_its_changes_come_back_from_a_batch() {
    with_deep_stack(a_job_and_its_changes_come_back_from_a_batch_prop);
}

#[test]
fn damaged_bytes_never_panic() {
    with_deep_stack(damaged_bytes_never_panic_prop);
}

fn golden_job() -> Job {
    let spec = Spec { priority: 4, ..Spec::new("job.echo", Payload::json(&b"{}"[..])) };
    let id = JobId::make(1_700_000_000_000, 77 << 8, ShardId(9));
    let mut job = Job::submitted(
        id,
        Namespace::new("default"),
        Arc::new(spec),
        1,
        Time(1_700_000_000_000),
        Some("me".into()),
    );
    job.apply(Entry { seq: 2, time: Time(1_700_000_000_001), event: Event::Admitted { place: 5 << 20 } })
        .unwrap();
    job
}

#[test]
fn bytes_of_a_job_are_golden() {
    let hex: String = whole(&golden_job()).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, GOLDEN, "these bytes are on disk for ever");
}

const GOLDEN: &str = concat!(
    "080112120900700068e5cf8b0111094d0000000000801a0764656661756c7422140a086a6f622e6563686f120608011a",
    "027b7d18042a1a08033002388080c0026880d095ffbc317081d095ffbc31a80109320f08011080d095ffbc3118012202",
    "6d65321008021081d095ffbc311802288080c002",
);

#[test]
fn a_later_version_is_refused() {
    let mut record = wire::Job::decode(&whole(&golden_job())[..]).unwrap();
    for (version, word) in [(2, "newer"), (0, "without a version")] {
        record.version = version;
        let refused = decode_job(&record.encode_to_vec(), &mut Interner::default(), &none).unwrap_err();
        assert!(refused.0.contains(word), "{refused}");
    }
}

#[test]
fn unknown_fields_are_passed_over() {
    let mut bytes = whole(&golden_job());
    // Field 99, length-delimited: what a later release might add.
    bytes.extend_from_slice(&[0x9a, 0x06, 0x03, b'n', b'e', b'w']);
    assert_eq!(decode_job(&bytes, &mut Interner::default(), &none), Ok(golden_job()));
}

/// As versions before wrote it: the kind, and nothing of who wanted it.
#[test]
fn cancelled_entries_without_a_wish_are_read_as_before() {
    let old = wire::Entry { seq: 3, time: 9, kind: 20, ..wire::Entry::default() };
    let read = crate::event::entry_of(&old, &mut Interner::default()).unwrap();
    assert_eq!(read, Entry { seq: 3, time: Time(9), event: Event::Cancelled(None) });
    let mut again = Vec::new();
    crate::event::put_entry(&mut again, 1, &read);
    assert_eq!(again[2..], old.encode_to_vec(), "and what says nothing is written as before");
}

/// As versions before terms wrote it.
#[test]
fn decisions_without_terms_are_read_as_before() {
    let old = [
        0x08, 0x04, 0x12, 0x01, b'r', 0x1a, 0x03, b'w', b'h', b'y', 0x22, 0x06, 0x0a, 0x01, b'a', 0x12, 0x01,
        b'A', 0x2a, 0x01, b'p', 0x30, 0x07,
    ];
    let read =
        crate::decode::decision_of(&wire::Decision::decode(&old[..]).unwrap(), &mut Interner::default());
    let read = read.unwrap();
    assert_eq!((read.verdict, &*read.rule_id, read.policy_version), (Verdict::Throttle, "r", 7));
    assert_eq!((read.terms.clone(), read.is_keyed()), (None, false));
    assert_eq!(read.remediations[0].summary, None);
    let mut again = Vec::new();
    crate::encode::put_decision(&mut again, &read);
    assert_eq!(again, old, "and what has no terms is written as before");
}

#[test]
fn decisions_for_one_key_of_many_are_not_put_into_tables() {
    let mut job = golden_job();
    let throttle = Throttle { limit: 1, per: Span(1), key: "customer-7".into() };
    job.decision = Some(Arc::new(Decision {
        verdict: Verdict::Throttle,
        rule_id: "r".into(),
        reason: "".into(),
        remediations: vec![],
        policy: "p".into(),
        policy_version: 1,
        terms: Some(Arc::new(Terms { throttle: Some(throttle), ..Terms::default() })),
    }));
    let mut bytes = Vec::new();
    put_job(&mut bytes, &job, Form::Whole { fresh: 0 }, &mut |_| panic!("no table is asked"));
    assert_eq!(decode_job(&bytes, &mut Interner::default(), &none).unwrap().decision, job.decision);
}

#[test]
fn equal_strings_and_decisions_are_shared() {
    let mut job = golden_job();
    job.decision = Some(Arc::new(Decision {
        verdict: Verdict::Allow,
        rule_id: "r".into(),
        reason: "why".into(),
        remediations: vec![],
        policy: "p".into(),
        policy_version: 1,
        terms: None,
    }));
    let bytes = whole(&job);
    let mut interner = Interner::default();
    let a = decode_job(&bytes, &mut interner, &none).unwrap();
    let b = decode_job(&bytes, &mut interner, &none).unwrap();
    assert!(Arc::ptr_eq(&a.spec.topic, &b.spec.topic));
    assert!(Arc::ptr_eq(a.decision.as_ref().unwrap(), b.decision.as_ref().unwrap()));
    assert_eq!(a.namespace.as_str().as_ptr(), b.namespace.as_str().as_ptr());
}
