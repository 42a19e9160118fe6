//! Runs by the command line and by the SDK, on a real server with a real worker.
#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

use coretex_sdk::raw::v1;
use coretex_sdk::raw::v1::workflow_service_client::WorkflowServiceClient;
use coretex_sdk::{Client, RunRequest, RunState, View, Worker};
use coretex_testkit::ServerProcess;
use futures::StreamExt as _;
use serde_json::{Value, json};
use std::process::{Command, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_coretex");

const GREET: &str = "
name: greet
input_schema: { type: object, required: [names], properties: { names: { type: array } } }
steps:
  - { id: greet, topic: job.greet, for_each: '${input.names}', input: '${item}' }
  - { id: sent, needs: greet, wait_event: { name: sent, timeout: 1h } }
output: { greeted: '${steps.greet.output}', by: '${steps.sent.output.by}' }
";

/// Exit code, standard output, standard error.
fn run(addr: &str, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(BINARY);
    command.arg("run").args(args).args(["--addr", addr]).stdin(Stdio::null());
    command.env_remove("CORETEX_NAMESPACE").env_remove("CORETEX_API_KEY");
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

async fn cli(addr: &str, args: &[&str]) -> (Option<i32>, String, String) {
    let (addr, args) = (addr.to_owned(), args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>());
    tokio::task::spawn_blocking(move || run(&addr, &args.iter().map(String::as_str).collect::<Vec<_>>()))
        .await
        .unwrap()
}

async fn document(addr: &str, args: &[&str]) -> Value {
    let args = [args, &["-o", "json"]].concat();
    let (code, out, why) = cli(addr, &args).await;
    assert_eq!(code, Some(0), "{args:?}: {why}");
    serde_json::from_str(&out).unwrap()
}

async fn apply(client: &Client, text: &str) {
    let source = Some(v1::apply_workflow_request::Source::Yaml(text.into()));
    let request = v1::ApplyWorkflowRequest { source, ..Default::default() };
    WorkflowServiceClient::new(client.raw().wire()).apply_workflow(request).await.unwrap();
}

fn greeter(client: &Client) -> tokio::task::JoinHandle<()> {
    let greet = |_: coretex_sdk::Ctx, name: String| async move {
        match name.as_str() {
            "" => Err(coretex_sdk::HandlerError::new("NoName", "nobody to greet").terminal()),
            name => Ok(format!("hello {name}")),
        }
    };
    let worker = Worker::builder(client).bind_fn("job.greet", greet).build().unwrap();
    tokio::spawn(async move {
        worker.run().await.unwrap();
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_started_followed_signalled_and_done_again_by_the_command_line() {
    let server = ServerProcess::builder().unwrap().start().await.unwrap();
    let (addr, client) = (server.addr(), server.client().await.unwrap());
    apply(&client, GREET).await;
    let worker = greeter(&client);
    let input = r#"{"names": ["ann", "bob"]}"#;
    let start = ["start", "greet", "--input", input, "--id", "run_first", "--label", "team=a"];
    let (code, out, why) = cli(&addr, &start).await;
    assert_eq!((code, out.split_whitespace().next()), (Some(0), Some("run_first")), "{why}");
    let (_, again, _) = cli(&addr, &start).await;
    assert!(again.contains("was there before"), "{again}");
    let watching = tokio::spawn({
        let addr = addr.clone();
        async move { cli(&addr, &["watch", "run_first"]).await }
    });
    waiting(&client, "run_first").await;
    let why = document(&addr, &["explain", "run_first"]).await;
    assert_eq!(why["causes"][0]["kind"], "RUN_CAUSE_KIND_SIGNAL", "{why}");
    let signal = ["signal", "run_first", "sent", "--data", r#"{"by": "mail"}"#, "--signal-id", "s-1"];
    assert_eq!(document(&addr, &signal).await["run"]["run_id"], "run_first");
    let ended = document(&addr, &["wait", "run_first"]).await;
    let expected = json!({"greeted": ["hello ann", "hello bob"], "by": "mail"});
    assert_eq!(ended["run"]["output"]["json"], expected);
    let (code, watched, why) = watching.await.unwrap();
    assert_eq!(code, Some(0), "{why}");
    let history = document(&addr, &["history", "run_first"]).await;
    assert_eq!(watched.lines().count(), history["events"].as_array().unwrap().len(), "{watched}");
    assert!(watched.lines().last().unwrap().contains("RUN_ENDED"), "{watched}");
    let listed = document(&addr, &["list", "--workflow", "greet", "--filter", "labels.team = a"]).await;
    assert_eq!(listed["runs"].as_array().unwrap().len(), 1);
    let (_, table, _) = cli(&addr, &["get", "run_first"]).await;
    assert!(
        table.contains("greet  topic") && table.contains("2/2") && table.contains("hello bob"),
        "{table}"
    );
    let rerun = document(&addr, &["rerun", "run_first", "--from", "sent"]).await;
    let forked = rerun["run"]["run_id"].as_str().unwrap().to_owned();
    assert_eq!(rerun["run"]["lineage"], json!({"run_id": "run_first", "step_id": "sent"}));
    waiting(&client, &forked).await;
    let cancelled = document(&addr, &["cancel", &forked, "--reason", "enough"]).await;
    assert_eq!(cancelled["run"]["error"]["message"], "enough");
    let (code, out, _) = cli(&addr, &["wait", &forked]).await;
    assert!(code == Some(1) && out.contains("CANCELLED"), "{out}");
    worker.abort();
}

/// Until a run waits; a hang guard, not a wait.
async fn waiting(client: &Client, run_id: &str) {
    for _ in 0..3_000 {
        if client.get_run(run_id).await.unwrap().state == RunState::Waiting {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("it does not wait: {:?}", client.get_run(run_id).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_told_with_its_fields_and_the_exit_code() {
    let server = ServerProcess::builder().unwrap().start().await.unwrap();
    let (addr, client) = (server.addr(), server.client().await.unwrap());
    apply(&client, GREET).await;
    let worker = greeter(&client);
    let (code, _, why) = cli(&addr, &["start", "greet", "--input", "{names}"]).await;
    assert!(code == Some(2) && why.contains("--input is not JSON"), "{why}");
    let (code, _, why) = cli(&addr, &["start", "greet", "--input", r#"{"names": 1}"#, "-o", "json"]).await;
    let why: Value = serde_json::from_str(&why).unwrap();
    assert_eq!((code, &why["error"]["reason"]), (Some(1), &json!("RUN_INPUT_INVALID")));
    assert!(!why["error"]["violations"].as_array().unwrap().is_empty(), "{why}");
    let (code, _, why) = cli(&addr, &["get", "run_nowhere"]).await;
    assert!(code == Some(1) && why.contains("RUN_NOT_FOUND"), "{why}");
    // A run that fails ends `--wait` and `--watch` with 1.
    let failing = ["start", "greet", "--input", r#"{"names": ["ann", ""]}"#];
    for how in ["--wait", "--watch"] {
        let (code, out, why) = cli(&addr, &[&failing[..], &[how]].concat()).await;
        assert_eq!(code, Some(1), "{how}: {out}{why}");
        assert!(out.contains("NoName"), "{how}: {out}");
    }
    worker.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_starts_watches_and_reads_runs() {
    let server = ServerProcess::builder().unwrap().start().await.unwrap();
    let client = server.client().await.unwrap();
    apply(&client, GREET).await;
    let worker = greeter(&client);
    let request = || {
        let names = json!({"names": ["ann"]});
        RunRequest::new("greet").input(&names).unwrap().idempotency_key("k").label("team", "a")
    };
    let asked = request().signal("sent", json!({"by": "post"})).unwrap().signal_id("s-1");
    let output: Value = client.run_workflow(asked).await.unwrap();
    assert_eq!(output, json!({"greeted": ["hello ann"], "by": "post"}));
    let known = client.start_run(request()).await.unwrap();
    assert!(known.existing);
    let run_id = known.run.run_id;
    let run = client.get_run(run_id.as_str()).await.unwrap();
    let items = run.step("greet").and_then(|step| step.items).unwrap();
    assert_eq!((run.state, items.over, items.failed), (RunState::Succeeded, 1, 0));
    let history = client.run_history(run_id.as_str()).await.unwrap();
    let changes: Vec<_> = client.watch_run(run_id.as_str(), 0, View::Full).collect().await;
    let mut watched = Vec::new();
    for change in changes {
        let change = change.unwrap();
        assert!(change.run.step("greet").is_some());
        watched.extend(change.events.into_iter().map(|event| event.sequence));
    }
    assert_eq!(watched, history.iter().map(|event| event.sequence).collect::<Vec<_>>());
    let listed = client.list_runs("workflow = greet").await.unwrap();
    assert_eq!(listed.items.len(), 1);
    assert!(client.explain_run(run_id.as_str()).await.unwrap().summary.contains("SUCCEEDED"));
    let error = client.run_workflow::<Value>(RunRequest::new("greet").input(json!({"names": [""]})).unwrap());
    let error = error.await.unwrap_err();
    assert_eq!((error.reason(), error.fact("state")), ("RUN_NOT_SUCCEEDED", Some("FAILED")));
    assert!(error.message().contains("NoName"), "{}", error.message());
    worker.abort();
}
