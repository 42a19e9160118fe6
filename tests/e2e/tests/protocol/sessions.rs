//! Sessions: C6 duplicate Hello, C9 silence, C12 many at once, C19 clocks, C21 tokens in the wrong hands.

use crate::{LONG, both, ended_well, heavy_scenario, impatient, scenario};
use coretex_contract::Timestamp;
use coretex_contract::v1 as pb;
use coretex_contract::v1::connect_request::Frame as Out;
use coretex_contract::v1::connect_response::Frame as In;
use coretex_contract::v1::{GoAwayReason, JobEventType, JobState, LeaseVerdictKind};
use coretex_e2e::api::{Api, Refused, spec, times};
use coretex_e2e::faults::Proxy;
use coretex_e2e::frames::{self, LANE, SHORT_TTL};
use coretex_e2e::process::Setup;
use coretex_e2e::worker::Worker;
use std::time::{Duration, Instant, SystemTime};
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn c06_a_second_hello_ends_the_stream_and_leaves_the_session() {
    scenario(both(), async |_, api| {
        let hello = frames::hello("c06", &["job.c06"], 1, Duration::from_secs(10));
        let mut worker = Worker::join(api, hello.clone()).await;
        worker.credit(LANE, 1);
        let jobs = vec![api.submit(spec("job.c06")).await];
        let assigned = worker.assignments(1).await;
        worker.start(&assigned).await;
        worker.stream.send(Out::Hello(hello));
        let refused = Refused::of(&worker.stream.end().await);
        assert_eq!((refused.code, refused.reason.as_str()), (Code::InvalidArgument, "DUPLICATE_HELLO"));
        worker.resume(api).await;
        worker.finish(&assigned).await;
        ended_well(api, &jobs, 1).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c06_the_newer_of_two_workers_of_one_name_gets_the_work() {
    scenario(both(), async |_, api| {
        let hello = frames::hello("c06-twin", &["job.c06"], 4, Duration::from_secs(10));
        let mut older = Worker::join(api, hello.clone()).await;
        older.credit(LANE, 2);
        let first = api.submit(spec("job.c06")).await;
        let held = older.assignments(1).await;
        older.start(&held).await;
        let mut newer = Worker::join(api, hello).await;
        let reason = older
            .until("GoAway", |frame| match frame {
                In::GoAway(away) => Some(away.reason()),
                _ => None,
            })
            .await;
        assert_eq!(reason, GoAwayReason::Replaced);
        newer.credit(LANE, 2);
        let second = api.submit(spec("job.c06")).await;
        let new = newer.assignments(1).await;
        assert_eq!(new[0].job.as_ref().map(|j| j.job_id.as_str()), Some(second.as_str()));
        older.gets_nothing_for(Duration::from_millis(200)).await;
        older.finish(&held).await;
        drop(older);
        newer.finish(&new).await;
        // The end of the older stream does not touch the newer one.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let third = api.submit(spec("job.c06")).await;
        let new = newer.assignments(1).await;
        newer.finish(&new).await;
        ended_well(api, &[first, second, third], 1).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c09_a_handler_may_block_far_beyond_the_ttl_while_heartbeats_go_on() {
    scenario(both(), async |_, api| {
        let mut worker = Worker::join(api, frames::hello("c09", &["job.c09"], 1, SHORT_TTL)).await;
        worker.credit(LANE, 1);
        let jobs = vec![api.submit(spec("job.c09")).await];
        let assigned = worker.assignments(1).await;
        worker.start(&assigned).await;
        // Nothing is read and nothing reported; only the pulse goes on.
        tokio::time::sleep(SHORT_TTL * 6).await;
        worker.finish(&assigned).await;
        ended_well(api, &jobs, 1).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c09_a_worker_that_falls_silent_loses_its_jobs_after_the_ttl_and_not_before() {
    scenario(both(), async |_, api| {
        let mut stuck = Worker::join(api, frames::hello("c09-stuck", &["job.c09"], 1, SHORT_TTL)).await;
        stuck.credit(LANE, 1);
        let jobs = vec![api.submit(impatient("job.c09")).await];
        let old = stuck.assignments(1).await;
        stuck.start(&old).await;
        let mut other = Worker::join(api, frames::hello("c09-other", &["job.c09"], 1, SHORT_TTL)).await;
        other.credit(LANE, 1);
        let silent_since = Instant::now();
        stuck.silence();
        let new = other.assignments(1).await;
        let waited = silent_since.elapsed();
        assert!(waited >= SHORT_TTL * 7 / 10, "taken after {waited:?} of silence");
        assert!(waited <= SHORT_TTL * 10, "taken only after {waited:?} of silence");
        let late = frames::by_token(frames::succeeded(0), &old[0].lease_token);
        let request = pb::ReportJobsRequest { session_id: String::new(), updates: vec![late] };
        let reply = api.workers().report_jobs(request).await.expect("answered").into_inner();
        assert_eq!(reply.rejected.len(), 1, "{reply:?}");
        let reason = stuck
            .until("GoAway", |frame| match frame {
                In::GoAway(away) => Some(away.reason()),
                _ => None,
            })
            .await;
        assert_eq!(reason, GoAwayReason::SessionExpired);
        other.finish(&new).await;
        ended_well(api, &jobs, 2).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c12_a_thousand_workers_come_back_at_once_and_lose_nothing() {
    const WORKERS: usize = 1_000;
    const PER_CONNECTION: usize = 100;
    heavy_scenario(vec![Setup::memory()], async |server, api| {
        let proxy = Proxy::before(server.addr()).await;
        let ways = |n: usize| -> Vec<Api> { (0..n).map(|_| Api::to(&proxy.url())).collect() };
        let first = ways(WORKERS / PER_CONNECTION);
        let joins = (0..WORKERS).map(|n| {
            let mut hello = frames::hello(&format!("c12-{n}"), &["job.c12"], 1, Duration::from_secs(30));
            hello.desired_heartbeat = Some(coretex_e2e::api::proto_duration(Duration::from_secs(2)));
            let api = first[n / PER_CONNECTION].clone();
            async move {
                let mut worker = Worker::join(&api, hello).await;
                worker.credit(LANE, 1);
                worker
            }
        });
        let mut workers = futures::future::join_all(joins).await;
        let jobs = api.submit_many(&spec("job.c12"), WORKERS).await;
        let starts = workers.iter_mut().map(|worker| async {
            let assigned = worker.assignments(1).await;
            worker.start(&assigned).await;
            assigned
        });
        let assigned = futures::future::join_all(starts).await;
        proxy.cut();
        let begin = Instant::now();
        let again = ways(WORKERS / PER_CONNECTION);
        let returns = workers.iter_mut().enumerate().map(|(n, worker)| {
            let api = again[n / PER_CONNECTION].clone();
            async move { worker.resume(&api).await }
        });
        let resumed = futures::future::join_all(returns).await;
        crate::EVIDENCE.max("resume_1000_workers_ms", begin.elapsed().as_millis() as u64);
        let lost: usize = resumed
            .iter()
            .map(|r| r.verdicts.iter().filter(|v| v.verdict() != LeaseVerdictKind::Keep).count())
            .sum();
        assert_eq!(lost, 0, "leases were lost");
        let ends = workers.iter_mut().zip(&assigned).map(|(worker, assigned)| worker.finish(assigned));
        futures::future::join_all(ends).await;
        ended_well(api, &jobs, 1).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c19_clocks_ten_minutes_off_change_nothing() {
    scenario(both(), async |_, api| {
        for (name, skew) in [("behind", -600), ("ahead", 600)] {
            let hello = frames::hello(&format!("c19-{name}"), &["job.c19"], 1, SHORT_TTL);
            let mut worker = Worker::join(api, hello).await;
            worker.silence();
            worker.credit(LANE, 1);
            let job = api.submit(spec("job.c19")).await;
            let assigned = worker.assignments(1).await;
            let lease_id = assigned[0].lease_id;
            let observed_at = Some(by_its_clock(skew));
            worker.report(vec![pb::JobUpdate { observed_at, ..frames::started(lease_id) }]);
            for _ in 0..12 {
                tokio::time::sleep(SHORT_TTL / 4).await;
                let heartbeat = pb::Heartbeat { sent_at: Some(by_its_clock(skew)), ..worker.heartbeat() };
                worker.stream.send(Out::Heartbeat(heartbeat));
            }
            worker.report(vec![pb::JobUpdate { observed_at, ..frames::succeeded(lease_id) }]);
            assert!(worker.settled().await.is_empty());
            ended_well(api, std::slice::from_ref(&job), 1).await;
            let job = api.job(&job).await;
            for time in [job.start_time, job.end_time, job.update_time] {
                let off = (time.expect("a time").seconds - by_its_clock(0).seconds).abs();
                assert!(off < 60, "a time of the record is {off} s off: the worker's clock got in");
            }
        }
    })
    .await;
}

fn by_its_clock(skew: i64) -> Timestamp {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    Timestamp { seconds: i64::try_from(now.as_secs()).expect("before the year 292e9") + skew, nanos: 0 }
}

#[tokio::test(flavor = "multi_thread")]
async fn c21_a_lease_token_is_worth_nothing_elsewhere() {
    scenario(both(), async |_, api| {
        let mut worker =
            Worker::join(api, frames::hello("c21", &["job.c21"], 1, Duration::from_secs(10))).await;
        worker.credit(LANE, 1);
        let jobs = vec![api.submit(spec("job.c21")).await];
        let assigned = worker.assignments(1).await;
        worker.start(&assigned).await;
        let token = assigned[0].lease_token.clone();
        let before = api.job(&jobs[0]).await;
        let mut forged = token.to_vec();
        let last = forged.len() - 1;
        forged[last] ^= 1;
        let other = api.in_namespace("other");
        for (way, token) in [(&other, token.to_vec()), (api, forged)] {
            let update = frames::by_token(frames::succeeded_with(0, b"stolen"), &token);
            let request = pb::ReportJobsRequest { session_id: String::new(), updates: vec![update] };
            let reply = way.workers().report_jobs(request).await.expect("answered").into_inner();
            assert_eq!(reply.rejected.len(), 1, "{reply:?}");
        }
        let hello = pb::Hello {
            namespace: "other".into(),
            ..frames::hello("c21-thief", &["job.c21"], 1, Duration::from_secs(10))
        };
        let mut thief = Worker::join(&other, hello).await;
        thief.report(vec![frames::by_token(frames::succeeded_with(0, b"stolen"), &token)]);
        assert_eq!(thief.settled().await.len(), 1, "the thief's report was applied");
        assert_eq!(api.job(&jobs[0]).await, before, "a foreign report changed the job");
        assert_eq!(other.try_job(&jobs[0]).await.expect_err("not there").code(), Code::NotFound);
        worker.finish(&assigned).await;
        ended_well(api, &jobs, 1).await;
        assert_eq!(times(&api.history(&jobs[0]).await, JobEventType::Annotated), 0);
        assert_eq!(api.ended(&jobs[0], LONG).await.state(), JobState::Succeeded);
    })
    .await;
}
