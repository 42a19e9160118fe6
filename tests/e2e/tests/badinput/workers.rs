//! Rows 28 to 31: workers that break the rules of their stream.

use crate::{Expected, Target, check, field, refusal};
use bytes::Bytes;
use coretex_contract::v1 as pb;
use coretex_contract::v1::connect_request::Frame as Out;
use coretex_contract::v1::connect_response::Frame as In;
use coretex_contract::v1::{ErrorReason, JobState};
use coretex_e2e::api::{proto_duration, spec};
use coretex_e2e::frames::{self, LANE};
use coretex_e2e::raw_grpc;
use coretex_e2e::worker::{Stream, Worker};
use prost::Message;
use std::time::Duration;
use tonic::Code;

const TTL: Duration = Duration::from_secs(10);

fn hello() -> pb::Hello {
    frames::hello("bad", &["job.w"], 2, TTL)
}

fn slots(slots: u32) -> pb::Hello {
    let mut hello = hello();
    hello.lanes[0].slots = slots;
    hello
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_28_and_31_streams_that_begin_wrong() {
    let mut target = Target::start().await;
    target.mark().await;
    let required = refusal(Code::InvalidArgument, &["HELLO_REQUIRED"]);
    let version = Expected {
        code: Code::FailedPrecondition,
        reasons: &["PROTOCOL_VERSION"],
        names: "protocol 1..1 supported, got 9..9",
    };
    let lane =
        |lane_id: &str| pb::LaneRegistration { lane_id: lane_id.into(), slots: 1, ..Default::default() };
    let topic = |name: &str, lane: &str| pb::TopicRegistration {
        name: name.into(),
        lane: lane.into(),
        ..Default::default()
    };
    let many = (0..1_025).map(|n| topic(&format!("job.{n}"), LANE)).collect();
    let rows: Vec<(u32, &str, Out, Expected)> = vec![
        (28, "Credit first", frames::credit(LANE, 1), required),
        (28, "Heartbeat first", Out::Heartbeat(pb::Heartbeat::default()), required),
        (28, "0 slots", Out::Hello(slots(0)), field("hello.lanes")),
        (28, "1e9 slots", Out::Hello(slots(1_000_000_000)), field("hello.lanes")),
        (28, "no topics", Out::Hello(frames::hello("bad", &[], 2, TTL)), field("hello.topics")),
        (28, "1,025 topics", Out::Hello(pb::Hello { topics: many, ..hello() }), field("hello.topics")),
        (
            28,
            "an unknown lane",
            Out::Hello(pb::Hello { topics: vec![topic("job.w", "nowhere")], ..hello() }),
            field("hello.topics"),
        ),
        (
            28,
            "a lane twice",
            Out::Hello(pb::Hello { lanes: vec![lane(LANE), lane(LANE)], ..hello() }),
            field("hello.lanes"),
        ),
        (
            28,
            "a topic that is no name",
            Out::Hello(pb::Hello { topics: vec![topic("A B", LANE)], ..hello() }),
            field("hello.topics"),
        ),
        (
            28,
            "a worker id of blanks",
            Out::Hello(pb::Hello { worker_id: " ".into(), ..hello() }),
            field("worker_id"),
        ),
        (
            28,
            "a session of a millisecond",
            Out::Hello(pb::Hello {
                session_grace: Some(proto_duration(Duration::from_millis(1))),
                ..hello()
            }),
            field("session_grace"),
        ),
        (31, "protocol 9", Out::Hello(pb::Hello { protocol_min: 9, protocol_max: 9, ..hello() }), version),
        (
            28,
            "a session nobody has",
            Out::Resume(pb::Resume { session_id: "x".into(), ..Default::default() }),
            field("resume.session_id"),
        ),
    ];
    for (row, what, frame, expected) in rows {
        let refused = Stream::try_refused(&target.api, frame).await;
        let status = refused.unwrap_or_else(|frame| panic!("row {row}, {what}: answered by {frame:?}"));
        check(row, what, &status, expected);
    }
    target.unharmed(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_28_a_resume_token_of_somebody_else() {
    let mut target = Target::start().await;
    let mut worker = Worker::join(&target.api, hello()).await;
    worker.credit(LANE, 1);
    let id = target.api.submit(spec("job.w")).await;
    target.mark().await;
    let held = worker.assignments(1).await;
    worker.start(&held).await;
    let mut forged = worker.resume_token.to_vec();
    if let Some(last) = forged.last_mut() {
        *last ^= 1;
    }
    let resume = pb::Resume { resume_token: forged.into(), ..worker.resume_frame() };
    let status = Stream::refused(&target.api, Out::Resume(resume)).await;
    check(28, "a forged resume token", &status, refusal(Code::PermissionDenied, &["RESUME_REFUSED"]));
    // The true stream is not touched by the attempt.
    worker.finish(&held).await;
    assert_eq!(target.api.state(&id).await, JobState::Succeeded);
    target.unharmed(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_28_frames_that_make_no_sense_are_answered_and_ignored() {
    let mut target = Target::start().await;
    target.mark().await;
    let mut worker = Worker::join(&target.api, hello()).await;
    worker.credit(LANE, 1);
    let odd = [
        (frames::credit("nowhere", 5), ErrorReason::UnknownLane),
        (frames::credit(LANE, 0), ErrorReason::CreditDecreased),
        (
            Out::Output(pb::Output { lease_id: 77, stream: "log".into(), ..Default::default() }),
            ErrorReason::UnknownLease,
        ),
    ];
    for (frame, expected) in odd {
        worker.stream.send(frame);
        let code = worker
            .until("ProtocolError", |frame| match frame {
                In::ProtocolError(error) => Some(error.code()),
                _ => None,
            })
            .await;
        assert_eq!(code, expected);
        crate::EVIDENCE.add("cases", 1);
    }
    let id = target.api.submit(spec("job.w")).await;
    let assigned = worker.assignments(1).await;
    worker.finish(&assigned).await;
    assert_eq!(target.api.state(&id).await, JobState::Succeeded, "the stream goes on");
    target.mark().await;
    target.unharmed(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_30_a_flood_of_nonsense_is_counted_and_then_ended() {
    let mut target = Target::start().await;
    target.mark().await;
    let mut healthy = Worker::join(&target.api, frames::hello("good", &["job.g"], 1, TTL)).await;
    healthy.credit(LANE, 1);
    let mut worker = Worker::join(&target.api, hello()).await;
    // Acks for what was never dispatched are nothing; they are ignored.
    worker.stream.send(frames::accept(&(1..10_000).collect::<Vec<_>>()));
    worker.report(vec![frames::succeeded(123_456_789)]);
    assert_eq!(worker.settled().await.len(), 1, "a report of an unknown lease is rejected");
    for n in 0..5_000 {
        worker.stream.send(frames::credit("nowhere", n));
    }
    let status = worker.stream.end().await;
    check(30, "5,000 frames of nonsense", &status, refusal(Code::ResourceExhausted, &["WORKER_FLOOD"]));
    let id = target.api.submit(spec("job.g")).await;
    let assigned = healthy.assignments(1).await;
    healthy.finish(&assigned).await;
    assert_eq!(target.api.state(&id).await, JobState::Succeeded, "others work on");
    target.mark().await;
    target.unharmed(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_31_a_frame_of_the_future_is_ignored() {
    let mut target = Target::start().await;
    target.mark().await;
    let first = pb::ConnectRequest { seq: 0, frame: Some(Out::Hello(hello())) }.encode_to_vec();
    // Field 77, a message of two bytes: no frame of today.
    let unknown = vec![0xea, 0x04, 2, 8, 1];
    let beat = pb::Heartbeat { heartbeat_no: 1, ..Default::default() };
    let last = pb::ConnectRequest { seq: 0, frame: Some(Out::Heartbeat(beat)) }.encode_to_vec();
    let (out, frames) = tokio::sync::mpsc::unbounded_channel();
    for bytes in [first, unknown, last] {
        out.send(Bytes::from(bytes)).expect("the stream is open");
    }
    let frames = tokio_stream::wrappers::UnboundedReceiverStream::new(frames);
    let mut replies =
        raw_grpc::streaming(&target.api, "WorkerService/Connect", frames).await.expect("a stream");
    let mut answered = false;
    while !answered {
        let reply =
            tokio::time::timeout(TTL, replies.message()).await.expect("in time").expect("the stream goes on");
        let reply = pb::ConnectResponse::decode(reply.expect("the stream goes on")).expect("a frame");
        answered = matches!(reply.frame, Some(In::HeartbeatAck(_)));
    }
    crate::EVIDENCE.add("cases", 1);
    target.unharmed(0).await;
}
