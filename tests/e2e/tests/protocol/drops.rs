//! Streams that break and frames that are lost: C2, C3, C4, C5, and differences settled without a new stream.

use crate::{LONG, both, ended_well, impatient, scenario};
use coretex_contract::v1 as pb;
use coretex_contract::v1::connect_response::Frame as In;
use coretex_contract::v1::{JobEventType, JobState, LeaseVerdictKind, UpdateRejection};
use coretex_e2e::api::{Api, spec, times};
use coretex_e2e::faults::{Proxy, Way};
use coretex_e2e::frames::{self, LANE, SHORT_TTL};
use coretex_e2e::worker::{Answer, Worker};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn c02_a_two_second_drop_re_executes_nothing() {
    scenario(both(), async |server, api| {
        let proxy = Proxy::before(server.addr()).await;
        let hello = frames::hello("c02", &["job.c02"], 500, Duration::from_secs(10));
        let mut worker = Worker::join(&Api::to(&proxy.url()), hello).await;
        worker.credit(LANE, 500);
        let jobs = api.submit_many(&spec("job.c02"), 500).await;
        let assigned = worker.assignments(500).await;
        worker.start(&assigned).await;
        proxy.close();
        proxy.cut();
        tokio::time::sleep(Duration::from_secs(2)).await;
        proxy.open();
        let begin = Instant::now();
        let resumed = worker.resume(&Api::to(&proxy.url())).await;
        crate::EVIDENCE.max("resume_500_ms_max", begin.elapsed().as_millis() as u64);
        let unkept: Vec<_> =
            resumed.verdicts.iter().filter(|v| v.verdict() != LeaseVerdictKind::Keep).collect();
        assert!(unkept.is_empty(), "{unkept:?}");
        assert!(resumed.unknown_to_worker.is_empty(), "{:?}", resumed.unknown_to_worker);
        assert_eq!(resumed.epoch, 2);
        worker.finish(&assigned).await;
        ended_well(api, &jobs, 1).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c03_a_drop_beyond_the_ttl_costs_each_job_exactly_one_attempt() {
    scenario(both(), async |server, api| {
        let proxy = Proxy::before(server.addr()).await;
        let hello = frames::hello("c03", &["job.c03"], 20, SHORT_TTL);
        let mut worker = Worker::join(&Api::to(&proxy.url()), hello).await;
        worker.credit(LANE, 20);
        let jobs = api.submit_many(&impatient("job.c03"), 20).await;
        let old = worker.assignments(20).await;
        worker.start(&old).await;
        proxy.close();
        proxy.cut();
        tokio::time::sleep(SHORT_TTL * 5 / 2).await;
        proxy.open();
        let Ok(Answer::Welcome(welcome)) = worker.try_resume(&Api::to(&proxy.url())).await else {
            panic!("the session should be gone");
        };
        let lost = welcome.verdicts.iter().filter(|v| v.verdict() == LeaseVerdictKind::Lost).count();
        assert_eq!(lost, 20, "{:?}", welcome.verdicts);
        worker.credit(LANE, 20);
        let new = worker.assignments(20).await;
        assert!(new.iter().all(|a| a.attempt == 2), "{new:?}");
        let updates = old.iter().map(|a| frames::by_token(frames::succeeded(0), &a.lease_token)).collect();
        let late = pb::ReportJobsRequest { session_id: String::new(), updates };
        let reply = api.workers().report_jobs(late).await.expect("late reports are answered").into_inner();
        assert_eq!(reply.rejected.len(), 20);
        assert!(reply.rejected.iter().all(|r| r.code() == UpdateRejection::StaleLease), "{reply:?}");
        worker.finish(&new).await;
        ended_well(api, &jobs, 2).await;
        for id in &jobs {
            let job = api.job(id).await;
            assert_eq!((job.attempts, job.lost), (2, 1), "{id}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c04_a_lost_assign_is_offered_again_and_costs_nothing() {
    scenario(both(), async |server, api| {
        let proxy = Proxy::before(server.addr()).await;
        let hello = frames::hello("c04", &["job.c04"], 10, Duration::from_secs(10));
        let mut worker = Worker::join(&Api::to(&proxy.url()), hello).await;
        worker.credit(LANE, 10);
        tokio::time::sleep(Duration::from_millis(100)).await;
        proxy.hold(Way::ToClient);
        let jobs = api.submit_many(&spec("job.c04"), 10).await;
        for id in &jobs {
            api.reaches(id, JobState::Dispatched, LONG).await;
        }
        proxy.cut();
        let resumed = worker.resume(&Api::to(&proxy.url())).await;
        assert_eq!(resumed.unknown_to_worker.len(), 10, "{resumed:?}");
        let assigned = worker.assignments(10).await;
        assert!(assigned.iter().all(|a| a.attempt == 1), "{assigned:?}");
        worker.finish(&assigned).await;
        ended_well(api, &jobs, 1).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c04_an_offer_nobody_accepts_goes_back_after_its_ttl() {
    scenario(both(), async |_, api| {
        let hello = frames::hello("c04-silent", &["job.c04"], 2, Duration::from_secs(20));
        let mut worker = Worker::join(api, hello).await;
        worker.credit(LANE, 1);
        let jobs = vec![api.submit(spec("job.c04")).await];
        let begin = Instant::now();
        let old = worker.assignments(1).await;
        worker.credit(LANE, 1);
        let new = worker.assignments(1).await;
        let waited = begin.elapsed();
        assert!(waited >= Duration::from_millis(4_900), "taken back after {waited:?}, before its time");
        assert_eq!((new[0].attempt, new[0].delivery_count), (1, 2));
        worker.report(vec![frames::succeeded(old[0].lease_id)]);
        let rejected = worker.settled().await;
        assert_eq!(
            rejected.iter().map(pb::RejectedUpdate::code).collect::<Vec<_>>(),
            [UpdateRejection::StaleLease]
        );
        worker.finish(&new).await;
        ended_well(api, &jobs, 1).await;
        assert_eq!(times(&api.history(&jobs[0]).await, JobEventType::Returned), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c05_a_lost_report_ack_makes_the_resend_harmless() {
    scenario(both(), async |server, api| {
        let proxy = Proxy::before(server.addr()).await;
        let hello = frames::hello("c05", &["job.c05"], 5, Duration::from_secs(10));
        let mut worker = Worker::join(&Api::to(&proxy.url()), hello).await;
        worker.credit(LANE, 5);
        let jobs = api.submit_many(&spec("job.c05"), 5).await;
        let assigned = worker.assignments(5).await;
        worker.start(&assigned).await;
        proxy.hold(Way::ToClient);
        worker.report(assigned.iter().map(|a| frames::succeeded_with(a.lease_id, b"42")).collect());
        for id in &jobs {
            api.reaches(id, JobState::Succeeded, LONG).await;
        }
        proxy.cut();
        let resumed = worker.resume(&Api::to(&proxy.url())).await;
        assert_eq!(resumed.last_report_seq_durable, 2, "{resumed:?}");
        let revisions: Vec<u64> = revisions(api, &jobs).await;
        // A worker that did not trust the answer would send everything again: under the old number …
        let again: Vec<_> = assigned.iter().map(|a| frames::succeeded_with(a.lease_id, b"42")).collect();
        worker.stream.send_numbered(
            2,
            coretex_contract::v1::connect_request::Frame::Report(pb::Report { updates: again.clone() }),
        );
        let acked = worker.until("a ReportAck", |frame| match frame {
            In::ReportAck(ack) => Some(ack.clone()),
            _ => None,
        });
        assert!(acked.await.rejected.is_empty());
        // … and by token, outside of the stream.
        let by_token = assigned.iter().zip(again).map(|(a, u)| frames::by_token(u, &a.lease_token)).collect();
        let unary = pb::ReportJobsRequest { session_id: String::new(), updates: by_token };
        let reply = api.workers().report_jobs(unary).await.expect("repeats are answered").into_inner();
        assert!(reply.rejected.is_empty(), "{reply:?}");
        ended_well(api, &jobs, 1).await;
        assert_eq!(revisions, self::revisions(api, &jobs).await, "a repeat changed a job");
    })
    .await;
}

async fn revisions(api: &Api, jobs: &[String]) -> Vec<u64> {
    let mut all = Vec::new();
    for id in jobs {
        all.push(api.job(id).await.revision);
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn c05_reports_lost_on_their_way_are_sent_again_and_count() {
    scenario(both(), async |server, api| {
        let proxy = Proxy::before(server.addr()).await;
        let hello = frames::hello("c05-lost", &["job.c05"], 5, Duration::from_secs(10));
        let mut worker = Worker::join(&Api::to(&proxy.url()), hello).await;
        worker.credit(LANE, 5);
        let jobs = api.submit_many(&spec("job.c05"), 5).await;
        let assigned = worker.assignments(5).await;
        worker.start(&assigned).await;
        proxy.hold(Way::ToServer);
        worker.report(assigned.iter().map(|a| frames::succeeded(a.lease_id)).collect());
        tokio::time::sleep(Duration::from_millis(200)).await;
        proxy.cut();
        let resumed = worker.resume(&Api::to(&proxy.url())).await;
        assert_eq!(resumed.last_report_seq_durable, 1, "{resumed:?}");
        assert_eq!(api.state(&jobs[0]).await, JobState::Running);
        worker.resend_reports();
        let rejected = worker.settled().await;
        assert!(rejected.is_empty(), "{rejected:?}");
        ended_well(api, &jobs, 1).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn differences_are_settled_on_the_same_stream() {
    scenario(both(), async |_, api| {
        let hello = frames::hello("sync", &["job.sync"], 4, Duration::from_secs(20));
        let mut worker = Worker::join(api, hello).await;
        worker.credit(LANE, 4);
        let jobs = api.submit_many(&impatient("job.sync"), 4).await;
        let assigned = worker.assignments(4).await;
        worker.start(&assigned).await;
        // The worker forgets two of its leases, as a defect would make it.
        let kept = &assigned[..2];
        let forgotten: BTreeSet<u64> = assigned[2..].iter().map(|a| a.lease_id).collect();
        worker.forget(&forgotten.iter().copied().collect::<Vec<_>>());
        worker.until("a SyncRequest", |frame| matches!(frame, In::SyncRequest(_)).then_some(())).await;
        let held = worker.resume_frame().held;
        let heartbeat = worker.heartbeat();
        worker.stream.send(coretex_contract::v1::connect_request::Frame::Sync(pb::Sync {
            leases: held,
            last_assign_no: heartbeat.last_assign_no,
            last_report_seq: heartbeat.last_report_seq,
        }));
        let resumed = worker
            .until("Resumed", |frame| match frame {
                In::Resumed(resumed) => Some(resumed.clone()),
                _ => None,
            })
            .await;
        assert_eq!(resumed.unknown_to_worker.iter().copied().collect::<BTreeSet<_>>(), forgotten);
        worker.credit(LANE, 2);
        let again = worker.assignments(2).await;
        worker.finish(kept).await;
        worker.finish(&again).await;
        for id in &jobs {
            assert_eq!(api.ended(id, LONG).await.state(), JobState::Succeeded);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_open_stream_is_found_by_its_silence_and_not_before() {
    scenario(both(), async |server, api| {
        let proxy = Proxy::before(server.addr()).await;
        let hello = frames::hello("half", &["job.half"], 1, SHORT_TTL);
        let mut worker = Worker::join(&Api::to(&proxy.url()), hello).await;
        worker.credit(LANE, 1);
        let jobs = vec![api.submit(impatient("job.half")).await];
        let old = worker.assignments(1).await;
        worker.start(&old).await;
        let mut other = Worker::join(api, frames::hello("whole", &["job.half"], 1, SHORT_TTL)).await;
        other.credit(LANE, 1);
        // Nothing the worker sends arrives any more, and nobody closes anything.
        proxy.hold(Way::ToServer);
        let begin = Instant::now();
        let new = other.assignments(1).await;
        let waited = begin.elapsed();
        assert!(waited >= SHORT_TTL * 7 / 10, "taken after {waited:?} of silence");
        proxy.release(Way::ToServer);
        worker.report(vec![frames::succeeded(old[0].lease_id)]);
        other.finish(&new).await;
        ended_well(api, &jobs, 2).await;
        assert_eq!(api.job(&jobs[0]).await.worker_id, "whole");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_closed_stream_keeps_its_leases_for_the_next_one() {
    scenario(both(), async |server, api| {
        let proxy = Proxy::before(server.addr()).await;
        let hello = frames::hello("closed", &["job.closed"], 3, Duration::from_secs(10));
        let mut worker = Worker::join(&Api::to(&proxy.url()), hello).await;
        worker.credit(LANE, 3);
        let jobs = api.submit_many(&spec("job.closed"), 3).await;
        let assigned = worker.assignments(3).await;
        worker.start(&assigned).await;
        proxy.half_close(Way::ToServer);
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert_eq!(api.state(&jobs[0]).await, JobState::Running);
        proxy.cut();
        let resumed = worker.resume(&Api::to(&proxy.url())).await;
        assert!(resumed.verdicts.iter().all(|v| v.verdict() == LeaseVerdictKind::Keep), "{resumed:?}");
        worker.finish(&assigned).await;
        ended_well(api, &jobs, 1).await;
    })
    .await;
}
