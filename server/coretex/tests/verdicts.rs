//! A bundle with every verdict, kept by the real binary and seen by callers and workers.
#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

use coretex_sdk::{
    Client, Constraints, Ctx, HandlerError, JobCauseKind, JobRequest, JobState, Payload, Redaction, Usage,
    Verdict, Worker,
};
use coretex_testkit::ServerProcess;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;

const BINARY: &str = env!("CARGO_BIN_EXE_coretex");
const WAIT: Duration = Duration::from_secs(30);

const RULES: &str = r#"
name: house
default: allow
rules:
  - id: two-eyes
    match: { topics: [job.deploy] }
    verdict: require_approval
    approval: { approvers: [oncall], quorum: 2, expires: 1h }
  - id: burst
    match: { topics: [job.mail] }
    verdict: throttle
    reason: not more than two at a time
    rate: { limit: 2, per: 3s, key: "${job.labels.customer}" }
  - id: llm-budget
    match: { topics: [job.llm] }
    verdict: allow_with_constraints
    constraints:
      budgets: { max_runtime: 5m, max_retries: 1, max_tokens: 100, max_cost: 1.50, max_concurrent: 2 }
      sandbox: { network_allowlist: ["api.internal"] }
      toolchain: { allowed_tools: [read], allowed_commands: [] }
      diff: { max_files: 20, deny_path_globs: ["**/secrets/**"] }
      redaction: strict
    remediations:
      - { id: small, title: Ask a smaller model, summary: It costs less., replacement_capability: llm.small, add_labels: { size: s } }
  - id: no-root
    match: { topics: [job.who], actors: [root] }
    verdict: deny
"#;

async fn server() -> (tempfile::TempDir, ServerProcess, Client) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rules.yaml");
    std::fs::write(&path, RULES).unwrap();
    let builder = ServerProcess::builder().unwrap().binary(BINARY).directory(directory.path().join("s"));
    let server = builder.set("policy.file", &path.display().to_string()).start().await.unwrap();
    let client = server.client().await.unwrap();
    (directory, server, client)
}

