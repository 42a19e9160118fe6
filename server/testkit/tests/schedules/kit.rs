//! A server whose day begins at a time of the test's choice, and short words for what is asked of it.

use coretex_domain::Time;
use coretex_sdk::raw::v1 as pb;
use coretex_sdk::{Client, Job, JobRequest, ListRequest, ScheduleFire, ScheduleFireOutcome, ScheduleSpec};
use coretex_testkit::{Builder, TestClock, TestServer};
use futures::{StreamExt as _, TryStreamExt as _};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);

/// Milliseconds since 1970.
pub(crate) fn ms(text: &str) -> u64 {
    let stamp: jiff::Timestamp = text.parse().expect(text);
    u64::try_from(stamp.as_millisecond()).expect("after 1970")
}

pub(crate) fn at(text: &str) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(ms(text))
}

pub(crate) fn clock(start: &str) -> Arc<TestClock> {
    Arc::new(TestClock::starting_at(Time(ms(start))))
}

pub(crate) async fn server_at(start: &str) -> (TestServer, Client) {
    started(TestServer::builder().clock(clock(start))).await
}

pub(crate) async fn started(builder: Builder) -> (TestServer, Client) {
    let server = builder.start().await.expect("server");
    let client = server.client().await.expect("client");
    (server, client)
}

pub(crate) fn job() -> JobRequest {
    JobRequest::new("job.report")
}

/// Waits until it holds, and says what it waited for where it never does.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    for _ in 0..1_000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

/// All fires of a schedule, oldest first.
pub(crate) async fn fires(client: &Client, id: &str) -> Vec<ScheduleFire> {
    let request = ListRequest::all().order_by("nominal_time asc").page_size(7);
    client.list_all_schedule_fires(id, request).try_collect().await.expect("fires")
}

/// Waits for so many fires.
pub(crate) async fn fires_of(client: &Client, id: &str, count: usize) -> Vec<ScheduleFire> {
    until(&format!("{count} fires of {id}"), || async { fires(client, id).await.len() >= count }).await;
    let found = fires(client, id).await;
    assert_eq!(found.len(), count, "{found:#?}");
    found
}

/// Nominal time, and what came of it.
pub(crate) fn told(fires: &[ScheduleFire]) -> Vec<(String, ScheduleFireOutcome)> {
    let nominal = |fire: &ScheduleFire| {
        let time = fire.nominal_time.expect("a time");
        jiff::Timestamp::try_from(time).expect("in range").strftime("%d %H:%M").to_string()
    };
    fires.iter().map(|fire| (nominal(fire), fire.outcome)).collect()
}

pub(crate) async fn jobs(client: &Client) -> Vec<Job> {
    let all = client.list_all(ListRequest::all().order_by("create_time asc"));
    all.map(|job| job.expect("a job")).collect().await
}

pub(crate) async fn apply(client: &Client, id: &str, spec: ScheduleSpec) {
    let applied = client.apply_schedule(id, spec, 0).await.expect("applied");
    assert_eq!(applied.schedule.schedule_id, id);
}

/// Hands out one job of the topic and ends it.
pub(crate) async fn finish_one(client: &Client) -> String {
    let poll = pb::PollJobsRequest {
        worker_id: "w1".into(),
        topics: vec!["job.report".into()],
        max_jobs: 1,
        ..Default::default()
    };
    let (mut workers, limit) = (client.raw().workers(), Duration::from_secs(60));
    let polled = tokio::time::timeout(limit, workers.poll_jobs(poll)).await.expect("in time");
    let polled = polled.expect("polled").into_inner();
    let [assignment] = polled.assignments.as_slice() else { panic!("no job to finish: {polled:?}") };
    let update = pb::JobUpdate {
        lease_token: assignment.lease_token.clone(),
        kind: pb::JobUpdateKind::Succeeded.into(),
        ..Default::default()
    };
    let report = pb::ReportJobsRequest { session_id: polled.session_id, updates: vec![update] };
    let reported = client.raw().workers().report_jobs(report).await.expect("reported").into_inner();
    assert!(reported.rejected.is_empty(), "{reported:?}");
    assignment.job.as_ref().expect("a job").job_id.clone()
}
