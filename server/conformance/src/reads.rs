//! Reads: what was answered is there, exactly as it was given.

use crate::Harness;
use crate::kit::{Kit, START, default_ns, lease, made, named, new_write, ns, open};
use coretex_domain::job::spec::{Budget, Metadata, Options, Placement, RetryPolicy, Timeouts};
use coretex_domain::job::{
    Cancel, Close, Closed, Event, Failure, Grounds, Note, Progress, Return, Ruling, Spec, State, Usage,
};
use coretex_domain::payload::ContentType;
use coretex_domain::policy::{
    ApprovalTerms, Constraints, Decision, Redaction, Remediation, Terms, Throttle, Verdict,
};
use coretex_domain::{JobId, Payload, ShardId, Span, Time};
use coretex_ports::Write;
use std::sync::Arc;

pub async fn an_answered_commit_is_read_at_once(h: &dyn Harness) {
    let mut kit = open(h).await;
    for n in 0..200 {
        let job = kit.submit(n).await;
        kit.assert_stored(&job).await;
    }
}

pub async fn absent_jobs_are_none(h: &dyn Harness) {
    let mut kit = open(h).await;
    assert_eq!(kit.read(&made(1)).await, None);
    assert_eq!(kit.read(&named("nobody")).await, None);
    kit.submit(2).await;
    kit.settle().await;
    assert_eq!(kit.read(&made(1)).await, None);
    assert_eq!(kit.read(&named("nobody")).await, None);
}

pub async fn reads_keep_the_order_of_the_ids(h: &dyn Harness) {
    let mut kit = open(h).await;
    let (a, b) = (kit.submit(1).await, kit.submit(2).await);
    kit.settle().await;
    let c = kit.submit(3).await;
    let ids = vec![c.id.clone(), made(9), a.id.clone(), b.id.clone(), c.id.clone()];
    let found = kit.store.read(default_ns(), ids).await.expect("a read");
    let found: Vec<_> = found.iter().map(|job| job.as_ref().map(|job| job.id.clone())).collect();
    assert_eq!(found, [Some(c.id.clone()), None, Some(a.id), Some(b.id), Some(c.id)]);
}

pub async fn another_namespace_sees_nothing(h: &dyn Harness) {
    let mut kit = open(h).await;
    let job = kit.submit(1).await;
    assert_eq!(kit.read_in(&ns("other"), &job.id).await, None);
    kit.settle().await;
    assert_eq!(kit.read_in(&ns("other"), &job.id).await, None);
}

pub async fn names_are_found_in_their_namespace_only(h: &dyn Harness) {
    let mut kit = open(h).await;
    let spec = |text: &str| Spec::new("job.echo", Payload::json(text.to_owned()));
    let one = kit.new_job(&ns("one"), named("order-1"), START, spec("1"));
    let two = kit.new_job(&ns("two"), named("order-1"), START + 5, spec("2"));
    kit.commit(vec![new_write(&one), new_write(&two)]).await;
    for _ in 0..2 {
        kit.assert_stored(&one).await;
        kit.assert_stored(&two).await;
        assert_eq!(kit.read(&named("order-1")).await, None);
        kit.settle().await;
    }
}

fn everything() -> Options {
    Options {
        idempotency_key: Some("order-7".into()),
        labels: vec![("a".into(), "1".into()), ("b".into(), "".into())],
        schedule_time: Some(Time(0)),
        retry: RetryPolicy {
            max_attempts: Some(7),
            initial_backoff: Some(Span(0)),
            multiplier: Some(1.5),
            max_backoff: Some(Span::mins(3)),
            jitter: Some(0.0),
            non_retryable_errors: vec!["A".into(), "".into(), "B".into()],
        },
        timeouts: Timeouts {
            schedule_to_start: Some(Span(1)),
            start_to_close: Some(Span(2)),
            stall: Some(Span(0)),
            total: Some(Span(u64::MAX)),
        },
        concurrency_key: Some("user-1".into()),
        rate_key: Some("".into()),
        placement: Placement {
            pool: Some("gpu".into()),
            pool_required: true,
            worker_id: Some("w-9".into()),
            worker_required: true,
            requires: vec!["cuda".into()],
        },
        parent_job_id: Some("job_parent".into()),
        metadata: Metadata {
            actor_id: Some("alice".into()),
            actor_type: Some("human".into()),
            capability: Some("sign".into()),
            risk_tags: vec!["write".into(), "net".into()],
        },
        budget: Budget { max_tokens: Some(0), max_cost_micros: Some(u64::MAX) },
        retention: Some(Span::days(3)),
        trace_id: Some("00-abc".into()),
    }
}

