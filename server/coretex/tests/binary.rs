//! The binary as people meet it: exit codes, what is said where, and what is left after a crash.

use coretex_sdk::{JobRequest, JobState};
use coretex_testkit::{ProcessBuilder, ServerProcess};
use serde_json::Value;
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

#[tokio::test(flavor = "multi_thread")]
async fn how_long_a_namespace_keeps_things_is_set_and_taken_away_by_the_command_line() {
    let server = process().start().await.expect("a server");
    let url = server.addr();
    let settings = |args: &[&str]| {
        let args = [&["--addr", &url, "-o", "json", "admin", "namespaces"], args].concat();
        let (code, out, why) = said(&run(&args));
        assert_eq!(code, Some(0), "{why}");
        let reply: Value = serde_json::from_str(&out).expect("a document");
        reply["namespace"]["settings"].clone()
    };
    let made = settings(&["create", "a", "--retention", "7d", "--dead-letter-retention", "30d"]);
    assert_eq!(
        (&made["retention"], &made["dead_letter_retention"]),
        (&Value::from("604800s"), &Value::from("2592000s"))
    );
    let kept = settings(&["update", "a", "--description", "A"]);
    assert_eq!(kept["retention"], "604800s", "what is not given stays");
    let reset = settings(&["update", "a", "--reset", "retention", "--dead-letter-retention", "1h"]);
    assert!(reset.get("retention").is_none_or(Value::is_null), "{reset}");
    assert_eq!(reset["dead_letter_retention"], "3600s");
}

/// Writes the version of the tables into a store that no server has open.
fn set_tables(store: &Path, change: impl FnOnce(u32) -> u32) -> u32 {
    let index = rusqlite::Connection::open(store.join("index.db")).expect("an index");
    let query = "SELECT value FROM meta WHERE name = 'store'";
    let mut row: Vec<u8> = index.query_row(query, [], |row| row.get(0)).expect("what the store is");
    row.truncate(row.len() - 8);
    let (version, _) = row.split_first_chunk_mut::<4>().expect("a version");
    let before = u32::from_le_bytes(*version);
    *version = change(before).to_le_bytes();
    let sum = xxhash_rust::xxh3::xxh3_64(&row);
    row.extend_from_slice(&sum.to_le_bytes());
    let changed = index.execute("UPDATE meta SET value = ?1 WHERE name = 'store'", [row]).expect("written");
    assert_eq!(changed, 1);
    before
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_a_later_release_is_left_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = directory.path().join("store");
    let mut server = process().directory(&store).start().await.expect("a server");
    let client = server.client().await.expect("a client");
    client.submit(JobRequest::new("job.a").job_id("a")).await.expect("accepted");
    server.stop().await.expect("stopped");
    let ours = set_tables(&store, |version| version + 1);
    let url = format!("file:{}", store.display());
    let free =
        TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("a port").to_string();
    let (code, _, why) = said(&run(&["dev", "--store", &url, "--listen", &free, "--explain"]));
    assert_eq!(code, Some(78), "{why}");
    let expected = format!(
        "R13 store.url: {url} cannot be opened: the store was written by a later release (tables {}, this one knows up to {ours})",
        ours + 1
    );
    assert!(why.contains(&expected) && why.contains("mend: start the release that wrote it"), "{why}");
    let (code, _, why) = said(&run(&["admin", "fsck", &url]));
    assert!(code == Some(1) && why.contains("a later release"), "{why}");
    // Nothing in it was touched.
    assert_eq!(set_tables(&store, |version| version - 1), ours + 1);
    let server = process().directory(&store).start().await.expect("a server");
    let job = server.client().await.expect("a client").get("a").await.expect("kept");
    assert_eq!(job.state, JobState::Scheduled);
}
