//! Submit streams, watches, and the stream of workers.

use crate::running_server::{
    In, Out, Server, Worker, connect, frame, hello, reason, spec, succeeded, update,
};
use coretex_contract::v1 as pb;
use std::time::Duration;
use tokio::sync::mpsc;
use tonic::{Code, Status, Streaming};

fn requests<T: Send + 'static>(
    receiver: mpsc::Receiver<T>,
) -> impl futures::Stream<Item = T> + Send + 'static {
    futures::stream::unfold(receiver, |mut r| async move { r.recv().await.map(|m| (m, r)) })
}

async fn next<T>(stream: &mut Streaming<T>) -> Option<T> {
    let message = tokio::time::timeout(Duration::from_secs(10), stream.message()).await;
    message.expect("a message within 10 s").expect("no error")
}

async fn end<T: std::fmt::Debug>(stream: &mut Streaming<T>) -> Status {
    loop {
        match tokio::time::timeout(Duration::from_secs(10), stream.message())
            .await
            .expect("an end within 10 s")
        {
            Ok(Some(_)) => {}
            Ok(None) => panic!("ended with OK"),
            Err(status) => return status,
        }
    }
}

#[tokio::test]
async fn followed_batches_end_with_their_jobs() {
    let server = Server::start().await;
    let (send, receive) = mpsc::channel(16);
    let mut answers =
        server.jobs().submit_job_stream(requests(receive)).await.expect("a stream").into_inner();
    let mut specs = vec![spec("job.s"); 10];
    specs[3].topic = "A b".into();
    for sequence in [7, 8] {
        let batch =
            pb::SubmitJobStreamRequest { sequence, specs: specs.clone(), follow: true, ..Default::default() };
        send.send(batch).await.expect("room");
    }
    drop(send);
    let mut worker = Worker::join(&server, &["job.s"]).await;
    let working = tokio::spawn(async move {
        let mut done = 0;
        while done < 18 {
            let assigned = worker.assigned().await;
            done += assigned.len();
            worker.report(assigned.iter().map(succeeded).collect()).await;
        }
        worker
    });
    let (mut answered, mut ended) = (Vec::new(), Vec::new());
    while let Some(message) = next(&mut answers).await {
        if message.completions.is_empty() {
            assert_eq!(message.results.len(), 10);
            assert!(matches!(message.results[3].outcome, Some(pb::submit_result::Outcome::Error(_))));
            answered.push(message.sequence);
        }
        for done in message.completions {
            assert!(answered.contains(&done.sequence), "completions come after their results");
            assert_eq!(done.state(), pb::JobState::Succeeded);
            ended.push((done.sequence, done.index));
        }
    }
    assert_eq!(answered, [7, 8], "results come in the order of the requests");
    ended.sort_unstable();
    let wanted: Vec<(u64, u32)> =
        [7, 8].into_iter().flat_map(|s| (0..10).filter(|i| *i != 3).map(move |i| (s, i))).collect();
    assert_eq!(ended, wanted);
    drop(working.await.expect("no panic"));
    server.stop().await;
}

#[tokio::test]
async fn a_bad_batch_ends_the_stream_after_the_good_ones() {
    let server = Server::start().await;
    let (send, receive) = mpsc::channel(16);
    let mut answers =
        server.jobs().submit_job_stream(requests(receive)).await.expect("a stream").into_inner();
    let good = pb::SubmitJobStreamRequest { sequence: 1, specs: vec![spec("a")], ..Default::default() };
    send.send(good.clone()).await.expect("room");
    send.send(pb::SubmitJobStreamRequest { specs: Vec::new(), ..good }).await.expect("room");
    assert_eq!(next(&mut answers).await.expect("results").sequence, 1);
    assert_eq!(end(&mut answers).await.code(), Code::InvalidArgument);
    server.stop().await;
}

