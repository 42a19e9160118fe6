//! Servers started by the kit do what servers do.

use coretex_sdk::{Ctx, HandlerError, JobRequest, JobState, Payload, Worker};
use coretex_testkit::TestServer;
use std::time::Duration;

async fn echo(_: Ctx, input: Payload) -> Result<Payload, HandlerError> {
    Ok(input)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_month_passes_in_no_time() {
    let server = TestServer::start().await.expect("server");
    let client = server.client().await.expect("client");
    let month = Duration::from_secs(30 * 86_400);
    let request = JobRequest::new("job.late").run_in(month);
    let job = client.submit(request).await.expect("submit");
    let worker = Worker::builder(&client).bind_fn("job.late", echo).build().expect("worker");
    let (leave, left) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(worker.run_until(async {
        let _ = left.await;
    }));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(client.get(job.job_id()).await.expect("job").state, JobState::Scheduled);
    server.advance(month + Duration::from_secs(60)).await;
    let ended = client.wait_for(job.job_id(), Duration::from_secs(30));
    let ended = tokio::time::timeout(Duration::from_secs(60), ended).await.expect("in time").expect("job");
    assert_eq!(ended.state, JobState::Succeeded);
    leave.send(()).expect("the worker runs");
    running.await.expect("no panic").expect("report");
    assert!(server.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_live_in_one_process() {
    let (a, b) = (TestServer::start().await.expect("a"), TestServer::start().await.expect("b"));
    let (to_a, to_b) = (a.client().await.expect("client"), b.client().await.expect("client"));
    let job = to_a.submit(JobRequest::new("job.only.a")).await.expect("submit");
    assert_eq!(to_a.get(job.job_id()).await.expect("job").state, JobState::Scheduled);
    let missing = to_b.get(job.job_id()).await.expect_err("another server");
    assert_eq!(missing.reason(), "JOB_NOT_FOUND");
    assert!(a.stop().await);
    assert!(b.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_outlives_its_server() {
    let directory = tempfile::tempdir().expect("temp dir");
    let server = TestServer::builder()
        .directory(directory.path().join("s"))
        .real_clock()
        .start()
        .await
        .expect("server");
    let client = server.client().await.expect("client");
    let id = client.submit(JobRequest::new("job.kept")).await.expect("submit").job_id().to_owned();
    assert!(server.stop().await);
    let again = TestServer::builder()
        .directory(directory.path().join("s"))
        .real_clock()
        .start()
        .await
        .expect("again");
    let client = again.client().await.expect("client");
    assert_eq!(client.get(&id).await.expect("job").state, JobState::Scheduled);
    assert!(again.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_works_in_a_namespace_while_it_has_work_for_it() {
    let server = TestServer::start().await.expect("server");
    let client = server.client().await.expect("client");
    let workers = || server.engine().all_workers().len();
    for _ in 0..2 {
        assert_eq!(workers(), 0);
        let job = client.submit(JobRequest::new("sys.step.set")).await.expect("submit");
        assert_eq!(client.wait(job.job_id()).await.expect("job").state, JobState::Succeeded);
        assert_eq!(workers(), 1);
        let until = std::time::Instant::now() + Duration::from_secs(30);
        while workers() > 0 {
            assert!(std::time::Instant::now() < until, "it stays");
            server.advance(Duration::from_secs(61)).await;
        }
    }
    assert!(server.stop().await);
}
