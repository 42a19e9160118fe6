//! The worker inside of the server: what it does, what becomes of it when the server stops, and what others may not.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use coretex_domain::job::spec::{Options, Placement, RetryPolicy, Spec, Timeouts};
use coretex_domain::job::{EventKind, Failure, StateKind};
use coretex_domain::session::Lane;
use coretex_domain::{Job, Namespace, Payload, Reason, Span, house};
use coretex_engine::api::*;
use coretex_engine::clock::{SystemClock, SystemDice};
use coretex_engine::{Engine, House, HouseFailure, HouseTask};
use coretex_ports::memory::MemoryStore;
use coretex_ports::{Env, Store};
use futures::future::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// A library of steps that say when they began, and end when they are told to.
#[derive(Debug, Default)]
struct Steps {
    begun: AtomicU32,
    stopped: AtomicU32,
    gate: Notify,
}

/// Counts steps that were dropped half-way.
struct Watched(Arc<Steps>, bool);

impl Drop for Watched {
    fn drop(&mut self) {
        if !self.1 {
            self.0.stopped.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[derive(Debug, Clone)]
struct Tested(Arc<Steps>);

impl House for Tested {
    fn steps(&self) -> &[&'static str] {
        &["again", "broken", "set", "wait"]
    }

    fn slots(&self) -> u32 {
        2
    }

    fn is_quick(&self, step: &str) -> bool {
        step == "set"
    }

    fn work(&self, step: &str, task: HouseTask) -> BoxFuture<'static, Result<Payload, HouseFailure>> {
        let (steps, step) = (self.0.clone(), step.to_owned());
        Box::pin(async move {
            steps.begun.fetch_add(1, Ordering::SeqCst);
            match step.as_str() {
                "broken" => panic!("the step is broken"),
                "wait" => {
                    let mut watched = Watched(steps.clone(), false);
                    steps.gate.notified().await;
                    watched.1 = true;
                    Ok(Payload::json("\"done\""))
                }
                "again" if task.job.attempt() < 3 => Err(HouseFailure {
                    failure: Box::new(Failure {
                        kind: "BUSY".into(),
                        message: "try again".into(),
                        retryable: true,
                        details: Payload::empty(),
                        stack: "".into(),
                    }),
                    retry_after: Some(Span(5)),
                }),
                _ => Ok(task.job.spec.payload.clone()),
            }
        })
    }
}

async fn engine(store: &MemoryStore, steps: &Arc<Steps>, grace: u64) -> Engine {
    over(Arc::new(store.clone()), steps, grace).await
}

async fn over(store: Arc<dyn Store>, steps: &Arc<Steps>, grace: u64) -> Engine {
    let env = Env { clock: Arc::new(SystemClock::new()), dice: Arc::new(SystemDice::new()) };
    let house = Some(Arc::new(Tested(steps.clone())) as Arc<dyn House>);
    let settings = Settings { loops: 2, drain_grace: Span(grace), house, ..Settings::default() };
    Engine::start(store, env, settings).await.unwrap()
}

async fn fresh() -> (Engine, Arc<Steps>) {
    let steps = Arc::<Steps>::default();
    (engine(&MemoryStore::new(Default::default()), &steps, 100).await, steps)
}

fn caller(namespace: &str) -> Caller {
    Caller { namespace: Namespace::new(namespace), actor: "tester".into() }
}

async fn try_submit(engine: &Engine, namespace: &str, spec: Spec) -> Result<Arc<Job>, Refusal> {
    let asks = vec![Ask { spec: Arc::new(spec), job_id: None }];
    engine.submit(&caller(namespace), asks, "", None).await?.remove(0).map(|accepted| accepted.job)
}

async fn submit(engine: &Engine, topic: &str) -> Arc<Job> {
    try_submit(engine, "default", Spec::new(topic, Payload::json("{\"a\":1}"))).await.unwrap()
}

async fn ended(engine: &Engine, job: &Arc<Job>) -> Arc<Job> {
    engine.wait(&job.namespace, &job.id, Span::secs(20)).await.unwrap()
}

async fn until(claim: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never happened: {claim}");
}

fn count(job: &Job, kind: EventKind) -> usize {
    job.history.iter().filter(|entry| entry.event.kind() == kind).count()
}

#[tokio::test]
async fn steps_are_jobs_done_by_the_server_in_every_namespace() {
    let (engine, _) = fresh().await;
    for namespace in ["default", "acme", "globex"] {
        let spec = Spec::new("sys.step.set", Payload::json("{\"a\":1}"));
        let job = try_submit(&engine, namespace, spec).await.unwrap();
        let job = ended(&engine, &job).await;
        assert_eq!(job.state.kind(), StateKind::Succeeded);
        assert_eq!(job.result, Some(Payload::json("{\"a\":1}")));
        assert_eq!(job.worker_id.as_deref(), Some(house::WORKER));
        assert!(job.is_fold_of_history());
        let workers = engine.workers(&Namespace::new(namespace));
        assert_eq!(workers.len(), 1, "one session per namespace");
        assert_eq!(&*workers[0].session.worker_id, "house");
    }
    assert_eq!(engine.all_workers().len(), 3);
    engine.stop().await;
}

#[tokio::test]
async fn a_backlog_is_done_within_the_slots_and_credit_comes_back() {
    let (engine, steps) = fresh().await;
    let mut jobs = Vec::new();
    for _ in 0..300 {
        jobs.push(submit(&engine, "sys.step.set").await);
    }
    let waiting = [submit(&engine, "sys.step.wait").await, submit(&engine, "sys.step.wait").await];
    let third = submit(&engine, "sys.step.wait").await;
    for job in &jobs {
        assert_eq!(ended(&engine, job).await.state.kind(), StateKind::Succeeded);
    }
    until("two of three have a slot", || steps.begun.load(Ordering::SeqCst) == 302).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(steps.begun.load(Ordering::SeqCst), 302, "the third waits for a slot");
    until("all were told to go on", || {
        steps.gate.notify_waiters();
        steps.begun.load(Ordering::SeqCst) == 303
    })
    .await;
    let until_end = async {
        loop {
            steps.gate.notify_waiters();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let all = async {
        for job in waiting.iter().chain([&third]) {
            assert_eq!(ended(&engine, job).await.state.kind(), StateKind::Succeeded);
        }
    };
    tokio::select! { () = all => {}, () = until_end => {} }
    engine.stop().await;
}

#[tokio::test]
async fn failures_are_tried_again_when_they_say_and_a_broken_step_is_a_failure() {
    let (engine, _) = fresh().await;
    let job = ended(&engine, &submit(&engine, "sys.step.again").await).await;
    assert_eq!((job.state.kind(), job.counters.attempts), (StateKind::Succeeded, 3));
    assert_eq!(count(&job, EventKind::AttemptFailed), 2);
    let mut spec = Spec::new("sys.step.broken", Payload::empty());
    spec.options_mut().retry = RetryPolicy { max_attempts: Some(1), ..RetryPolicy::default() };
    let job = try_submit(&engine, "default", spec).await.unwrap();
    let job = ended(&engine, &job).await;
    assert_eq!(job.state.kind(), StateKind::Failed);
    assert_eq!(&*job.failure().unwrap().kind, "STEP_BROKEN");
    engine.stop().await;
}

#[tokio::test]
async fn a_cancel_and_a_deadline_stop_a_step_in_the_middle() {
    let (engine, steps) = fresh().await;
    let job = submit(&engine, "sys.step.wait").await;
    until("it runs", || steps.begun.load(Ordering::SeqCst) == 1).await;
    engine.cancel(&caller("default"), &job.id, "enough".into()).await.unwrap();
    let job = ended(&engine, &job).await;
    assert_eq!(job.state.kind(), StateKind::Cancelled);
    until("it was stopped", || steps.stopped.load(Ordering::SeqCst) == 1).await;

    let mut spec = Spec::new("sys.step.wait", Payload::empty());
    let timeouts = Timeouts { start_to_close: Some(Span(50)), ..Timeouts::default() };
    let retry = RetryPolicy { max_attempts: Some(1), ..RetryPolicy::default() };
    spec.options = Some(Box::new(Options { timeouts, retry, ..Options::default() }));
    let job = try_submit(&engine, "default", spec).await.unwrap();
    assert_eq!(ended(&engine, &job).await.state.kind(), StateKind::TimedOut);
    until("it was stopped", || steps.stopped.load(Ordering::SeqCst) == 2).await;
    // Both slots are free again.
    assert_eq!(
        ended(&engine, &submit(&engine, "sys.step.set").await).await.state.kind(),
        StateKind::Succeeded
    );
    engine.stop().await;
}

#[tokio::test]
async fn a_stop_releases_what_runs_and_the_next_process_goes_on_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let open = || {
        let settings = coretex_store_embedded::Settings::new(directory.path());
        Arc::new(coretex_store_embedded::FileStore::open(settings).unwrap())
    };
    let steps = Arc::<Steps>::default();
    let first = over(open(), &steps, 50).await;
    let job = submit(&first, "sys.step.wait").await;
    until("it runs", || steps.begun.load(Ordering::SeqCst) == 1).await;
    first.stop().await;
    assert_eq!(steps.stopped.load(Ordering::SeqCst), 1);

    let steps = Arc::<Steps>::default();
    let second = over(open(), &steps, 50).await;
    until("it runs again", || steps.begun.load(Ordering::SeqCst) == 1).await;
    steps.gate.notify_waiters();
    let job = ended(&second, &job).await;
    assert_eq!(job.state.kind(), StateKind::Succeeded);
    assert_eq!(count(&job, EventKind::Released), 1);
    assert_eq!((job.counters.lost, job.counters.spent()), (0, 1), "no attempt was lost");
    second.stop().await;
}

#[tokio::test]
async fn a_process_that_died_loses_no_attempt_and_no_time() {
    let store = MemoryStore::new(Default::default());
    let steps = Arc::<Steps>::default();
    let dead = engine(&store, &steps, 50).await;
    let job = submit(&dead, "sys.step.wait").await;
    until("it runs", || steps.begun.load(Ordering::SeqCst) == 1).await;
    // As often as the server dies: more often than `max_lost` allows workers to.
    let mut fenced = vec![dead];
    for _ in 0..4 {
        let steps = Arc::<Steps>::default();
        let began = std::time::Instant::now();
        fenced.push(engine(&store, &steps, 50).await);
        until("it runs again", || steps.begun.load(Ordering::SeqCst) == 1).await;
        assert!(began.elapsed() < Duration::from_secs(10), "no session had to run out");
    }
    let steps = Arc::<Steps>::default();
    let last = engine(&store, &steps, 50).await;
    until("it runs again", || steps.begun.load(Ordering::SeqCst) == 1).await;
    steps.gate.notify_waiters();
    let job = ended(&last, &job).await;
    assert_eq!(job.state.kind(), StateKind::Succeeded);
    assert_eq!((job.counters.lost, job.counters.released, job.counters.spent()), (0, 5, 1));
    last.stop().await;
}

#[tokio::test]
async fn topics_of_the_server_and_its_name_are_not_for_other_workers() {
    let (engine, _) = fresh().await;
    let lane = |topic: &str| Lane { lane_id: "l".into(), topics: vec![topic.into()], slots: 1 };
    let hello = |worker: &str, topic: &str| Hello {
        namespace: Namespace::new("default"),
        principal: "p".into(),
        worker_id: worker.into(),
        pool: "".into(),
        capabilities: vec![],
        labels: vec![],
        lanes: vec![lane(topic)],
        sdk: "test".into(),
        host: "".into(),
        heartbeat: None,
        ttl: None,
    };
    for topic in ["sys.step.set", "sys.approval", "sys.destroy", "sys.x"] {
        let refused = engine.hello(hello("w", topic)).await.err().unwrap();
        assert_eq!(refused.reason, Reason::TopicReserved, "{topic}");
        assert!(refused.message.contains(topic), "{}", refused.message);
    }
    assert_eq!(engine.hello(hello("house", "job.a")).await.err().unwrap().reason, Reason::WorkerReserved);
    let (_, attached) = engine.hello(hello("w", "job.a")).await.unwrap();
    let changed = attached.handle.update_registration(vec![lane("sys.step.set")], vec![]).await;
    assert_eq!(changed.unwrap_err().reason, Reason::TopicReserved);
    let poll = |worker: &str, topic: &str| Poll {
        namespace: Namespace::new("default"),
        principal: "p".into(),
        worker_id: worker.into(),
        session_id: None,
        topics: vec![topic.into()],
        pool: None,
        capabilities: vec![],
        labels: vec![],
        max_jobs: 1,
        timeout: Span::ZERO,
    };
    assert_eq!(engine.poll(poll("w2", "sys.approval")).await.err().unwrap().reason, Reason::TopicReserved);
    assert_eq!(engine.poll(poll("house", "job.a")).await.err().unwrap().reason, Reason::WorkerReserved);
    ended(&engine, &submit(&engine, "sys.step.set").await).await;
    let order = Drain { mode: DrainMode::Finish, deadline: None, reason: "".into(), request_id: "".into() };
    let refused = engine.drain_worker(&Namespace::new("default"), "house", order).await.err().unwrap();
    assert_eq!(refused.reason, Reason::WorkerReserved);
    engine.stop().await;
}

#[tokio::test]
async fn a_step_that_is_none_and_a_wish_for_another_worker_are_refused() {
    let (engine, _) = fresh().await;
    let refused =
        try_submit(&engine, "default", Spec::new("sys.step.sett", Payload::empty())).await.unwrap_err();
    assert_eq!(refused.reason, Reason::InvalidField);
    let told = &refused.violations[0].message;
    assert!(
        told.contains("sys.step.sett") && told.contains("did you mean") && told.contains("set"),
        "{told}"
    );
    let mut spec = Spec::new("sys.step.set", Payload::empty());
    spec.options_mut().placement =
        Placement { pool: Some("gpu".into()), pool_required: true, ..Placement::default() };
    assert_eq!(try_submit(&engine, "default", spec).await.unwrap_err().reason, Reason::InvalidField);
    // A preference is one.
    let mut spec = Spec::new("sys.step.set", Payload::empty());
    spec.options_mut().placement = Placement { pool: Some("gpu".into()), ..Placement::default() };
    let job = try_submit(&engine, "default", spec).await.unwrap();
    assert_eq!(ended(&engine, &job).await.state.kind(), StateKind::Succeeded);
    engine.stop().await;
}

#[tokio::test]
async fn a_question_nobody_was_asked_is_not_approved() {
    let (engine, _) = fresh().await;
    let job = ended(&engine, &submit(&engine, "sys.approval").await).await;
    assert_eq!(job.state.kind(), StateKind::Failed);
    assert_eq!(&*job.failure().unwrap().kind, "NOT_APPROVED");
    engine.stop().await;
}

#[tokio::test]
async fn nothing_is_opened_where_nothing_is_wanted() {
    let (engine, _) = fresh().await;
    submit(&engine, "job.echo").await;
    assert_eq!(submit(&engine, "sys.destroy.disk").await.state.kind(), StateKind::Denied);
    assert!(engine.all_workers().is_empty());
    engine.stop().await;
}
