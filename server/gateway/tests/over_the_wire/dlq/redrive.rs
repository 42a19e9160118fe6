//! Many dead letters at once: previews, canaries, rates, repeats.

use super::{Handler, get, list, once, run_all};
use crate::running_server::Server;
use coretex_contract::v1 as pb;
use pb::{RedrivePhase, RedriveStopReason};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

type Request = pb::BatchRetryDeadLettersRequest;

/// All messages of a redrive.
async fn redrive(server: &Server, request: Request) -> Vec<pb::BatchRetryDeadLettersResponse> {
    let mut told = server.dlq().batch_retry_dead_letters(request).await.expect("a stream").into_inner();
    let mut all = Vec::new();
    loop {
        let next = tokio::time::timeout(Duration::from_secs(30), told.message()).await;
        match next.expect("a message within 30 s").expect("no error") {
            Some(message) => all.push(message),
            None => return all,
        }
    }
}

/// Dead letter → job, as told.
fn results(told: &[pb::BatchRetryDeadLettersResponse]) -> BTreeMap<String, String> {
    let pairs = told.iter().flat_map(|message| &message.results);
    pairs.map(|result| (result.dead_letter_id.clone(), result.job_id.clone())).collect()
}

fn alike(count: usize) -> Vec<pb::JobSpec> {
    (0..count).map(|_| once("job.m")).collect()
}

