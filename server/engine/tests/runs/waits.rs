//! Times, signals, timeouts, places of concurrency keys, starts that are repeated, runs that are rerun.

use crate::kit::{apply, caller, check_fold, end, engine, ns, output, serve, start, state_of};
use coretex_domain::run::{RunState, Signal, StepState};
use coretex_domain::{Payload, Reason, RunId, Span};
use coretex_engine::{Engine, Rerun, StartRun};
use serde_json::{Value as Json, json};
use std::time::Duration;

fn echo(_: &str, _: &str, input: Json) -> Result<Json, String> {
    match input.get("fail") {
        Some(Json::Bool(true)) => Err("told to".into()),
        _ => Ok(input),
    }
}

fn signal(id: &str, name: &str, data: &Json) -> Signal {
    Signal { id: id.into(), name: name.into(), data: data.to_string().into(), actor: "".into() }
}

async fn until_state(engine: &Engine, id: &RunId, state: RunState) {
    let until = std::time::Instant::now() + Duration::from_secs(10);
    while engine.get_run(&ns(), id, false).await.unwrap().run.state() != state {
        assert!(std::time::Instant::now() < until, "{:?}", engine.get_run(&ns(), id, false).await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

const HEAR: &str = "
name: hear
steps:
  - { id: first, wait_event: { name: go, match: \"${event.n > input.least}\" } }
  - { id: second, needs: [first], wait_event: go }
  - { id: give, needs: [second], topic: t, input: [\"${steps.first.output}\", \"${steps.second.output}\"] }
output: \"${steps.give.output}\"
";

#[tokio::test(flavor = "multi_thread")]
async fn signals_that_come_first_are_kept_and_repeats_are_known() {
    let engine = engine().await;
    apply(&engine, HEAR).await;
    let worker = serve(&engine, &["t"], echo);
    let id = start(&engine, "hear", "{\"least\":5}").await;
    for (n, name) in [(1, "go"), (9, "other"), (3, "go")] {
        engine.signal_run(&caller(), &id, signal("", name, &json!({ "n": n }))).await.unwrap();
    }
    until_state(&engine, &id, RunState::Waiting).await;
    for _ in 0..2 {
        engine.signal_run(&caller(), &id, signal("s-1", "go", &json!({ "n": 7 }))).await.unwrap();
    }
    let view = end(&engine, &id).await;
    assert_eq!(output(&view), json!([{ "n": 7 }, { "n": 1 }]));
    let late = engine.signal_run(&caller(), &id, signal("", "go", &json!(1))).await.unwrap_err();
    assert_eq!(late.reason, Reason::RunEnded, "but a repeat is known");
    engine.signal_run(&caller(), &id, signal("s-1", "go", &json!({ "n": 7 }))).await.unwrap();
    worker.abort();
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn times_end_and_a_signal_or_a_run_may_come_too_late() {
    let engine = engine().await;
    apply(
        &engine,
        "
name: times
steps:
  - { id: fixed, delay: 30ms }
  - { id: computed, delay: \"${input.seconds}\" }
  - { id: until, needs: [fixed], until: \"${run.start_time}\" }
  - { id: late, on_failure: continue, wait_event: { name: x, timeout: 20ms } }
  - { id: end, needs: [fixed, computed, until, late], topic: t, input: \"${steps.late.error.type}\" }
output: \"${steps.end.output}\"
",
    )
    .await;
    apply(
        &engine,
        "name: slow\ntimeout: 50ms\nsteps: [{ id: a, topic: nobody }]\non_failure: [{ id: tell, topic: t }]",
    )
    .await;
    let worker = serve(&engine, &["t"], echo);
    let times = start(&engine, "times", "{\"seconds\":0.02}").await;
    let slow = start(&engine, "slow", "{}").await;
    let view = end(&engine, &times).await;
    assert_eq!((view.run.state(), output(&view)), (RunState::Succeeded, json!("SIGNAL_TIMEOUT")));
    let waited = view.run.end_time.unwrap().since(view.run.create_time);
    assert!(waited >= Span(30), "{waited}");
    let view = end(&engine, &slow).await;
    assert_eq!((view.run.state(), &*view.run.error().unwrap().kind), (RunState::TimedOut, "RUN_TIMEOUT"));
    assert_eq!((state_of(&view, "a"), state_of(&view, "tell")), (StepState::Cancelled, StepState::Succeeded));
    worker.abort();
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_waits_long_leaves_memory_and_comes_back_for_a_signal_or_a_cancel() {
    let engine = engine().await;
    apply(
        &engine,
        "
name: long
steps:
  - { id: before, topic: t, input: { n: 1 } }
  - { id: word, needs: [before], wait_event: { name: word, timeout: 30d } }
  - { id: after, needs: [word], topic: t, input: [\"${steps.before.output.n}\", \"${steps.word.output}\"] }
output: \"${steps.after.output}\"
",
    )
    .await;
    let worker = serve(&engine, &["t"], echo);
    let (first, second) = (start(&engine, "long", "{}").await, start(&engine, "long", "{}").await);
    for id in [&first, &second] {
        until_state(&engine, id, RunState::Waiting).await;
        let told = engine.explain_run(&ns(), id).await.unwrap();
        assert_eq!(told.causes.iter().map(|cause| cause.kind).collect::<Vec<_>>(), ["SIGNAL"], "{told:?}");
        check_fold(&engine, id).await;
    }
    engine.signal_run(&caller(), &first, signal("", "word", &json!("go"))).await.unwrap();
    assert_eq!(output(&end(&engine, &first).await), json!([1, "go"]));
    engine.cancel_run(&caller(), &second, "no".into()).await.unwrap();
    assert_eq!(end(&engine, &second).await.run.state(), RunState::Cancelled);
    worker.abort();
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_with_one_key_take_turns_are_refused_or_take_each_others_place() {
    let engine = engine().await;
    for (name, on_conflict) in [("turns", "queue"), ("refuses", "reject"), ("takes", "cancel_oldest")] {
        let text = format!(
            "
name: {name}
concurrency: {{ key: \"${{input.k}}\", on_conflict: {on_conflict} }}
steps: [{{ id: hold, wait_event: go }}]
"
        );
        apply(&engine, &text).await;
    }
    let go = |id: RunId| {
        let engine = engine.clone();
        async move { engine.signal_run(&caller(), &id, signal("", "go", &json!(1))).await.unwrap() }
    };
    let (a, b) =
        (start(&engine, "turns", "{\"k\":\"x\"}").await, start(&engine, "turns", "{\"k\":\"x\"}").await);
    let other = start(&engine, "turns", "{\"k\":\"y\"}").await;
    until_state(&engine, &other, RunState::Waiting).await;
    until_state(&engine, &b, RunState::Pending).await;
    let told = engine.explain_run(&ns(), &b).await.unwrap();
    assert_eq!(told.causes[0].kind, "RUN_QUEUED");
    go(a.clone()).await;
    assert_eq!(end(&engine, &a).await.run.state(), RunState::Succeeded);
    until_state(&engine, &b, RunState::Waiting).await;
    go(b.clone()).await;
    end(&engine, &b).await;
    let first = start(&engine, "refuses", "{\"k\":\"x\"}").await;
    let asked =
        StartRun { workflow: "refuses".into(), input: Payload::json("{\"k\":\"x\"}"), ..StartRun::default() };
    let refused = engine.start_run(&caller(), asked.clone(), "").await.unwrap_err();
    assert_eq!(refused.reason, Reason::RunConcurrency);
    go(first.clone()).await;
    end(&engine, &first).await;
    let until = std::time::Instant::now() + Duration::from_secs(5);
    while engine.start_run(&caller(), asked.clone(), "").await.is_err() {
        assert!(std::time::Instant::now() < until, "the place is free again");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let old = start(&engine, "takes", "{\"k\":\"x\"}").await;
    let new = start(&engine, "takes", "{\"k\":\"x\"}").await;
    assert_eq!(end(&engine, &old).await.run.state(), RunState::Cancelled);
    until_state(&engine, &new, RunState::Waiting).await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_is_made_once_and_bad_input_is_told_whole() {
    let engine = engine().await;
    apply(
        &engine,
        "
name: once
input_schema: { type: object, required: [a, b], properties: { a: { type: string }, b: { type: integer } } }
steps: [{ id: s, topic: t, input: \"${input}\" }]
output: \"${steps.s.output}\"
",
    )
    .await;
    let worker = serve(&engine, &["t"], echo);
    let asked = |key: &str, input: &str| StartRun {
        workflow: "once".into(),
        idempotency_key: key.into(),
        input: Payload::json(input.to_owned()),
        ..StartRun::default()
    };
    let good = "{\"a\":\"x\",\"b\":1}";
    let (first, was) = engine.start_run(&caller(), asked("k", good), "").await.unwrap();
    assert!(!was);
    end(&engine, first.run.id()).await;
    let (again, was) = engine.start_run(&caller(), asked("k", good), "").await.unwrap();
    assert_eq!((again.run.id(), was), (first.run.id(), true));
    let other = engine.start_run(&caller(), asked("k", "{\"a\":\"y\",\"b\":1}"), "").await.unwrap_err();
    assert_eq!(other.reason, Reason::IdempotencyConflict);
    let bad = engine.start_run(&caller(), asked("", "{\"a\":1,\"b\":\"z\"}"), "").await.unwrap_err();
    assert_eq!((bad.reason, bad.violations.len()), (Reason::RunInputInvalid, 2));
    let like_ours = Some(first.run.id().clone());
    let refused = engine.start_run(&caller(), StartRun { run_id: like_ours, ..asked("", good) }, "").await;
    assert_eq!(refused.unwrap_err().reason, Reason::InvalidField);
    let chosen = StartRun { run_id: Some(RunId::parse("run_nightly-1").unwrap()), ..asked("", good) };
    for wanted in [false, true] {
        assert_eq!(engine.start_run(&caller(), chosen.clone(), "").await.unwrap().1, wanted);
    }
    let none = engine.start_run(&caller(), StartRun { workflow: "nope".into(), ..asked("", good) }, "").await;
    assert_eq!(none.unwrap_err().reason, Reason::WorkflowNotFound);
    worker.abort();
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_rerun_from_a_step_with_what_the_others_gave() {
    let engine = engine().await;
    apply(
        &engine,
        "
name: again
steps:
  - { id: a, topic: t, input: { v: \"${input.v}\" } }
  - { id: items, for_each: \"${[1, 2]}\", topic: t, input: \"${item}\" }
  - { id: b, needs: [a, items], topic: t, input: { fail: \"${input.fail}\", sum: \"${steps.items.output[0] + steps.items.output[1]}\", v: \"${steps.a.output.v}\" } }
  - { id: c, needs: [b], topic: t, input: \"${steps.b.output}\" }
output: \"${steps.c.output}\"
",
    )
    .await;
    let worker = serve(&engine, &["t"], echo);
    let id = start(&engine, "again", "{\"v\":1,\"fail\":true}").await;
    assert_eq!(end(&engine, &id).await.run.state(), RunState::Failed);
    let rerun = |step: &str| Rerun {
        run_id: id.clone(),
        step: step.into(),
        edited_input: Some(Payload::json("{\"v\":2,\"fail\":false}")),
    };
    assert_eq!(engine.rerun(&caller(), rerun("bb"), "").await.unwrap_err().reason, Reason::InvalidField);
    let (fork, _) = engine.rerun(&caller(), rerun("b"), "r-1").await.unwrap();
    let fork = fork.run.id().clone();
    let view = end(&engine, &fork).await;
    assert_eq!(output(&view), json!({ "fail": false, "sum": 3, "v": 1 }), "what came before is kept");
    assert_eq!(view.run.plea.lineage.as_ref().unwrap().run_id.as_ref(), id.as_str());
    assert!(engine.get(&ns(), &fork.job("a")).await.is_err(), "it was not done again");
    assert!(engine.rerun(&caller(), rerun("b"), "r-1").await.unwrap().1);
    let whole = engine.rerun(&caller(), rerun("a"), "").await.unwrap().0.run.id().clone();
    assert_eq!(output(&end(&engine, &whole).await), json!({ "fail": false, "sum": 3, "v": 2 }));
    worker.abort();
    engine.stop().await;
}

const CARE: &str = "
name: care
steps:
  - { id: try, topic: t, input: { fail: true }, retry: { max_attempts: 1 } }
on_failure:
  - { id: ask, wait_event: go }
  - { id: tell, needs: [ask], topic: t, input: \"${steps.ask.output}\" }
";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_after_a_failure_hears_signals_and_can_be_stopped() {
    let engine = engine().await;
    apply(&engine, CARE).await;
    let worker = serve(&engine, &["t"], echo);
    let (told, stopped) = (start(&engine, "care", "{}").await, start(&engine, "care", "{}").await);
    for id in [&told, &stopped] {
        let until = std::time::Instant::now() + Duration::from_secs(10);
        while engine.get_run(&ns(), id, false).await.unwrap().run.open_steps().count() == 0
            || engine.get_run(&ns(), id, false).await.unwrap().run.ending.is_none()
        {
            assert!(std::time::Instant::now() < until, "it does not come to its care");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    engine.signal_run(&caller(), &told, signal("", "go", &json!({ "n": 1 }))).await.unwrap();
    engine.cancel_run(&caller(), &stopped, "enough".into()).await.unwrap();
    let (told, stopped) = (end(&engine, &told).await, end(&engine, &stopped).await);
    assert_eq!((told.run.state(), stopped.run.state()), (RunState::Failed, RunState::Failed));
    assert_eq!(state_of(&told, "tell"), StepState::Succeeded);
    assert_eq!(state_of(&stopped, "ask"), StepState::Cancelled);
    worker.abort();
    engine.stop().await;
}

const NAMED: &str = "
name: named
steps:
  - { id: pay, topic: t, input: { n: 1 }, idempotency_key: \"order-${input.order}\" }
";

#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_a_step_comes_to_its_job() {
    let engine = engine().await;
    apply(&engine, NAMED).await;
    let worker = serve(&engine, &["t"], echo);
    let id = start(&engine, "named", "{\"order\":7}").await;
    end(&engine, &id).await;
    let job = engine.get(&ns(), &id.job("pay")).await.unwrap();
    assert_eq!(job.of_run().and_then(|of_run| of_run.token_key.as_deref()), Some("order-7"));
    worker.abort();
    engine.stop().await;
}
