//! Jobs from submit to end, over the wire.

use crate::running_server::{Server, Worker, reason, spec, succeeded, update};
use coretex_contract::v1 as pb;
use coretex_contract::{Duration, Value, value};
use tonic::{Code, Request};
use tonic_types::StatusExt;

#[tokio::test]
async fn a_job_runs_and_tells_its_story() {
    let server = Server::start().await;
    let mut worker = Worker::join(&server, &["job.echo"]).await;
    let mut jobs = server.jobs();
    let run = tokio::spawn(async move {
        let request = pb::RunJobRequest {
            spec: Some(spec("job.echo")),
            payload_format: pb::PayloadFormat::Json.into(),
            ..Default::default()
        };
        jobs.run_job(request).await
    });
    let assigned = worker.assigned().await;
    let names = assigned[0].job.as_ref().expect("names");
    assert_eq!((names.topic.as_str(), assigned[0].attempt, assigned[0].max_attempts), ("job.echo", 1, 3));
    let ack =
        worker.report(vec![update(&assigned[0], pb::JobUpdateKind::Started), succeeded(&assigned[0])]).await;
    assert!(ack.rejected.is_empty(), "{ack:?}");
    let job = run.await.expect("no panic").expect("ran").into_inner().job.expect("a job");
    assert_eq!(job.state(), pb::JobState::Succeeded);
    assert!(matches!(job.result.and_then(|r| r.body), Some(pb::payload::Body::Json(_))), "asked for JSON");

    let history = pb::GetJobHistoryRequest { job_id: job.job_id.clone(), page_size: 2, ..Default::default() };
    let first = server.jobs().get_job_history(history.clone()).await.expect("a page").into_inner();
    assert_eq!(first.events[0].r#type(), pb::JobEventType::Submitted);
    assert_eq!(first.events.len(), 2);
    let next = pb::GetJobHistoryRequest { page_token: first.next_page_token, page_size: 100, ..history };
    let rest = server.jobs().get_job_history(next).await.expect("a page").into_inner();
    let last = rest.events.last().expect("events");
    assert_eq!((last.r#type(), last.to_state()), (pb::JobEventType::Succeeded, pb::JobState::Succeeded));
    assert!(rest.next_page_token.is_empty());

    let cancel = pb::CancelJobRequest { job_id: job.job_id.clone(), ..Default::default() };
    let refused = server.jobs().cancel_job(cancel).await.expect_err("ended");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "JOB_TERMINAL"));
    let retried = server
        .jobs()
        .retry_job(pb::RetryJobRequest { job_id: job.job_id.clone(), ..Default::default() })
        .await;
    let retried = retried.expect("a new job").into_inner().job.expect("a job");
    assert_eq!(server.get(&retried.job_id).await.expect("there").retry_of, job.job_id);
    server.stop().await;
}

#[tokio::test]
async fn the_history_says_who_cancelled_a_job_that_nobody_held_and_why() {
    let server = Server::start().await;
    let job_id = server.submit(spec("job.idle")).await.expect("accepted").job.expect("a job").job_id;
    let reason = "not wanted any more";
    let cancel = pb::CancelJobRequest { job_id: job_id.clone(), reason: reason.into(), ..Default::default() };
    server.jobs().cancel_job(cancel).await.expect("cancelled");
    let history = pb::GetJobHistoryRequest { job_id, ..Default::default() };
    let events = server.jobs().get_job_history(history).await.expect("a page").into_inner().events;
    let (first, last) = (events.first().expect("events"), events.last().expect("events"));
    assert_eq!((last.r#type(), &*last.message), (pb::JobEventType::Cancelled, reason));
    assert_eq!(last.actor, first.actor, "the caller who submitted it");
    server.stop().await;
}

#[tokio::test]
async fn every_fault_of_a_spec_comes_back_at_once() {
    let server = Server::start().await;
    let bad = pb::JobSpec { topic: "A b".into(), priority: Some(11), ..Default::default() };
    let status = server.submit(bad).await.expect_err("refused");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "INVALID_FIELD"));
    let details = status.get_error_details();
    let fields: Vec<&str> = details
        .bad_request()
        .expect("violations")
        .field_violations
        .iter()
        .map(|v| v.field.as_str())
        .collect();
    assert_eq!(fields, ["spec.topic", "spec.priority"]);
    assert!(details.request_info().is_some_and(|info| !info.request_id.is_empty()));

    let empty = server.jobs().submit_job(pb::SubmitJobRequest::default()).await.expect_err("refused");
    assert_eq!(empty.code(), Code::InvalidArgument);
    let broken =
        pb::JobSpec { payload: Some(pb::Payload::data("application/json", &b"{\"a\":1,}"[..])), ..spec("a") };
    let status = server.submit(broken).await.expect_err("refused");
    assert_eq!(reason(&status), "INVALID_JSON");
    assert!(status.message().contains("1:8"), "{}", status.message());
    let large = pb::JobSpec { payload: Some(pb::Payload::data("", vec![0; (1 << 20) + 1])), ..spec("a") };
    let status = server.submit(large).await.expect_err("refused");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "PAYLOAD_TOO_LARGE"));
    server.stop().await;
}