#[tokio::test]
async fn watches_tell_what_is_there_and_what_changes() {
    let server = Server::start().await;
    let old = server.submit(spec("job.w")).await.expect("accepted").job.expect("a job").job_id;
    let request =
        pb::WatchJobsRequest { filter: "topic = job.w".into(), include_existing: true, ..Default::default() };
    let mut watch = server.jobs().watch_jobs(request.clone()).await.expect("a watch").into_inner();
    let first = next(&mut watch).await.expect("a message");
    assert_eq!((first.kind(), first.job.expect("a job").job_id), (pb::JobWatchKind::Existing, old.clone()));
    assert_eq!(next(&mut watch).await.expect("a message").kind(), pb::JobWatchKind::Current);
    let new = server.submit(spec("job.w")).await.expect("accepted").job.expect("a job").job_id;
    server.submit(spec("job.other")).await.expect("accepted");
    let created = next(&mut watch).await.expect("a message");
    assert_eq!(
        (created.kind(), created.job.expect("a job").job_id),
        (pb::JobWatchKind::Created, new.clone())
    );
    drop(watch);

    // What happens while nobody watches is told after the token, once.
    let cancel = pb::CancelJobRequest { job_id: new.clone(), ..Default::default() };
    server.jobs().cancel_job(cancel).await.expect("cancelled");
    let resumed = pb::WatchJobsRequest { resume_token: created.resume_token.clone(), ..request.clone() };
    let mut watch = server.jobs().watch_jobs(resumed).await.expect("a watch").into_inner();
    let ended = next(&mut watch).await.expect("a message");
    assert_eq!((ended.kind(), ended.r#type()), (pb::JobWatchKind::Ended, pb::JobEventType::Cancelled));
    let other = pb::WatchJobsRequest {
        filter: String::new(),
        resume_token: created.resume_token,
        ..Default::default()
    };
    let status = server.jobs().watch_jobs(other).await.expect_err("a token of another watch");
    assert_eq!(reason(&status), "INVALID_RESUME_TOKEN");

    let both = pb::WatchJobsRequest { job_ids: vec![old.clone(), new], ..Default::default() };
    let mut watch = server.jobs().watch_jobs(both).await.expect("a watch").into_inner();
    let cancel = pb::CancelJobRequest { job_id: old, ..Default::default() };
    server.jobs().cancel_job(cancel).await.expect("cancelled");
    assert_eq!(next(&mut watch).await.expect("a message").kind(), pb::JobWatchKind::Ended);
    assert!(next(&mut watch).await.is_none(), "all of them have ended");
    server.stop().await;
}

#[tokio::test]
async fn events_come_once_and_in_order() {
    let server = Server::start().await;
    server.submit(spec("job.e")).await.expect("accepted");
    let request =
        pb::WatchEventsRequest { filter: "topic = job.e".into(), from_beginning: true, ..Default::default() };
    let mut watch = server.events().watch_events(request.clone()).await.expect("a watch").into_inner();
    let first = next(&mut watch).await.expect("an event");
    assert_eq!(first.event.expect("an event").r#type(), pb::JobEventType::Submitted);
    let second = next(&mut watch).await.expect("an event").event.expect("an event");
    assert_eq!((second.r#type(), second.to_state()), (pb::JobEventType::Admitted, pb::JobState::Scheduled));
    let resumed = pb::WatchEventsRequest { resume_token: first.resume_token, ..request };
    let mut again = server.events().watch_events(resumed).await.expect("a watch").into_inner();
    assert_eq!(next(&mut again).await.expect("an event").event, Some(second), "exactly after the token");
    server.stop().await;
}

#[tokio::test]
async fn streams_that_break_the_protocol_are_closed_with_a_reason() {
    let server = Server::start().await;
    let heartbeat = frame(Out::Heartbeat(pb::Heartbeat::default()));
    let (_send, mut stream) = connect(&server, vec![heartbeat]).await;
    let status = end(&mut stream).await;
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "HELLO_REQUIRED"));

    let again = frame(Out::Hello(hello(&["a"])));
    let (_send, mut stream) = connect(&server, vec![again.clone(), again]).await;
    let status = end(&mut stream).await;
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "DUPLICATE_HELLO"));

    let future = pb::Hello { protocol_min: 9, protocol_max: 9, ..hello(&["a"]) };
    let (_send, mut stream) = connect(&server, vec![frame(Out::Hello(future))]).await;
    let status = end(&mut stream).await;
    assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "PROTOCOL_VERSION"));

    let (_send, mut stream) = connect(&server, vec![frame(Out::Hello(hello(&[])))]).await;
    let status = end(&mut stream).await;
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "INVALID_FIELD"));

    let large = pb::Hello { labels: [("k".to_owned(), "v".repeat(5 << 20))].into(), ..hello(&["a"]) };
    let (_send, mut stream) = connect(&server, vec![frame(Out::Hello(large))]).await;
    let status = end(&mut stream).await;
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "FRAME_TOO_LARGE"));

    let flood = Worker::join(&server, &["a"]).await;
    let mut stream = flood.receive;
    let unknown = pb::CreditGrant { lane_id: "nope".into(), granted_total: 1, slots_free: 0 };
    let credit = Out::Credit(pb::Credit { grants: vec![unknown; 1_100] });
    flood.send.send(frame(credit)).await.expect("open");
    assert_eq!(reason(&end(&mut stream).await), "WORKER_FLOOD");
    server.stop().await;
}

