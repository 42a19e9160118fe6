//! The binary as people meet it: exit codes, what is said where, and what is left after a crash.

use coretex_sdk::{JobRequest, JobState};
use coretex_testkit::{ProcessBuilder, ServerProcess};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

const BINARY: &str = env!("CARGO_BIN_EXE_coretex");

fn coretex(args: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CORETEX_")) {
            command.env_remove(name);
        }
    }
    command.args(args).stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    coretex(args).output().expect("the binary runs")
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn process() -> ProcessBuilder {
    ServerProcess::builder().map_or_else(|error| panic!("{error}"), |builder| builder.binary(BINARY))
}

#[test]
fn an_insecure_server_does_not_start_and_says_why() {
    let output = run(&["server", "--listen", "0.0.0.0:7070", "--store", "memory:", "--explain"]);
    let (code, out, why) = said(&output);
    assert_eq!((code, out.as_str()), (Some(78), ""));
    for reason in ["R1 ", "R2 ", "R6 "] {
        assert!(why.lines().any(|line| line.starts_with(reason)), "{why}");
    }
    assert!(why.contains("mend: "), "{why}");
    let (code, _, why) = said(&run(&["dev", "--listen", "0.0.0.0:7070", "-o", "json"]));
    let document: serde_json::Value = serde_json::from_str(&why).expect("a document");
    assert_eq!((code, document["error"]["reasons"][0]["code"].as_str()), (Some(78), Some("R5")));
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("address");
    let (code, _, why) = said(&run(&["dev", "--memory", "--listen", &address.to_string()]));
    assert_eq!(code, Some(78));
    assert!(why.contains(&format!("port {} of 127.0.0.1 is in use", address.port())), "{why}");
}

#[test]
fn a_server_that_is_not_there_is_a_refusal_with_a_hint() {
    let (code, out, why) = said(&run(&["job", "list", "--addr", "http://127.0.0.1:1"]));
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(why.contains("UNREACHABLE") && why.contains("coretex dev"), "{why}");
    let (code, _, why) = said(&run(&["job", "list", "--addr", "http://127.0.0.1:1", "-o", "json"]));
    let document: serde_json::Value = serde_json::from_str(&why).expect("a document");
    assert_eq!((code, document["error"]["code"].as_str()), (Some(1), Some("UNAVAILABLE")));
}

#[test]
fn a_reader_that_leaves_ends_the_program_quietly() {
    let mut child = coretex(&["completion", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("spawn");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("wait");
    let (code, _, why) = said(&output);
    assert_eq!((code, why.as_str()), (Some(0), ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_has_everything_it_acknowledged() {
    let directory = tempfile::tempdir().expect("temp dir");
    let store = directory.path().join("store");
    let mut server = process().directory(&store).start().await.expect("server");
    let client = server.client().await.expect("client");
    let requests = (0..200).map(|n| JobRequest::new("job.kept").job_id(format!("kept-{n}")));
    for submitted in client.submit_many(requests).await {
        submitted.expect("acknowledged");
    }
    server.kill().await.expect("killed");
    let mut server = server.restart().await.expect("again");
    let client = server.client().await.expect("client");
    assert_eq!(client.count("topic = \"job.kept\"").await.expect("count"), (200, true));
    assert_eq!(client.get("kept-199").await.expect("job").state, JobState::Scheduled);
    let second = ["dev", "--listen", "127.0.0.1:0", "--set", "listen.address=127.0.0.1:9"];
    let store_url = format!("file:{}", store.display());
    let (code, _, why) = said(&run(&[&second[..], &["--store", &store_url]].concat()));
    assert_eq!(code, Some(78), "{why}");
    let status = server.stop().await.expect("stopped");
    assert!(status.success(), "{status}");
    assert_checked(&store);
}

/// The store is sound, by the binary's own check.
fn assert_checked(store: &Path) {
    let (code, out, why) = said(&run(&["admin", "fsck", &store.display().to_string(), "-o", "json"]));
    assert_eq!(code, Some(0), "{out}{why}");
    let report: serde_json::Value = serde_json::from_str(&out).expect("a document");
    assert_eq!((report["sound"].as_bool(), report["counts"]["jobs"].as_u64()), (Some(true), Some(200)));
}

#[tokio::test(flavor = "multi_thread")]
async fn any_program_is_a_worker() {
    let server = process().start().await.expect("server");
    let addr = server.addr();
    let script = "cat; echo seen by $CORETEX_TOPIC >&2";
    let worker = ["worker", "run", "--topic", "job.sh", "--addr", &addr, "--exec", "sh", "-c", script];
    let mut worker = tokio::process::Command::from(coretex(&worker));
    let worker =
        worker.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn().expect("worker");
    let submit = [
        "job",
        "submit",
        "--topic",
        "job.sh",
        "--data",
        r#"{"n": [1, 2]}"#,
        "--job-id",
        "a",
        "--wait",
        "-o",
        "json",
        "--addr",
        &addr,
    ];
    let (code, out, why) = tokio::task::spawn_blocking({
        let submit = submit.map(str::to_owned);
        move || said(&run(&submit.each_ref().map(String::as_str)))
    })
    .await
    .expect("no panic");
    assert_eq!(code, Some(0), "{why}");
    let reply: serde_json::Value = serde_json::from_str(&out).expect("a document");
    assert_eq!(reply["job"]["result"]["json"], serde_json::json!({"n": [1, 2]}));
    let (_, log, _) = said(&run(&["job", "output", "a", "--addr", &addr]));
    assert_eq!(log, "seen by job.sh\n");
    let (code, _, why) =
        said(&run(&["job", "submit", "--topic", "BAD TOPIC", "--priority", "12", "--addr", &addr]));
    assert_eq!(code, Some(1));
    assert!(why.contains("spec.topic: ") && why.contains("spec.priority: "), "{why}");
    drop(worker);
}

#[test]
fn the_demo_goes_as_expected() {
    let directory = tempfile::tempdir().expect("temp dir");
    for n in 0..40 {
        std::fs::write(directory.path().join(format!("file-{n}.txt")), format!("line {n}\n").repeat(n))
            .expect("write");
    }
    let started = std::time::Instant::now();
    let (code, out, why) = said(&run(&["demo", &directory.path().display().to_string()]));
    assert_eq!(code, Some(0), "{out}{why}");
    assert!(out.contains("40 of 40 digests are equal"), "{out}");
    assert!(started.elapsed() < Duration::from_secs(300));
}