#[tokio::test]
async fn keys_and_ids_meet_the_first_job() {
    let server = Server::start().await;
    let keyed = pb::JobSpec { idempotency_key: "order 7".into(), ..spec("a") };
    let first = server.submit(keyed.clone()).await.expect("accepted");
    let again = server.submit(keyed.clone()).await.expect("accepted");
    assert_eq!((first.existing, again.existing), (false, true));
    let id = |r: &pb::SubmitJobResponse| r.job.as_ref().expect("a job").job_id.clone();
    assert_eq!(id(&first), id(&again));
    let other = server.submit(pb::JobSpec { priority: Some(9), ..keyed }).await.expect_err("another body");
    assert_eq!((other.code(), reason(&other).as_str()), (Code::AlreadyExists, "IDEMPOTENCY_CONFLICT"));

    let named = pb::JobSpec { job_id: "order-1".into(), ..spec("a") };
    assert!(!server.submit(named.clone()).await.expect("accepted").existing);
    assert!(server.submit(named.clone()).await.expect("accepted").existing);
    let taken = server.submit(pb::JobSpec { priority: Some(9), ..named }).await.expect_err("another body");
    assert_eq!((taken.code(), reason(&taken).as_str()), (Code::AlreadyExists, "JOB_ID_TAKEN"));

    let request = pb::SubmitJobRequest { spec: Some(spec("a")), request_id: "r-1".into() };
    let one = server.jobs().submit_job(request.clone()).await.expect("accepted").into_inner();
    let two = server.jobs().submit_job(request).await.expect("accepted").into_inner();
    assert_eq!((id(&one), two.existing), (id(&two), true));
    server.stop().await;
}

#[tokio::test]
async fn a_denied_job_is_an_answer() {
    let server = Server::start().await;
    let denied = server.submit(spec("sys.destroy.disk")).await.expect("an answer").job.expect("a job");
    assert_eq!(denied.state(), pb::JobState::Denied);
    let decision = denied.decision.expect("a decision");
    assert_eq!((decision.verdict(), decision.rule_id.as_str()), (pb::Verdict::Deny, "no-destroy"));
    assert!(!decision.decision_id.is_empty());
    let plain = server.submit(spec("job.echo")).await.expect("accepted");
    assert!(plain.job.expect("a job").decision.is_none(), "ALLOW goes without saying");
    server.stop().await;
}

