//! Much data beside little control: C16 large payloads next to heartbeats, C17 output nobody reads.

use crate::{LONG, both, ended_well, scenario};
use coretex_contract::v1 as pb;
use coretex_contract::v1::connect_request::Frame as Out;
use coretex_contract::v1::connect_response::Frame as In;
use coretex_contract::v1::{JobState, UpdateRejection};
use coretex_e2e::api::{Api, Refused, once, spec};
use coretex_e2e::frames::{self, LANE, SHORT_TTL};
use coretex_e2e::process::Setup;
use coretex_e2e::worker::{PATIENCE, Worker};
use std::time::{Duration, Instant};
use tonic::{Code, Streaming};

const MIB: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn c16_ten_mebibytes_of_payload_do_not_hold_up_heartbeats() {
    scenario(both(), async |_, api| {
        let mut worker = Worker::join(api, frames::hello("c16", &["job.c16"], 10, SHORT_TTL)).await;
        let input = |n: u8| pb::Payload::data("application/octet-stream", vec![n; MIB]);
        let mut jobs = Vec::new();
        for n in 0..10 {
            jobs.push(api.submit(pb::JobSpec { payload: Some(input(n)), ..spec("job.c16") }).await);
        }
        worker.credit(LANE, 10);
        // The worker does not read for a while: its window is full, its heartbeats go on.
        tokio::time::sleep(SHORT_TTL * 2).await;
        let sent = worker.heartbeat().heartbeat_no - 1;
        let (mut assigned, mut large_before_ack) = (Vec::new(), None);
        while assigned.len() < 10 {
            match worker.next(PATIENCE).await.expect("the session lives").expect("the stream goes on") {
                In::Assign(assign) => assigned.extend(assign.assignments),
                In::HeartbeatAck(ack) if ack.heartbeat_no >= sent && large_before_ack.is_none() => {
                    large_before_ack = Some(assigned.len());
                }
                _ => {}
            }
        }
        let waited = large_before_ack.expect("no heartbeat was answered between ten large jobs");
        assert!(waited <= 6, "the answer to a heartbeat came after {waited} large jobs");
        let order: Vec<_> = assigned.iter().map(|a| a.job.clone().unwrap_or_default().job_id).collect();
        for (assignment, id) in assigned.iter().zip(&order) {
            let n = jobs.iter().position(|job| job == id).expect("one of ours");
            assert_eq!(assignment.input, Some(input(u8::try_from(n).expect("below ten"))), "{id}");
            worker.report(vec![frames::succeeded_with(assignment.lease_id, &vec![n as u8; MIB])]);
        }
        assert!(worker.settled().await.is_empty());
        ended_well(api, &jobs, 1).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c16_what_is_too_large_is_refused_and_the_session_lives() {
    scenario(both(), async |_, api| {
        let mut worker =
            Worker::join(api, frames::hello("c16-large", &["job.c16"], 2, Duration::from_secs(10))).await;
        worker.credit(LANE, 2);
        let huge = pb::Payload::data("application/octet-stream", vec![0; 10 * MIB]);
        let status = api.try_submit(pb::JobSpec { payload: Some(huge), ..spec("job.c16") }).await;
        let refused = Refused::of(&status.expect_err("10 MiB are refused"));
        assert_eq!((refused.code, refused.reason.as_str()), (Code::ResourceExhausted, "MESSAGE_TOO_LARGE"));
        let id = api.submit(once("job.c16")).await;
        let assigned = worker.assignments(1).await;
        worker.start(&assigned).await;
        worker.report(vec![frames::succeeded_with(assigned[0].lease_id, &vec![0; 2 * MIB])]);
        let rejected = worker.settled().await;
        assert_eq!(
            rejected.iter().map(pb::RejectedUpdate::code).collect::<Vec<_>>(),
            [UpdateRejection::TooLarge]
        );
        let job = api.ended(&id, LONG).await;
        assert_eq!(job.failure.map(|f| f.r#type).as_deref(), Some("RESULT_TOO_LARGE"));
        let next = api.submit(spec("job.c16")).await;
        let assigned = worker.assignments(1).await;
        worker.start(&assigned).await;
        let frame =
            pb::Report { updates: vec![frames::succeeded_with(assigned[0].lease_id, &vec![0; 10 * MIB])] };
        worker.stream.send_numbered(99, Out::Report(frame));
        let refused = Refused::of(&worker.stream.end().await);
        assert_eq!((refused.code, refused.reason.as_str()), (Code::ResourceExhausted, "FRAME_TOO_LARGE"));
        worker.resume(api).await;
        worker.finish(&assigned).await;
        ended_well(api, &[next], 1).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c17_output_nobody_reads_harms_nobody() {
    const CHUNK: usize = 16 << 10;
    const CHUNKS: usize = 2_000;
    scenario(vec![Setup::memory()], async |server, api| {
        let hello = frames::hello("c17", &["job.c17"], 1, Duration::from_secs(2));
        let mut worker = Worker::join(api, hello).await;
        worker.credit(LANE, 1);
        let id = api.submit(spec("job.c17")).await;
        let assigned = worker.assignments(1).await;
        worker.start(&assigned).await;
        let lease_id = assigned[0].lease_id;
        let stalled = follow(&Api::to(&server.url()), &id).await;
        let reader = tokio::spawn(read_all(follow(&Api::to(&server.url()), &id).await));
        let before = server.rss();
        let begin = Instant::now();
        for n in 0..CHUNKS {
            worker.stream.send(Out::Output(pb::Output {
                lease_id,
                stream: "log".into(),
                first_offset: (n * CHUNK) as u64,
                chunks: vec![vec![b'x'; CHUNK].into()],
                durability: pb::OutputDurability::Ephemeral.into(),
                end: n + 1 == CHUNKS,
                dropped: 0,
            }));
            if n % 20 == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        let heartbeat = worker.heartbeat();
        let mark = heartbeat.heartbeat_no;
        worker.stream.send(Out::Heartbeat(heartbeat));
        worker
            .until("the answer to a heartbeat behind the flood", |frame| match frame {
                In::HeartbeatAck(ack) => (ack.heartbeat_no >= mark).then_some(()),
                _ => None,
            })
            .await;
        crate::EVIDENCE.add("output_mib", (CHUNK * CHUNKS / MIB) as u64);
        let grown = server.rss().saturating_sub(before) / MIB as u64;
        assert!(grown < 128, "the server grew by {grown} MiB in {:?}", begin.elapsed());
        worker.finish(&assigned).await;
        ended_well(api, &[id], 1).await;
        let total = (CHUNK * CHUNKS) as u64;
        let (read, dropped) = reader.await.expect("the reader ends");
        assert_eq!(read + dropped, total, "bytes are unaccounted for");
        let (read, dropped) = read_all(stalled).await;
        assert!(read + dropped <= total);
    })
    .await;
}

async fn follow(api: &Api, job_id: &str) -> Streaming<pb::ReadJobOutputResponse> {
    let request =
        pb::ReadJobOutputRequest { job_id: job_id.to_owned(), stream: "log".into(), offset: 0, follow: true };
    api.jobs().read_job_output(request).await.expect("output can be read").into_inner()
}

/// Reads to the end: bytes read, and bytes it was told are missing. Pieces follow each other without a gap.
async fn read_all(mut pieces: Streaming<pb::ReadJobOutputResponse>) -> (u64, u64) {
    let (mut read, mut dropped) = (0, 0);
    let until = Instant::now() + LONG;
    while Instant::now() < until {
        match tokio::time::timeout(PATIENCE, pieces.message()).await.expect("a piece or the end") {
            Ok(Some(piece)) => {
                dropped += piece.dropped;
                assert_eq!(piece.offset, read + dropped, "a gap nobody told of");
                read += piece.chunk.len() as u64;
                if piece.end {
                    return (read, dropped);
                }
            }
            Ok(None) => return (read, dropped),
            Err(status) => {
                assert_eq!(Refused::of(&status).reason, "READER_TOO_SLOW", "{status}");
                return (read, dropped);
            }
        }
    }
    panic!("the output never ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn short_jobs_cost_one_frame_and_are_recorded_whole() {
    scenario(both(), async |_, api| {
        let mut worker =
            Worker::join(api, frames::hello("short", &["job.short"], 100, Duration::from_secs(10))).await;
        worker.credit(LANE, 100);
        let jobs = api.submit_many(&spec("job.short"), 100).await;
        let assigned = worker.assignments(100).await;
        worker.finish(&assigned).await;
        ended_well(api, &jobs, 1).await;
        assert_eq!(api.job(&jobs[0]).await.state(), JobState::Succeeded);
    })
    .await;
}
