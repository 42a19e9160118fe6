//! The worker inside of the server as callers see it, and what others may not.

use crate::running_server::{In, Out, Server, Worker, connect, frame, hello, reason, spec};
use coretex_contract::v1 as pb;
use tonic::{Code, Status};

async fn turned_away(server: &Server, hello: pb::Hello) -> Status {
    let (send, frames) = tokio::sync::mpsc::channel(4);
    send.send(frame(Out::Hello(hello))).await.expect("room");
    let frames = stream_of(frames);
    match server.workers().connect(frames).await {
        Err(status) => status,
        Ok(stream) => stream.into_inner().message().await.expect_err("not welcomed"),
    }
}

fn stream_of(
    frames: tokio::sync::mpsc::Receiver<pb::ConnectRequest>,
) -> impl futures::Stream<Item = pb::ConnectRequest> + Send + 'static {
    futures::stream::unfold(frames, |mut frames| async move { frames.recv().await.map(|f| (f, frames)) })
}

#[tokio::test]
async fn topics_of_the_server_are_refused_by_name_in_every_way_to_register() {
    let server = Server::start().await;
    for topic in ["sys.step.http", "sys.approval", "sys.destroy"] {
        let status = turned_away(&server, hello(&["job.a", topic])).await;
        assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "TOPIC_RESERVED"));
        assert!(status.message().contains(topic), "{}", status.message());
        let poll =
            pb::PollJobsRequest { worker_id: "w".into(), topics: vec![topic.into()], ..Default::default() };
        let status = server.workers().poll_jobs(poll).await.expect_err("refused");
        assert_eq!(reason(&status), "TOPIC_RESERVED");
    }
    let named = pb::Hello { worker_id: "house".into(), ..hello(&["job.a"]) };
    let status = turned_away(&server, named).await;
    assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "WORKER_RESERVED"));
    server.stop().await;
}

#[tokio::test]
async fn a_worker_that_adds_such_a_topic_is_told_and_keeps_what_it_had() {
    let server = Server::start().await;
    let mut worker = Worker::join(&server, &["job.a"]).await;
    let topic = pb::TopicRegistration { name: "sys.step.set".into(), ..Default::default() };
    let update = pb::UpdateRegistration { add_topics: vec![topic], ..Default::default() };
    worker.send(Out::UpdateRegistration(update)).await;
    let error = loop {
        if let In::ProtocolError(error) = worker.next().await.expect("the stream is open") {
            break error;
        }
    };
    assert_eq!(error.code(), pb::ErrorReason::TopicReserved, "{}", error.message);
    server.submit(spec("job.a")).await.expect("accepted");
    assert_eq!(worker.assigned().await.len(), 1, "it still serves the other topic");
    server.stop().await;
}

#[tokio::test]
async fn the_house_is_listed_where_it_works_and_nobody_drains_it() {
    let server = Server::start().await;
    let list = async || {
        let reply = server.workers().list_workers(pb::ListWorkersRequest::default()).await.expect("a page");
        reply.into_inner().workers.into_iter().map(|worker| worker.worker_id).collect::<Vec<_>>()
    };
    assert!(list().await.is_empty());
    let job = server.submit(spec("sys.approval")).await.expect("accepted").job.expect("a job");
    let wait = pb::WaitJobRequest { job_id: job.job_id, ..Default::default() };
    let ended = server.jobs().wait_job(wait).await.expect("an end").into_inner().job.expect("a job");
    assert_eq!(ended.failure.expect("a failure").r#type, "NOT_APPROVED");
    assert_eq!(list().await, ["house"]);
    let drain = pb::DrainWorkerRequest { worker_id: "house".into(), ..Default::default() };
    let status = server.workers().drain_worker(drain).await.expect_err("refused");
    assert_eq!(reason(&status), "WORKER_RESERVED");
    // Streams of others are not held up by it.
    let (_send, mut receive) = connect(&server, vec![frame(Out::Hello(hello(&["job.a"])))]).await;
    assert!(receive.message().await.expect("no error").is_some());
    server.stop().await;
}