fn canary() -> Request {
    Request {
        filter: "topic = job.m".into(),
        canary: true,
        request_id: "redrive-1".into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_canary_redrive_after_the_handler_is_mended_ends_with_all_succeeded_and_linked() {
    let server = Server::start().await;
    let handler = Handler::broken(&server, &["job.m"]).await;
    let mut ids = run_all(&server, alike(25)).await;
    handler.mend();
    let preview = redrive(&server, Request { preview: true, ..canary() }).await;
    let [preview] = &preview[..] else { panic!("one message") };
    assert_eq!((preview.phase(), preview.matched, preview.exact), (RedrivePhase::Preview, 25, true));
    assert_eq!(preview.sample.len(), 10);
    assert_eq!(list(&server, "retried_as = \"\"").await.len(), 25, "a preview changes nothing");

    let told = redrive(&server, canary()).await;
    let last = told.last().expect("a message");
    assert_eq!((last.phase(), last.stage), (RedrivePhase::Done, 3));
    assert_eq!((last.retried, last.succeeded, last.failed, last.skipped), (25, 25, 0, 0));
    // A stage begins when the jobs of the one before have ended well.
    let at_start = |stage| told.iter().find(|m| m.stage == stage).expect("the stage was told");
    assert!(at_start(2).succeeded >= 1 && at_start(3).succeeded >= 11, "{told:?}");
    let most = |stage| told.iter().filter(|m| m.stage == stage).map(|m| m.retried).max();
    assert_eq!((most(1), most(2)), (Some(1), Some(11)));

    let results = results(&told);
    ids.sort();
    assert_eq!(results.keys().cloned().collect::<Vec<_>>(), ids);
    for (old, new) in &results {
        let job = server.get(new).await.expect("there");
        assert_eq!((job.state(), job.retry_of.as_str()), (pb::JobState::Succeeded, old.as_str()));
        assert_eq!(get(&server, old).await.expect("kept").retried_as, *new);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_canary_redrive_of_a_broken_handler_stops_after_the_first_stage() {
    let server = Server::start().await;
    let _handler = Handler::broken(&server, &["job.m"]).await;
    run_all(&server, alike(25)).await;
    let told = redrive(&server, canary()).await;
    let last = told.last().expect("a message");
    assert_eq!((last.phase(), last.stage), (RedrivePhase::Stopped, 1));
    assert_eq!((last.retried, last.succeeded, last.failed, last.repeated), (1, 0, 1, 1));
    assert_eq!(last.stop_reason(), RedriveStopReason::CanaryFailed);
    assert_eq!(results(&told).values().collect::<Vec<_>>(), [&last.stop_job_id]);
    // The job that failed again left a dead letter of its own.
    assert_eq!(list(&server, "retried_as = \"\"").await.len(), 25);
    assert_eq!(list(&server, "retry_of != \"\"").await.len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_redrive_stops_when_the_same_failure_returns() {
    let server = Server::start().await;
    let _handler = Handler::broken(&server, &["job.m"]).await;
    run_all(&server, alike(60)).await;
    let request = Request { all: true, rate: 20, stop_on_repeat: true, ..Default::default() };
    let told = redrive(&server, request).await;
    let last = told.last().expect("a message");
    assert_eq!((last.phase(), last.stop_reason()), (RedrivePhase::Stopped, RedriveStopReason::Repeated));
    assert!(last.repeated >= 1 && last.retried < 20, "{last:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_repeat_meets_its_own_jobs_and_another_request_skips_them() {
    let server = Server::start().await;
    let handler = Handler::broken(&server, &["job.m"]).await;
    let ids = run_all(&server, alike(12)).await;
    handler.mend();
    let some = Request {
        dead_letter_ids: ids[..5].iter().chain(&ids[..2]).cloned().collect(),
        request_id: "same".into(),
        ..Default::default()
    };
    let first = redrive(&server, some).await;
    let last = first.last().expect("a message");
    assert_eq!((last.phase(), last.retried, last.existing), (RedrivePhase::Done, 5, 0));
    let all = |request_id: &str| Request { all: true, request_id: request_id.into(), ..Default::default() };
    let again = redrive(&server, all("same")).await;
    let last = again.last().expect("a message");
    assert_eq!((last.retried, last.existing, last.skipped), (12, 5, 0));
    let (first, again) = (results(&first), results(&again));
    assert!(first.iter().all(|(old, new)| again.get(old) == Some(new)), "the same ids");
    let other = redrive(&server, all("other")).await;
    let last = other.last().expect("a message");
    assert_eq!((last.phase(), last.retried, last.skipped), (RedrivePhase::Done, 0, 12));
    let unnamed = redrive(&server, all("")).await;
    assert_eq!(unnamed.last().map(|m| (m.retried, m.skipped)), Some((0, 12)));
    server.stop().await;
}

#[tokio::test]
async fn a_repeat_does_not_retry_what_its_own_jobs_left() {
    let server = Server::start().await;
    let handler = Handler::broken(&server, &["job.m"]).await;
    run_all(&server, alike(3)).await;
    let all = || Request { all: true, request_id: "same".into(), ..Default::default() };
    let first = redrive(&server, all()).await;
    assert_eq!(first.last().map(|m| m.retried), Some(3));
    for job_id in results(&first).into_values() {
        let wait = pb::WaitJobRequest { job_id, ..Default::default() };
        server.jobs().wait_job(wait).await.expect("waited");
    }
    handler.mend();
    let again = redrive(&server, all()).await;
    assert_eq!(again.last().map(|m| (m.retried, m.existing, m.skipped)), Some((3, 3, 3)));
    server.stop().await;
}

#[tokio::test]
async fn a_rate_holds_a_redrive_back() {
    let server = Server::start().await;
    let handler = Handler::broken(&server, &["job.m"]).await;
    run_all(&server, alike(11)).await;
    handler.mend();
    let started = Instant::now();
    let told = redrive(&server, Request { all: true, rate: 20, ..Default::default() }).await;
    assert_eq!(told.last().map(|m| m.retried), Some(11));
    // Two at once, then a tenth of a second each.
    assert!(started.elapsed() >= Duration::from_millis(450), "{:?}", started.elapsed());
    server.stop().await;
}

#[tokio::test]
async fn a_caller_that_goes_away_stops_its_redrive() {
    let server = Server::start().await;
    let handler = Handler::broken(&server, &["job.m"]).await;
    run_all(&server, alike(30)).await;
    handler.mend();
    let request = Request { all: true, rate: 10, ..Default::default() };
    let mut told = server.dlq().batch_retry_dead_letters(request).await.expect("a stream").into_inner();
    assert!(told.message().await.expect("no error").is_some());
    drop(told);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let retried = list(&server, "retried_as != \"\"").await.len();
    assert!(retried > 0 && retried < 30, "{retried}");
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(list(&server, "retried_as != \"\"").await.len(), retried, "nothing more was retried");
    server.stop().await;
}
