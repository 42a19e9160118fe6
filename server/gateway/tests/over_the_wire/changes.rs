//! Changes as callers see them: events, progress, usage, and calls that are repeated.

use crate::running_server::{Server, Worker, reason, spec, succeeded, update};
use coretex_contract::v1 as pb;
use std::time::Duration;
use tonic::{Code, Streaming};

async fn next<T>(stream: &mut Streaming<T>) -> T {
    let message = tokio::time::timeout(Duration::from_secs(10), stream.message()).await;
    message.expect("a message within 10 s").expect("no error").expect("not the end")
}

async fn events(server: &Server, from_beginning: bool) -> Streaming<pb::WatchEventsResponse> {
    let request =
        pb::WatchEventsRequest { filter: "topic = job.v".into(), from_beginning, ..Default::default() };
    server.events().watch_events(request).await.expect("a watch").into_inner()
}

async fn take(stream: &mut Streaming<pb::WatchEventsResponse>, count: usize) -> Vec<pb::Event> {
    let mut found = Vec::new();
    while found.len() < count {
        found.extend(next(stream).await.event);
    }
    found
}

#[tokio::test]
async fn live_events_say_what_is_read_back_later() {
    let server = Server::start().await;
    let mut live = events(&server, false).await;
    let mut worker = Worker::join(&server, &["job.v"]).await;
    let job_id = server.submit(spec("job.v")).await.expect("accepted").job.expect("a job").job_id;
    let assigned = worker.assigned().await;
    worker.report(vec![update(&assigned[0], pb::JobUpdateKind::Started)]).await;
    worker.report(vec![succeeded(&assigned[0])]).await;
    let told = take(&mut live, 5).await;
    let kept = take(&mut events(&server, true).await, 5).await;
    assert_eq!(told, kept);
    let revisions: Vec<u64> = told.iter().map(|event| event.revision).collect();
    assert_eq!(revisions, [1, 2, 3, 4, 5]);
    assert_eq!(server.get(&job_id).await.expect("there").revision, 5);
    let admitted = told.iter().find(|e| e.r#type() == pb::JobEventType::Admitted).expect("admitted");
    assert_eq!(admitted.actor, "policy:default");

    let history = pb::GetJobHistoryRequest { job_id, ..Default::default() };
    let history = server.jobs().get_job_history(history).await.expect("a page").into_inner().events;
    let of_event = |e: &pb::Event| (e.r#type(), e.attempt, e.worker_id.clone(), e.actor.clone());
    let of_history = |e: &pb::JobEvent| (e.r#type(), e.attempt, e.worker_id.clone(), e.actor.clone());
    assert_eq!(
        told.iter().map(of_event).collect::<Vec<_>>(),
        history.iter().map(of_history).collect::<Vec<_>>()
    );
    server.stop().await;
}

fn progressed(assignment: &pb::Assignment, fraction: f64, tokens_out: u64) -> pb::JobUpdate {
    let progress = pb::Progress {
        fraction: Some(fraction),
        message: "reading".into(),
        attributes: [("file".to_owned(), "a.txt".to_owned())].into(),
        ..Default::default()
    };
    let usage = pb::Usage { tokens_out, peak_rss: tokens_out, model: "small".into(), ..Default::default() };
    pb::JobUpdate {
        progress: Some(progress),
        usage: Some(usage),
        ..update(assignment, pb::JobUpdateKind::Progress)
    }
}

#[tokio::test]
async fn progress_and_usage_are_kept_and_told() {
    let server = Server::start().await;
    let mut worker = Worker::join(&server, &["job.g"]).await;
    let job_id = server.submit(spec("job.g")).await.expect("accepted").job.expect("a job").job_id;
    let assigned = worker.assigned().await;
    worker.report(vec![update(&assigned[0], pb::JobUpdateKind::Started)]).await;
    let watch = pb::WatchJobsRequest { job_ids: vec![job_id.clone()], ..Default::default() };
    let mut watch = server.jobs().watch_jobs(watch).await.expect("a watch").into_inner();
    worker.report(vec![progressed(&assigned[0], 0.25, 30), progressed(&assigned[0], 0.5, 20)]).await;
    let told = next(&mut watch).await;
    assert_eq!((told.kind(), told.r#type()), (pb::JobWatchKind::Updated, pb::JobEventType::Started));
    let progress = told.job.expect("a job").progress.expect("progress");
    assert_eq!((progress.fraction, progress.message.as_str()), (Some(0.5), "reading"));
    assert_eq!(progress.attributes.get("file").map(String::as_str), Some("a.txt"));

    let end = pb::JobUpdate {
        usage: Some(pb::Usage { tokens_out: 1, cpu_ms: 7, ..Default::default() }),
        ..succeeded(&assigned[0])
    };
    assert!(worker.report(vec![end]).await.rejected.is_empty());
    assert_eq!(next(&mut watch).await.kind(), pb::JobWatchKind::Ended);
    let usage = server.get(&job_id).await.expect("there").usage.expect("usage");
    assert_eq!((usage.tokens_out, usage.peak_rss, usage.cpu_ms), (51, 30, 7), "summed up, the peak excepted");
    assert_eq!(usage.model, "small");
    server.stop().await;
}

#[tokio::test]
async fn too_many_facts_of_progress_are_rejected() {
    let server = Server::start().await;
    let mut worker = Worker::join(&server, &["job.g"]).await;
    server.submit(spec("job.g")).await.expect("accepted");
    let assigned = worker.assigned().await;
    let attributes = (0..65).map(|n| (format!("k{n}"), String::new())).collect();
    let long = [("k".to_owned(), "v".repeat(257))].into();
    let said = |attributes| pb::JobUpdate {
        progress: Some(pb::Progress { attributes, ..Default::default() }),
        ..update(&assigned[0], pb::JobUpdateKind::Progress)
    };
    let model = pb::JobUpdate {
        usage: Some(pb::Usage { model: "m".repeat(257), ..Default::default() }),
        ..update(&assigned[0], pb::JobUpdateKind::Started)
    };
    let ack = worker.report(vec![said(attributes), said(long), model]).await;
    let found: Vec<&str> = ack.rejected.iter().map(|r| r.message.as_str()).collect();
    for part in
        ["at most 64 items, got 65", "with a value of 257", "usage.model: must be at most 256 bytes, got 257"]
    {
        assert!(found.iter().any(|message| message.contains(part)), "{part}: {found:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_retry_says_whether_it_was_asked_for_before() {
    let server = Server::start().await;
    let job_id = server.submit(spec("job.y")).await.expect("accepted").job.expect("a job").job_id;
    let cancel = pb::CancelJobRequest { job_id: job_id.clone(), ..Default::default() };
    server.jobs().cancel_job(cancel).await.expect("cancelled");
    let retry = |request_id: &str| {
        let request = pb::RetryJobRequest {
            job_id: job_id.clone(),
            request_id: request_id.into(),
            ..Default::default()
        };
        let mut jobs = server.jobs();
        async move {
            let answer = jobs.retry_job(request).await.expect("a new job").into_inner();
            (answer.job.expect("a job").job_id, answer.existing)
        }
    };
    // At once: a clock cannot tell them apart.
    let ((one, first), (two, second)) = tokio::join!(retry("r-1"), retry("r-1"));
    assert_eq!(one, two);
    assert_ne!(first, second, "exactly one of them made the job");
    assert_eq!(retry("r-1").await, (one.clone(), true));
    let (other, existing) = retry("r-2").await;
    assert!(other != one && !existing);
    server.stop().await;
}

#[tokio::test]
async fn a_repeated_change_of_a_topic_changes_it_once() {
    let server = Server::start().await;
    let change = |max_running, request_id: &str| pb::UpdateTopicRequest {
        topic: "job.u".into(),
        settings: Some(pb::TopicSettings { max_running: Some(max_running), ..Default::default() }),
        request_id: request_id.into(),
        ..Default::default()
    };
    let update = async |request| server.topics().update_topic(request).await.map(|r| r.into_inner());
    let first = update(change(5, "r-1")).await.expect("changed");
    let again = update(change(5, "r-1")).await.expect("the same answer");
    assert_eq!(first, again);
    let at_first = pb::UpdateTopicRequest { revision: 1, ..change(6, "r-2") };
    let second = update(at_first.clone()).await.expect("changed");
    let again = update(at_first).await.expect("a repeat is not refused by its own change");
    assert_eq!((again.clone(), again.topic.expect("a topic").revision), (second, 2));
    let other = update(change(7, "r-1")).await.expect_err("another request");
    assert_eq!((other.code(), reason(&other).as_str()), (Code::AlreadyExists, "IDEMPOTENCY_CONFLICT"));

    let pause =
        pb::PauseTopicRequest { topic: "job.u".into(), request_id: "r-3".into(), ..Default::default() };
    server.topics().pause_topic(pause.clone()).await.expect("paused");
    let resume = pb::ResumeTopicRequest { topic: "job.u".into(), request_id: "r-3".into() };
    server.topics().resume_topic(resume).await.expect("ids of other methods are others");
    let late = server.topics().pause_topic(pause).await.expect("an answer").into_inner().topic;
    assert!(!late.expect("a topic").paused, "a late repeat does not pause again");
    assert!(server.submit(spec("job.u")).await.expect("accepted").warnings.is_empty());
    server.stop().await;
}
