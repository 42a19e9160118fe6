//! Ten thousand dead letters, redriven as an operator does it: looked at, tried, stopped, tried again, at a rate.

use crate::{EVIDENCE, cli, count, document, documents, start};
use coretex_sdk::{Client, Ctx, HandlerError, JobRequest, Payload, Worker};
use futures::StreamExt as _;
use serde_json::Value;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

const LETTERS: usize = 10_000;
const RATE: usize = 1_000;
/// Retries that are made together: what a rate may go beyond by, within any second.
const TOGETHER: usize = RATE / 10;

fn worker(client: &Client, is_mended: &Arc<AtomicBool>) -> Worker {
    let is_mended = is_mended.clone();
    let handle = move |_: Ctx, input: Payload| {
        let is_mended = is_mended.load(Ordering::Acquire);
        async move {
            match is_mended {
                true => Ok(input),
                false => Err(HandlerError::new("UPSTREAM", "upstream said 503")),
            }
        }
    };
    Worker::builder(client).bind_fn("job.m", handle).slots(256).build().unwrap()
}

async fn break_all(client: &Client, addr: &str) {
    let requests = (0..LETTERS).map(|n| JobRequest::new("job.m").job_id(format!("m-{n}")).max_attempts(1));
    let submitted = client.submit_many(requests).await;
    assert!(submitted.iter().all(Result::is_ok), "all are accepted");
    let until = std::time::Instant::now() + Duration::from_secs(60);
    while client.count("topic = job.m AND state = FAILED").await.unwrap().0 < LETTERS as u64 {
        assert!(std::time::Instant::now() < until, "they have not all failed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let groups = document(addr, &["dlq", "groups"]).await;
    assert_eq!(groups["groups"].as_array().map(Vec::len), Some(1), "{groups}");
}

/// When the jobs of a redrive were made, in order.
async fn made(client: &Client) -> Vec<SystemTime> {
    let mut jobs = pin!(client.list_all("topic = job.m AND state = SUCCEEDED"));
    let mut times = Vec::new();
    while let Some(job) = jobs.next().await {
        times.push(job.unwrap().create_time.unwrap());
    }
    times.sort_unstable();
    times
}

/// Most within any second.
fn peak(times: &[SystemTime]) -> usize {
    let mut first = 0;
    let second = Duration::from_secs(1);
    let within = |(last, time): (usize, &SystemTime)| {
        while time.duration_since(times[first]).unwrap() >= second {
            first += 1;
        }
        last + 1 - first
    };
    times.iter().enumerate().map(within).max().unwrap_or(0)
}

fn number(message: &Value, field: &str) -> u64 {
    message[field].as_u64().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_dead_letters_are_redriven_with_care() {
    let (server, client) = start(&[]).await;
    let addr = server.url();
    let is_mended = Arc::new(AtomicBool::new(false));
    let serving = tokio::spawn(worker(&client, &is_mended).run_until(std::future::pending::<()>()));
    break_all(&client, &addr).await;

    // What is there, and what would be done.
    let groups = document(&addr, &["dlq", "groups"]).await;
    let group = &groups["groups"][0];
    assert_eq!((number(group, "count"), groups["exact"].as_bool()), (LETTERS as u64, Some(true)), "{groups}");
    let fingerprint = group["fingerprint"].as_str().unwrap().to_owned();
    let (code, said, _) = cli(&addr, &["dlq", "retry", "--fingerprint", &fingerprint, "--preview"]).await;
    assert!(code == 0 && said.starts_with("10000 dead letters would be retried"), "{said}");
    assert_eq!(client.count("topic = job.m").await.unwrap().0, LETTERS as u64, "nothing was made");

    // The cause is still there: one job shows it, or, without stages, few.
    let retry = ["dlq", "retry", "--fingerprint", &fingerprint];
    let (code, said, _) = cli(&addr, &[&retry[..], &["--canary"]].concat()).await;
    assert!(code == 1 && said.contains("1 retried") && said.contains("stopped in stage 1"), "{said}");
    let careful = ["--stop-on-repeat", "--rate", "100", "--filter", r#"retried_as = """#];
    let (code, said, _) = cli(&addr, &[&["dlq", "retry"], &careful[..]].concat()).await;
    assert!(code == 1 && said.contains("failed as before"), "{said}");
    let tried = client.count("topic = job.m").await.unwrap().0 - LETTERS as u64;
    assert!((2..1_000).contains(&tried), "{tried} were tried");

    // Mended: one, ten, all others, at a rate.
    is_mended.store(true, Ordering::Release);
    let rest = r#"retried_as = """#;
    let rate = RATE.to_string();
    let told = documents(&addr, &["dlq", "retry", "--filter", rest, "--canary", "--rate", &rate]).await;
    let last = told.last().unwrap();
    assert_eq!(last["phase"], "REDRIVE_PHASE_DONE", "{last}");
    // Those that were tried left dead letters of their own in the place of the first ones.
    assert_eq!(
        (number(last, "retried"), number(last, "succeeded")),
        (LETTERS as u64, LETTERS as u64),
        "{last}"
    );
    for (stage, most) in [(1, 1), (2, 11)] {
        let of_stage: Vec<&Value> = told.iter().filter(|message| number(message, "stage") == stage).collect();
        assert!(!of_stage.is_empty(), "stage {stage} is told");
        assert!(of_stage.iter().all(|message| number(message, "retried") <= most), "stage {stage}");
    }
    let times = made(&client).await;
    assert_eq!(times.len(), LETTERS);
    let (peak, took) = (peak(&times), times[LETTERS - 1].duration_since(times[0]).unwrap());
    assert!(peak <= RATE + TOGETHER, "{peak} in a second");
    assert!(took >= Duration::from_secs(8), "{took:?} for ten thousand");
    EVIDENCE.add("redriven", LETTERS as u64);
    EVIDENCE.max("redriven_per_second_max", peak as u64);
    let left = document(&addr, &["dlq", "retry", "--filter", rest, "--preview"]).await;
    assert_eq!(number(&left, "matched"), 0, "{left}");
    serving.abort();
    count();
}
