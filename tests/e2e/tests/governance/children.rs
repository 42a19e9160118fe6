//! Jobs that jobs make: once, whoever crashes, and gone with their parent where that was wanted.

use crate::{EVIDENCE, cli, count, start};
use coretex_contract::v1::{self as pb, JobState as State, answer, ask, connect_request, connect_response};
use coretex_e2e::api::{Api, spec};
use coretex_e2e::frames::{LANE, SHORT_TTL, failed, hello, succeeded};
use coretex_e2e::worker::Worker as Raw;
use coretex_sdk::{Ctx, HandlerError, JobRequest, JobState, Spawn, Worker};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(30);
const CHILDREN: usize = 200;

fn able(worker_id: &str, topic: &str) -> pb::Hello {
    let mut hello = hello(worker_id, &[topic], 4, SHORT_TTL);
    hello.features.push("ask.spawn".into());
    hello
}

fn question(lease_id: u64, ask_id: u64) -> connect_request::Frame {
    let spawn = pb::SpawnAsk {
        specs: vec![spec("job.child"); CHILDREN],
        parent_close_policy: pb::ParentClosePolicy::Cancel.into(),
        name: "fan-out".into(),
    };
    connect_request::Frame::Ask(pb::Ask { ask_id, lease_id, question: Some(ask::Question::Spawn(spawn)) })
}

async fn told(worker: &mut Raw) -> Vec<String> {
    let of = |frame: &connect_response::Frame| match frame {
        connect_response::Frame::Answer(answer) => answer.answer.clone(),
        _ => None,
    };
    match worker.until("the children", of).await {
        answer::Answer::Spawned(spawned) => spawned.job_ids,
        other => panic!("{other:?}"),
    }
}

async fn children(api: &Api, parent: &str) -> u64 {
    api.count(&format!("parent_job_id = \"{parent}\"")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn children_are_made_once_when_the_server_dies_before_its_answer_and_then_the_worker() {
    let (mut server, _) = start(&[]).await;
    let api = Api::to(&server.url());
    let parent = api.submit(spec("job.parent")).await;
    let mut worker = Raw::join(&api, able("w1", "job.parent")).await;
    worker.credit(LANE, 1);
    let lease = worker.assignments(1).await.remove(0);
    worker.stream.send(question(lease.lease_id, 1));
    // Committed; nobody reads the answer.
    let until = std::time::Instant::now() + LONG;
    while children(&api, &parent).await == 0 {
        assert!(std::time::Instant::now() < until, "no children");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    server.kill();
    server.restart().await;
    assert_eq!(children(&api, &parent).await, CHILDREN as u64, "all in one commit");
    worker.resume(&api).await;
    worker.stream.send(question(lease.lease_id, 1));
    let first = told(&mut worker).await;
    assert_eq!(first.len(), CHILDREN);
    assert_eq!(children(&api, &parent).await, CHILDREN as u64);

    // The worker dies, and the next attempt asks as its predecessor did, under another number.
    drop(worker);
    let mut worker = Raw::join(&api, able("w2", "job.parent")).await;
    worker.credit(LANE, 1);
    let lease = worker.assignments(1).await.remove(0);
    assert_eq!(lease.attempt, 2);
    worker.stream.send(question(lease.lease_id, 3));
    assert_eq!(told(&mut worker).await, first, "the same ones");
    assert_eq!(children(&api, &parent).await, CHILDREN as u64);
    let (code, table, _) = cli(&server.url(), &["job", "asks", &parent]).await;
    assert!(
        code == 0 && table.matches("spawn fan-out").count() == 2 && table.contains("200 jobs"),
        "{table}"
    );

    // Its end is theirs, and is as durable.
    let failure = pb::JobUpdate { failure: None, ..failed(lease.lease_id, "GAVE_UP") };
    let retry = Some(pb::RetryDirective { mode: pb::RetryMode::NoRetry.into(), ..Default::default() });
    let kind = pb::Failure { r#type: "GAVE_UP".into(), message: "no".into(), retry, ..Default::default() };
    worker.report(vec![pb::JobUpdate { failure: Some(kind), ..failure }]);
    api.reaches(&parent, State::Failed, LONG).await;
    let (_, table, _) = cli(&server.url(), &["job", "history", &first[0]]).await;
    assert!(table.contains("system:parent") && table.contains("ended as FAILED"), "{table}");
    server.kill();
    server.restart().await;
    for id in &first {
        assert_eq!(api.state(id).await, State::Cancelled);
    }
    let child = api.job(&first[0]).await;
    assert_eq!(child.cancel_reason, format!("its parent {parent} ended as FAILED"));
    EVIDENCE.add("children", CHILDREN as u64);
    drop(server);
    count();
}

#[tokio::test(flavor = "multi_thread")]
async fn children_go_on_after_a_parent_that_succeeded() {
    let (mut server, _) = start(&[]).await;
    let api = Api::to(&server.url());
    let parent = api.submit(spec("job.parent")).await;
    let mut worker = Raw::join(&api, able("w1", "job.parent")).await;
    worker.credit(LANE, 1);
    let lease = worker.assignments(1).await.remove(0);
    worker.stream.send(question(lease.lease_id, 1));
    let ids = told(&mut worker).await;
    worker.report(vec![succeeded(lease.lease_id)]);
    api.reaches(&parent, State::Succeeded, LONG).await;
    server.kill();
    server.restart().await;
    assert_eq!(api.state(&ids[CHILDREN - 1]).await, State::Scheduled);
    count();
}

async fn sum(ctx: Ctx, parts: Vec<u64>) -> Result<u64, HandlerError> {
    let requests = parts.into_iter().map(|part| JobRequest::new("job.half").json(&part));
    let requests = requests.collect::<Result<Vec<_>, _>>()?;
    let mut sum = 0;
    for child in ctx.spawn_all(Spawn::of(requests).cancel_with_parent()).await? {
        sum += child.output().await?.parse::<u64>()?;
    }
    Ok(sum)
}

async fn half(ctx: Ctx, part: u64) -> Result<u64, HandlerError> {
    assert!(ctx.attempt() == 1, "nothing is lost here");
    Ok(part / 2)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_fans_out_and_gathers() {
    let (server, client) = start(&[]).await;
    let worker = Worker::builder(&client).bind_fn("job.sum", sum).bind_fn("job.half", half).slots(16);
    let serving = tokio::spawn(worker.build().unwrap().run_until(std::future::pending::<()>()));
    let parts: Vec<u64> = (0..50).map(|n| n * 2).collect();
    let job = client.run(JobRequest::new("job.sum").json(&parts).unwrap()).await.unwrap();
    assert_eq!(job.state, JobState::Succeeded, "{:?}", job.failure);
    assert_eq!(job.result.as_ref().unwrap().parse::<u64>().unwrap(), (0..50).sum::<u64>());
    let filter = format!("parent_job_id = \"{}\" AND state = SUCCEEDED", job.job_id);
    assert_eq!(client.count(filter).await.unwrap().0, 50);
    serving.abort();
    drop(server);
    count();
}
