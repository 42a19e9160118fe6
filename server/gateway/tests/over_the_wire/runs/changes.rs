//! Runs that are changed: signalled, cancelled, done again from a step on; and why they stand where they stand.

use super::{
    ASK, SEND, T, asking, get, history, job_id, json, runs, server_with, started, text_of, until_step, wait,
    work,
};
use crate::running_server::{Server, Worker, reason, succeeded};
use coretex_contract::v1 as pb;
use tonic::{Code, Status};

async fn signal(server: &Server, run_id: &str, data: &str, signal_id: &str) -> Result<pb::Run, Status> {
    let request = pb::SignalRunRequest {
        run_id: run_id.into(),
        name: "answer".into(),
        payload: json(data),
        signal_id: signal_id.into(),
        ..Default::default()
    };
    runs(server).signal_run(request).await.map(|reply| reply.into_inner().run.expect("a run"))
}

async fn cancel(server: &Server, run_id: &str) -> Result<pb::Run, Status> {
    let reason = "no longer wanted".to_owned();
    let request = pb::CancelRunRequest { run_id: run_id.into(), reason, ..Default::default() };
    runs(server).cancel_run(request).await.map(|reply| reply.into_inner().run.expect("a run"))
}

async fn explain(server: &Server, run_id: &str) -> pb::ExplainRunResponse {
    let request = pb::ExplainRunRequest { run_id: run_id.into() };
    runs(server).explain_run(request).await.expect("explained").into_inner()
}

fn from_step(run_id: &str, step: &str, request_id: &str) -> pb::RerunFromRequest {
    pb::RerunFromRequest {
        run_id: run_id.into(),
        step_id: step.into(),
        request_id: request_id.into(),
        ..Default::default()
    }
}

