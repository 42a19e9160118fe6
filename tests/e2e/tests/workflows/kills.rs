//! A server that is killed in the middle of runs, again and again: they end right, and each effect has one token.

use crate::{EVIDENCE, apply, begin, count, example, output, root, start};
use coretex_sdk::{Client, ConfigScope, Ctx, HandlerError, ListRequest, RunState, SetConfig, Worker};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Tokens by job.
type Tokens = Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>;

const PATIENCE: Duration = Duration::from_secs(240);

/// Workers of the code review; every call is noted.
fn reviewers(client: &Client, tokens: &Tokens) -> tokio::task::JoinHandle<()> {
    let mut builder = Worker::builder(client).slots(16);
    for topic in ["job.file.read", "job.code.llm", "job.publish", "job.unpublish", "job.notify"] {
        let tokens = tokens.clone();
        builder = builder.bind_fn(topic, move |ctx: Ctx, asked: Value| {
            let tokens = tokens.clone();
            async move {
                let token = ctx.idempotency_token().to_owned();
                tokens.lock().unwrap().entry(ctx.id().to_owned()).or_default().insert(token);
                tokio::time::sleep(Duration::from_millis(20)).await;
                review(&ctx, &asked)
            }
        });
    }
    let worker = builder.build().unwrap();
    tokio::spawn(async move { drop(worker.run_until(std::future::pending::<()>()).await) })
}

fn review(ctx: &Ctx, asked: &Value) -> Result<Value, HandlerError> {
    match ctx.topic() {
        "job.file.read" => {
            let path = root().join(asked["path"].as_str().unwrap_or_default());
            let text =
                std::fs::read_to_string(path).map_err(|e| HandlerError::new("Unreadable", e.to_string()))?;
            let hunks: Vec<String> =
                text.lines().filter(|line| !line.is_empty()).take(12).map(str::to_owned).collect();
            Ok(json!({ "hunks": hunks }))
        }
        "job.code.llm" => Ok(json!({ "n": asked["n"], "changed": true })),
        "job.publish" => Ok(json!({ "id": format!("p-{}", asked["hunks"].as_array().map_or(0, Vec::len)) })),
        _ => Ok(asked.clone()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_review_survives_kills_at_many_points() {
    let (mut server, client) = start().await;
    // Nobody logs in here, and nobody waits five minutes.
    let text = example("code-review.yaml")
        .replace("      approvers: [lead]\n", "")
        .replace("delay: 5m", "delay: 300ms");
    apply(&client, &text).await;
    let model = SetConfig::replace(ConfigScope::workflow("code-review"), json!({ "model": "small" }));
    client.set_config(model).await.unwrap();
    let tokens = Tokens::default();
    let worker = reviewers(&client, &tokens);
    let id = begin(&client, "code-review", json!({ "file": "README.md" })).await;
    let (until, mut kills) = (Instant::now() + PATIENCE, 0u32);
    let run = loop {
        assert!(Instant::now() < until, "{:?}", client.explain_run(&id).await);
        tokio::time::sleep(Duration::from_millis(u64::from(40 + kills * 37 % 160))).await;
        if kills < 12 {
            server.kill();
            server.restart().await;
            kills += 1;
        }
        let Ok(run) = client.get_run(&id).await else { continue };
        if run.state.is_terminal() {
            break run;
        }
        let asked = client.list_approvals(ListRequest::filter("state = PENDING")).await;
        for approval in asked.map(|page| page.items).unwrap_or_default() {
            // It may be killed meanwhile; then it is asked again.
            let _ = client.approve(approval.approval_id, "good").await;
        }
    };
    assert_eq!(run.state, RunState::Succeeded, "{:?}", run.error);
    assert_eq!(output(&run), json!({ "published": "p-12" }));
    let tokens = tokens.lock().unwrap();
    assert_eq!(tokens.len(), 1 + 12 + 1, "{tokens:?}");
    assert!(tokens.values().all(|one| one.len() == 1), "one token each, over all attempts: {tokens:?}");
    let all: BTreeSet<&String> = tokens.values().flatten().collect();
    assert_eq!(all.len(), tokens.len(), "and another one for each job");
    EVIDENCE.add("kills", u64::from(kills));
    worker.abort();
    drop(server);
    count();
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_children_survive_kills() {
    const ITEMS: usize = 10_000;
    let (mut server, client) = start().await;
    apply(
        &client,
        "name: many\nsteps:\n  - { id: each, for_each: '${input.items}', max_parallel: 2000, topic: job.one, input: '${item}' }\n  - { id: sum, needs: [each], topic: job.sum, input: '${steps.each.output}' }\noutput: '${steps.sum.output}'\n",
    )
    .await;
    let one = |_: Ctx, n: u64| async move { Ok::<u64, HandlerError>(n * 2) };
    let sum = |_: Ctx, all: Vec<u64>| async move { Ok::<u64, HandlerError>(all.iter().sum()) };
    let worker =
        Worker::builder(&client).bind_fn("job.one", one).bind_fn("job.sum", sum).slots(256).build().unwrap();
    let worker = tokio::spawn(async move { drop(worker.run_until(std::future::pending::<()>()).await) });
    let items: Vec<usize> = (0..ITEMS).collect();
    let id = begin(&client, "many", json!({ "items": items })).await;
    let until = Instant::now() + PATIENCE;
    for part in [1_000, 5_000] {
        loop {
            assert!(Instant::now() < until, "{:?}", client.explain_run(&id).await);
            let run = client.get_run(&id).await.unwrap();
            let over =
                run.steps.iter().find_map(|step| step.items.as_ref().map(|items| items.over)).unwrap_or(0);
            if over as usize >= part {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server.kill();
        server.restart().await;
        EVIDENCE.add("kills", 1);
    }
    let run = client.wait_run_for(&id, PATIENCE).await.unwrap();
    assert_eq!(run.state, RunState::Succeeded, "{:?}", run.error);
    assert_eq!(output(&run), json!((0..ITEMS as u64).map(|n| n * 2).sum::<u64>()));
    EVIDENCE.add("children", ITEMS as u64);
    worker.abort();
    drop(server);
    count();
}
