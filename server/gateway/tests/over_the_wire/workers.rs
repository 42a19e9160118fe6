//! Workers as the server sees them: what they are matched by, how they leave, what their lanes show.

use crate::running_server::{In, Out, Server, Worker, connect, frame, hello, reason, spec, update};
use coretex_contract::Duration;
use coretex_contract::v1 as pb;
use tonic::Code;

fn millis(n: i32) -> Option<Duration> {
    Some(Duration { seconds: 0, nanos: n * 1_000_000 })
}

fn poll(topic: &str, capabilities: &[&str]) -> pb::PollJobsRequest {
    pb::PollJobsRequest {
        worker_id: "poller".into(),
        topics: vec![topic.into()],
        timeout: millis(100),
        capabilities: capabilities.iter().map(ToString::to_string).collect(),
        labels: [("zone".to_owned(), "b".to_owned())].into(),
        ..Default::default()
    }
}

async fn polled(server: &Server, request: pb::PollJobsRequest) -> pb::PollJobsResponse {
    server.workers().poll_jobs(request).await.expect("polled").into_inner()
}

async fn listed(server: &Server, filter: &str) -> Vec<pb::Worker> {
    let request = pb::ListWorkersRequest { filter: filter.into(), ..Default::default() };
    server.workers().list_workers(request).await.expect("a page").into_inner().workers
}

#[tokio::test]
async fn pollers_are_matched_by_what_they_have() {
    let server = Server::start().await;
    let needy = pb::JobSpec { requires: vec!["gpu".into()], ..spec("job.gpu") };
    server.submit(needy.clone()).await.expect("accepted");
    let none = polled(&server, poll("job.gpu", &["cpu"])).await;
    assert!(none.assignments.is_empty(), "it has no gpu: {none:?}");
    let again = pb::PollJobsRequest { session_id: none.session_id, ..poll("job.gpu", &["cpu", "gpu"]) };
    let some = polled(&server, again).await;
    assert_eq!(some.assignments.len(), 1, "now it has");
    server.submit(needy).await.expect("accepted");
    let lost = pb::PollJobsRequest { session_id: some.session_id, ..poll("job.gpu", &[]) };
    assert!(polled(&server, lost).await.assignments.is_empty(), "and now it has not");
    let found = listed(&server, "labels.zone = b").await;
    assert_eq!((found.len(), found[0].worker_id.as_str()), (1, "poller"));
    server.stop().await;
}

async fn drain(server: &Server, worker_id: &str, mode: pb::DrainMode, request_id: &str) {
    let request = pb::DrainWorkerRequest {
        worker_id: worker_id.into(),
        mode: mode.into(),
        deadline: millis(100),
        reason: "night shift".into(),
        request_id: request_id.into(),
    };
    let answer = server.workers().drain_worker(request).await.expect("drained").into_inner();
    assert_eq!(answer.worker.expect("a worker").state(), pb::WorkerState::Draining);
}

#[tokio::test]
async fn a_drained_worker_gets_nothing_and_lets_go_in_time() {
    let server = Server::start().await;
    let mut worker = Worker::join(&server, &["job.d"]).await;
    let running = server.submit(spec("job.d")).await.expect("accepted").job.expect("a job").job_id;
    let assigned = worker.assigned().await;
    worker.report(vec![update(&assigned[0], pb::JobUpdateKind::Started)]).await;
    let unstarted = server.submit(spec("job.d")).await.expect("accepted").job.expect("a job").job_id;
    worker.assigned().await;

    let worker_id = worker.welcome.worker_id.clone();
    drain(&server, &worker_id, pb::DrainMode::Handover, "r-1").await;
    drain(&server, &worker_id, pb::DrainMode::Handover, "r-1").await;
    let waiting = server.submit(spec("job.d")).await.expect("accepted").job.expect("a job").job_id;
    let (mut farewells, mut cancel) = (Vec::new(), None);
    while cancel.is_none() {
        match worker.next().await.expect("the stream is open") {
            In::GoAway(away) => farewells.push(away),
            In::Assign(assign) => panic!("work for a drained worker: {assign:?}"),
            In::Control(control) => cancel = control.entries.into_iter().find_map(|e| e.action),
            _other => {}
        }
        if let Some(pb::control::entry::Action::Reclaim(_)) = cancel {
            let back = server.get(&unstarted).await.expect("there");
            assert_eq!((back.state(), back.deliveries), (pb::JobState::Scheduled, 1), "taken back at once");
            assert_eq!(server.get(&running).await.expect("there").state(), pb::JobState::Running);
            cancel = None;
        }
    }
    assert_eq!(farewells.len(), 1, "a repeat of the call changes nothing");
    let away = &farewells[0];
    assert_eq!(
        (away.reason(), away.drain_mode()),
        (pb::GoAwayReason::WorkerDrained, pb::DrainMode::Handover)
    );
    assert_eq!((away.drain_deadline, away.message.as_str()), (millis(100), "night shift"));
    let Some(pb::control::entry::Action::Cancel(order)) = cancel else { panic!("{cancel:?}") };
    assert_eq!((order.reason.as_str(), order.force), ("DRAINED", true));
    let released = server.get(&running).await.expect("there");
    assert_eq!((released.state(), released.released), (pb::JobState::Scheduled, 1), "it goes on elsewhere");
    assert_eq!(server.get(&waiting).await.expect("there").state(), pb::JobState::Scheduled);
    server.stop().await;
}

