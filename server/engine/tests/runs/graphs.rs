//! Graphs: order, conditions, items, groups, failures, what is undone.

use crate::kit::{apply, check_fold, end, engine, ns, output, serve, start, state_of};
use coretex_domain::Span;
use coretex_domain::run::{RunState, StepState};
use serde_json::{Value as Json, json};

/// Gives back what it was given; fails where it is told to.
fn echo(_: &str, path: &str, input: Json) -> Result<Json, String> {
    match input.get("fail") {
        Some(Json::Bool(true)) => Err(format!("{path} was told to fail")),
        _ => Ok(input),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_go_in_order_and_read_what_came_before() {
    let engine = engine().await;
    apply(
        &engine,
        "
name: chain
input_schema: { type: object, required: [n], properties: { n: { type: integer }, by: { type: integer, default: 2 } } }
steps:
  - { id: a, topic: t, input: { n: \"${input.n + 1}\" } }
  - { id: b, needs: [a], topic: t, input: { n: \"${steps.a.output.n * input.by}\" }, labels: { who: \"step ${run.workflow}\" } }
  - { id: skipped, needs: [a], when: \"${steps.a.output.n > 100}\", topic: t }
  - { id: c, needs: [b, skipped], topic: t, input: { sum: \"${steps.a.output.n + steps.b.output.n}\", was: \"${steps.skipped.state}\", none: \"${steps.skipped.output}\" } }
output: { all: \"${steps.c.output}\", text: \"sum is ${steps.c.output.sum}\" }
",
    )
    .await;
    let worker = serve(&engine, &["t"], echo);
    let id = start(&engine, "chain", "{\"n\":4}").await;
    let view = end(&engine, &id).await;
    assert_eq!(view.run.state(), RunState::Succeeded, "{:?}", view.run.error());
    let wanted = json!({ "all": { "sum": 15, "was": "SKIPPED", "none": null }, "text": "sum is 15" });
    assert_eq!(output(&view), wanted);
    assert_eq!(state_of(&view, "skipped"), StepState::Skipped);
    let job = engine.get(&ns(), &id.job("b")).await.unwrap();
    let labels = &job.spec.options().labels;
    for (key, value) in [("who", "step chain"), ("workflow", "chain"), ("step", "b")] {
        assert!(labels.contains(&(key.into(), value.into())), "{labels:?}");
    }
    worker.abort();
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_items_go_through_a_window_and_come_back_in_order() {
    let engine = engine().await;
    apply(
        &engine,
        "
name: fan
steps:
  - { id: make, topic: list }
  - { id: each, needs: [make], for_each: \"${steps.make.output}\", max_parallel: 40, topic: t, input: { n: \"${item * 2}\", at: \"${index}\" } }
  - { id: sum, needs: [each], topic: t, input: { count: \"${size(steps.each.output)}\", last: \"${steps.each.output[999].n}\" } }
output: \"${steps.sum.output}\"
",
    )
    .await;
    let worker = serve(&engine, &["t", "list"], |topic, path, input| match topic {
        "list" => Ok(json!((0..1_000).collect::<Vec<_>>())),
        _ => echo(topic, path, input),
    });
    let id = start(&engine, "fan", "{}").await;
    let view = end(&engine, &id).await;
    assert_eq!(output(&view), json!({ "count": 1_000, "last": 1_998 }), "{:?}", view.run.error());
    let items = view.steps().iter().find_map(|step| step.items).unwrap();
    assert_eq!((items.count, items.over, items.failed), (1_000, 1_000, 0));
    worker.abort();
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_nest_and_are_done_for_items() {
    let engine = engine().await;
    apply(
        &engine,
        "
name: groups
steps:
  - id: outer
    for_each: \"${input.rows}\"
    max_parallel: 2
    parallel:
      - { id: first, topic: t, input: { v: \"${item}\" } }
      - id: inner
        needs: [first]
        parallel:
          - { id: deep, topic: t, input: { v: \"${steps.first.output.v + index}\" } }
          - { id: late, needs: [deep], for_each: \"${[1, 2]}\", topic: t, input: \"${item + steps.deep.output.v}\" }
  - { id: after, needs: [outer], topic: t, input: \"${steps.outer.output}\" }
output: \"${steps.after.output}\"
",
    )
    .await;
    let worker = serve(&engine, &["t"], echo);
    let id = start(&engine, "groups", "{\"rows\":[10,20,30]}").await;
    let view = end(&engine, &id).await;
    assert_eq!(view.run.state(), RunState::Succeeded, "{:?}", view.run.error());
    let one = |n: i64, v: i64| {
        let deep = v + n;
        json!({ "first": { "v": v }, "inner": { "deep": { "v": deep }, "late": [deep + 1, deep + 2] } })
    };
    assert_eq!(output(&view), json!([one(0, 10), one(1, 20), one(2, 30)]));
    assert!(engine.get(&ns(), &id.job("outer:2:late:1")).await.is_ok(), "jobs are named by their places");
    worker.abort();
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_is_undone_in_reverse_and_then_people_are_told() {
    let engine = engine().await;
    apply(
        &engine,
        "
name: saga
steps:
  - { id: flight, topic: t, input: { ref: f1 }, compensate: { topic: undo, input: { ref: \"${steps.flight.output.ref}\" } } }
  - { id: seats, needs: [flight], for_each: \"${['x', 'y']}\", max_parallel: 1, topic: t, input: { ref: \"${item}\" }, compensate: { topic: undo, input: { ref: \"${item}\" } } }
  - { id: hotel, needs: [seats], topic: t, input: { ref: h1 }, compensate: { topic: undo, input: { ref: \"${steps.hotel.output.ref}\" } } }
  - { id: pay, needs: [hotel], topic: t, input: { fail: true } }
  - { id: never, needs: [pay], topic: t }
on_failure:
  - { id: tell, topic: t, input: { why: \"${run.error.message}\", step: \"${run.error.step}\", hotel: \"${steps.hotel.state}\" } }
",
    )
    .await;
    let worker = serve(&engine, &["t", "undo"], echo);
    let id = start(&engine, "saga", "{}").await;
    let view = end(&engine, &id).await;
    assert_eq!(view.run.state(), RunState::Failed);
    assert_eq!(&*view.run.error().unwrap().step, "pay");
    let (entries, _) = engine.run_history(&ns(), &id, 0, usize::MAX).await.unwrap();
    let undone: Vec<String> = entries
        .iter()
        .filter_map(|entry| match &entry.event {
            coretex_domain::run::Event::UndoStarted { at, index } => Some(view.name_of(*at, *index)),
            _ => None,
        })
        .collect();
    assert_eq!(undone, ["hotel", "seats:1", "seats:0", "flight"]);
    let job = engine.get(&ns(), &id.job("seats~undo:1")).await.unwrap();
    assert_eq!(job.result.as_ref().unwrap().data, "{\"ref\":\"y\"}");
    let told = engine.get(&ns(), &id.job("tell")).await.unwrap();
    let told: Json = serde_json::from_slice(&told.result.as_ref().unwrap().data).unwrap();
    assert_eq!(told, json!({ "why": "pay was told to fail", "step": "pay", "hotel": "SUCCEEDED" }));
    assert_eq!(state_of(&view, "never"), StepState::Pending);
    worker.abort();
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_stay_where_the_workflow_says_so() {
    let engine = engine().await;
    apply(
        &engine,
        "
name: tolerant
steps:
  - { id: may, on_failure: continue, topic: t, input: { fail: true } }
  - { id: items, on_failure: continue, for_each: \"${[false, true, false]}\", topic: t, input: { fail: \"${item}\" } }
  - { id: each, for_each: \"${[false, true, false]}\", on_item_failure: continue, topic: t, input: { fail: \"${item}\" } }
  - id: group
    on_failure: continue
    parallel:
      - { id: bad, topic: t, input: { fail: true } }
      - { id: slow, topic: nobody }
  - { id: wrong, on_failure: continue, topic: t, input: \"${input.a.b.c}\" }
  - { id: last, needs: [may, items, each, group, wrong], topic: t, input: { may: \"${steps.may.state}\", error: \"${steps.may.error.message}\", each: \"${steps.each.output}\", group: \"${steps.group.state}\", items: \"${steps.items.state}\", wrong: \"${steps.wrong.error.type}\" } }
output: \"${steps.last.output}\"
",
    )
    .await;
    let worker = serve(&engine, &["t"], echo);
    let id = start(&engine, "tolerant", "{\"a\":{}}").await;
    let view = end(&engine, &id).await;
    assert_eq!(view.run.state(), RunState::Succeeded, "{:?}", view.run.error());
    let wanted = json!({
        "may": "FAILED", "error": "may was told to fail", "items": "FAILED", "group": "FAILED", "wrong": "EXPRESSION",
        "each": [{ "fail": false }, null, { "fail": false }],
    });
    assert_eq!(output(&view), wanted);
    assert_eq!(state_of(&view, "slow"), StepState::Cancelled);
    worker.abort();
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_stops_what_is_open_and_undoes_what_was_done() {
    let engine = engine().await;
    apply(
        &engine,
        "
name: stop
steps:
  - { id: done, topic: t, compensate: { topic: undo } }
  - { id: open, needs: [done], topic: nobody }
  - { id: wait, needs: [done], delay: 1d }
on_failure:
  - { id: tell, topic: t }
",
    )
    .await;
    let worker = serve(&engine, &["t", "undo"], echo);
    let id = start(&engine, "stop", "{}").await;
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while state_of(&engine.get_run(&ns(), &id, true).await.unwrap(), "open") != StepState::Running {
        assert!(std::time::Instant::now() < until);
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    check_fold(&engine, &id).await;
    let told = engine.explain_run(&ns(), &id).await.unwrap();
    assert!(told.causes.iter().any(|cause| cause.kind == "NO_WORKER"), "{told:?}");
    assert!(told.causes.iter().any(|cause| cause.kind == "TIMER"), "{told:?}");
    engine.cancel_run(&crate::kit::caller(), &id, "enough".into()).await.unwrap();
    let view = end(&engine, &id).await;
    assert_eq!(view.run.state(), RunState::Cancelled);
    assert_eq!(&*view.run.error().unwrap().message, "enough");
    assert_eq!(
        (state_of(&view, "open"), state_of(&view, "wait")),
        (StepState::Cancelled, StepState::Cancelled)
    );
    assert!(engine.get(&ns(), &id.job("done~undo")).await.is_ok());
    assert!(engine.get(&ns(), &id.job("tell")).await.is_err(), "a cancel is no failure");
    engine.cancel_run(&crate::kit::caller(), &id, "again".into()).await.unwrap();
    assert!(engine.wait_run(&ns(), &id, Span(1)).await.unwrap().run.is_over());
    worker.abort();
    engine.stop().await;
}
