//! What a worker was told outlives the process that told it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use coretex_domain::job::StateKind;
use coretex_domain::job::spec::{Budget, Spec};
use coretex_domain::session::Lane;
use coretex_domain::{Namespace, Payload, Reason, Span};
use coretex_engine::api::*;
use coretex_engine::clock::{SystemClock, SystemDice};
use coretex_engine::{Attached, Engine};
use coretex_ports::Env;
use coretex_ports::memory::MemoryStore;
use std::sync::Arc;
use std::time::Duration;

async fn engine(store: &Arc<MemoryStore>) -> Engine {
    let env = Env { clock: Arc::new(SystemClock::new()), dice: Arc::new(SystemDice::new()) };
    Engine::start(store.clone(), env, Settings { drain_grace: Span(200), ..Settings::default() })
        .await
        .unwrap()
}

async fn frame<T>(attached: &mut Attached, wanted: impl Fn(ServerFrame) -> Option<T>) -> T {
    loop {
        let frame = tokio::time::timeout(Duration::from_secs(10), attached.outbox.next()).await;
        if let Some(found) = wanted(frame.expect("a frame").expect("an open stream")) {
            return found;
        }
    }
}

async fn ask(attached: &mut Attached, lease_id: u64, ask_id: u64, amount: u64) -> Result<Told, Refusal> {
    let question = AskQuestion::Budget { dimension: Dimension::Tokens, amount, model: "m".into() };
    attached.handle.ask(AskOfWorker::new(lease_id, ask_id, question));
    frame(attached, |frame| match frame {
        ServerFrame::Answer { ask_id: answered, answer, .. } if answered == ask_id => Some(*answer),
        _ => None,
    })
    .await
}

fn granted(told: Result<Told, Refusal>) -> (u64, Option<u64>) {
    match told {
        Ok(Told::Grant(grant)) => (grant.granted, grant.remaining),
        other => panic!("not granted: {other:?}"),
    }
}

#[tokio::test]
async fn after_a_crash_the_same_question_has_the_same_answer() {
    let store = Arc::new(MemoryStore::new(coretex_ports::memory::Settings::default()));
    let first = engine(&store).await;
    let namespace = Namespace::new("default");
    let lane = Lane { lane_id: "l".into(), topics: vec!["job.llm".into()], slots: 4 };
    let hello = Hello {
        namespace: namespace.clone(),
        principal: "p".into(),
        worker_id: "w".into(),
        pool: "".into(),
        capabilities: vec![],
        labels: vec![],
        lanes: vec![lane],
        sdk: "test".into(),
        host: "".into(),
        heartbeat: None,
        ttl: Some(Span::secs(30)),
    };
    let (welcome, mut attached) = first.hello(hello).await.unwrap();
    attached.handle.credit(vec![("l".into(), 4)]);
    let mut spec = Spec::new("job.llm", Payload::empty());
    spec.options_mut().budget = Budget { max_tokens: Some(100), max_cost_micros: None };
    let caller = Caller { namespace: namespace.clone(), actor: "".into() };
    let asked = vec![coretex_engine::api::Ask { spec: Arc::new(spec), job_id: None }];
    let job = first.submit(&caller, asked, "", None).await.unwrap().remove(0).unwrap().job;
    let lease = frame(&mut attached, |frame| match frame {
        ServerFrame::Assign { mut assignments, .. } => assignments.pop(),
        _ => None,
    })
    .await;
    assert_eq!(granted(ask(&mut attached, lease.lease_id, 1, 70).await), (70, Some(30)));
    let running = first.get(&namespace, &job.id).await.unwrap();
    assert_eq!(running.state.kind(), StateKind::Running, "who asks has started");

    // The next process takes over from what is stored, whatever the first one would still have done.
    let second = engine(&store).await;
    let resume = Resume {
        namespace: namespace.clone(),
        principal: "p".into(),
        session_id: welcome.session_id,
        token: welcome.resume_token.clone(),
        held: vec![HeldLease {
            lease_id: lease.lease_id,
            token: lease.token.clone(),
            is_started: true,
            is_finished: false,
        }],
        granted: vec![("l".into(), 4)],
        hello: None,
    };
    let (_, mut attached) = second.resume(resume).await.unwrap();
    assert_eq!(granted(ask(&mut attached, lease.lease_id, 1, 70).await), (70, Some(30)), "told before");
    assert_eq!(
        granted(ask(&mut attached, lease.lease_id, 2, 31).await),
        (0, Some(30)),
        "and still set aside"
    );
    let other = ask(&mut attached, lease.lease_id, 1, 71).await.unwrap_err();
    assert_eq!(other.reason, Reason::IdempotencyConflict);
    let report = Update::new(LeaseName::Id(lease.lease_id), UpdateKind::Succeeded(Payload::empty()));
    attached.handle.report(1, vec![report]).await.unwrap();
    let ended = second.wait(&namespace, &job.id, Span::secs(5)).await.unwrap();
    assert!(ended.rare().reserved.is_empty(), "nothing stays set aside");
    let late = ask(&mut attached, lease.lease_id, 3, 1).await.unwrap_err();
    assert_eq!(late.reason, Reason::StaleLease);
    second.stop().await;
}
