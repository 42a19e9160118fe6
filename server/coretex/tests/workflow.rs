//! `coretex workflow` and the SDK's workflows on a real server: kept, told, checked, deleted, there again after a kill.
#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

use coretex_sdk::{ApplyWorkflow, WorkflowDrawing};
use coretex_testkit::ServerProcess;
use futures::TryStreamExt as _;
use serde_json::Value;
use std::process::{Command, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_coretex");

const FIRST: &str = "
name: greet
steps:
  - { id: fetch, topic: job.fetch }
  - { id: greet, needs: [fetch], topic: job.echo, input: { text: '${steps.fetch.output.name}' } }
";

/// Exit code, standard output, standard error.
async fn workflow(addr: Option<&str>, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(BINARY);
    command.arg("workflow").args(args).stdin(Stdio::null());
    command.env_remove("CORETEX_NAMESPACE").env_remove("CORETEX_API_KEY");
    if let Some(addr) = addr {
        command.args(["--addr", addr]);
    }
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_is_kept_shown_and_deleted_from_the_command_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("greet.yaml");
    let file = path.display().to_string();
    std::fs::write(&path, FIRST).unwrap();
    let server = ServerProcess::builder().unwrap().binary(BINARY).start().await.unwrap();
    let addr = server.addr();
    let ask = async |args: &[&str]| workflow(Some(&addr), args).await;
    let done = async |args: &[&str]| {
        let (code, out, why) = ask(args).await;
        assert_eq!(code, 0, "{args:?}: {why}");
        out
    };
    assert_eq!(
        done(&["apply", &file, "--validate-only"]).await,
        "greet is sound and would be a new version; nothing was changed\n"
    );
    assert_eq!(done(&["apply", &file, "--comment", "the first"]).await, "greet version 1 was made\n");
    assert_eq!(done(&["apply", &file]).await, "greet says the same as version 1; nothing was changed\n");
    std::fs::write(&path, FIRST.replace("job.fetch", "job.get")).unwrap();
    let made: Value = serde_json::from_str(&done(&["apply", &file, "-o", "json"]).await).unwrap();
    assert_eq!((&made["created"], &made["workflow"]["version"]), (&true.into(), &2.into()));
    let (code, _, why) = ask(&["apply", &file, "--revision", "1"]).await;
    assert!(code == 1 && why.contains("REVISION_MISMATCH"), "{why}");

    let listed = done(&["list"]).await;
    assert!(
        listed.lines().nth(1).is_some_and(|line| line.starts_with("greet") && line.contains("newest")),
        "{listed}"
    );
    let versions = done(&["versions", "greet"]).await;
    assert!(versions.lines().count() == 3 && versions.contains("the first"), "{versions}");
    assert_eq!(done(&["get", "greet", "--version", "1", "--text"]).await, FIRST);
    let shown = done(&["get", "greet"]).await;
    assert!(shown.contains("2 of 2") && shown.contains("topic: job.get"), "{shown}");
    let told: Value =
        serde_json::from_str(&done(&["get", "greet", "--definition", "-o", "json"]).await).unwrap();
    assert_eq!(told["workflow"]["definition"]["steps"][1]["needs"][0], "fetch");
    let (code, _, why) = ask(&["get", "greet", "--definition"]).await;
    assert!(code == 2 && why.contains("-o json"), "{why}");
    let (code, _, why) = ask(&["get", "nobody"]).await;
    assert!(code == 1 && why.contains("WORKFLOW_NOT_FOUND"), "{why}");

    assert_eq!(done(&["delete", "greet"]).await, "greet was deleted; its versions stay\n");
    assert_eq!(done(&["delete", "greet"]).await, "greet was deleted before\n");
    assert!(ask(&["list"]).await.2.contains("no workflows"));
    assert!(done(&["list", "--deleted"]).await.contains("deleted"));
    assert_eq!(done(&["apply", &file]).await, "greet version 3 was made\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_also_tells_who_serves_the_topics() {
    let directory = tempfile::tempdir().unwrap();
    let (good, bad) = (directory.path().join("good.yaml"), directory.path().join("bad.yaml"));
    std::fs::write(&good, FIRST).unwrap();
    std::fs::write(&bad, FIRST.replace("needs:", "neds:")).unwrap();
    let (good, bad) = (good.display().to_string(), bad.display().to_string());
    let server = ServerProcess::builder().unwrap().binary(BINARY).start().await.unwrap();
    let addr = server.addr();
    let (code, out, why) = workflow(Some(&addr), &["validate", "--server", &good]).await;
    assert_eq!(code, 0, "{why}");
    assert!(out.contains("greet is sound, 2 steps, 2 topics"), "{out}");
    assert!(
        out.contains(":warning: 4:11: no worker serves topic job.fetch now; step fetch would wait"),
        "{out}"
    );
    let (code, online, _) = workflow(Some(&addr), &["validate", "--server", &bad]).await;
    let (offline_code, offline, _) = workflow(None, &["validate", &bad]).await;
    assert_eq!((code, &online), (1, &offline), "mistakes are told alike");
    assert_eq!(offline_code, 1);
    let (code, out, _) = workflow(Some(&addr), &["validate", "--server", &good, &bad, "-o", "json"]).await;
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &told["workflows"][0]["workers"]["job.echo"]), (1, &0.into()));
    assert_eq!(told["workflows"][1]["sound"], false);
    // Without a server its options mean nothing.
    let (code, _, why) = workflow(Some(&addr), &["validate", &good]).await;
    assert!(code == 2 && why.contains("--addr"), "{why}");
    // What is wrong is said before anything is sent.
    let (code, _, why) = workflow(Some(&addr), &["apply", &bad]).await;
    assert!(code == 1 && why.contains("bad.yaml:5:18: ") && why.contains("did you mean `needs`?"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_keeps_workflows_and_a_killed_server_has_them_again() {
    let store = tempfile::tempdir().unwrap();
    let start = async || {
        let builder = ServerProcess::builder().unwrap().binary(BINARY).directory(store.path().join("s"));
        builder.start().await.unwrap()
    };
    let mut server = start().await;
    let client = server.client().await.unwrap();
    let check =
        client.validate_workflow(ApplyWorkflow::yaml(FIRST), Some(WorkflowDrawing::Dot)).await.unwrap();
    assert!(check.valid && check.drawing.contains("digraph") && check.warnings.len() == 2, "{check:?}");
    let wrong =
        client.validate_workflow(ApplyWorkflow::yaml(FIRST.replace("needs", "neds")), None).await.unwrap();
    assert_eq!(wrong.problems[0].suggestion.as_deref(), Some("needs"), "{wrong:?}");
    let made = client.apply_workflow(ApplyWorkflow::yaml(FIRST).comment("one")).await.unwrap();
    assert!(made.created && made.workflow.version == 1);
    let mut definition = client.workflow_definition("greet", 0).await.unwrap();
    let same = client.apply_workflow(ApplyWorkflow::definition(definition.clone())).await.unwrap();
    assert!(!same.created && same.workflow.comment == "one");
    definition.steps[0].priority = Some(7);
    let next = client.apply_workflow(ApplyWorkflow::definition(definition).at_revision(1)).await.unwrap();
    assert_eq!((next.created, next.workflow.version), (true, 2));
    server.kill().await.unwrap();
    let server = start().await;
    let client = server.client().await.unwrap();
    let found = client.get_workflow("greet", 1).await.unwrap();
    assert_eq!((found.yaml.as_deref(), found.newest_version), (Some(FIRST), 2));
    let all: Vec<_> = client.list_all_workflows("").try_collect().await.unwrap();
    assert_eq!(all.len(), 1);
    let versions: Vec<_> =
        client.workflow_versions("greet").map_ok(|one| one.version).try_collect().await.unwrap();
    assert_eq!(versions, [2, 1]);
    assert!(client.delete_workflow("greet", 2).await.unwrap());
    assert!(!client.delete_workflow("greet", 0).await.unwrap());
    let gone = client.get_workflow("greet", 0).await.unwrap_err();
    assert_eq!(gone.reason(), "WORKFLOW_NOT_FOUND");
}
