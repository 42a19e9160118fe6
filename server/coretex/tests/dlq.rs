//! Dead letters by the command line and by the SDK, on a real server: a handler breaks, is mended, and all is made good.

use coretex_sdk::{
    Ctx, HandlerError, JobRequest, JobState, Payload, Purge, Redrive, RedrivePhase, RedriveStopReason, Worker,
};
use coretex_testkit::ServerProcess;
use futures::TryStreamExt as _;
use serde_json::Value;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

const BINARY: &str = env!("CARGO_BIN_EXE_coretex");

static IS_MENDED: AtomicBool = AtomicBool::new(false);

async fn handle(_: Ctx, input: Payload) -> Result<Payload, HandlerError> {
    if IS_MENDED.load(Ordering::Acquire) {
        return Ok(input);
    }
    Err(HandlerError::new("UPSTREAM", "upstream said 503"))
}

/// Exit code, standard output, standard error.
async fn dlq(addr: &str, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(BINARY);
    command.arg("dlq").args(args).args(["--addr", addr]).stdin(Stdio::null());
    command.env_remove("CORETEX_NAMESPACE").env_remove("CORETEX_API_KEY");
    let output =
        tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

async fn documents(addr: &str, args: &[&str]) -> Vec<Value> {
    let (code, out, why) = dlq(addr, &[args, &["-o", "json"]].concat()).await;
    assert_eq!(code, 0, "{args:?}: {why}");
    let all = serde_json::Deserializer::from_str(&out).into_iter::<Value>();
    all.collect::<Result<_, _>>().expect("documents")
}

async fn document(addr: &str, args: &[&str]) -> Value {
    documents(addr, args).await.pop().expect("a document")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_redrives_what_a_broken_handler_left() {
    let directory = tempfile::tempdir().expect("temp dir");
    let store = directory.path().join("store");
    let builder = ServerProcess::builder().unwrap_or_else(|error| panic!("{error}"));
    let mut server = builder.binary(BINARY).directory(&store).start().await.expect("server");
    let addr = server.addr();
    let client = server.client().await.expect("client");
    let worker = Worker::builder(&client).bind_fn("job.m", handle).build().expect("worker");
    let (leave, left) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(worker.run_until(async {
        let _ = left.await;
    }));
    for n in 0..25 {
        let request = JobRequest::new("job.m").job_id(format!("m-{n}")).max_attempts(1);
        client.submit(request).await.expect("accepted");
    }
    for n in 0..25 {
        let job = client.wait(format!("m-{n}")).await.expect("ended");
        assert_eq!(job.state, JobState::Failed);
    }

    let groups = document(&addr, &["groups"]).await;
    assert_eq!((groups["count"].as_u64(), groups["groups"][0]["count"].as_u64()), (Some(25), Some(25)));
    let fingerprint = groups["groups"][0]["fingerprint"].as_str().expect("a fingerprint").to_owned();
    let listed = document(&addr, &["list", "--limit", "7", "--oldest-first"]).await;
    assert_eq!(listed["dead_letters"].as_array().map(Vec::len), Some(7));
    assert_eq!(listed["dead_letters"][0]["dead_letter_id"], "m-0");
    let (code, table, _) = dlq(&addr, &["list", "--state", "failed", "--all"]).await;
    assert_eq!((code, table.lines().count()), (0, 26), "{table}");
    assert!(table.contains("UPSTREAM") && table.contains("upstream said 503"), "{table}");
    let (code, shown, _) = dlq(&addr, &["get", "m-3"]).await;
    assert!(code == 0 && shown.contains(&fingerprint) && shown.contains("ATTEMPT"), "{shown}");

    // The handler is still broken: the first stage shows it.
    let (code, said, hint) = dlq(&addr, &["retry", "--fingerprint", &fingerprint, "--canary"]).await;
    assert_eq!(code, 1, "{said}{hint}");
    assert!(said.contains("1 retried") && said.contains("stopped in stage 1"), "{said}");
    assert!(hint.contains("--request-id"), "{hint}");

    IS_MENDED.store(true, Ordering::Release);
    let rest = r#"retried_as = """#;
    let (code, said, _) = dlq(&addr, &["retry", "--filter", rest, "--preview"]).await;
    assert!(code == 0 && said.starts_with("25 dead letters would be retried"), "{said}");
    let told = documents(&addr, &["retry", "--filter", rest, "--canary", "--rate", "200"]).await;
    let last = told.last().expect("a message");
    assert_eq!(last["phase"], "REDRIVE_PHASE_DONE");
    assert_eq!((last["retried"].as_u64(), last["succeeded"].as_u64()), (Some(25), Some(25)), "{last}");
    let new = document(&addr, &["get", "m-7"]).await["dead_letter"]["retried_as"].clone();
    let new = client.get(new.as_str().expect("an id")).await.expect("there");
    assert_eq!((new.state, new.retry_of.as_str()), (JobState::Succeeded, "m-7"));

    let one = document(&addr, &["retry", "m-0", "--data", "{\"n\": 1}", "--request-id", "r"]).await;
    let again = document(&addr, &["retry", "m-0", "--data", "{\"n\": 1}", "--request-id", "r"]).await;
    assert_eq!(
        (one["job"]["job_id"].clone(), again["existing"].as_bool()),
        (again["job"]["job_id"].clone(), Some(true))
    );

    assert_eq!(dlq(&addr, &["delete", "m-0", "m-1"]).await.0, 0);
    let (code, _, why) = dlq(&addr, &["get", "m-0"]).await;
    assert!(code == 1 && why.contains("DEAD_LETTER_NOT_FOUND"), "{why}");
    let (code, _, why) = dlq(&addr, &["purge", "--topic", "job.m"]).await;
    assert!(code == 2 && why.contains("--yes"), "{why}");
    let preview = document(&addr, &["purge", "--topic", "job.m", "--preview"]).await;
    assert_eq!(preview["matched"].as_u64(), Some(24), "23 of the first and one of the redrive that stopped");
    let purged = document(&addr, &["purge", "--topic", "job.m", "--yes"]).await;
    assert_eq!(purged["purged"].as_u64(), Some(24));
    assert!(document(&addr, &["list"]).await["dead_letters"].as_array().is_some_and(Vec::is_empty));
    leave.send(()).expect("the worker runs");
    running.await.expect("no panic").expect("report");
    server.stop().await.expect("stopped");
    let mut fsck = Command::new(BINARY);
    let report = fsck.args(["admin", "fsck", "-o", "json"]).arg(&store).output().expect("it runs");
    let report: Value = serde_json::from_slice(&report.stdout).expect("a document");
    assert_eq!(report["sound"].as_bool(), Some(true), "{report}");
}

async fn always_fails(_: Ctx, _: Payload) -> Result<Payload, HandlerError> {
    Err(HandlerError::new("BROKEN", "as ever"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_sees_all_of_it() {
    let server = ServerProcess::builder().unwrap_or_else(|error| panic!("{error}")).binary(BINARY).start();
    let server = server.await.expect("server");
    let client = server.client().await.expect("client");
    let worker = Worker::builder(&client).bind_fn("job.s", always_fails).build().expect("worker");
    let running = tokio::spawn(worker.run_until(std::future::pending::<()>()));
    for n in 0..30 {
        let request = JobRequest::new("job.s").job_id(format!("s-{n}")).max_attempts(1);
        client.submit(request).await.expect("accepted");
    }
    for n in 0..30 {
        client.wait(format!("s-{n}")).await.expect("ended");
    }
    let letters: Vec<_> = client.list_all_dead_letters("topic = job.s").try_collect().await.expect("a list");
    assert_eq!((letters.len(), letters[0].reason.as_str(), letters[0].attempts), (30, "BROKEN", 1));
    let letter = client.get_dead_letter("s-4").await.expect("there");
    assert_eq!(letter.attempt_list.iter().map(|a| a.reason.as_str()).collect::<Vec<_>>(), ["BROKEN"]);
    assert_eq!(letter.job.map(|job| job.state), Some(JobState::Failed));
    let groups = client.group_dead_letters("").await.expect("groups");
    assert_eq!((groups.groups.len(), groups.count, groups.exact), (1, 30, true));

    let careful = Redrive::all().rate(40).stop_on_repeat();
    assert_eq!(client.preview_redrive(&careful).await.expect("a preview").matched, 30);
    let told: Vec<_> = client.redrive(careful).try_collect().await.expect("progress");
    let last = told.last().expect("a message");
    assert_eq!((last.phase, last.stop_reason), (RedrivePhase::Stopped, Some(RedriveStopReason::Repeated)));
    assert!(last.retried < 30 && last.repeated > 0 && !last.is_done(), "{last:?}");
    let linked: Vec<_> = told.iter().flat_map(|message| &message.results).collect();
    assert_eq!(linked.len() as u64, last.retried);
    for (old, new) in linked {
        assert_eq!(client.get(new).await.expect("there").retry_of, *old);
    }

    assert!(client.retry_dead_letter("s-29").await.is_ok_and(|made| !made.existing));
    assert!(client.delete_dead_letter("s-4").await.expect("deleted"));
    assert!(!client.delete_dead_letter("s-4").await.expect("fine"));
    let purge = Purge::filter("topic = job.s").and_before(std::time::SystemTime::now());
    let matched = client.preview_purge(&purge).await.expect("a preview").matched;
    assert!(matched >= 29, "{matched}");
    assert!(client.purge_dead_letters(purge).await.expect("purged") >= matched);
    running.abort();
}
