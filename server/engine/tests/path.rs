//! The whole path through the engine over the memory store: submit, dispatch, report, end.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use coretex_domain::job::StateKind;
use coretex_domain::job::spec::{Options, Spec};
use coretex_domain::session::Lane;
use coretex_domain::{Job, JobId, Namespace, Payload, Reason, Span};
use coretex_engine::api::*;
use coretex_engine::clock::{SystemClock, SystemDice};
use coretex_engine::{Attached, Engine};
use coretex_ports::Env;
use coretex_ports::memory::MemoryStore;
use std::sync::Arc;
use std::time::Duration;

fn caller() -> Caller {
    Caller { namespace: Namespace::new("default"), actor: "tester".into() }
}

async fn engine(loops: usize) -> Engine {
    let env = Env { clock: Arc::new(SystemClock::new()), dice: Arc::new(SystemDice::new()) };
    let settings = Settings { loops, drain_grace: Span(200), ..Settings::default() };
    Engine::start(Arc::new(MemoryStore::new(coretex_ports::memory::Settings::default())), env, settings)
        .await
        .unwrap()
}

fn ask(topic: &str) -> Ask {
    Ask { spec: Arc::new(Spec::new(topic, Payload::json("{}"))), job_id: None }
}

fn ask_with(topic: &str, options: Options) -> Ask {
    let mut spec = Spec::new(topic, Payload::json("{}"));
    spec.options = Some(Box::new(options));
    Ask { spec: Arc::new(spec), job_id: None }
}

async fn submit_one(engine: &Engine, ask: Ask) -> Arc<Job> {
    engine.submit(&caller(), vec![ask], "", None).await.unwrap().remove(0).unwrap().job
}

async fn worker(engine: &Engine, name: &str, topics: &[&str]) -> (Welcome, Attached) {
    let lane =
        Lane { lane_id: "default".into(), topics: topics.iter().map(|t| (*t).into()).collect(), slots: 16 };
    engine
        .hello(Hello {
            namespace: Namespace::new("default"),
            principal: "p".into(),
            worker_id: name.into(),
            pool: "".into(),
            capabilities: vec![],
            labels: vec![],
            lanes: vec![lane],
            sdk: "test".into(),
            host: "".into(),
            heartbeat: None,
            ttl: Some(Span::secs(2)),
        })
        .await
        .unwrap()
}

async fn next_assign(attached: &mut Attached) -> Vec<Assignment> {
    loop {
        let frame = tokio::time::timeout(Duration::from_secs(10), attached.outbox.next())
            .await
            .expect("a frame")
            .unwrap();
        if let ServerFrame::Assign { assignments, .. } = frame {
            return assignments;
        }
    }
}

fn update(lease_id: u64, kind: UpdateKind) -> Update {
    Update::new(LeaseName::Id(lease_id), kind)
}

#[tokio::test]
async fn a_job_runs_from_submit_to_result() {
    for loops in [1, 3] {
        let engine = engine(loops).await;
        let (_, mut attached) = worker(&engine, "w1", &["job.echo"]).await;
        attached.handle.credit(vec![("default".into(), 10)]);
        let jobs: Vec<Arc<Job>> = engine
            .submit(&caller(), (0..5).map(|_| ask("job.echo")).collect(), "", None)
            .await
            .unwrap()
            .into_iter()
            .map(|r| r.unwrap().job)
            .collect();
        let mut assigned = Vec::new();
        while assigned.len() < 5 {
            assigned.extend(next_assign(&mut attached).await);
        }
        let updates =
            assigned.iter().map(|a| update(a.lease_id, UpdateKind::Succeeded(Payload::json("1")))).collect();
        attached.handle.report(1, updates).await.unwrap();
        for job in &jobs {
            let ended = engine.wait(&job.namespace, &job.id, Span::secs(10)).await.unwrap();
            assert_eq!(ended.state.kind(), StateKind::Succeeded);
            assert!(ended.is_fold_of_history());
            assert_eq!(ended.counters.attempts, 1);
        }
        engine.stop().await;
    }
}

