//! Processes that end: C1 a worker, C7 the node, C8 a node that leaves politely, C15 a job that kills its workers.

use crate::{LONG, both, ended_well, file_with_loops, impatient, scenario};
use coretex_contract::v1 as pb;
use coretex_contract::v1::connect_response::Frame as In;
use coretex_contract::v1::{GoAwayReason, JobEventType, JobState};
use coretex_e2e::api::{Api, endings, spec, times};
use coretex_e2e::faults::{Proxy, Way};
use coretex_e2e::frames::{self, LANE};
use coretex_e2e::process::{Server, Setup};
use coretex_e2e::steady::{Outcome, Plan, Steady};
use coretex_e2e::worker::Worker;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

const TTL: Duration = Duration::from_secs(20);

/// A worker process of one slot with a session of one second.
fn worker_process(server: &Server, worker_id: &str, topic: &str, delay: Duration) -> Child {
    Command::new(env!("CARGO_BIN_EXE_coretex-e2e-worker"))
        .args([&server.url(), worker_id, topic, "1", "1000", &delay.as_millis().to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the worker starts")
}

#[tokio::test(flavor = "multi_thread")]
async fn c01_a_killed_worker_costs_its_job_one_attempt() {
    scenario(both(), async |server, api| {
        let mut victim = worker_process(server, "c01-victim", "job.c01", Duration::from_secs(600));
        let id = api.submit(impatient("job.c01")).await;
        api.reaches(&id, JobState::Running, LONG).await;
        victim.kill().expect("it can be killed");
        let begin = Instant::now();
        victim.wait().expect("it has ended");
        let heir = Steady::echo(&server.url(), frames::hello("c01-heir", &["job.c01"], 1, TTL));
        ended_well(api, std::slice::from_ref(&id), 2).await;
        let waited = begin.elapsed();
        assert!(
            waited >= Duration::from_millis(600),
            "the lease ended {waited:?} after the kill, before its TTL"
        );
        let job = api.job(&id).await;
        assert_eq!((job.attempts, job.lost, job.worker_id.as_str()), (2, 1, "c01-heir"));
        assert_eq!(times(&api.history(&id).await, JobEventType::WorkerLost), 1);
        heir.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c07_a_node_that_dies_between_commit_and_ack_has_kept_both_submit_and_result() {
    scenario(vec![Setup::file(), file_with_loops()], async |server, api| {
        let proxy = Proxy::before(server.addr()).await;
        let mut worker =
            Worker::join(&Api::to(&proxy.url()), frames::hello("c07", &["job.c07"], 1, TTL)).await;
        worker.credit(LANE, 1);
        let request = pb::SubmitJobRequest { spec: Some(spec("job.c07")), request_id: "c07-request".into() };
        let id = committed_but_unanswered(server, api, request.clone()).await;
        let assigned = worker.assignments(1).await;
        worker.start(&assigned).await;
        proxy.hold(Way::ToClient);
        worker.report(vec![frames::succeeded_with(assigned[0].lease_id, b"kept")]);
        api.reaches(&id, JobState::Succeeded, LONG).await;
        server.kill();
        proxy.cut();
        server.restart().await;
        let again = api.jobs().submit_job(request).await.expect("the repeat is taken").into_inner();
        assert!(again.existing, "{again:?}");
        assert_eq!(again.job.expect("a job").job_id, id);
        assert_eq!(api.count("topic = job.c07").await, 1);
        worker.resume(&Api::to(&proxy.url())).await;
        worker.resend_reports();
        let rejected = worker.settled().await;
        assert!(rejected.is_empty(), "the repeat of a kept result was refused: {rejected:?}");
        ended_well(api, std::slice::from_ref(&id), 1).await;
        let result = api.job(&id).await.result.expect("a result").body;
        assert_eq!(result, Some(pb::payload::Body::Data(b"kept".as_slice().into())));
    })
    .await;
}

/// Submits over a way whose answers are lost; the id of the job that was made all the same.
async fn committed_but_unanswered(server: &Server, api: &Api, request: pb::SubmitJobRequest) -> String {
    let proxy = Proxy::before(server.addr()).await;
    let deaf = Api::to(&proxy.url());
    let _ = deaf.admin().get_server_info(pb::GetServerInfoRequest {}).await.expect("the way is open");
    proxy.hold(Way::ToClient);
    let submit = tokio::spawn(async move { deaf.jobs().submit_job(request).await });
    let until = Instant::now() + LONG;
    let id = loop {
        let list = pb::ListJobsRequest { filter: "topic = job.c07".into(), ..Default::default() };
        let page = api.jobs().list_jobs(list).await.expect("jobs can be listed").into_inner();
        match page.jobs.first() {
            Some(job) => break job.job_id.clone(),
            None => assert!(Instant::now() < until, "the submit never arrived"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    proxy.cut();
    submit.await.expect("the call ends").expect_err("its answer was lost");
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn c08_a_node_that_leaves_under_load_says_so_and_nothing_runs_twice() {
    /// Two seconds of work, so that it is left in the middle however slowly the machine gets to it.
    const JOBS: usize = 800;
    let graceful = |setup: Setup| setup.env("CORETEX_ENGINE_DRAIN_GRACE", "10s");
    scenario(vec![graceful(Setup::file()), graceful(file_with_loops())], async |server, api| {
        let jobs = api.submit_many(&spec("job.c08"), JOBS).await;
        let mut watcher = Worker::join(api, frames::hello("c08-watcher", &["job.none"], 1, TTL)).await;
        let hello = frames::hello("c08", &["job.c08"], 20, TTL);
        let slow = Arc::new(|_: &pb::Assignment| Plan::after(Duration::from_millis(50), Outcome::Echo));
        let worker = Steady::start(&server.url(), hello, slow);
        while worker.ledger().succeeded == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let leaving = async {
            let told = watcher.until("GoAway", |frame| match frame {
                In::GoAway(away) => Some(away.clone()),
                _ => None,
            });
            let away = told.await;
            watcher.silence();
            watcher.stream.half_close();
            away
        };
        let (status, away) = tokio::join!(server.stop(LONG), leaving);
        assert!(status.success(), "it ended with {status}");
        let before = worker.ledger().succeeded;
        assert!(before < JOBS as u64, "a node that leaves went on to hand out work");
        assert_eq!(away.reason(), GoAwayReason::NodeDraining);
        assert!(away.keep_existing_leases, "{away:?}");
        let checked = server.fsck();
        assert!(checked.status.success(), "{checked:?}");
        server.restart().await;
        ended_well(api, &jobs, 1).await;
        let ledger = worker.stop().await;
        assert_eq!((ledger.fenced, ledger.lost, ledger.overrun), (0, 0, 0), "{ledger:?}");
        assert!(ledger.starts.values().all(|n| *n == 1), "a job was begun twice");
        assert_eq!(ledger.sessions, 1, "the session was not taken up again");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c15_a_job_that_kills_its_workers_is_given_up_after_three() {
    scenario(both(), async |server, api| {
        let payload = Some(pb::Payload::data("text/plain", b"poison".as_slice()));
        let id = api.submit(pb::JobSpec { payload, ..impatient("job.c15") }).await;
        let mut deaths = 0;
        let until = Instant::now() + Duration::from_secs(60);
        while !api.state(&id).await.is_terminal() {
            let mut worker =
                worker_process(server, &format!("c15-{deaths}"), "job.c15", Duration::from_secs(600));
            while worker.try_wait().expect("it can be asked").is_none() && !api.state(&id).await.is_terminal()
            {
                assert!(Instant::now() < until, "the job is {:?}", api.state(&id).await);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            if worker.try_wait().expect("it can be asked").is_some() {
                deaths += 1;
            }
            let _ = worker.kill();
            let _ = worker.wait();
        }
        let job = api.job(&id).await;
        assert_eq!(job.state(), JobState::Failed);
        assert_eq!(job.failure.map(|f| f.r#type).as_deref(), Some("WORKER_LOST"));
        assert_eq!((job.lost, deaths), (3, 3));
        assert_eq!(endings(&api.history(&id).await), 1);
        // What comes after it is served as ever.
        let healthy = Steady::echo(&server.url(), frames::hello("c15-healthy", &["job.c15"], 1, TTL));
        let next = api.submit(spec("job.c15")).await;
        ended_well(api, &[next], 1).await;
        healthy.stop().await;
    })
    .await;
}
