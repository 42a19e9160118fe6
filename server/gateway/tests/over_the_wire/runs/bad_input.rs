//! What is wrong with a call about runs is told field by field, all of it at once.

use super::{ASK, SEND, asking, json, runs, server_with, start, started};
use crate::running_server::{Server, reason, spec};
use coretex_contract::v1 as pb;
use tonic::{Code, Status};
use tonic_types::StatusExt;

fn fields(status: &Status) -> Vec<String> {
    let details = status.get_error_details();
    let violations = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
    violations.into_iter().map(|one| one.field).collect()
}

async fn refused(server: &Server, request: pb::StartRunRequest) -> Status {
    start(server, request).await.expect_err("refused")
}

#[tokio::test]
async fn every_bad_field_of_a_start_is_told_at_once() {
    let server = server_with(&[ASK]).await;
    let request = pb::StartRunRequest {
        workflow: "a b".into(),
        input: Some(pb::Payload::data("text/plain", &b"hi"[..])),
        idempotency_key: "k".into(),
        labels: [("coretex.x".to_owned(), "a".to_owned())].into(),
        run_id: "run_NO".into(),
        signal: Some(pb::RunSignal::default()),
        request_id: "\u{1}".into(),
        ..Default::default()
    };
    let status = refused(&server, request).await;
    let mut found = fields(&status);
    found.sort();
    let expected = [
        "idempotency_key",
        "input.content_type",
        "labels[\"coretex.x\"]",
        "request_id",
        "run_id",
        "signal.name",
        "workflow",
    ];
    assert_eq!((status.code(), found), (Code::InvalidArgument, expected.map(str::to_owned).to_vec()));
    server.stop().await;
}

