//! A backlog: filled while no worker is there, then drained.

use super::super::client::ClientArgs;
use super::super::shown::line;
use super::meter::{Meter, spec};
use crate::outcome::{Failure, Outcome};
use coretex_contract::v1;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc};

/// How much, and who drains it.
#[derive(Clone, Debug, clap::Args)]
pub struct BacklogArgs {
    /// Jobs to fill in
    #[arg(long, default_value_t = 500_000)]
    jobs: u64,
    /// Jobs per message
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    batch: u32,
    /// Jobs not acknowledged at a time
    #[arg(long, default_value_t = 4_096, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    in_flight: u32,
    /// Topic of the jobs
    #[arg(long, default_value = "noop")]
    topic: String,
    /// Start `bench worker` once the backlog stands; without it, one is waited for
    #[arg(long)]
    spawn_worker: bool,
    /// Wait this long for the drain
    #[arg(long, default_value_t = 600.0)]
    seconds: f64,
}

/// Fills and drains.
pub(super) async fn run(args: BacklogArgs, options: &ClientArgs) -> Outcome {
    let client = options.connect().await?;
    let window = Arc::new(Semaphore::new(args.in_flight.max(args.batch) as usize));
    let (messages, outgoing) = mpsc::channel::<v1::SubmitJobStreamRequest>(16);
    let start = Instant::now();
    let sender = tokio::spawn(send(args.clone(), window.clone(), messages, start));
    let outgoing =
        futures::stream::unfold(
            outgoing,
            |mut outgoing| async move { Some((outgoing.recv().await?, outgoing)) },
        );
    let mut replies = client.raw().jobs().submit_job_stream(outgoing).await?.into_inner();
    let (mut accepted, mut ended) = (0, 0);
    let (mut commits, mut drain) = (Meter::new(), Meter::new());
    let (mut filled, mut first_end, mut worker) = (start, None, None);
    let limit = Duration::from_secs_f64(args.seconds);
    while ended < args.jobs {
        let left = limit.saturating_sub(filled.elapsed());
        let reply = tokio::time::timeout(left, replies.message()).await;
        let reply = reply.map_err(|_| {
            Failure::Machine(format!("only {ended} of {} jobs had ended in time", args.jobs))
        })??;
        let Some(reply) = reply else { break };
        if !reply.results.is_empty() {
            accepted += check(&reply.results)?;
            window.add_permits(reply.results.len());
            commits.record(start.elapsed().saturating_sub(Duration::from_micros(reply.sequence)));
            if accepted == args.jobs {
                commits.report("backlog fill", accepted, start.elapsed())?;
                line("PREFILLED")?;
                filled = Instant::now();
                worker = args.spawn_worker.then(|| spawn(&args, options)).transpose()?;
            }
        }
        if !reply.completions.is_empty() {
            let first = *first_end.get_or_insert_with(Instant::now);
            ended += reply.completions.len() as u64;
            reply.completions.iter().for_each(|_| drain.record(first.elapsed()));
        }
    }
    sender.abort();
    drop(worker);
    let took = first_end.map(|first| first.elapsed()).unwrap_or_default();
    line(
        json!({"what": "backlog start", "first_end_ms": filled.elapsed().saturating_sub(took).as_millis()})
            .to_string(),
    )?;
    drain.report("backlog drain", ended, took)
}

fn check(results: &[v1::SubmitResult]) -> Outcome<u64> {
    for result in results {
        if let Some(v1::submit_result::Outcome::Error(status)) = &result.outcome {
            return Err(Failure::Machine(format!("a job was refused: {}", status.message)));
        }
    }
    Ok(results.len() as u64)
}

async fn send(
    args: BacklogArgs,
    window: Arc<Semaphore>,
    messages: mpsc::Sender<v1::SubmitJobStreamRequest>,
    start: Instant,
) {
    let (mut last, mut left) = (0, args.jobs);
    while left > 0 {
        let count = u64::from(args.batch).min(left);
        let Ok(places) = window.acquire_many(u32::try_from(count).unwrap_or(u32::MAX)).await else { return };
        places.forget();
        left -= count;
        last = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX).max(last + 1);
        let specs = (0..count).map(|_| spec(&args.topic)).collect();
        let message =
            v1::SubmitJobStreamRequest { sequence: last, specs, follow: true, request_id: String::new() };
        if messages.send(message).await.is_err() {
            return;
        }
    }
}

/// A worker in a process of its own, ended with this one.
fn spawn(args: &BacklogArgs, options: &ClientArgs) -> Outcome<tokio::process::Child> {
    let own = std::env::current_exe().map_err(|error| Failure::machine("cannot find this program", error))?;
    let mut command = tokio::process::Command::new(own);
    command.args(["bench", "worker", "--topic", &args.topic, "--addr", &options.address()]);
    if let Some(key) = options.api_key() {
        command.env("CORETEX_API_KEY", key);
    }
    command.env("CORETEX_NAMESPACE", options.namespace());
    command.kill_on_drop(true).spawn().map_err(|error| Failure::machine("cannot start a worker", error))
}