#[tokio::test]
async fn denied_cancelled_and_conflicting_jobs_are_told_apart() {
    let engine = engine(1).await;
    let denied = submit_one(&engine, ask("sys.destroy.disk")).await;
    assert_eq!(denied.state.kind(), StateKind::Denied);
    let job = submit_one(&engine, ask("job.echo")).await;
    let cancelled = engine.cancel(&caller(), &job.id, "enough".into()).await.unwrap();
    assert_eq!(cancelled.state.kind(), StateKind::Cancelled);
    assert_eq!(
        engine.cancel(&caller(), &job.id, "again".into()).await.unwrap().state.kind(),
        StateKind::Cancelled
    );
    let refusal = engine.cancel(&caller(), &denied.id, "x".into()).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::JobTerminal);
    let keyed = || ask_with("job.echo", Options { idempotency_key: Some("k".into()), ..Options::default() });
    let first = submit_one(&engine, keyed()).await;
    let again = engine.submit(&caller(), vec![keyed()], "", None).await.unwrap().remove(0).unwrap();
    assert!(again.existing && again.job.id == first.id);
    let other = ask_with("job.other", Options { idempotency_key: Some("k".into()), ..Options::default() });
    let conflict = engine.submit(&caller(), vec![other], "", None).await.unwrap().remove(0).unwrap_err();
    assert_eq!(conflict.reason, Reason::IdempotencyConflict);
    engine.stop().await;
}

#[tokio::test]
async fn a_request_id_makes_a_repeat_meet_the_first_jobs() {
    for loops in [1, 3] {
        let engine = engine(loops).await;
        let id = "01936f3e-7c1a-7b6e-8d39-0242ac120002";
        let first = engine.submit(&caller(), vec![ask("job.a"), ask("job.b")], id, None).await.unwrap();
        let again = engine.submit(&caller(), vec![ask("job.a"), ask("job.b")], id, None).await.unwrap();
        for (a, b) in first.into_iter().zip(again) {
            let (a, b) = (a.unwrap(), b.unwrap());
            assert!(!a.existing && b.existing);
            assert_eq!(a.job.id, b.job.id);
        }
        engine.stop().await;
    }
}

#[tokio::test]
async fn a_lost_worker_costs_one_attempt_and_its_late_result_is_stale() {
    let engine = engine(1).await;
    let (_, mut first) = worker(&engine, "w1", &["job.echo"]).await;
    first.handle.credit(vec![("default".into(), 1)]);
    let options = Options {
        retry: coretex_domain::job::spec::RetryPolicy {
            initial_backoff: Some(Span(10)),
            ..Default::default()
        },
        ..Options::default()
    };
    let job = submit_one(&engine, ask_with("job.echo", options)).await;
    let lease = next_assign(&mut first).await.remove(0);
    first.handle.report(1, vec![update(lease.lease_id, UpdateKind::Started)]).await.unwrap();
    // No heartbeat for longer than the TTL of two seconds.
    tokio::time::sleep(Duration::from_millis(2_600)).await;
    let (_, mut second) = worker(&engine, "w2", &["job.echo"]).await;
    second.handle.credit(vec![("default".into(), 1)]);
    let next = next_assign(&mut second).await.remove(0);
    assert_eq!(next.job.id, job.id);
    assert_eq!(next.job.counters.lost, 1);
    let (stale, _) = engine
        .report_by_token(
            &caller(),
            None,
            vec![Update::new(LeaseName::Token(lease.token), UpdateKind::Succeeded(Payload::empty()))],
        )
        .await
        .unwrap();
    assert_eq!(stale.len(), 1);
    second
        .handle
        .report(1, vec![update(next.lease_id, UpdateKind::Succeeded(Payload::empty()))])
        .await
        .unwrap();
    let ended = engine.wait(&job.namespace, &job.id, Span::secs(5)).await.unwrap();
    assert_eq!((ended.state.kind(), ended.counters.attempts), (StateKind::Succeeded, 2));
    engine.stop().await;
}

#[tokio::test]
async fn a_concurrency_key_lets_one_job_at_a_time_run_in_order() {
    for loops in [1, 3] {
        let engine = engine(loops).await;
        let (_, mut attached) = worker(&engine, "w1", &["job.k"]).await;
        attached.handle.credit(vec![("default".into(), 100)]);
        let keyed =
            || ask_with("job.k", Options { concurrency_key: Some("one".into()), ..Options::default() });
        let mut ids: Vec<JobId> = Vec::new();
        for _ in 0..10 {
            ids.push(submit_one(&engine, keyed()).await.id.clone());
        }
        for (n, id) in ids.iter().enumerate() {
            let leases = next_assign(&mut attached).await;
            assert_eq!(leases.len(), 1, "one at a time");
            assert_eq!(leases[0].job.id, *id, "in order");
            let done = update(leases[0].lease_id, UpdateKind::Succeeded(Payload::empty()));
            attached.handle.report(n as u64 + 1, vec![done]).await.unwrap();
        }
        engine.stop().await;
    }
}

