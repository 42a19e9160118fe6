//! Steps of the library, done by the real binary: what strangers write into them, kills and restarts included.
#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

use coretex_sdk::{Client, Job, JobRequest, JobState, RetryPolicy};
use coretex_testkit::{ProcessBuilder, ServerProcess};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const BINARY: &str = env!("CARGO_BIN_EXE_coretex");
const WAIT: Duration = Duration::from_secs(60);

fn builder() -> ProcessBuilder {
    ServerProcess::builder().unwrap().binary(BINARY)
}

fn step(name: &str, input: Value) -> JobRequest {
    JobRequest::new(format!("sys.step.{name}")).json(&input).unwrap()
}

async fn wait(client: &Client, id: &str) -> Job {
    tokio::time::timeout(WAIT, client.wait(id)).await.unwrap().unwrap()
}

async fn run(client: &Client, name: &str, input: Value) -> Job {
    let job = client.submit(step(name, input).retry_policy(RetryPolicy::attempts(1))).await.unwrap();
    wait(client, job.job_id()).await
}

fn result(job: Job) -> Value {
    assert_eq!(job.state, JobState::Succeeded, "{:?}", job.failure);
    job.result.map_or(Value::Null, |result| result.parse().unwrap())
}

fn kind(job: Job) -> String {
    assert_eq!(job.state, JobState::Failed);
    job.failure.unwrap().kind
}

/// A server that answers `503` so many times, then `200`; each answer takes so long.
async fn flaky(failures: usize, slowness: Duration) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
    let counted = count.clone();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let number = counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let _ = socket.read(&mut [0; 4096]).await;
                tokio::time::sleep(slowness).await;
                let status = if number < failures { "503 No\r\nretry-after: 0" } else { "200 OK" };
                let answer = format!(
                    "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: 1\r\n\r\n7"
                );
                let _ = socket.write_all(answer.as_bytes()).await;
            });
        }
    });
    (address, count)
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_of_strangers_are_run_and_none_takes_the_server_with_it() {
    let server = builder().start().await.unwrap();
    let client = server.client().await.unwrap();
    for (filter, wanted) in [(".a + 1", json!(2)), (".[]", json!([1, "ü"])), ("empty", json!(null))] {
        let input = json!({ "jq": filter, "data": { "a": 1, "b": "ü" } });
        assert_eq!(result(run(&client, "transform", input).await), wanted, "{filter}");
    }
    for (filter, failure, told) in [
        (".a |", "JQ_INVALID", "line 1, column 5"),
        ("nope", "JQ_INVALID", "no filter `nope`"),
        (".a.b", "JQ_ERROR", "cannot"),
        ("repeat(1)", "STEP_LIMIT", "outputs"),
        ("def f: f; f", "STEP_LIMIT", "stopped"),
        ("last(range(1e18))", "STEP_LIMIT", "stopped"),
        ("def f: 1 + f; f", "STEP_LIMIT", "too deep"),
        ("\"x\" * 1000000000 | length", "STEP_LIMIT", "memory"),
        ("[range(1e9)] | length", "STEP_LIMIT", "stopped"),
    ] {
        let job = run(&client, "transform", json!({ "jq": filter, "data": { "a": 1 } })).await;
        let message = job.failure.clone().unwrap().message;
        assert!(message.contains(told), "{filter}: {message}");
        assert_eq!(kind(job), failure, "{filter}: {message}");
    }
    assert_eq!(result(run(&client, "set", json!({ "still": "there" })).await), json!({ "still": "there" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn http_calls_whom_the_settings_allow_and_tries_again() {
    let (address, count) = flaky(1, Duration::ZERO).await;
    let input = json!({ "url": format!("http://{address}/") });
    let strict = builder().start().await.unwrap();
    let client = strict.client().await.unwrap();
    assert_eq!(kind(run(&client, "http", input.clone()).await), "EGRESS_REFUSED");
    assert_eq!(count.load(Ordering::SeqCst), 0);

    let off = builder().set("steps.enabled", "set").start().await.unwrap();
    assert_eq!(kind(run(&off.client().await.unwrap(), "http", input.clone()).await), "STEP_DISABLED");

    let server = builder().set("steps.http.allow", &address.to_string()).start().await.unwrap();
    let client = server.client().await.unwrap();
    let job = client.submit(step("http", input)).await.unwrap();
    let job = wait(&client, job.job_id()).await;
    assert_eq!((job.attempt, count.load(Ordering::SeqCst)), (2, 2));
    let out = result(job);
    assert_eq!((&out["status"], &out["body"]), (&json!(200), &json!(7)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_under_way_is_stopped_by_a_cancel_and_goes_on_after_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let (address, count) = flaky(0, Duration::from_secs(3)).await;
    let until = async |wanted: usize| {
        let until = Instant::now() + WAIT;
        while count.load(Ordering::SeqCst) < wanted {
            assert!(Instant::now() < until, "it was not called");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let server = builder()
        .directory(directory.path())
        .set("steps.http.allow", &address.to_string())
        .start()
        .await
        .unwrap();
    let client = server.client().await.unwrap();
    let input = json!({ "url": format!("http://{address}/") });

    let job = client.submit(step("http", input.clone())).await.unwrap();
    until(1).await;
    let asked = Instant::now();
    client.cancel(job.job_id(), "enough").await.unwrap();
    assert_eq!(wait(&client, job.job_id()).await.state, JobState::Cancelled);
    assert!(asked.elapsed() < Duration::from_secs(3), "it did not wait for the answer");

    // One attempt, however often the server dies in the middle of it.
    let job = client.submit(step("http", input).retry_policy(RetryPolicy::attempts(1))).await.unwrap();
    let id = job.job_id().to_owned();
    until(2).await;
    let mut server = server;
    for died in 3..7 {
        server.kill().await.unwrap();
        server = server.restart().await.unwrap();
        until(died).await;
    }
    let client = server.client().await.unwrap();
    assert_eq!(result(wait(&client, &id).await)["body"], 7);
}