#[tokio::test]
async fn an_input_is_json_that_fits_its_schema() {
    let server = server_with(&[SEND]).await;
    let of = |text: &str| asking("send", text);
    for (text, why) in
        [("{", "INVALID_JSON"), (r#"{"names":[],"names":[]}"#, "INVALID_JSON"), ("[1]", "RUN_INPUT_INVALID")]
    {
        assert_eq!(reason(&refused(&server, of(text)).await), why, "{text}");
    }
    let deep = format!("{}1{}", "[".repeat(65), "]".repeat(65));
    assert_eq!(reason(&refused(&server, of(&deep)).await), "INVALID_JSON");
    let big = format!("{{\"names\":[\"{}\"]}}", "x".repeat(1 << 20));
    let status = refused(&server, of(&big)).await;
    assert_eq!(reason(&status), "PAYLOAD_TOO_LARGE");
    // Both breaches of the schema.
    let status = refused(&server, of(r#"{"tone":7}"#)).await;
    assert_eq!(reason(&status), "RUN_INPUT_INVALID");
    assert_eq!(fields(&status).len(), 2, "{:?}", fields(&status));
    let status = refused(&server, of("")).await;
    assert_eq!((reason(&status), fields(&status).len()), ("RUN_INPUT_INVALID".into(), 1));
    let status = refused(&server, asking("nowhere", "")).await;
    assert_eq!((status.code(), reason(&status)), (Code::NotFound, "WORKFLOW_NOT_FOUND".into()));
    let status = refused(&server, pb::StartRunRequest { version: 9, ..of(r#"{"names":[]}"#) }).await;
    assert_eq!(reason(&status), "WORKFLOW_NOT_FOUND");
    server.stop().await;
}

#[tokio::test]
async fn signals_and_reruns_are_checked_as_well() {
    let server = server_with(&[ASK]).await;
    let run_id = started(&server, asking("ask", "")).await;
    let signal = async |request: pb::SignalRunRequest| runs(&server).signal_run(request).await.map(|_| ());
    let bad = pb::SignalRunRequest { payload: json("{"), signal_id: " ".into(), ..Default::default() };
    let status = signal(bad).await.expect_err("refused");
    assert_eq!(fields(&status), ["run_id", "name", "signal_id", "payload.data"]);
    let bad = pb::SignalRunRequest {
        request_id: "\u{1}".into(),
        name: "a".into(),
        run_id: run_id.clone(),
        ..Default::default()
    };
    assert_eq!(fields(&signal(bad).await.expect_err("refused")), ["request_id"]);
    let payload = json(&format!("\"{}\"", "x".repeat(64 << 10)));
    let name = "answer".to_owned();
    let big = pb::SignalRunRequest { run_id: run_id.clone(), name, payload, ..Default::default() };
    let status = signal(big).await.expect_err("refused");
    assert_eq!(reason(&status), "PAYLOAD_TOO_LARGE");
    assert!(status.message().contains("65536"), "{}", status.message());
    let rerun = async |step_id: &str, edited_input: Option<pb::Payload>| {
        let (run_id, step_id) = (run_id.clone(), step_id.into());
        let request = pb::RerunFromRequest { run_id, step_id, edited_input, ..Default::default() };
        runs(&server).rerun_from(request).await.expect_err("refused")
    };
    let status = rerun("", Some(pb::Payload::default())).await;
    assert_eq!(fields(&status), ["step_id", "edited_input"]);
    assert_eq!(reason(&rerun("prepare", None).await), "RUN_NOT_ENDED");
    let long = "x".repeat(1_025);
    let cancel = pb::CancelRunRequest { run_id: "nope".into(), reason: long, ..Default::default() };
    assert_eq!(fields(&runs(&server).cancel_run(cancel).await.expect_err("refused")), ["run_id", "reason"]);
    let timeout = Some(coretex_contract::Duration { seconds: 601, nanos: 0 });
    let wait = pb::WaitRunRequest { run_id: run_id.clone(), timeout, ..Default::default() };
    assert_eq!(fields(&runs(&server).wait_run(wait).await.expect_err("refused")), ["timeout"]);
    // What only the run may make nobody submits.
    let mine = pb::JobSpec { job_id: format!("{run_id}:prepare"), ..spec("job.prepare") };
    assert_eq!(fields(&server.submit(mine).await.expect_err("refused")), ["spec.job_id"]);
    server.stop().await;
}

#[tokio::test]
async fn what_is_not_there_is_not_found_by_any_method() {
    let server = server_with(&[ASK]).await;
    let mut client = runs(&server);
    let id = || "run_nowhere".to_owned();
    let signal = pb::SignalRunRequest { run_id: id(), name: "a".into(), ..Default::default() };
    let rerun = pb::RerunFromRequest { run_id: id(), step_id: "a".into(), ..Default::default() };
    let history = pb::GetRunHistoryRequest { run_id: id(), ..Default::default() };
    let found = [
        client.get_run(pb::GetRunRequest { run_id: id(), ..Default::default() }).await.map(drop),
        client.wait_run(pb::WaitRunRequest { run_id: id(), ..Default::default() }).await.map(drop),
        client.watch_run(pb::WatchRunRequest { run_id: id(), ..Default::default() }).await.map(drop),
        client.get_run_history(history).await.map(drop),
        client.cancel_run(pb::CancelRunRequest { run_id: id(), ..Default::default() }).await.map(drop),
        client.signal_run(signal).await.map(drop),
        client.rerun_from(rerun).await.map(drop),
        client.explain_run(pb::ExplainRunRequest { run_id: id() }).await.map(drop),
    ];
    for answer in found {
        let status = answer.expect_err("not there");
        assert_eq!((status.code(), reason(&status)), (Code::NotFound, "RUN_NOT_FOUND".into()));
    }
    // Nor is a run of another namespace.
    let theirs = started(&server, asking("ask", "")).await;
    let mut request = tonic::Request::new(pb::GetRunRequest { run_id: theirs, ..Default::default() });
    request.metadata_mut().insert("coretex-namespace", "other".parse().expect("a value"));
    assert_eq!(reason(&client.get_run(request).await.expect_err("not theirs")), "RUN_NOT_FOUND");
    server.stop().await;
}