pub async fn every_field_survives(h: &dyn Harness) {
    let mut kit = open(h).await;
    let spec = Spec {
        topic: "job.all".into(),
        payload: Payload { content_type: ContentType::Other("text/x".into()), data: b"\0\xff"[..].into() },
        priority: 9,
        options: Some(Box::new(everything())),
    };
    let mut job = kit.new_job(&default_ns(), made(1), START + 1, spec);
    job.decision = Some(Arc::new(Decision {
        verdict: Verdict::AllowWithConstraints,
        rule_id: "r".into(),
        reason: "because".into(),
        remediations: vec![
            Remediation { id: "x".into(), title: "X".into(), ..Remediation::default() },
            Remediation {
                id: "y".into(),
                summary: Some("y it is".into()),
                replacement_topic: Some("".into()),
                add_labels: vec![("a".into(), "".into())],
                ..Remediation::default()
            },
        ],
        policy: "p".into(),
        policy_version: u64::MAX,
        terms: Some(Arc::new(Terms {
            approval: Some(ApprovalTerms::default()),
            throttle: Some(Throttle { limit: 3, per: Span(5), key: "k".into() }),
            constraints: Some(Constraints { redaction: Some(Redaction::Strict), ..Constraints::default() }),
        })),
    }));
    kit.admit_with_rare(&mut job);
    kit.put_new(&job).await;
    kit.assert_stored(&job).await;
    kit.settle().await;
    kit.assert_stored(&job).await;
}

impl Kit {
    fn admit_with_rare(&mut self, job: &mut coretex_domain::Job) {
        self.apply(job, Event::Admitted { place: u64::MAX });
        self.start(job, "w-1");
        let rare = job.rare_mut();
        rare.cancel = Some(Cancel { reason: "".into(), actor: "bob".into(), time: Time(1) });
        let attributes = vec![("file".into(), "a".into())];
        rare.progress =
            Some(Progress { fraction: 0.25, message: "quarter".into(), attributes, time: Time(2) });
        rare.usage = Some(Usage { cpu_ms: 1, peak_rss: 2, model: "m".into(), ..Usage::default() });
        rare.checkpoint = Some(Payload { content_type: ContentType::Binary, data: vec![7; 600].into() });
        rare.failure = Some(Failure {
            kind: "K".into(),
            message: "m\nn".into(),
            retryable: true,
            details: Payload::json("{}"),
            stack: "s".into(),
        });
        rare.retry_of = Some(named("before"));
        rare.retried_as = Some(made(99));
        rare.last_sign = Some(Time(0));
        job.result = Some(Payload { content_type: ContentType::None, data: b"x"[..].into() });
        job.expire_time = None;
    }
}

fn closed(close: Close) -> Closed {
    Closed { close, kind: "E".into(), message: "m".into() }
}

pub async fn a_job_is_read_through_all_its_states(h: &dyn Harness) {
    let mut kit = open(h).await;
    let mut job = kit.plain(1);
    kit.put_new(&job).await;
    let deferred = Event::Deferred(Box::new((Time(5), "kernel is away".into())));
    let cancel = Cancel { reason: "stop".into(), actor: "alice".into(), time: Time(9) };
    let steps = [
        deferred,
        Event::ApprovalRequested,
        Event::ApprovalVoided(None),
        Event::ApprovalRequested,
        Event::Approved { place: 1 << 20, ruling: None },
        Event::Rejudged,
        Event::Admitted { place: 2 << 20 },
        Event::Dispatched(lease(1, "w-1")),
        Event::Returned(Return::Refused),
        Event::Dispatched(lease(2, "w-2")),
        Event::Started,
        Event::AttemptFailed(Box::new((closed(Close::Failed), Time(77)))),
        Event::RetryDue { place: 3 << 20 },
        Event::Dispatched(lease(3, "w-3")),
        Event::Started,
        Event::Released,
        Event::Dispatched(lease(4, "w-4")),
        Event::CancelRequested(Box::new(cancel)),
        Event::Started,
        Event::Cancelled(None),
        Event::Annotated(Box::new(Note::LateResult("done after all".into()))),
        Event::Annotated(Box::new(Note::RetriedAs(made(2)))),
    ];
    for (n, event) in steps.into_iter().enumerate() {
        kit.apply(&mut job, event);
        kit.put(&job, 1).await;
        kit.assert_stored(&job).await;
        if n % 3 == 0 {
            kit.settle().await;
            kit.assert_stored(&job).await;
        }
    }
    assert!(job.is_fold_of_history());
}

