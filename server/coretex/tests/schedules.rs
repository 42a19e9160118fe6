//! Schedules by the command line, on a real server.
#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

use coretex_testkit::ServerProcess;
use serde_json::Value;
use std::process::{Command, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_coretex");

/// Exit code, standard output, standard error.
async fn schedule(addr: &str, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(BINARY);
    command.arg("schedule").args(args).args(["--addr", addr]).stdin(Stdio::null());
    command.env_remove("CORETEX_NAMESPACE").env_remove("CORETEX_API_KEY");
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

async fn said(addr: &str, args: &[&str]) -> String {
    let (code, out, why) = schedule(addr, args).await;
    assert_eq!(code, 0, "{args:?}: {why}");
    out
}

async fn document(addr: &str, args: &[&str]) -> Value {
    serde_json::from_str(&said(addr, &[args, &["-o", "json"]].concat()).await).unwrap()
}

const NIGHTLY: &str = "
schedule_id: nightly
description: What happened yesterday.
cron: 30 2 8 3 *
time_zone: America/New_York
jitter: 5m
overlap: queue
catch_up: all
job: { topic: report.make, payload: { json: { kind: daily } } }
";

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_keeps_schedules_by_the_command_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    std::fs::write(path("nightly.yaml"), NIGHTLY).unwrap();
    std::fs::write(path("bad.yaml"), "cron: 0 25 * * *\njob: { topic: a }\n").unwrap();
    std::fs::write(path("typo.yaml"), "crom: x\n").unwrap();
    let builder = ServerProcess::builder().unwrap().binary(BINARY);
    let mut server = builder.start().await.unwrap();
    let addr = server.addr();

    let preview = ["preview", "--file", &path("nightly.yaml"), "-n", "1", "--after", "2026-01-01T00:00:00Z"];
    let shown = said(&addr, &preview).await;
    assert!(shown.contains("2026-03-08T03:00:00-04:00") && shown.contains("does not exist"), "{shown}");
    let applied = said(&addr, &["apply", &path("nightly.yaml")]).await;
    assert!(applied.starts_with("nightly  revision 1  created  next "), "{applied}");
    let (code, _, why) = schedule(&addr, &["apply", &path("bad.yaml"), "--id", "bad"]).await;
    assert!(code == 1 && why.contains("hour") && why.contains("0..=23"), "{why}");
    let (code, _, why) = schedule(&addr, &["apply", &path("typo.yaml"), "--id", "typo"]).await;
    assert!(code == 1 && why.contains("crom"), "{why}");

    let got = said(&addr, &["get", "nightly"]).await;
    for part in ["job report.make", "30 2 8 3 * (America/New_York)", "QUEUE", "ALL, at most 100", "0 started"]
    {
        assert!(got.contains(part), "{part}: {got}");
    }
    let list = document(&addr, &["list", "--filter", "topic = report.make"]).await;
    assert_eq!(list["schedules"][0]["spec"]["overlap"], "SCHEDULE_OVERLAP_QUEUE");
    assert!(said(&addr, &["pause", "nightly", "--reason", "holidays"]).await.contains("paused"));
    assert!(said(&addr, &["list"]).await.contains("yes holidays"));
    said(&addr, &["resume", "nightly"]).await;

    let fire = document(&addr, &["trigger", "nightly", "--request-id", "once"]).await;
    assert_eq!(fire["fire"]["outcome"], "SCHEDULE_FIRE_OUTCOME_STARTED");
    let again = said(&addr, &["trigger", "nightly", "--request-id", "once"]).await;
    assert_eq!(again, format!("STARTED  {}\n", fire["fire"]["target_id"].as_str().unwrap()));
    let fires = said(&addr, &["fires", "nightly"]).await;
    assert_eq!(fires.lines().count(), 2, "{fires}");
    assert!(fires.contains("TRIGGER") && fires.contains("STARTED"), "{fires}");
    let (code, _, why) = schedule(&addr, &["backfill", "nightly", "--from", "2016-01-01T00:00:00Z"]).await;
    assert!(code == 1 && why.contains("90d"), "{why}");

    assert_eq!(said(&addr, &["delete", "nightly"]).await, "nightly  deleted\n");
    assert_eq!(said(&addr, &["delete", "nightly"]).await, "nightly  was not there\n");
    let (code, _, why) = schedule(&addr, &["get", "nightly"]).await;
    assert!(code == 1 && why.contains("SCHEDULE_NOT_FOUND"), "{why}");
    server.stop().await.unwrap();
}
