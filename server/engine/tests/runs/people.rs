//! Questions to people and the policy in runs: a step waits for answers, is denied, or asks by its own terms.

use crate::kit::{apply, caller, end, engine, ns, output, serve, start, state_of};
use coretex_domain::approval::{ApprovalId, Choice, Voter};
use coretex_domain::run::{RunState, StepState};
use coretex_domain::{Payload, Refusal, RunId};
use coretex_engine::api::Ballot;
use coretex_engine::{Apply, Engine};
use coretex_policy::Bundle;
use serde_json::{Value as Json, json};
use std::time::Duration;

const ASKS: &str = "
name: asks
steps:
  - { id: draft, topic: t, input: { text: \"${input.text}\" } }
  - id: sign-off
    needs: [draft]
    approval: { title: \"Publish ${steps.draft.output.text}?\", details: { text: \"${steps.draft.output.text}\" }, approvers: [ann, bob], quorum: 2 }
  - { id: publish, needs: [sign-off], topic: t, input: { by: \"${steps['sign-off'].output.by}\", text: \"${steps['sign-off'].output.details.text}\" } }
output: \"${steps.publish.output}\"
";

fn echo(_: &str, _: &str, input: Json) -> Result<Json, String> {
    Ok(input)
}

async fn vote(engine: &Engine, run: &RunId, who: &str, choice: Choice) -> Result<(), Refusal> {
    let ballot = Ballot {
        namespace: ns(),
        id: ApprovalId::parse(&format!("apr_1_{run}:sign-off")).unwrap(),
        voter: Voter::named(who),
        choice,
        comment: "looked at it".into(),
        edited: None,
    };
    engine.vote(ballot).await.map(drop)
}

async fn until_asked(engine: &Engine, id: &RunId) {
    let until = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        let view = engine.get_run(&ns(), id, false).await.unwrap();
        if view.run.state() == RunState::Waiting {
            return assert_eq!(state_of(&view, "sign-off"), StepState::Waiting);
        }
        assert!(std::time::Instant::now() < until, "{:?}", view.run);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn people_say_yes_or_no() {
    let engine = engine().await;
    apply(&engine, ASKS).await;
    let worker = serve(&engine, &["t"], echo);
    let (good, bad) =
        (start(&engine, "asks", "{\"text\":\"x\"}").await, start(&engine, "asks", "{\"text\":\"y\"}").await);
    for id in [&good, &bad] {
        until_asked(&engine, id).await;
        let told = engine.explain_run(&ns(), id).await.unwrap();
        assert!(told.summary.contains("sign-off"), "{told:?}");
    }
    let job = engine.get(&ns(), &good.job("sign-off")).await.unwrap();
    let asked: Json = serde_json::from_slice(&job.spec.payload.data).unwrap();
    assert_eq!(asked["title"], json!("Publish x?"));
    assert!(vote(&engine, &good, "eve", Choice::Approve).await.is_err(), "eve is not asked");
    for who in ["ann", "bob"] {
        vote(&engine, &good, who, Choice::Approve).await.unwrap();
    }
    vote(&engine, &bad, "ann", Choice::Reject).await.unwrap();
    let view = end(&engine, &good).await;
    assert_eq!(output(&view), json!({ "by": ["ann", "bob"], "text": "x" }), "{:?}", view.run.error());
    let view = end(&engine, &bad).await;
    assert_eq!((view.run.state(), &*view.run.error().unwrap().kind), (RunState::Failed, "APPROVAL_REJECTED"));
    worker.abort();
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_passes_the_policy() {
    let engine = engine().await;
    apply(
        &engine,
        "name: danger\nsteps: [{ id: a, topic: t }, { id: b, needs: [a], topic: t.destroy, input: 1 }]",
    )
    .await;
    let rules = "
name: default
default: allow
rules:
  - { id: no-destroy, match: { topics: [\"*.destroy\"] }, verdict: deny, reason: never from a workflow }
";
    let policy = Apply {
        bundle: Bundle::parse(rules).unwrap(),
        yaml: rules.into(),
        is_shadow: false,
        revision: 0,
        comment: "".into(),
    };
    engine.apply_policy(&caller(), policy, None).await.unwrap();
    let worker = serve(&engine, &["t", "t.destroy"], echo);
    let id = start(&engine, "danger", "").await;
    let view = end(&engine, &id).await;
    let error = view.run.error().unwrap();
    assert_eq!(
        (view.run.state(), &*error.step, &*error.message),
        (RunState::Failed, "b", "never from a workflow")
    );
    let denied = engine.get(&ns(), &id.job("b")).await.unwrap();
    assert_eq!(denied.counters.attempts, 0);
    let submit = coretex_engine::StartRun {
        workflow: "danger".into(),
        input: Payload::json("not json"),
        ..coretex_engine::StartRun::default()
    };
    assert!(engine.start_run(&caller(), submit, "").await.is_err());
    worker.abort();
    engine.stop().await;
}