#[tokio::test]
async fn nonsense_in_a_report_is_rejected_by_index() {
    let server = Server::start().await;
    let mut worker = Worker::join(&server, &["job.r"]).await;
    server.submit(spec("job.r")).await.expect("accepted");
    let assigned = worker.assigned().await;
    let progress = pb::Progress { fraction: Some(1.5), ..Default::default() };
    let too_far =
        pb::JobUpdate { progress: Some(progress), ..update(&assigned[0], pb::JobUpdateKind::Progress) };
    let ack = worker.report(vec![too_far, succeeded(&assigned[0]), succeeded(&assigned[0])]).await;
    assert_eq!(ack.durable_up_to_seq, 1);
    let found: Vec<(u32, pb::UpdateRejection)> = ack.rejected.iter().map(|r| (r.index, r.code())).collect();
    assert!(found.contains(&(0, pb::UpdateRejection::Invalid)), "{found:?}");
    worker
        .send(Out::Heartbeat(pb::Heartbeat {
            heartbeat_no: 1,
            last_assign_no: 1,
            last_report_seq: 1,
            ..Default::default()
        }))
        .await;
    loop {
        if let Some(In::HeartbeatAck(ack)) = worker.next().await {
            assert_eq!(ack.heartbeat_no, 1);
            break;
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_session_outlives_its_stream() {
    let server = Server::start().await;
    let mut worker = Worker::join(&server, &["job.x"]).await;
    server.submit(spec("job.x")).await.expect("accepted");
    let assigned = worker.assigned().await;
    worker.report(vec![update(&assigned[0], pb::JobUpdateKind::Started)]).await;
    let welcome = worker.welcome.clone();
    drop(worker);
    let resume = pb::Resume {
        session_id: welcome.session_id,
        resume_token: welcome.resume_token,
        worker_id: welcome.worker_id.clone(),
        held: vec![pb::HeldLease {
            lease_id: assigned[0].lease_id,
            lease_token: assigned[0].lease_token.clone(),
            state: pb::HeldLeaseState::Running.into(),
            started_at: None,
        }],
        last_report_seq: 1,
        ..Default::default()
    };
    let (send, mut stream) = connect(&server, vec![frame(Out::Resume(resume))]).await;
    let Some(In::Resumed(resumed)) = next(&mut stream).await.and_then(|m| m.frame) else {
        panic!("not resumed")
    };
    assert_eq!(resumed.epoch, 2);
    assert!(resumed.verdicts.iter().all(|v| v.verdict() == pb::LeaseVerdictKind::Keep), "{resumed:?}");
    let report = pb::Report { updates: vec![succeeded(&assigned[0])] };
    send.send(pb::ConnectRequest { seq: 2, frame: Some(Out::Report(report)) }).await.expect("open");
    let job_id = assigned[0].job.as_ref().expect("names").job_id.clone();
    let wait = pb::WaitJobRequest { job_id, ..Default::default() };
    let job = server.jobs().wait_job(wait).await.expect("an answer").into_inner().job.expect("a job");
    assert_eq!((job.state(), job.attempts), (pb::JobState::Succeeded, 1));

    let list =
        pb::ListWorkersRequest { filter: "topic = job.x AND state = CONNECTED".into(), ..Default::default() };
    let workers = server.workers().list_workers(list).await.expect("a page").into_inner().workers;
    assert_eq!((workers.len(), workers[0].worker_id.as_str()), (1, welcome.worker_id.as_str()));
    let drain = pb::DrainWorkerRequest { worker_id: welcome.worker_id, ..Default::default() };
    let drained =
        server.workers().drain_worker(drain).await.expect("drained").into_inner().worker.expect("a worker");
    assert_eq!(drained.state(), pb::WorkerState::Draining);
    server.stop().await;
}

#[tokio::test]
async fn workers_without_a_stream_poll_and_report() {
    let server = Server::start().await;
    let poll = pb::PollJobsRequest {
        topics: vec!["job.poll".into()],
        timeout: Some(coretex_contract::Duration { seconds: 5, nanos: 0 }),
        ..Default::default()
    };
    server.submit(spec("job.poll")).await.expect("accepted");
    let polled = server.workers().poll_jobs(poll.clone()).await.expect("polled").into_inner();
    assert_eq!(polled.assignments.len(), 1);
    let by_token = pb::JobUpdate {
        lease_token: polled.assignments[0].lease_token.clone(),
        lease_id: 0,
        ..succeeded(&polled.assignments[0])
    };
    let nameless = pb::JobUpdate { lease_token: bytes::Bytes::new(), ..by_token.clone() };
    let garbage = pb::JobUpdate { lease_token: bytes::Bytes::from_static(b"nonsense"), ..by_token.clone() };
    let report = pb::ReportJobsRequest {
        session_id: polled.session_id.clone(),
        updates: vec![nameless, garbage, by_token],
    };
    let rejected = server.workers().report_jobs(report).await.expect("reported").into_inner().rejected;
    let found: Vec<(u32, pb::UpdateRejection)> = rejected.iter().map(|r| (r.index, r.code())).collect();
    assert_eq!(found, [(0, pb::UpdateRejection::Invalid), (1, pb::UpdateRejection::StaleLease)]);
    let job_id = polled.assignments[0].job.as_ref().expect("names").job_id.clone();
    assert_eq!(server.get(&job_id).await.expect("there").state(), pb::JobState::Succeeded);

    let gone = pb::PollJobsRequest { session_id: "ses_00000000000000000000000000".into(), ..poll.clone() };
    let status = server.workers().poll_jobs(gone).await.expect_err("gone");
    assert_eq!(reason(&status), "SESSION_NOT_FOUND");
    let none = pb::PollJobsRequest { topics: Vec::new(), max_jobs: 300, ..poll };
    let status = server.workers().poll_jobs(none).await.expect_err("refused");
    assert_eq!(status.code(), Code::InvalidArgument);
    server.stop().await;
}

#[tokio::test]
async fn output_is_read_as_it_is_written() {
    let server = Server::start().await;
    let mut worker = Worker::join(&server, &["job.o"]).await;
    server.submit(spec("job.o")).await.expect("accepted");
    let assigned = worker.assigned().await;
    worker.report(vec![update(&assigned[0], pb::JobUpdateKind::Started)]).await;
    let job_id = assigned[0].job.as_ref().expect("names").job_id.clone();
    let read =
        pb::ReadJobOutputRequest { job_id, stream: "tokens".into(), follow: true, ..Default::default() };
    let mut output = server.jobs().read_job_output(read).await.expect("a stream").into_inner();
    let piece = pb::Output {
        lease_id: assigned[0].lease_id,
        stream: "tokens".into(),
        chunks: vec![bytes::Bytes::from_static(b"ab"), bytes::Bytes::from_static(b"c")],
        end: true,
        ..Default::default()
    };
    worker.send(Out::Output(piece)).await;
    let mut text = Vec::new();
    while let Some(message) = next(&mut output).await {
        text.extend_from_slice(&message.chunk);
        if message.end {
            break;
        }
    }
    assert_eq!(text, b"abc");
    server.stop().await;
}

#[tokio::test]
async fn a_worker_that_half_closes_is_answered_to_the_end() {
    let server = Server::start().await;
    let mut worker = Worker::join(&server, &["job.h"]).await;
    for n in 1..=3 {
        let beat = pb::Heartbeat { heartbeat_no: n, ..Default::default() };
        worker.send(Out::Heartbeat(beat)).await;
    }
    worker.send(Out::Drain(pb::Drain::default())).await;
    let Worker { send, ref mut receive, .. } = worker;
    drop(send);
    let mut acks = 0;
    // Ends with OK: an error would panic here.
    while let Some(message) = next(receive).await {
        acks += usize::from(matches!(message.frame, Some(In::HeartbeatAck(_))));
    }
    assert_eq!(acks, 3);
    server.stop().await;
}

/// Prints figures; run it with `-- --ignored --nocapture`. Client and server share the process, so half of it is theirs.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn measure_ten_thousand_idle_workers() {
    let server = Server::start().await;
    let rss = || {
        let text = std::fs::read_to_string("/proc/self/status").expect("Linux");
        text.lines().find(|l| l.starts_with("VmRSS")).map(str::to_owned).unwrap_or_default()
    };
    let before = rss();
    let start = std::time::Instant::now();
    let mut held = Vec::new();
    for _ in 0..64 {
        let uri = format!("http://{}", server.addr);
        let channel = tonic::transport::Channel::from_shared(uri)
            .expect("an address")
            .connect()
            .await
            .expect("connects");
        for _ in 0..157 {
            let mut client =
                coretex_contract::v1::worker_service_client::WorkerServiceClient::new(channel.clone());
            let (send, receive) = mpsc::channel(4);
            send.send(frame(Out::Hello(hello(&["job.idle"])))).await.expect("room");
            let mut stream = client.connect(requests(receive)).await.expect("a stream").into_inner();
            assert!(matches!(next(&mut stream).await.and_then(|m| m.frame), Some(In::Welcome(_))));
            held.push((send, stream));
        }
    }
    println!("{} workers in {:?}; before {before}, after {}", held.len(), start.elapsed(), rss());
    assert_eq!(server.engine.info().sessions, 64 * 157);
    server.stop().await;
}