async fn rerun(server: &Server, request: pb::RerunFromRequest) -> Result<pb::RerunFromResponse, Status> {
    runs(server).rerun_from(request).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn a_signal_before_its_wait_is_kept_and_one_that_does_not_match_is_not_taken() {
    let server = server_with(&[ASK]).await;
    let run_id = started(&server, asking("ask", "")).await;
    for _ in 0..2 {
        signal(&server, &run_id, r#"{"ok":false,"text":"later"}"#, "s-1").await.expect("kept");
    }
    let why = explain(&server, &run_id).await;
    let kinds: Vec<_> = why.causes.iter().map(|cause| (cause.kind(), cause.job_kind())).collect();
    assert!(kinds.contains(&(pb::RunCauseKind::Job, pb::JobCauseKind::NoWorker)), "{why:?}");
    let mut worker = Worker::join(&server, &["job.prepare"]).await;
    work(&mut worker, 1).await;
    let run = until_step(&server, &run_id, "answer", pb::StepState::Waiting).await;
    assert_eq!(run.state(), pb::RunState::Waiting);
    let why = explain(&server, &run_id).await;
    assert_eq!(why.causes[0].kind(), pb::RunCauseKind::Signal, "{why:?}");
    assert!(why.summary.contains("`answer`"), "{why:?}");
    signal(&server, &run_id, r#"{"ok":true,"text":"yes"}"#, "s-2").await.expect("taken");
    let run = wait(&server, &run_id, 60).await;
    assert_eq!(run.state(), pb::RunState::Succeeded);
    assert_eq!(text_of(run.output.as_ref()), r#"{"said":"yes"}"#);
    let events = history(&server, &run_id, 100).await;
    let of = |kind: T| events.iter().filter(move |event| event.r#type() == kind).collect::<Vec<_>>();
    assert_eq!(of(T::SignalReceived).len(), 2, "a repeat is no other signal");
    let taken = of(T::SignalTaken);
    assert_eq!((taken.len(), taken[0].step_id.as_str(), taken[0].signal.as_str()), (1, "answer", "answer"));
    let refused = signal(&server, &run_id, "{}", "s-3").await.expect_err("over");
    assert_eq!((refused.code(), reason(&refused)), (Code::FailedPrecondition, "RUN_ENDED".into()));
    signal(&server, &run_id, "{}", "s-2").await.expect("a repeat is known");
    server.stop().await;
}

#[tokio::test]
async fn a_signal_may_come_with_the_start_and_the_request_id_stands_for_its_own() {
    let server = server_with(&[ASK]).await;
    let mut worker = Worker::join(&server, &["job.prepare"]).await;
    let payload = json(r#"{"ok":true,"text":"at once"}"#);
    let given = pb::RunSignal { name: "answer".into(), payload, ..Default::default() };
    let run_id = started(&server, pb::StartRunRequest { signal: Some(given), ..asking("ask", "") }).await;
    for _ in 0..2 {
        let request = pb::SignalRunRequest {
            run_id: run_id.clone(),
            name: "other".into(),
            request_id: "r-1".into(),
            ..Default::default()
        };
        runs(&server).signal_run(request).await.expect("kept");
    }
    work(&mut worker, 1).await;
    let run = wait(&server, &run_id, 60).await;
    assert_eq!(text_of(run.output.as_ref()), r#"{"said":"at once"}"#);
    let events = history(&server, &run_id, 100).await;
    assert_eq!(events.iter().filter(|event| event.r#type() == T::SignalReceived).count(), 2);
    server.stop().await;
}

#[tokio::test]
async fn a_cancelled_run_is_undone_before_it_is_over() {
    let server = server_with(&[ASK]).await;
    let mut worker = Worker::join(&server, &["job.prepare", "job.undo"]).await;
    let run_id = started(&server, asking("ask", "")).await;
    work(&mut worker, 1).await;
    until_step(&server, &run_id, "answer", pb::StepState::Waiting).await;
    let run = cancel(&server, &run_id).await.expect("cancelled");
    assert_eq!(run.state(), pb::RunState::Running, "it is being undone");
    assert_eq!(run.error.map(|error| error.message), Some("no longer wanted".into()));
    let why = explain(&server, &run_id).await;
    assert!(why.causes.iter().any(|cause| cause.kind() == pb::RunCauseKind::Ending), "{why:?}");
    let undo = worker.assigned().await;
    assert_eq!(job_id(&undo[0]), format!("{run_id}:prepare~undo"));
    cancel(&server, &run_id).await.expect("again, while it ends");
    worker.report(undo.iter().map(succeeded).collect()).await;
    let run = wait(&server, &run_id, 60).await;
    assert_eq!(run.state(), pb::RunState::Cancelled);
    assert_eq!(run.steps[0].undo_state(), pb::StepState::Succeeded);
    assert_eq!(run.steps[1].state(), pb::StepState::Cancelled);
    cancel(&server, &run_id).await.expect("a repeat");
    let events = history(&server, &run_id, 100).await;
    let at = |kind: T| events.iter().find(|event| event.r#type() == kind).expect("told");
    assert_eq!(at(T::RunClosing).run_state(), pb::RunState::Cancelled);
    assert!(at(T::RunClosing).message.contains("no longer wanted"));
    assert_eq!(at(T::UndoStarted).job_id, format!("{run_id}:prepare~undo"));
    assert_eq!(at(T::UndoEnded).state(), pb::StepState::Succeeded);
    server.stop().await;
}

#[tokio::test]
async fn a_run_that_is_over_is_done_again_from_a_step_on() {
    let server = server_with(&[SEND]).await;
    let mut worker = Worker::join(&server, &["job.fetch", "job.send"]).await;
    let run_id = started(&server, asking("send", r#"{"names":["ann"]}"#)).await;
    work(&mut worker, 2).await;
    let old = wait(&server, &run_id, 60).await;
    assert_eq!(old.state(), pb::RunState::Succeeded);
    assert_eq!(reason(&cancel(&server, &run_id).await.expect_err("over")), "RUN_ENDED");
    let made = rerun(&server, from_step(&run_id, "send", "again-1")).await.expect("made");
    let again = rerun(&server, from_step(&run_id, "send", "again-1")).await.expect("known");
    let run = made.run.expect("a run");
    assert_eq!((made.existing, again.existing), (false, true));
    assert_eq!(again.run.expect("a run").run_id, run.run_id);
    let lineage = run.lineage.expect("forked");
    assert_eq!((lineage.run_id.as_str(), lineage.step_id.as_str()), (run_id.as_str(), "send"));
    let done = work(&mut worker, 1).await;
    assert_eq!(done[0], format!("{}:send:0", run.run_id), "only the step, not the one before");
    let forked = wait(&server, &run.run_id, 60).await;
    assert_eq!(forked.state(), pb::RunState::Succeeded);
    assert_eq!(forked.steps[0].state(), pb::StepState::Succeeded, "taken over");
    // With another input its items are others.
    let edited_input = json(r#"{"names":["x","y","z"]}"#);
    let request = pb::RerunFromRequest { edited_input, ..from_step(&run_id, "send", "") };
    let edited = rerun(&server, request.clone()).await.expect("made").run.expect("a run");
    work(&mut worker, 3).await;
    assert_eq!(text_of(wait(&server, &edited.run_id, 60).await.output.as_ref()), r#"{"sent":3}"#);
    let bad = pb::RerunFromRequest { edited_input: json("{}"), ..request };
    assert_eq!(reason(&rerun(&server, bad).await.expect_err("refused")), "RUN_INPUT_INVALID");
    let refused = rerun(&server, from_step(&run_id, "sent", "")).await.expect_err("no such step");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("did you mean"), "{}", refused.message());
    assert_eq!(get(&server, &run_id).await.expect("kept").revision, old.revision, "the old run stays");
    server.stop().await;
}

/// Steps leave dead letters as all jobs do; what is done again is the run.
#[tokio::test]
async fn dead_letters_of_steps_are_refused_by_a_redrive_and_told() {
    let server = server_with(&["name: deny\nsteps: [{ id: a, topic: sys.destroy }]\n"]).await;
    let run_id = started(&server, asking("deny", "")).await;
    let run = wait(&server, &run_id, 60).await;
    assert_eq!(run.state(), pb::RunState::Failed, "{run:?}");
    let dead_letter_id = format!("{run_id}:a");
    let request = pb::RetryDeadLetterRequest { dead_letter_id, ..Default::default() };
    let refused = server.dlq().retry_dead_letter(request).await.expect_err("a step");
    assert_eq!(reason(&refused), "STEP_OF_RUN");
    let request = pb::BatchRetryDeadLettersRequest { all: true, ..Default::default() };
    let mut told = server.dlq().batch_retry_dead_letters(request).await.expect("opened").into_inner();
    let mut last = None;
    while let Some(step) = told.message().await.expect("no error") {
        last = Some(step);
    }
    let last = last.expect("an end");
    assert_eq!((last.phase(), last.retried, last.refused), (pb::RedrivePhase::Done, 0, 1));
    assert!(last.first_error.expect("why").message.contains("RerunFrom"));
    server.stop().await;
}
