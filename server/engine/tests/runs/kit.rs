//! An engine, workers that answer by a function, and runs to look at.

use coretex_domain::job::Failure;
use coretex_domain::run::StepState;
use coretex_domain::{Namespace, Payload, RunId, Span};
use coretex_engine::api::*;
use coretex_engine::clock::{SystemClock, SystemDice};
use coretex_engine::{ApplyWorkflow, Engine, RunView, StartRun};
use coretex_ports::memory::MemoryStore;
use coretex_ports::{Env, Store};
use serde_json::Value as Json;
use std::sync::Arc;
use std::time::Duration;

/// What a worker makes of a job: a result, or a failure that is not tried again.
pub(crate) type Handler = fn(topic: &str, path: &str, input: Json) -> Result<Json, String>;

pub(crate) fn ns() -> Namespace {
    Namespace::new("default")
}

pub(crate) fn caller() -> Caller {
    Caller { namespace: ns(), actor: "tester".into() }
}

pub(crate) async fn engine_on(store: Arc<dyn Store>) -> Engine {
    let env = Env { clock: Arc::new(SystemClock::new()), dice: Arc::new(SystemDice::new()) };
    let settings = Settings { loops: 2, drain_grace: Span(200), ..Settings::default() };
    Engine::start(store, env, settings).await.unwrap()
}

pub(crate) async fn engine() -> Engine {
    engine_on(Arc::new(MemoryStore::default())).await
}

pub(crate) async fn apply(engine: &Engine, text: &str) {
    let workflow = Arc::new(coretex_workflow::parse(text).unwrap_or_else(|problems| panic!("{problems}")));
    let apply = ApplyWorkflow { workflow, text: text.into(), revision: 0, comment: "".into() };
    engine.apply_workflow(&caller(), apply, None).await.unwrap();
}

pub(crate) async fn start(engine: &Engine, workflow: &str, input: &str) -> RunId {
    let asked =
        StartRun { workflow: workflow.into(), input: Payload::json(input.to_owned()), ..StartRun::default() };
    engine.start_run(&caller(), asked, "").await.unwrap().0.run.id().clone()
}

pub(crate) async fn end(engine: &Engine, id: &RunId) -> RunView {
    let view = engine.wait_run(&ns(), id, Span::secs(60)).await.unwrap();
    assert!(view.run.is_over(), "{:?} {:#?}", engine.explain_run(&ns(), id).await, view.run);
    check_fold(engine, id).await;
    view
}

/// All of a run's history, read as callers do, gives its stored state (I-27).
pub(crate) async fn check_fold(engine: &Engine, id: &RunId) {
    let (entries, run) = engine.run_history(&ns(), id, 0, usize::MAX).await.unwrap();
    assert!(entries.iter().enumerate().all(|(n, entry)| entry.seq == n as u64 + 1));
    let folded = coretex_domain::Run::fold(run.plea.clone(), &entries).unwrap();
    assert!(folded.stands_as(&run), "{folded:#?} is not {run:#?}");
}

pub(crate) fn output(view: &RunView) -> Json {
    view.output.as_ref().map_or(Json::Null, |output| serde_json::from_slice(output).unwrap())
}

pub(crate) fn state_of(view: &RunView, path: &str) -> StepState {
    let steps = view.steps();
    let found = steps.iter().find(|step| step.path == path);
    found.unwrap_or_else(|| panic!("no step {path} among {steps:#?}")).state
}

/// Serves these topics until the engine is gone.
pub(crate) fn serve(engine: &Engine, topics: &[&str], handler: Handler) -> tokio::task::JoinHandle<()> {
    let engine = engine.clone();
    let topics: Vec<Arc<str>> = topics.iter().map(|topic| (*topic).into()).collect();
    tokio::spawn(async move {
        let mut session_id = None;
        loop {
            let poll = Poll {
                namespace: ns(),
                principal: "worker".into(),
                worker_id: "w".into(),
                session_id,
                topics: topics.clone(),
                pool: None,
                capabilities: Vec::new(),
                labels: Vec::new(),
                max_jobs: 200,
                timeout: Span(500),
            };
            let Ok(polled) = engine.poll(poll).await else {
                // The engine stops, or this session of it is over.
                session_id = None;
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            session_id = Some(polled.session_id);
            let done = polled.assignments.into_iter().map(|one| answer(one, handler)).collect();
            let _ = engine.report_by_token(&caller(), session_id, done).await;
        }
    })
}

fn answer(assignment: Assignment, handler: Handler) -> Update {
    let job = &assignment.job;
    let input = serde_json::from_slice(&job.spec.payload.data).unwrap_or_default();
    let path = RunId::path_of(&job.id).unwrap_or_default();
    let kind = match handler(&job.spec.topic, path, input) {
        Ok(result) => UpdateKind::Succeeded(Payload::json(result.to_string())),
        Err(message) => UpdateKind::Failed {
            failure: Box::new(Failure {
                kind: "Broken".into(),
                message: message.as_str().into(),
                retryable: false,
                details: Payload::empty(),
                stack: "".into(),
            }),
            retry: Directive::NoRetry,
        },
    };
    Update::new(LeaseName::Token(assignment.token), kind)
}