#[tokio::test]
async fn waits_return_the_job_as_it_stands() {
    let server = Server::start().await;
    let id = server.submit(spec("nobody")).await.expect("accepted").job.expect("a job").job_id;
    let wait = |timeout| pb::WaitJobRequest { job_id: id.clone(), timeout, ..Default::default() };
    let at_once = Some(Duration { seconds: 0, nanos: 0 });
    let job =
        server.jobs().wait_job(wait(at_once)).await.expect("an answer").into_inner().job.expect("a job");
    assert_eq!(job.state(), pb::JobState::Scheduled);
    // The caller's own deadline is nearer than the wait: the answer comes before it.
    let mut request = Request::new(wait(Some(Duration { seconds: 60, nanos: 0 })));
    request.set_timeout(std::time::Duration::from_millis(400));
    let job = server.jobs().wait_job(request).await.expect("an answer").into_inner().job.expect("a job");
    assert_eq!(job.state(), pb::JobState::Scheduled);
    let too_long =
        server.jobs().wait_job(wait(Some(Duration { seconds: 601, nanos: 0 }))).await.expect_err("refused");
    assert_eq!(too_long.code(), Code::InvalidArgument);
    let missing = server.get("job_00000000000000000000000000").await.expect_err("missing");
    assert_eq!((missing.code(), reason(&missing).as_str()), (Code::NotFound, "JOB_NOT_FOUND"));
    let malformed = server.get("job_x").await.expect_err("malformed");
    assert_eq!(malformed.code(), Code::InvalidArgument);
    server.stop().await;
}

#[tokio::test]
async fn lists_page_through_every_job_once() {
    let server = Server::start().await;
    for n in 0..25 {
        let labels = [("team".to_owned(), if n % 2 == 0 { "a" } else { "b" }.to_owned())].into();
        server.submit(pb::JobSpec { labels, ..spec("job.list") }).await.expect("accepted");
    }
    let list = pb::ListJobsRequest { filter: "labels.team = a".into(), page_size: 5, ..Default::default() };
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListJobsRequest { page_token: token, ..list.clone() };
        let page = server.jobs().list_jobs(request).await.expect("a page").into_inner();
        assert!(
            page.jobs.iter().all(|j| j.spec.as_ref().is_some_and(|s| s.payload.is_none())),
            "BASIC has no payload"
        );
        seen.extend(page.jobs.into_iter().map(|j| j.job_id));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
        let other = pb::ListJobsRequest {
            filter: "labels.team = b".into(),
            page_token: token.clone(),
            ..list.clone()
        };
        let status = server.jobs().list_jobs(other).await.expect_err("another filter");
        assert_eq!(reason(&status), "INVALID_PAGE_TOKEN");
    }
    assert_eq!(seen.len(), 13);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 13);
    let count = pb::CountJobsRequest { filter: "topic = job.list AND labels.team = b".into() };
    let counted = server.jobs().count_jobs(count).await.expect("a count").into_inner();
    assert_eq!((counted.count, counted.exact), (12, true));
    let bad = pb::ListJobsRequest { filter: "stat = FAILED".into(), ..Default::default() };
    let status = server.jobs().list_jobs(bad).await.expect_err("refused");
    assert_eq!(reason(&status), "INVALID_FILTER");
    assert!(status.message().contains("did you mean `state`"), "{}", status.message());
    let ids = pb::BatchGetJobsRequest { job_ids: vec![seen[0].clone(), "nope".into()], ..Default::default() };
    let got = server.jobs().batch_get_jobs(ids).await.expect("an answer").into_inner();
    assert_eq!((got.jobs.len(), got.missing), (1, vec!["nope".to_owned()]));
    server.stop().await;
}

#[tokio::test]
async fn json_values_become_canonical_bytes() {
    let server = Server::start().await;
    let value = Value { kind: Some(value::Kind::NumberValue(1.0)) };
    let fields = [("b".to_owned(), value.clone()), ("a".to_owned(), value)].into();
    let json = Value { kind: Some(value::Kind::StructValue(coretex_contract::Struct { fields })) };
    let payload = pb::Payload { body: Some(pb::payload::Body::Json(json)), ..Default::default() };
    let id = server.submit(pb::JobSpec { payload: Some(payload), ..spec("a") }).await.expect("accepted");
    let job = server.get(&id.job.expect("a job").job_id).await.expect("there");
    let payload = job.spec.and_then(|s| s.payload).expect("a payload");
    assert_eq!(payload.content_type, "application/json");
    assert_eq!(payload.body, Some(pb::payload::Body::Data(bytes::Bytes::from_static(b"{\"a\":1,\"b\":1}"))));
    server.stop().await;
}

