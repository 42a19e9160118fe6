//! The client against a service that breaks.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fake;

use coretex_sdk::raw::tonic::{Code, Status};
use coretex_sdk::{Client, JobRequest, JobState, JobWatch, Payload, reason};
use fake::{Fake, refusal};
use futures::{StreamExt as _, TryStreamExt as _};
use std::collections::BTreeSet;
use std::time::Duration;

async fn connected(fake: &Fake) -> Client {
    Client::builder(fake.start().await).namespace("team-a").api_key("secret").connect().await.unwrap()
}

fn request(n: usize) -> JobRequest {
    JobRequest::new("job.echo").json(&n).unwrap()
}

#[tokio::test]
async fn a_call_whose_outcome_is_not_known_is_repeated_under_its_id() {
    let fake = Fake::default();
    let client = connected(&fake).await;
    fake.book().refusals.extend([
        refusal(Code::Unavailable, "OUTCOME_UNKNOWN", Some(Duration::from_millis(30))),
        Status::unavailable("gone"),
        refusal(Code::ResourceExhausted, "OVERLOADED", Some(Duration::from_millis(1))),
    ]);
    let job = client.submit(request(1)).await.unwrap();
    let ids = fake.book().request_ids.clone();
    assert_eq!(ids.len(), 4);
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 1, "one call, one id");
    assert_eq!(uuid::Uuid::parse_str(&ids[0]).unwrap().get_version_num(), 7);
    assert_eq!(job.output().await.unwrap(), Payload::json(&1).unwrap());
    let metadata: BTreeSet<_> = fake.book().metadata.iter().cloned().collect();
    let expected = [("authorization", "Bearer secret"), ("coretex-namespace", "team-a")];
    assert_eq!(metadata, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
}

#[tokio::test]
async fn a_refusal_is_told_with_all_its_facts_and_not_repeated() {
    let fake = Fake::default();
    let client = connected(&fake).await;
    fake.book().refusals.push_back(refusal(Code::InvalidArgument, "INVALID_FIELD", None));
    let error = client.submit(request(1)).await.unwrap_err();
    assert_eq!((error.code(), error.reason()), (coretex_sdk::Code::InvalidArgument, "INVALID_FIELD"));
    assert!(!error.is_retryable());
    let fields: Vec<_> = error.violations().iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(fields, ["spec.topic", "spec.priority"]);
    assert_eq!(error.fact("fact"), Some("42"));
    assert_eq!(
        error.to_string(),
        "refused (INVALID_FIELD); spec.topic: is not a topic; spec.priority: is 0 to 9"
    );
    fake.book().refusals.push_back(refusal(
        Code::ResourceExhausted,
        "STORE_FULL",
        Some(Duration::from_secs(60)),
    ));
    let error = client.submit(request(1)).await.unwrap_err();
    assert!(error.is_retryable(), "later, but that is for the caller to decide");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(60)));
    assert_eq!(fake.book().request_ids.len(), 2);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_said_so() {
    let error = Client::connect("127.0.0.1:1").await.unwrap_err();
    assert_eq!(error.reason(), reason::UNREACHABLE);
    assert!(error.to_string().contains("cannot reach 127.0.0.1:1"), "{error}");
    let client = Client::builder("127.0.0.1:1").retry_for(Duration::from_millis(200)).connect_lazy().unwrap();
    assert!(client.submit(request(1)).await.unwrap_err().is_retryable());
    assert_eq!(Client::connect("what ever").await.unwrap_err().reason(), reason::INVALID_OPTION);
    let error = Client::builder("127.0.0.1:1").tls_ca("/none").connect_lazy().unwrap_err();
    assert!(error.to_string().contains("not an https:// address"), "{error}");
}