async fn state(client: &Client, id: &str) -> JobState {
    client.get(id).await.unwrap().state
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_is_waited_for() {
    let (_kept, _server, client) = server().await;
    let job = client.submit(JobRequest::new("job.deploy")).await.unwrap();
    assert_eq!(state(&client, job.job_id()).await, JobState::AwaitingApproval);
    let told = client.explain(job.job_id()).await.unwrap();
    assert_eq!(told.causes[0].kind, JobCauseKind::Approval);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_is_kept_and_told() {
    let (_kept, server, client) = server().await;
    let mail = |customer: &str| JobRequest::new("job.mail").label("customer", customer);
    let mut jobs = Vec::new();
    for _ in 0..3 {
        jobs.push(client.submit(mail("a")).await.unwrap());
    }
    let other = client.submit(mail("b")).await.unwrap();
    assert_eq!(state(&client, jobs[1].job_id()).await, JobState::Scheduled);
    assert_eq!(state(&client, other.job_id()).await, JobState::Scheduled, "another customer, another count");
    let waiting = client.get(jobs[2].job_id()).await.unwrap();
    assert_eq!((waiting.state, waiting.pending_reason.as_str()), (JobState::Pending, "THROTTLED"));
    assert_eq!(waiting.decision.as_ref().unwrap().verdict, Verdict::Throttle);
    let due = waiting.not_before.unwrap();
    assert!(due < SystemTime::now() + Duration::from_secs(3), "{due:?}");
    let told = client.explain(jobs[2].job_id()).await.unwrap();
    assert_eq!(told.causes[0].kind, JobCauseKind::Throttled);
    assert!(told.causes[0].eta.is_some() && told.causes[0].message.contains("rule burst"), "{told:?}");
    let worker = Worker::builder(client.clone())
        .bind_fn("job.mail", async |_: Ctx, input: Payload| Ok::<_, HandlerError>(input))
        .build()
        .unwrap();
    let serving = tokio::spawn(worker.run_until(std::future::pending::<()>()));
    for job in &jobs {
        assert_eq!(client.wait_for(job.job_id(), WAIT).await.unwrap().state, JobState::Succeeded);
    }
    let last = client.get(jobs[2].job_id()).await.unwrap();
    assert!(last.start_time.unwrap() + Duration::from_millis(1) >= due, "not before its time");
    serving.abort();
    drop(server);
}

/// What a handler found in its context.
#[derive(Debug)]
struct Seen {
    constraints: Constraints,
    tokens: Option<u64>,
    attempts: u32,
    deadline: Option<Duration>,
    stopped_by: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn constraints_reach_the_worker_and_budgets_are_enforced() {
    let (_kept, server, client) = server().await;
    let (told, mut seen) = mpsc::unbounded_channel();
    let handler = move |ctx: Ctx, _: Payload| {
        let told = told.clone();
        async move {
            let (constraints, before) = (ctx.constraints(), ctx.budget_left());
            ctx.used(Usage::of_tokens(90, 20));
            assert_eq!(ctx.budget_left().tokens, Some(0));
            let stopped = ctx.cancelled().await;
            let seen = Seen {
                constraints,
                tokens: before.tokens,
                attempts: ctx.max_attempts(),
                deadline: ctx.time_left(),
                stopped_by: stopped.reason().to_owned(),
            };
            told.send(seen).unwrap();
            Err::<Payload, HandlerError>(stopped.into())
        }
    };
    let worker = Worker::builder(client.clone()).bind_fn("job.llm", handler).build().unwrap();
    let serving = tokio::spawn(worker.run_until(std::future::pending::<()>()));
    let job = client.submit(JobRequest::new("job.llm")).await.unwrap();
    let ended = client.wait_for(job.job_id(), WAIT).await.unwrap();
    let failure = ended.failure.clone().unwrap();
    assert_eq!((ended.state, failure.kind.as_str()), (JobState::Failed, "BUDGET_EXCEEDED"), "{failure:?}");
    assert!(failure.message.contains("110 tokens used of a budget of 100"), "{failure:?}");
    assert_eq!(ended.usage.unwrap().tokens_out, 20);
    let decision = ended.decision.unwrap();
    assert_eq!(decision.constraints.unwrap()["budgets"]["max_cost"], "1.500000");
    assert_eq!(decision.remediations[0].replacement_capability, "llm.small");
    let seen = tokio::time::timeout(WAIT, seen.recv()).await.unwrap().unwrap();
    assert_eq!(
        (seen.tokens, seen.attempts),
        (Some(100), 2),
        "three were asked for by default, one retry is allowed"
    );
    assert!(seen.deadline.is_some_and(|left| left <= Duration::from_secs(300)), "{seen:?}");
    assert_eq!(seen.stopped_by, "BUDGET_EXCEEDED");
    let kept = seen.constraints;
    assert_eq!(kept.redaction, Some(Redaction::Strict));
    assert!(kept.allows_tool("read") && !kept.allows_tool("write") && !kept.allows_command("sh"));
    assert!(kept.allows_host("api.internal") && !kept.allows_host("elsewhere"));
    assert_eq!((kept.max_files, kept.deny_path_globs), (Some(20), vec!["**/secrets/**".to_owned()]));
    serving.abort();
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_jobs_of_a_rule_run_than_it_has_slots() {
    let (_kept, server, client) = server().await;
    let (running, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let counts = (running.clone(), most.clone());
    let handler = move |_: Ctx, input: Payload| {
        let (running, most) = counts.clone();
        async move {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(100)).await;
            running.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, HandlerError>(input)
        }
    };
    let worker = Worker::builder(client.clone()).bind_fn("job.llm", handler).build().unwrap();
    let serving = tokio::spawn(worker.run_until(std::future::pending::<()>()));
    let mut jobs = Vec::new();
    for _ in 0..10 {
        jobs.push(client.submit(JobRequest::new("job.llm")).await.unwrap());
    }
    let waiting = client.explain(jobs[9].job_id()).await.unwrap();
    let cause = waiting.causes.iter().find(|cause| cause.kind == JobCauseKind::PolicyConcurrency);
    assert!(
        cause.is_some_and(|cause| cause.holders.len() == 2 && cause.message.contains("llm-budget")),
        "{waiting:?}"
    );
    for job in &jobs {
        assert_eq!(client.wait_for(job.job_id(), WAIT).await.unwrap().state, JobState::Succeeded);
    }
    assert_eq!(most.load(Ordering::SeqCst), 2);
    serving.abort();
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_actor_is_who_it_says_only_where_nobody_logs_in() {
    let (_kept, _server, client) = server().await;
    let job = client.submit(JobRequest::new("job.who").actor("root", "human")).await.unwrap();
    assert_eq!(state(&client, job.job_id()).await, JobState::Denied);
}
