//! Runs as their callers meet them: started once, worked on, watched, changed, done again.

mod bad_input;
mod changes;

use crate::running_server::{Server, Worker, reason, succeeded, update};
use coretex_contract::v1 as pb;
use coretex_contract::v1::run_service_client::RunServiceClient;
use coretex_contract::v1::workflow_service_client::WorkflowServiceClient;
use coretex_contract::{Duration, Value, value};
use pb::RunEventType as T;
use std::time::Duration as Std;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// Two jobs, one after the other; the second for each item of the input.
const SEND: &str = "
name: send
input_schema: { type: object, required: [names], properties: { names: { type: array }, tone: { type: string, default: kind } } }
steps:
  - { id: fetch, topic: job.fetch, retry: { max_attempts: 1 }, input: { tone: '${input.tone}' } }
  - { id: send, needs: fetch, topic: job.send, for_each: '${input.names}', input: { to: '${item}' } }
output: { sent: '${size(input.names)}' }
";

/// A job, then a signal.
const ASK: &str = "
name: ask
steps:
  - { id: prepare, topic: job.prepare, compensate: { topic: job.undo } }
  - { id: answer, needs: prepare, wait_event: { name: answer, match: '${event.ok}' } }
output: { said: '${steps.answer.output.text}' }
";

fn runs(server: &Server) -> RunServiceClient<Channel> {
    RunServiceClient::new(server.channel.clone()).max_decoding_message_size(64 << 20)
}

async fn server_with(texts: &[&str]) -> Server {
    let server = Server::start().await;
    for text in texts {
        apply(&server, text).await;
    }
    server
}

async fn apply(server: &Server, text: &str) {
    let source = Some(pb::apply_workflow_request::Source::Yaml(text.into()));
    let request = pb::ApplyWorkflowRequest { source, ..Default::default() };
    WorkflowServiceClient::new(server.channel.clone()).apply_workflow(request).await.expect("applied");
}

fn json(text: &str) -> Option<pb::Payload> {
    Some(pb::Payload::data("application/json", text.as_bytes().to_vec()))
}

fn asking(workflow: &str, input: &str) -> pb::StartRunRequest {
    let input = if input.is_empty() { None } else { json(input) };
    pb::StartRunRequest { workflow: workflow.into(), input, ..Default::default() }
}

async fn start(server: &Server, request: pb::StartRunRequest) -> Result<pb::StartRunResponse, Status> {
    runs(server).start_run(request).await.map(tonic::Response::into_inner)
}

async fn started(server: &Server, request: pb::StartRunRequest) -> String {
    start(server, request).await.expect("started").run.expect("a run").run_id
}

async fn get(server: &Server, run_id: &str) -> Result<pb::Run, Status> {
    let payload_format = pb::PayloadFormat::Json.into();
    let request = pb::GetRunRequest { run_id: run_id.into(), payload_format, ..Default::default() };
    runs(server).get_run(request).await.map(|reply| reply.into_inner().run.expect("a run"))
}

async fn wait(server: &Server, run_id: &str, seconds: i64) -> pb::Run {
    let timeout = Some(Duration { seconds, nanos: 0 });
    let request = pb::WaitRunRequest { run_id: run_id.into(), timeout, ..Default::default() };
    runs(server).wait_run(request).await.expect("waited").into_inner().run.expect("a run")
}

/// Until a step is in a state; a hang guard, not a wait.
async fn until_step(server: &Server, run_id: &str, path: &str, state: pb::StepState) -> pb::Run {
    for _ in 0..1_000 {
        let run = get(server, run_id).await.expect("a run");
        if run.steps.iter().any(|step| step.path == path && step.state() == state) {
            return run;
        }
        tokio::time::sleep(Std::from_millis(10)).await;
    }
    panic!("{path} did not become {state:?}: {:?}", get(server, run_id).await);
}

async fn history(server: &Server, run_id: &str, page_size: i32) -> Vec<pb::RunEvent> {
    let (mut events, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::GetRunHistoryRequest { run_id: run_id.into(), page_size, page_token };
        let page = runs(server).get_run_history(request).await.expect("a page").into_inner();
        assert!(page.events.len() <= usize::try_from(page_size).expect("a size"));
        events.extend(page.events);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return events;
        }
    }
}

fn job_id(assignment: &pb::Assignment) -> String {
    assignment.job.as_ref().map(|job| job.job_id.clone()).expect("a job")
}

/// Does the jobs of these topics as they come, so many.
async fn work(worker: &mut Worker, count: usize) -> Vec<String> {
    let mut done = Vec::new();
    while done.len() < count {
        let assigned = worker.assigned().await;
        let updates = assigned.iter().map(succeeded).collect();
        worker.report(updates).await;
        done.extend(assigned.iter().map(job_id));
    }
    done
}