#[tokio::test]
async fn many_are_submitted_in_order_and_each_stands_on_its_own() {
    let fake = Fake::default();
    let client = connected(&fake).await;
    let big = "x".repeat(300_000);
    let mut requests: Vec<_> = (0..10).map(|_| JobRequest::new("job.echo").json(&big).unwrap()).collect();
    requests.insert(4, JobRequest::new("bad"));
    let broken = std::collections::BTreeMap::from([((1, 2), 3)]);
    requests.insert(7, JobRequest::typed("job.echo", broken));
    let results = client.submit_many(requests).await;
    assert_eq!(results.len(), 12);
    let refused: Vec<_> =
        results.iter().enumerate().filter_map(|(at, r)| Some((at, r.as_ref().err()?.reason()))).collect();
    assert_eq!(refused, [(4, "INVALID_FIELD"), (7, reason::PAYLOAD_ENCODE)]);
    assert!(fake.book().request_ids.len() >= 3, "three megabytes are several calls");
}

#[tokio::test]
async fn a_broken_submit_stream_sends_again_what_is_not_settled() {
    let fake = Fake::default();
    let client = connected(&fake).await;
    // Once before a batch is stored, once after: only the answer is lost then.
    fake.book().breaks.extend([(3, false), (5, true), (9, true)]);
    let mut stream = client.submit_stream().in_flight(4).follow(30).open();
    let ends = stream.completions().unwrap();
    let reading = tokio::spawn(ends.map(|end| (end.sequence, end.index)).collect::<Vec<_>>());
    let mut tickets = Vec::new();
    for batch in 0..12 {
        tickets.push(stream.send((0..10).map(|n| request(batch * 10 + n))).await.unwrap());
    }
    let mut ids = BTreeSet::new();
    for ticket in tickets {
        for submitted in ticket.await.unwrap() {
            ids.insert(submitted.unwrap().job_id);
        }
    }
    stream.finish().await.unwrap();
    assert_eq!((ids.len(), fake.book().jobs.len()), (120, 120), "nothing twice, nothing lost");
    let ends = reading.await.unwrap();
    assert_eq!((ends.len(), ends.iter().collect::<BTreeSet<_>>().len()), (120, 120), "each end once");
    assert!(fake.book().request_ids.len() > 12, "some were sent again");
}

#[tokio::test]
async fn a_submit_stream_that_cannot_be_mended_fails_its_tickets() {
    let addr = Fake::default().start().await;
    let client = Client::builder(addr).connect().await.unwrap();
    let mut stream = client.submit_stream().open();
    let too_many = (0..10_001).map(|_| JobRequest::new("job.echo"));
    assert_eq!(stream.send(too_many).await.unwrap_err().reason(), "BATCH_TOO_LARGE");
    assert_eq!(stream.send::<Payload>([]).await.unwrap_err().reason(), reason::INVALID_OPTION);
    let gone = Client::builder("127.0.0.1:1").retry_for(Duration::from_millis(100)).connect_lazy().unwrap();
    let mut stream = gone.submit_stream().open();
    let ticket = stream.send([request(1)]).await.unwrap();
    assert_eq!(ticket.await.unwrap_err().reason(), reason::UNREACHABLE);
    assert_eq!(stream.finish().await.unwrap_err().reason(), reason::UNREACHABLE);
}

#[tokio::test]
async fn lists_go_on_over_short_and_empty_pages() {
    let fake = Fake::default();
    let client = connected(&fake).await;
    client.submit(request(1)).await.unwrap();
    client.submit(request(2)).await.unwrap();
    let jobs: Vec<_> = client.list_all("state = SUCCEEDED").try_collect().await.unwrap();
    assert_eq!((jobs.len(), fake.book().pages), (4, 3));
    assert_eq!(jobs[0].state, JobState::Succeeded);
}

#[tokio::test]
async fn a_watch_goes_on_where_it_broke() {
    let fake = Fake::default();
    let client = connected(&fake).await;
    let changes: Vec<_> = client.watch(JobWatch::all()).try_collect().await.unwrap();
    let tokens: Vec<_> = changes.iter().map(|change| change.resume_token.as_str()).collect();
    assert_eq!(tokens, ["1", "2", "3", "4", "5"]);
}
