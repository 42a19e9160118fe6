//! Questions of handlers, answered by the real binary, which is killed in between.
#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

use coretex_sdk::{Action, BudgetDimension, Ctx, HandlerError, JobRequest, JobState, Payload, Worker};
use coretex_testkit::ServerProcess;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

const BINARY: &str = env!("CARGO_BIN_EXE_coretex");
const WAIT: Duration = Duration::from_secs(30);

const RULES: &str = r#"
name: house
default: allow
rules:
  - id: no-push
    match: { topics: [ask.repo.push], labels: { resource: "git://prod*" } }
    verdict: deny
    reason: not from a job
  - id: small-changes
    match: { topics: ["ask.repo.*"] }
    when: "${job.payload.files < 5}"
    verdict: allow_with_constraints
    constraints: { diff: { max_files: 4 } }
  - id: llm
    match: { topics: [job.agent] }
    verdict: allow_with_constraints
    constraints: { budgets: { max_tokens: 100 } }
"#;

/// What the handler saw, in order.
type Seen = (Option<u32>, String, u64, String, u64);

async fn agent(ctx: Ctx, killed: Arc<Notify>, restarted: Arc<Notify>) -> Result<Seen, HandlerError> {
    let push = || Action::new("repo.push").resource("git://prod-eu");
    let leave = ctx.guard("repo.write", serde_json::json!({"files": 2})).await?;
    let first = ctx.budget(BudgetDimension::Tokens, 60).await?;
    killed.notify_one();
    restarted.notified().await;
    // What was set aside outlives the server that did it.
    let denied = ctx.guard(push(), serde_json::json!({"files": 1})).await.unwrap_err();
    let more = ctx.budget(BudgetDimension::Tokens, 41).await.unwrap_err();
    let rest = ctx.budget(BudgetDimension::Tokens, 40).await?;
    let left = more.fact("remaining").unwrap_or_default().to_owned();
    let rule = denied.fact("rule_id").unwrap_or_default().to_owned();
    assert_eq!(first.remaining, Some(40));
    Ok((leave.constraints.max_files, rule, first.amount, left, rest.amount))
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_and_reserves_outlive_a_server_that_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rules.yaml");
    std::fs::write(&path, RULES).unwrap();
    let builder = ServerProcess::builder().unwrap().binary(BINARY).directory(directory.path().join("s"));
    let server = builder.set("policy.file", &path.display().to_string()).start().await.unwrap();
    let client = server.client().await.unwrap();
    let (killed, restarted) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let signals = (killed.clone(), restarted.clone());
    let worker = Worker::builder(client.clone())
        .bind_fn("job.agent", move |ctx: Ctx, _: String| agent(ctx, signals.0.clone(), signals.1.clone()))
        .build()
        .unwrap();
    let leave = worker.handle();
    let serving = tokio::spawn(worker.run_until(std::future::pending()));
    let job =
        client.submit(JobRequest::new("job.agent").payload(Payload::json(&"go").unwrap())).await.unwrap();
    tokio::time::timeout(WAIT, killed.notified()).await.unwrap();
    let server = server.restart().await.unwrap();
    restarted.notify_one();
    let client = server.client().await.unwrap();
    let ended = tokio::time::timeout(WAIT, client.wait(job.job_id())).await.unwrap().unwrap();
    assert_eq!(ended.state, JobState::Succeeded, "{:?}", ended.failure);
    let seen: Seen = ended.result.as_ref().unwrap().parse().unwrap();
    assert_eq!(seen, (Some(4), "no-push".to_owned(), 60, "40".to_owned(), 40));
    assert_eq!(ended.attempts, 1, "the attempt went on");
    leave.drain(Duration::from_secs(1)).await;
    serving.abort();
}