#[tokio::test]
async fn batches_answer_item_by_item() {
    let server = Server::start().await;
    let specs = vec![
        spec("a"),
        spec("A b"),
        pb::JobSpec { schedule_time: Some(Default::default()), ..spec("a") },
        spec("a"),
    ];
    let request = pb::BatchSubmitJobsRequest { specs, ..Default::default() };
    let results = server.jobs().batch_submit_jobs(request).await.expect("an answer").into_inner().results;
    let is_job = |r: &pb::SubmitResult| matches!(r.outcome, Some(pb::submit_result::Outcome::Job(_)));
    assert_eq!(results.iter().map(is_job).collect::<Vec<_>>(), [true, false, false, true]);
    let Some(pb::submit_result::Outcome::Error(error)) = &results[1].outcome else { panic!("an error") };
    assert_eq!((error.code, error.details.is_empty()), (Code::InvalidArgument.into(), false));
    let many = pb::BatchSubmitJobsRequest { specs: vec![spec("a"); 10_001], ..Default::default() };
    let status = server.jobs().batch_submit_jobs(many).await.expect_err("too many");
    assert_eq!(reason(&status), "BATCH_TOO_LARGE");
    server.stop().await;
}

#[tokio::test]
async fn paused_topics_queue_with_a_notice() {
    let server = Server::start().await;
    server.submit(spec("job.p")).await.expect("accepted");
    let pause = pb::PauseTopicRequest { topic: "job.p".into(), reason: "night".into(), ..Default::default() };
    let topic =
        server.topics().pause_topic(pause).await.expect("paused").into_inner().topic.expect("a topic");
    assert_eq!((topic.paused, topic.pause_reason.as_str()), (true, "night"));
    let warned = server.submit(spec("job.p")).await.expect("accepted");
    assert_eq!(warned.warnings[0].reason, "TOPIC_PAUSED");
    let job_id = warned.job.expect("a job").job_id;
    let why = server.jobs().explain_job(pb::ExplainJobRequest { job_id }).await.expect("why").into_inner();
    assert_eq!(why.causes[0].kind(), pb::JobCauseKind::TopicPaused);
    let resume = pb::ResumeTopicRequest { topic: "job.p".into(), ..Default::default() };
    server.topics().resume_topic(resume).await.expect("resumed");
    assert!(server.submit(spec("job.p")).await.expect("accepted").warnings.is_empty());

    let settings = pb::TopicSettings { max_running: Some(5), ..Default::default() };
    let change =
        pb::UpdateTopicRequest { topic: "job.p".into(), settings: Some(settings), ..Default::default() };
    let changed = server
        .topics()
        .update_topic(change.clone())
        .await
        .expect("changed")
        .into_inner()
        .topic
        .expect("a topic");
    assert_eq!(changed.settings.and_then(|s| s.max_running), Some(5));
    let stale = pb::UpdateTopicRequest { revision: 1, ..change };
    let status = server.topics().update_topic(stale).await.expect_err("another revision");
    assert_eq!(reason(&status), "REVISION_MISMATCH");
    let list = pb::ListTopicsRequest { filter: "name = job.p".into(), ..Default::default() };
    let topics = server.topics().list_topics(list).await.expect("a page").into_inner().topics;
    assert_eq!(topics[0].counters.as_ref().map(|c| c.queued), Some(3));
    let missing =
        server.topics().get_topic(pb::GetTopicRequest { topic: "never".into() }).await.expect_err("missing");
    assert_eq!(reason(&missing), "TOPIC_NOT_FOUND");
    server.stop().await;
}
