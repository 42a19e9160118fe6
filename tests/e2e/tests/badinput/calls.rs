//! Rows 23, 25, 27, 51, 52: calls about things that are not there, not yours, or not a question.

use crate::{Expected, Target, check, field, refusal};
use coretex_contract::v1 as pb;
use coretex_contract::v1::{JobState, JobUpdateKind, UpdateRejection};
use coretex_e2e::api::{Api, Refused, spec};
use coretex_e2e::frames::{self, LANE};
use coretex_e2e::process::Setup;
use coretex_e2e::worker::Worker;
use std::time::Duration;
use tonic::{Code, Status};

/// Every call that names a job, with this id.
async fn calls_about(api: &Api, job_id: &str) -> Vec<(&'static str, Status)> {
    let id = || job_id.to_owned();
    let mut jobs = api.jobs();
    let wait = pb::WaitJobRequest { job_id: id(), ..Default::default() };
    let output = pb::ReadJobOutputRequest { job_id: id(), ..Default::default() };
    let refused: Vec<(&str, Option<Status>)> = vec![
        ("get", jobs.get_job(pb::GetJobRequest { job_id: id(), ..Default::default() }).await.err()),
        ("wait", jobs.wait_job(wait).await.err()),
        ("cancel", jobs.cancel_job(pb::CancelJobRequest { job_id: id(), ..Default::default() }).await.err()),
        ("retry", jobs.retry_job(pb::RetryJobRequest { job_id: id(), ..Default::default() }).await.err()),
        ("explain", jobs.explain_job(pb::ExplainJobRequest { job_id: id() }).await.err()),
        (
            "history",
            jobs.get_job_history(pb::GetJobHistoryRequest { job_id: id(), ..Default::default() }).await.err(),
        ),
        ("output", jobs.read_job_output(output).await.err()),
    ];
    refused.into_iter().map(|(what, status)| (what, status.unwrap_or_else(|| panic!("{what}: OK")))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn row_23_unknown_foreign_and_malformed_ids() {
    let mut target = Target::start().await;
    let api = target.api.clone();
    let other = api.in_namespace("other");
    let theirs = other.submit(pb::JobSpec { job_id: "theirs".into(), ..spec("job.x") }).await;
    target.mark().await;
    let missing = refusal(Code::NotFound, &["JOB_NOT_FOUND"]);
    let made = "job_01m7yxyh2gekhrdvnze1hhcs4j";
    for id in ["no-such-job", theirs.as_str(), made] {
        for (what, status) in calls_about(&api, id).await {
            check(23, &format!("{what} {id}"), &status, missing);
        }
    }
    for id in ["", "a b", "../x", "job_short", "job_IIIIIIIIIIIIIIIIIIIIIIIIII", "x\0", &"x".repeat(5_000)] {
        for (what, status) in calls_about(&api, id).await {
            check(23, &format!("{what} {:?}", id.get(..40).unwrap_or(id)), &status, field("job_id"));
        }
    }
    // One cannot tell a foreign job from one that never was.
    let third = api.in_namespace("third");
    for ((what, foreign), (_, never)) in
        calls_about(&api, &theirs).await.iter().zip(calls_about(&third, &theirs).await)
    {
        let (foreign, never) = (Refused::of(foreign), Refused::of(&never));
        assert_eq!(foreign.message, never.message, "{what} tells them apart");
    }
    assert_eq!(other.state(&theirs).await, JobState::Scheduled);
    target.unharmed(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_25_and_27_reports_with_wrong_tokens_and_wrong_numbers() {
    let mut target = Target::start().await;
    let api = target.api.clone();
    let mut worker = Worker::join(&api, frames::hello("w", &["job.r"], 3, Duration::from_secs(20))).await;
    worker.credit(LANE, 2);
    let id = api.submit(spec("job.r")).await;
    let ended = api.submit(spec("job.r")).await;
    let assigned = worker.assignments(2).await;
    worker.start(&assigned).await;
    let of = |id: &str| {
        let found = assigned.iter().find(|a| a.job.as_ref().is_some_and(|job| job.job_id == *id));
        found.expect("both were assigned").clone()
    };
    let (open, closed) = (of(&id), of(&ended));
    worker.finish(std::slice::from_ref(&closed)).await;
    target.mark().await;
    let before = api.job(&id).await;
    let token = open.lease_token.to_vec();
    let with = |update: pb::JobUpdate, token: &[u8]| frames::by_token(update, token);
    let progress = |fraction: f64| pb::JobUpdate {
        progress: Some(pb::Progress { fraction: Some(fraction), ..Default::default() }),
        ..frames::update(0, JobUpdateKind::Progress)
    };
    let failed = frames::failed(0, "Boom");
    let rows: Vec<(u32, &str, pb::JobUpdate)> = vec![
        (25, "the token of a closed lease, another result", with(failed.clone(), &closed.lease_token)),
        (25, "garbage", with(frames::succeeded(0), b"garbage")),
        (25, "half a token", with(frames::succeeded(0), &token[..token.len() / 2])),
        (25, "a long token", with(frames::succeeded(0), &vec![7; 10_000])),
        (25, "an unknown kind", with(frames::update(0, JobUpdateKind::Unspecified), &token)),
        (25, "a kind of the future", pb::JobUpdate { kind: 99, ..with(frames::succeeded(0), &token) }),
        (27, "progress on a closed lease", with(progress(0.5), &closed.lease_token)),
        (27, "150 %", with(progress(1.5), &token)),
        (27, "-1", with(progress(-1.0), &token)),
        (27, "NaN", with(progress(f64::NAN), &token)),
    ];
    for (row, what, update) in rows {
        let request = pb::ReportJobsRequest { session_id: String::new(), updates: vec![update] };
        match api.workers().report_jobs(request).await {
            Ok(reply) => {
                let rejected = reply.into_inner().rejected;
                assert_eq!(rejected.len(), 1, "row {row}, {what}: applied");
                let codes = [UpdateRejection::StaleLease, UpdateRejection::Invalid];
                assert!(codes.contains(&rejected[0].code()), "row {row}, {what}: {rejected:?}");
                crate::EVIDENCE.add("cases", 1);
            }
            Err(status) => check(row, what, &status, refusal(Code::InvalidArgument, &[])),
        }
        assert_eq!(api.job(&id).await, before, "row {row}, {what}: the job changed");
    }
    let empty = with(frames::succeeded(0), b"");
    let request = pb::ReportJobsRequest { session_id: String::new(), updates: vec![empty] };
    match api.workers().report_jobs(request).await {
        Err(status) => check(25, "no token", &status, refusal(Code::InvalidArgument, &[])),
        Ok(reply) => assert_eq!(reply.into_inner().rejected.len(), 1, "row 25, no token: applied"),
    }
    target.unharmed(2).await;
    worker.finish(std::slice::from_ref(&open)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_51_watches_from_nowhere_and_too_many() {
    let mut target = Target::with(Setup::memory().env("CORETEX_LIMITS_WATCHES_MAX", 4)).await;
    target.mark().await;
    let api = target.api.clone();
    let bad = refusal(Code::InvalidArgument, &["INVALID_RESUME_TOKEN"]);
    for (what, token) in [
        ("garbage", "garbage".to_owned()),
        ("base64 of nothing", "AAAA".to_owned()),
        ("a long one", "A".repeat(100_000 / 2)),
        ("bytes of a path", "../../etc/passwd".to_owned()),
    ] {
        let jobs = pb::WatchJobsRequest { resume_token: token.clone(), ..Default::default() };
        check(51, what, &api.jobs().watch_jobs(jobs).await.expect_err("refused"), bad);
        let events = pb::WatchEventsRequest { resume_token: token, ..Default::default() };
        check(51, what, &api.events().watch_events(events).await.expect_err("refused"), bad);
    }
    let mut open = Vec::new();
    for _ in 0..4 {
        let request = pb::WatchJobsRequest::default();
        open.push(api.jobs().watch_jobs(request).await.expect("four watches are allowed"));
    }
    let fifth =
        api.jobs().watch_jobs(pb::WatchJobsRequest::default()).await.expect_err("the fifth is refused");
    check(51, "one watch too many", &fifth, refusal(Code::ResourceExhausted, &["TOO_MANY_WATCHES"]));
    drop(open);
    tokio::time::sleep(Duration::from_millis(300)).await;
    api.jobs().watch_jobs(pb::WatchJobsRequest::default()).await.expect("there is room again");
    target.unharmed(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_52_searches_are_literal() {
    let mut target = Target::start().await;
    let api = target.api.clone();
    let hostile = ["%' OR 1=1 --", "\"; FLUSHALL", "*", "\u{202e}evil", "a\\b", "%", "_"];
    for value in hostile {
        let labels = [("who".to_owned(), value.to_owned())].into_iter().collect();
        api.submit(pb::JobSpec { labels, ..spec("job.search") }).await;
    }
    target.mark().await;
    for value in hostile {
        let quoted = serde_json::to_string(value).expect("text");
        assert_eq!(
            api.count(&format!("labels.who = {quoted}")).await,
            1,
            "{value:?} does not match itself only"
        );
    }
    let bad = Expected { code: Code::InvalidArgument, reasons: &["INVALID_FILTER"], names: "" };
    let long = format!("topic = \"{}\"", "x".repeat(10_000));
    for filter in [
        "%' OR 1=1 --",
        "\"; FLUSHALL",
        "*",
        "state = ",
        "stat = FAILED",
        "state = failed",
        "((((",
        &long,
        "topic ~ x",
    ] {
        let count = pb::CountJobsRequest { filter: filter.to_owned() };
        let what = filter.get(..30).unwrap_or(filter);
        check(52, what, &api.jobs().count_jobs(count).await.expect_err(what), bad);
        let list = pb::ListJobsRequest { filter: filter.to_owned(), ..Default::default() };
        check(52, what, &api.jobs().list_jobs(list).await.expect_err(what), bad);
    }
    let deep = format!("{}state = FAILED{}", "(".repeat(1_500), ")".repeat(1_500));
    let count = pb::CountJobsRequest { filter: deep };
    check(52, "1,500 parentheses", &api.jobs().count_jobs(count).await.expect_err("refused"), bad);
    let page = pb::ListJobsRequest { page_token: "nonsense".into(), ..Default::default() };
    let bad = refusal(Code::InvalidArgument, &["INVALID_PAGE_TOKEN"]);
    check(52, "a page token of nobody", &api.jobs().list_jobs(page).await.expect_err("refused"), bad);
    target.unharmed(1).await;
}