fn text_of(payload: Option<&pb::Payload>) -> String {
    match payload.and_then(|payload| payload.body.as_ref()) {
        Some(pb::payload::Body::Data(data)) => String::from_utf8_lossy(data).into_owned(),
        other => format!("{other:?}"),
    }
}

fn number_at(payload: Option<&pb::Payload>, name: &str) -> f64 {
    let Some(pb::payload::Body::Json(Value { kind: Some(value::Kind::StructValue(fields)) })) =
        payload.and_then(|payload| payload.body.clone())
    else {
        panic!("no map: {payload:?}")
    };
    match fields.fields.get(name).and_then(|value| value.kind.clone()) {
        Some(value::Kind::NumberValue(number)) => number,
        other => panic!("{name}: {other:?}"),
    }
}

#[tokio::test]
async fn a_run_goes_from_its_start_to_its_output_and_all_of_it_can_be_seen() {
    let server = server_with(&[SEND]).await;
    let mut worker = Worker::join(&server, &["job.fetch", "job.send"]).await;
    let labels = [("team".to_owned(), "a".to_owned())].into();
    let request = pb::StartRunRequest { labels, ..asking("send", r#"{"names":["ann","bob"]}"#) };
    let reply = start(&server, request).await.expect("started");
    let begun = reply.run.expect("a run");
    assert_eq!((begun.workflow.as_str(), begun.version, reply.existing), ("send", 1, false));
    assert!(begun.steps.is_empty() && begun.input.is_none(), "BASIC: {begun:?}");
    let run_id = begun.run_id;
    let first = work(&mut worker, 1).await.pop().expect("a job");
    assert_eq!(first, format!("{run_id}:fetch"));
    let step = server.get(&first).await.expect("a job");
    assert_eq!((step.run_id.as_str(), step.step_id.as_str()), (run_id.as_str(), "fetch"));
    let mut others = work(&mut worker, 2).await;
    others.sort();
    assert_eq!(others, [format!("{run_id}:send:0"), format!("{run_id}:send:1")]);
    let step = server.get(&others[1]).await.expect("a job");
    assert_eq!((step.run_id.as_str(), step.step_id.as_str()), (run_id.as_str(), "send:1"));
    let ended = wait(&server, &run_id, 60).await;
    assert_eq!(ended.state(), pb::RunState::Succeeded, "{ended:?}");
    assert_eq!(text_of(ended.output.as_ref()), r#"{"sent":2}"#);
    let run = get(&server, &run_id).await.expect("a run");
    assert!((number_at(run.output.as_ref(), "sent") - 2.0).abs() < 1e-9, "as JSON where asked for");
    assert_eq!(run.labels.get("team").map(String::as_str), Some("a"));
    assert!(run.end_time.is_some() && run.start_time.is_some() && run.expire_time.is_some());
    let [fetch, send] = run.steps.as_slice() else { panic!("{:?}", run.steps) };
    assert_eq!((fetch.state(), fetch.kind.as_str(), fetch.attempts), (pb::StepState::Succeeded, "topic", 1));
    assert_eq!(fetch.job_id, first);
    assert_eq!((send.state(), send.job_id.as_str()), (pb::StepState::Succeeded, ""));
    assert_eq!(send.items, Some(pb::RunItems { count: 2, begun: 2, over: 2, failed: 0 }));
    let input = ended.input.expect("FULL");
    assert_eq!(text_of(Some(&input)), r#"{"names":["ann","bob"],"tone":"kind"}"#, "with its defaults");
    assert_history(&server, &run).await;
    let request = pb::ExplainRunRequest { run_id };
    let why = runs(&server).explain_run(request).await.expect("explained").into_inner();
    assert_eq!(why.causes[0].kind(), pb::RunCauseKind::Ended);
    assert!(why.summary.contains("SUCCEEDED"), "{why:?}");
    server.stop().await;
}

async fn assert_history(server: &Server, run: &pb::Run) {
    let events = history(server, &run.run_id, 3).await;
    assert_eq!(events, history(server, &run.run_id, 1_000).await, "pages are the whole");
    let numbers: Vec<u64> = events.iter().map(|event| event.sequence).collect();
    assert_eq!(numbers, (1..=run.revision).collect::<Vec<_>>(), "without a gap");
    assert_eq!(events.first().map(pb::RunEvent::r#type), Some(T::RunStarted));
    let last = events.last().expect("an end");
    assert_eq!((last.r#type(), last.run_state()), (T::RunEnded, pb::RunState::Succeeded));
    assert!(events.iter().all(|event| !event.message.is_empty()), "{events:?}");
    let of = |kind: T| events.iter().filter(move |event| event.r#type() == kind).collect::<Vec<_>>();
    let items = of(T::ItemEnded);
    assert_eq!(items.len(), 2);
    assert!(items.iter().all(|event| event.step_id == "send" && event.state() == pb::StepState::Succeeded));
    assert_eq!(items[0].job_id, format!("{}:send:{}", run.run_id, items[0].index.expect("an index")));
    let fetch = of(T::StepEnded).into_iter().find(|event| event.step_id == "fetch").expect("told");
    assert_eq!((fetch.attempt, fetch.index), (1, None));
}

#[tokio::test]
async fn the_same_start_is_the_same_run_and_another_one_is_refused() {
    let server = server_with(&[ASK]).await;
    let keyed = |input: &str| pb::StartRunRequest { idempotency_key: "k".into(), ..asking("ask", input) };
    let first = start(&server, keyed(r#"{"n":1}"#)).await.expect("started");
    let again = start(&server, keyed(r#"{"n":1}"#)).await.expect("known");
    assert_eq!((first.existing, again.existing), (false, true));
    let run_id = first.run.expect("a run").run_id;
    assert_eq!(again.run.expect("a run").run_id, run_id);
    let refused = start(&server, keyed(r#"{"n":2}"#)).await.expect_err("another");
    assert_eq!((refused.code(), reason(&refused)), (Code::AlreadyExists, "IDEMPOTENCY_CONFLICT".into()));
    let named = |run_id: &str| pb::StartRunRequest { run_id: run_id.into(), ..asking("ask", "") };
    for is_known in [false, true] {
        let reply = start(&server, named("run_nightly-7")).await.expect("started");
        assert_eq!((reply.existing, reply.run.expect("a run").run_id.as_str()), (is_known, "run_nightly-7"));
    }
    let asked = |request_id: &str| pb::StartRunRequest { request_id: request_id.into(), ..asking("ask", "") };
    let one = start(&server, asked("r-1")).await.expect("started").run.expect("a run").run_id;
    let repeat = start(&server, asked("r-1")).await.expect("known");
    assert_eq!((repeat.existing, repeat.run.expect("a run").run_id), (true, one.clone()));
    assert_ne!(started(&server, asked("r-2")).await, one);
    // A signal that comes with a start of a run that is there is sent to it.
    let signal =
        pb::RunSignal { name: "answer".into(), payload: json(r#"{"ok":true}"#), ..Default::default() };
    let with_signal = pb::StartRunRequest { signal: Some(signal), ..keyed(r#"{"n":1}"#) };
    assert!(start(&server, with_signal).await.expect("known").existing);
    let kinds: Vec<T> = history(&server, &run_id, 100).await.iter().map(pb::RunEvent::r#type).collect();
    assert!(kinds.contains(&T::SignalReceived), "{kinds:?}");
    server.stop().await;
}

#[tokio::test]
async fn lists_are_filtered_ordered_and_paged() {
    let server = server_with(&[ASK, SEND]).await;
    let mut made = Vec::new();
    for n in 0..7 {
        let labels = [("n".to_owned(), n.to_string()), ("odd".to_owned(), (n % 2 == 1).to_string())].into();
        made.push(started(&server, pb::StartRunRequest { labels, ..asking("ask", "") }).await);
        tokio::time::sleep(Std::from_millis(3)).await;
    }
    let other = started(&server, asking("send", r#"{"names":[]}"#)).await;
    let cancel = pb::CancelRunRequest { run_id: made[0].clone(), reason: "no".into(), ..Default::default() };
    runs(&server).cancel_run(cancel).await.expect("cancelled");
    assert_eq!(wait(&server, &made[0], 60).await.state(), pb::RunState::Cancelled);
    let page = async |filter: &str, order: &str, page_token: String| {
        let request = pb::ListRunsRequest {
            filter: filter.into(),
            order_by: order.into(),
            page_size: 2,
            page_token,
            ..Default::default()
        };
        runs(&server).list_runs(request).await.map(tonic::Response::into_inner)
    };
    let ids = async |filter: &str, order: &str| {
        let (mut found, mut token) = (Vec::new(), String::new());
        loop {
            let one = page(filter, order, token).await.expect("a page");
            assert!(one.runs.len() <= 2 && one.runs.iter().all(|run| run.steps.is_empty()));
            found.extend(one.runs.into_iter().map(|run| run.run_id));
            token = one.next_page_token;
            if token.is_empty() {
                return found;
            }
        }
    };
    assert_eq!(ids("workflow = ask", "create_time asc").await, made);
    let newest_first: Vec<String> = made.iter().rev().cloned().collect();
    assert_eq!(ids("workflow = \"ask\" AND version = 1", "").await, newest_first);
    assert_eq!(
        ids("labels.odd = true", "create_time asc").await,
        [&made[1], &made[3], &made[5]].map(Clone::clone)
    );
    assert_eq!(ids("state = CANCELLED", "").await, [made[0].clone()]);
    assert_eq!(
        ids("error.type = \"CANCELLED\" AND end_time > \"2020-01-01T00:00:00Z\"", "").await,
        [made[0].clone()]
    );
    assert_eq!(ids(&format!("run_id = \"{other}\""), "").await, std::slice::from_ref(&other));
    assert_eq!(ids("actor = \"\" AND NOT workflow = ask", "").await, [other]);
    assert!(ids("create_time < \"2020-01-01T00:00:00Z\"", "").await.is_empty());
    let token = page("workflow = ask", "", String::new()).await.expect("a page").next_page_token;
    let refused = page("", "", token).await.expect_err("of another list");
    assert_eq!(reason(&refused), "INVALID_PAGE_TOKEN");
    let refused = page("colour = red", "", String::new()).await.expect_err("no field");
    assert_eq!(reason(&refused), "INVALID_FILTER");
    let request = pb::ListRunsRequest {
        view: pb::View::Full.into(),
        filter: "workflow = ask".into(),
        ..Default::default()
    };
    let full = runs(&server).list_runs(request).await.expect("a page").into_inner().runs;
    assert!(full.iter().all(|run| run.steps.len() == 2), "{full:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_watch_tells_each_entry_once_and_goes_on_where_it_was() {
    let server = server_with(&[SEND]).await;
    let run_id = started(&server, asking("send", r#"{"names":["ann"]}"#)).await;
    let watch = async |after_sequence: u64| {
        let request = pb::WatchRunRequest {
            run_id: run_id.clone(),
            after_sequence,
            view: pb::View::Full.into(),
            ..Default::default()
        };
        runs(&server).watch_run(request).await.expect("opened").into_inner()
    };
    let mut first = watch(0).await;
    let message = first.message().await.expect("no error").expect("a message");
    let mut seen: Vec<pb::RunEvent> = message.events;
    assert_eq!(seen[0].r#type(), T::RunStarted);
    let mut last = message.last_sequence;
    assert_eq!(Some(last), seen.last().map(|event| event.sequence));
    drop(first);
    let mut worker = Worker::join(&server, &["job.fetch", "job.send"]).await;
    let mut second = watch(last).await;
    let watched = tokio::spawn(async move {
        let mut messages = Vec::new();
        while let Some(message) = second.message().await.expect("no error") {
            messages.push(message);
        }
        messages
    });
    work(&mut worker, 2).await;
    let messages =
        tokio::time::timeout(Std::from_secs(60), watched).await.expect("it ends").expect("no panic");
    for message in &messages {
        let run = message.run.as_ref().expect("with the run");
        assert!(run.revision >= message.last_sequence && run.steps.len() == 2, "{message:?}");
        last = message.last_sequence;
        seen.extend(message.events.clone());
    }
    let end = messages.last().and_then(|message| message.run.clone()).expect("an end");
    assert_eq!((end.state(), end.revision), (pb::RunState::Succeeded, last));
    assert_eq!(text_of(end.output.as_ref()), r#"{"sent":1}"#, "the end comes with the output");
    assert_eq!(seen, history(&server, &run_id, 1_000).await);
    let mut after = watch(last).await;
    assert_eq!(after.message().await.expect("no error"), None, "nothing is left");
    let request =
        pb::WatchRunRequest { run_id: run_id.clone(), after_sequence: last + 1, ..Default::default() };
    let refused = runs(&server).watch_run(request).await.expect_err("ahead");
    assert_eq!((refused.code(), reason(&refused)), (Code::InvalidArgument, "INVALID_FIELD".into()));
    server.stop().await;
}

#[tokio::test]
async fn a_failed_step_fails_the_run_and_says_which() {
    let server = server_with(&[SEND]).await;
    let mut worker = Worker::join(&server, &["job.fetch"]).await;
    let run_id = started(&server, asking("send", r#"{"names":["ann"]}"#)).await;
    let assigned = worker.assigned().await;
    let failure = pb::Failure { r#type: "SmtpError".into(), message: "no host".into(), ..Default::default() };
    let failed = pb::JobUpdate { failure: Some(failure), ..update(&assigned[0], pb::JobUpdateKind::Failed) };
    worker.report(vec![failed]).await;
    let run = wait(&server, &run_id, 60).await;
    assert_eq!(run.state(), pb::RunState::Failed, "{run:?}");
    let error = run.error.expect("why");
    assert_eq!((error.step_id.as_str(), error.r#type.as_str()), ("fetch", "SmtpError"));
    assert_eq!(run.steps[0].error.as_ref().map(|error| error.message.as_str()), Some("no host"));
    let refused = server
        .jobs()
        .retry_job(pb::RetryJobRequest { job_id: job_id(&assigned[0]), ..Default::default() })
        .await
        .expect_err("a step");
    assert_eq!(reason(&refused), "STEP_OF_RUN");
    assert!(refused.message().contains("RerunFrom"), "{}", refused.message());
    server.stop().await;
}