pub async fn derived_ids_are_found(h: &dyn Harness) {
    let mut kit = open(h).await;
    let mut jobs = Vec::new();
    for n in 0..50 {
        // Made elsewhere and earlier than the job: its time says nothing about the create time.
        let id = JobId::make(1_600_000_000_000 + n, u128::from(n) << 20, ShardId(7));
        let job = kit.new_job(&default_ns(), id, START + n, Spec::new("job.echo", Payload::empty()));
        kit.put_new(&job).await;
        jobs.push(job);
    }
    for _ in 0..2 {
        for job in &jobs {
            kit.assert_stored(job).await;
        }
        kit.settle().await;
    }
}

pub async fn reads_after_indexing_are_the_same(h: &dyn Harness) {
    let mut kit = open(h).await;
    let jobs = kit.submit_all(0..300).await;
    kit.settle().await;
    for job in &jobs {
        kit.assert_stored(job).await;
    }
}

pub async fn long_histories_survive(h: &dyn Harness) {
    let mut kit = open(h).await;
    let mut job = kit.submit(1).await;
    for serial in 1..=400 {
        kit.apply(&mut job, Event::Dispatched(lease(serial, "w")));
        kit.apply(&mut job, Event::Returned(Return::SessionLost));
        kit.put(&job, 2).await;
        if serial % 150 == 0 {
            kit.settle().await;
        }
    }
    kit.assert_stored(&job).await;
    kit.settle().await;
    kit.assert_stored(&job).await;
    assert!(matches!(job.state, State::Scheduled));
}

pub async fn checkpoints_survive_later_changes(h: &dyn Harness) {
    let mut kit = open(h).await;
    let mut job = kit.submit(1).await;
    kit.start(&mut job, "w");
    job.rare_mut().checkpoint = Some(Payload::json(vec![b'c'; 100_000]));
    kit.put(&job, 2).await;
    for n in 0..5 {
        job.rare_mut().last_sign = Some(Time(n));
        kit.put(&job, 0).await;
        kit.assert_stored(&job).await;
    }
    let mut kit = if kit.forgets() { kit } else { kit.reopen_after_crash(h).await };
    kit.assert_stored(&job).await;
    job.rare_mut().checkpoint = Some(Payload::json(vec![b'd'; 100_000]));
    kit.put(&job, 0).await;
    kit.succeed(&mut job, u64::MAX);
    kit.put(&job, 1).await;
    let kit = if kit.forgets() { kit } else { kit.reopen_after_crash(h).await };
    kit.assert_stored(&job).await;
}

pub async fn a_dropped_checkpoint_stays_dropped(h: &dyn Harness) {
    let mut kit = open(h).await;
    let mut job = kit.submit(1).await;
    kit.start(&mut job, "w");
    let mut with = job.clone();
    with.rare_mut().checkpoint = Some(Payload::json(vec![b'c'; 10_000]));
    let without = job.clone();
    let write = |job: &coretex_domain::Job, fresh| Write::Job { job: Arc::new(job.clone()), fresh };
    kit.commit(vec![write(&with, 2), write(&without, 0), write(&with, 0)]).await;
    let kit = if kit.forgets() { kit } else { kit.reopen_after_crash(h).await };
    kit.assert_stored(&with).await;
    kit.commit(vec![write(&without, 0)]).await;
    let kit = if kit.forgets() { kit } else { kit.reopen_after_crash(h).await };
    kit.assert_stored(&without).await;
}

pub async fn an_edited_input_is_kept(h: &dyn Harness) {
    let mut kit = open(h).await;
    let input = |byte: u8| Payload::json(format!("\"{}\"", char::from(byte).to_string().repeat(20_000)));
    let mut jobs = Vec::new();
    for n in 0..2 {
        let mut job = kit.new_job(&default_ns(), made(n + 1), START + n, Spec::new("job.edit", input(b'a')));
        kit.apply(&mut job, Event::ApprovalRequested);
        kit.put_new(&job).await;
        jobs.push(job);
    }
    for (n, job) in jobs.iter_mut().enumerate() {
        if n > 0 {
            // The second change meets the first version in the index, the first one does not.
            kit.settle().await;
        }
        let by = vec!["bob".into(), "".into()];
        let ruling = Ruling { grounds: Grounds::Edit, by, comment: "smaller".into() };
        kit.apply(job, Event::ApprovalVoided(Some(Box::new(ruling))));
        job.rare_mut().submitted_as = Some(job.spec.fingerprint());
        job.spec = Arc::new(Spec { payload: input(b'b'), ..(*job.spec).clone() });
        kit.put(job, 1).await;
        kit.apply(job, Event::ApprovalRequested);
        kit.put(job, 1).await;
        kit.assert_stored(job).await;
    }
    let kit = if kit.forgets() { kit } else { kit.reopen_after_crash(h).await };
    for job in &jobs {
        kit.assert_stored(job).await;
    }
    kit.settle().await;
    for job in &jobs {
        kit.assert_stored(job).await;
    }
}