#[tokio::test]
async fn polling_hands_out_and_reports_settle() {
    let engine = engine(1).await;
    let poll = |session_id| Poll {
        namespace: Namespace::new("default"),
        principal: "p".into(),
        worker_id: "me".into(),
        session_id,
        topics: vec!["job.p".into()],
        pool: None,
        capabilities: vec![],
        labels: vec![],
        max_jobs: 2,
        timeout: Span(300),
    };
    let empty = engine.poll(poll(None)).await.unwrap();
    assert!(empty.assignments.is_empty());
    let job = submit_one(&engine, ask("job.p")).await;
    let got = engine.poll(poll(Some(empty.session_id))).await.unwrap();
    assert_eq!(got.assignments.len(), 1);
    let token = LeaseName::Token(got.assignments[0].token.clone());
    let done = Update::new(token, UpdateKind::Succeeded(Payload::json("7")));
    let (rejected, _) = engine.report_by_token(&caller(), Some(got.session_id), vec![done]).await.unwrap();
    assert!(rejected.is_empty(), "{rejected:?}");
    let ended = engine.wait(&job.namespace, &job.id, Span::secs(5)).await.unwrap();
    assert_eq!(ended.result, Some(Payload::json("7")));
    engine.stop().await;
}

#[tokio::test]
async fn a_paused_topic_holds_its_jobs_until_it_is_resumed() {
    let engine = engine(3).await;
    engine.pause_topic(&caller(), "job.z".into(), "maintenance".into(), None).await.unwrap();
    let (_, mut attached) = worker(&engine, "w1", &["job.z"]).await;
    attached.handle.credit(vec![("default".into(), 10)]);
    let job = submit_one(&engine, ask("job.z")).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let why = engine.explain(&job.namespace, &job.id).await.unwrap();
    assert!(why.causes.iter().any(|c| c.kind == "TOPIC_PAUSED"), "{why:?}");
    engine.resume_topic(&caller(), "job.z".into(), None).await.unwrap();
    assert_eq!(next_assign(&mut attached).await[0].job.id, job.id);
    engine.stop().await;
}

#[tokio::test]
async fn a_resumed_session_keeps_what_it_holds() {
    let engine = engine(1).await;
    let (welcome, mut attached) = worker(&engine, "w1", &["job.echo"]).await;
    attached.handle.credit(vec![("default".into(), 2)]);
    let held = submit_one(&engine, ask("job.echo")).await;
    let lease = next_assign(&mut attached).await.remove(0);
    attached.handle.report(1, vec![update(lease.lease_id, UpdateKind::Started)]).await.unwrap();
    engine.get(&held.namespace, &held.id).await.unwrap();
    drop(attached);
    let resume = Resume {
        namespace: Namespace::new("default"),
        principal: "p".into(),
        session_id: welcome.session_id,
        token: welcome.resume_token,
        held: vec![HeldLease {
            lease_id: lease.lease_id,
            token: lease.token.clone(),
            is_started: true,
            is_finished: false,
        }],
        granted: vec![],
        hello: None,
    };
    let (back, attached) = engine.resume(resume).await.unwrap();
    assert_eq!(back.epoch, 2);
    assert_eq!(back.resumed.unwrap().verdicts, [(lease.lease_id, HeldVerdict::Keep)]);
    attached
        .handle
        .report(2, vec![update(lease.lease_id, UpdateKind::Succeeded(Payload::empty()))])
        .await
        .unwrap();
    let ended = engine.wait(&held.namespace, &held.id, Span::secs(5)).await.unwrap();
    assert_eq!((ended.state.kind(), ended.counters.attempts), (StateKind::Succeeded, 1));
    engine.stop().await;
}

#[tokio::test]
async fn a_worker_that_writes_and_never_reads_loses_its_stream() {
    let engine = engine(1).await;
    let (_, mut attached) = worker(&engine, "deaf", &["job.x"]).await;
    const REPORTS: u64 = 20_000;
    for seq in 1..=REPORTS {
        if attached.handle.report(seq, vec![]).await.is_err() {
            break;
        }
    }
    let mut frames = 0;
    while tokio::time::timeout(Duration::from_secs(10), attached.outbox.next()).await.unwrap().is_some() {
        frames += 1;
    }
    assert!(frames < REPORTS, "{frames} frames were kept for a worker that reads none");
    engine.stop().await;
}