#[tokio::test]
async fn a_drain_outlives_the_stream_and_holds_for_pollers() {
    let server = Server::start().await;
    let mut worker = Worker::join(&server, &["job.d"]).await;
    server.submit(spec("job.d")).await.expect("accepted");
    let assigned = worker.assigned().await;
    worker.report(vec![update(&assigned[0], pb::JobUpdateKind::Started)]).await;
    let welcome = worker.welcome.clone();
    drain(&server, &welcome.worker_id, pb::DrainMode::Finish, "").await;
    drop(worker);
    let resume = pb::Resume {
        session_id: welcome.session_id,
        resume_token: welcome.resume_token,
        worker_id: welcome.worker_id,
        lanes: vec![pb::CreditGrant { lane_id: "main".into(), granted_total: 5, slots_free: 5 }],
        held: vec![pb::HeldLease {
            lease_id: assigned[0].lease_id,
            lease_token: assigned[0].lease_token.clone(),
            state: pb::HeldLeaseState::Running.into(),
            started_at: None,
        }],
        last_report_seq: 1,
        ..Default::default()
    };
    let (_send, mut stream) = connect(&server, vec![frame(Out::Resume(resume))]).await;
    let first = stream.message().await.expect("no error").expect("a frame").frame;
    assert!(matches!(first, Some(In::Resumed(_))), "{first:?}");
    let session = polled(&server, poll("job.d", &[])).await.session_id;
    drain(&server, "poller", pb::DrainMode::Finish, "").await;
    server.submit(spec("job.d")).await.expect("accepted");
    let request = pb::PollJobsRequest { session_id: session, ..poll("job.d", &[]) };
    assert!(polled(&server, request).await.assignments.is_empty(), "drained pollers poll in vain");
    let next = tokio::time::timeout(std::time::Duration::from_millis(300), stream.message()).await;
    assert!(next.is_err(), "nothing on the next stream either: {next:?}");
    server.stop().await;
}

#[tokio::test]
async fn credit_outlives_a_change_of_registration() {
    let server = Server::start().await;
    let mut worker = Worker::join(&server, &["job.one"]).await;
    server.submit(spec("job.one")).await.expect("accepted");
    worker.assigned().await;
    let change = pb::UpdateRegistration {
        add_topics: vec![pb::TopicRegistration { name: "job.two".into(), ..Default::default() }],
        set_labels: [("zone".to_owned(), "a".to_owned())].into(),
        ..Default::default()
    };
    worker.send(Out::UpdateRegistration(change)).await;
    server.submit(spec("job.two")).await.expect("accepted");
    let assigned = worker.assigned().await;
    assert_eq!(assigned[0].job.as_ref().expect("names").topic, "job.two", "no new credit was needed");
    worker.credit(999).await;
    let Some(In::ProtocolError(error)) = worker.next().await else { panic!("a smaller total is an error") };
    assert_eq!(error.code(), pb::ErrorReason::CreditDecreased);

    let beat = pb::Heartbeat {
        heartbeat_no: 1,
        load: Some(pb::WorkerLoad { cpu: 0.5, queue_depth: 3, ..Default::default() }),
        ..Default::default()
    };
    worker.send(Out::Heartbeat(beat)).await;
    worker.report(vec![update(&assigned[0], pb::JobUpdateKind::Started)]).await;
    let shown = listed(&server, "labels.zone = a").await.remove(0);
    assert_eq!((shown.held, shown.running), (2, 1));
    assert_eq!(shown.load.map(|load| (load.cpu, load.queue_depth)), Some((0.5, 3)));
    let lane = &shown.lanes[0];
    assert_eq!((lane.granted_total, lane.assigned_total, lane.slots), (1_000, 2, 100));
    server.stop().await;
}

#[tokio::test]
async fn a_live_session_is_not_taken_up_with_another_token() {
    let server = Server::start().await;
    let worker = Worker::join(&server, &["job.t"]).await;
    let other = Worker::join(&server, &["job.t"]).await;
    let resume = pb::Resume {
        session_id: worker.welcome.session_id.clone(),
        resume_token: other.welcome.resume_token.clone(),
        worker_id: worker.welcome.worker_id.clone(),
        hello: Some(hello(&["job.t"])),
        ..Default::default()
    };
    let (_send, mut stream) = connect(&server, vec![frame(Out::Resume(resume.clone()))]).await;
    let refused = stream.message().await.expect_err("refused");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "RESUME_REFUSED"));
    assert_eq!(listed(&server, "state = CONNECTED").await.len(), 2, "the session is untouched");
    // One that is gone begins anew, whatever the token.
    let gone = pb::Resume { session_id: "ses_00000000000000000000000000".into(), ..resume };
    let (_send, mut stream) = connect(&server, vec![frame(Out::Resume(gone))]).await;
    let first = stream.message().await.expect("no error").expect("a frame").frame;
    assert!(matches!(first, Some(In::Welcome(_))), "{first:?}");
    server.stop().await;
}
