//! Questions of handlers: asked once, sent again after a break, and never answered for a lease that is gone.

use crate::fake::*;
use crate::run;
use coretex_sdk::raw::v1::connect_request::Frame as Up;
use coretex_sdk::raw::v1::connect_response::Frame as Down;
use coretex_sdk::raw::v1::{
    Answer, Ask, AskError, BudgetGrant, BudgetVerdict, ErrorReason, JobUpdateKind as Kind, LeaseVerdict,
    LeaseVerdictKind, ParentClosePolicy, PolicyVerdict, Resumed, Spawned, Verdict, Welcome, answer, ask,
    payload,
};
use coretex_sdk::{Action, BudgetDimension, Ctx, HandlerError, JobRequest, Spawn, Worker, WorkerBuilder};

fn asking(addr: &str) -> WorkerBuilder {
    Worker::builder(addr)
        .worker_id("w")
        .bind_fn("guard", |ctx: Ctx, path: String| async move {
            let action = Action::new("repo.write").resource(path.as_str()).risk_tag("write");
            let leave = ctx.guard(action, serde_json::json!({"path": path})).await?;
            Ok::<_, HandlerError>((leave.decision_id, leave.constraints.max_files))
        })
        .bind_fn("spend", |ctx: Ctx, amount: u64| async move {
            let granted = ctx.budget(BudgetDimension::Tokens, amount).await?;
            Ok::<_, HandlerError>((granted.amount, granted.remaining))
        })
        .bind_fn("spawn", |ctx: Ctx, topics: Vec<String>| async move {
            let leave = ctx.guard("anything", coretex_sdk::Payload::default()).await?;
            let requests = topics.into_iter().map(JobRequest::new);
            let made = ctx.spawn_all(Spawn::of(requests).cancel_with_parent()).await?;
            let named = ctx.spawn_all(Spawn::of([JobRequest::new("x")]).name("named")).await?;
            let ids = made.iter().chain(&named).map(|child| child.job_id().to_owned());
            Ok::<_, HandlerError>((leave.decision_id, ids.collect::<Vec<_>>()))
        })
}

fn able() -> Welcome {
    let mut welcome = welcome();
    welcome.features.extend(["ask.policy".into(), "ask.budget".into(), "ask.spawn".into()]);
    welcome
}

async fn asked(conn: &mut Conn) -> Ask {
    conn.until(|_, frame| match frame {
        Up::Ask(ask) => Some(ask.clone()),
        _ => None,
    })
    .await
}

fn reply(conn: &Conn, ask: &Ask, answer: answer::Answer) {
    let (ask_id, lease_id) = (ask.ask_id, ask.lease_id);
    conn.send(Down::Answer(Answer { ask_id, lease_id, answer: Some(answer) }));
}

fn verdict(verdict: Verdict) -> answer::Answer {
    answer::Answer::Policy(PolicyVerdict {
        verdict: verdict.into(),
        decision_id: "job/1/1".into(),
        rule_id: "r".into(),
        reason: "because".into(),
        ..Default::default()
    })
}

fn grant(verdict: BudgetVerdict, granted: u64, remaining: u64) -> answer::Answer {
    answer::Answer::Budget(BudgetGrant { granted, remaining: Some(remaining), verdict: verdict.into() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_goes_on_with_leave_and_fails_for_good_without() {
    let mut fake = Fake::start().await;
    let (_handle, _running) = run(asking(&fake.addr));
    let (mut conn, hello) = fake.welcomed_as(able()).await;
    assert!(hello.features.iter().any(|feature| feature == "ask.policy"));
    conn.assign([assignment(1, "guard", "\"a.rs\"")]).await;
    let ask = asked(&mut conn).await;
    assert_eq!((ask.ask_id, ask.lease_id), (1, 1));
    let Some(ask::Question::Policy(question)) = &ask.question else { panic!("{ask:?}") };
    assert_eq!((&*question.action, &*question.resource), ("repo.write", "a.rs"));
    assert_eq!(question.risk_tags, ["write"]);
    assert!(question.args.is_some());
    reply(&conn, &ask, verdict(Verdict::Allow));
    let updates = conn.updates_of(1).await;
    assert_eq!(kinds(&updates).last(), Some(&Kind::Succeeded));

    conn.assign([assignment(2, "guard", "\"b.rs\"")]).await;
    let ask = asked(&mut conn).await;
    reply(&conn, &ask, verdict(Verdict::Deny));
    let updates = conn.updates_of(2).await;
    let failure = updates.last().and_then(|update| update.failure.clone()).expect("a failure");
    assert_eq!(failure.r#type, "POLICY_DENIED");
    assert!(failure.message.contains("because"), "{}", failure.message);
    assert_eq!(failure.retry.map(|retry| retry.mode()), Some(coretex_sdk::raw::v1::RetryMode::NoRetry));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_asked_again_under_its_number_on_the_next_stream() {
    let mut fake = Fake::start().await;
    let (_handle, _running) = run(asking(&fake.addr));
    let (mut conn, _) = fake.welcomed_as(able()).await;
    conn.assign([assignment(1, "spend", "7")]).await;
    let first = asked(&mut conn).await;
    conn.end(None);
    let (mut conn, _) = fake.resumed().await;
    conn.send(Down::Resumed(resumed()));
    let again = asked(&mut conn).await;
    assert_eq!(first, again);
    // The server may not now, and says when.
    let busy = AskError {
        code: ErrorReason::RateLimited.into(),
        retry_after: Some(millis(1)),
        ..Default::default()
    };
    reply(&conn, &again, answer::Answer::Error(busy));
    let third = asked(&mut conn).await;
    assert_eq!(first, third);
    reply(&conn, &third, grant(BudgetVerdict::Granted, 7, 3));
    let updates = conn.updates_of(1).await;
    let result = updates.last().and_then(|update| update.result.clone()).expect("a result");
    assert_eq!(result.body, Some(payload::Body::Data("[7,3]".into())));
}

#[tokio::test(flavor = "multi_thread")]
async fn children_are_counted_apart_from_other_questions_and_asked_for_again_after_a_break() {
    let mut fake = Fake::start().await;
    let (_handle, _running) = run(asking(&fake.addr));
    let (mut conn, hello) = fake.welcomed_as(able()).await;
    assert!(hello.features.iter().any(|feature| feature == "ask.spawn"));
    conn.assign([assignment(1, "spawn", "[\"a\",\"b\"]")]).await;
    let ask = asked(&mut conn).await;
    reply(&conn, &ask, verdict(Verdict::Allow));
    let first = asked(&mut conn).await;
    conn.end(None);
    let (mut conn, _) = fake.resumed().await;
    conn.send(Down::Resumed(resumed()));
    let again = asked(&mut conn).await;
    assert_eq!(first, again);
    let Some(ask::Question::Spawn(spawn)) = &again.question else { panic!("{again:?}") };
    assert_eq!((again.ask_id, &*spawn.name), (2, "#1"), "the second question, the first spawn");
    assert_eq!(spawn.parent_close_policy(), ParentClosePolicy::Cancel);
    assert_eq!(spawn.specs.iter().map(|spec| &*spec.topic).collect::<Vec<_>>(), ["a", "b"]);
    let made = |ids: &[&str]| {
        answer::Answer::Spawned(Spawned { job_ids: ids.iter().map(ToString::to_string).collect() })
    };
    reply(&conn, &again, made(&["c1", "c2"]));
    let named = asked(&mut conn).await;
    let Some(ask::Question::Spawn(spawn)) = &named.question else { panic!("{named:?}") };
    assert_eq!((&*spawn.name, spawn.parent_close_policy()), ("named", ParentClosePolicy::Abandon));
    reply(&conn, &named, made(&["c3"]));
    let updates = conn.updates_of(1).await;
    let result = updates.last().and_then(|update| update.result.clone()).expect("a result");
    assert_eq!(result.body, Some(payload::Body::Data(r#"["job/1/1",["c1","c2","c3"]]"#.into())));

    // What would end the stream, and the next one, is not sent.
    let large = format!("[\"{}\"]", "x".repeat(5 << 20));
    conn.assign([assignment(2, "spawn", &large)]).await;
    let ask = asked(&mut conn).await;
    reply(&conn, &ask, verdict(Verdict::Allow));
    let updates = conn.updates_of(2).await;
    let failure = updates.last().and_then(|update| update.failure.clone()).expect("a failure");
    assert!(failure.message.contains("FRAME_TOO_LARGE"), "{}", failure.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_lost_the_lease_is_not_left_waiting_and_what_is_not_offered_is_not_asked() {
    let mut fake = Fake::start().await;
    let (_handle, _running) = run(asking(&fake.addr));
    let (mut conn, _) = fake.welcomed_as(able()).await;
    conn.assign([assignment(1, "spend", "7"), assignment(2, "spend", "9")]).await;
    asked(&mut conn).await;
    asked(&mut conn).await;
    conn.end(None);
    let (mut conn, _) = fake.resumed().await;
    let lost = LeaseVerdict { lease_id: 1, verdict: LeaseVerdictKind::Lost.into() };
    conn.send(Down::Resumed(Resumed { verdicts: vec![lost], ..resumed() }));
    let left = asked(&mut conn).await;
    assert_eq!(left.lease_id, 2, "the question of the lost lease is gone");
    reply(&conn, &left, grant(BudgetVerdict::Exceeded, 0, 4));
    let updates = conn.updates_of(2).await;
    let failure = updates.last().and_then(|update| update.failure.clone()).expect("a failure");
    assert_eq!(failure.r#type, "BUDGET_EXCEEDED");
    assert!(failure.message.contains("4 left"), "{}", failure.message);

    let mut fake = Fake::start().await;
    let (_handle, _running) = run(asking(&fake.addr));
    let (mut conn, _) = fake.welcomed().await;
    conn.assign([assignment(1, "spend", "7")]).await;
    let updates = conn.updates_of(1).await;
    let failure = updates.last().and_then(|update| update.failure.clone()).expect("a failure");
    assert!(failure.message.contains("FEATURE_NOT_NEGOTIATED"), "{}", failure.message);
}
