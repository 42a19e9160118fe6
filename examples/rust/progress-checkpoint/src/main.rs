//! A long job that says how far it is, keeps checkpoints, and outlives its worker.
#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use coretex_sdk::{Client, Ctx, HandlerError, Result, Worker, job};
use serde::{Deserialize, Serialize};
use std::time::Duration;

const STEPS: u32 = 30;
const STEP: Duration = Duration::from_millis(150);

#[derive(Debug, Serialize, Deserialize)]
struct Walked {
    steps: u32,
    resumed_from: u32,
    attempt: u32,
}

#[job(topic = "example.walk", retries = 4, timeout = "5m")]
async fn walk(ctx: Ctx, steps: u32) -> Result<Walked, HandlerError> {
    let resumed_from = ctx.last_checkpoint::<u32>()?.unwrap_or(0);
    for step in resumed_from..steps {
        tokio::select! {
            () = tokio::time::sleep(STEP) => {}
            stopped = ctx.cancelled() => return Err(stopped.into()),
        }
        ctx.checkpoint(step + 1)?;
        ctx.progress(f64::from(step + 1) / f64::from(steps), format!("step {} of {steps}", step + 1));
    }
    Ok(Walked { steps, resumed_from, attempt: ctx.attempt() })
}

/// A worker whose session ends soon after it falls silent.
fn worker(client: &Client, name: &str) -> Result<Worker> {
    let id = format!("walker-{name}-{}", std::process::id());
    let builder = Worker::builder(client).worker_id(id).session_grace(Duration::from_secs(3));
    builder.heartbeat(Duration::from_secs(1)).bind(walk).build()
}

#[tokio::main]
async fn main() -> Result<()> {
    let client = Client::from_env().await?;
    let first = tokio::spawn(worker(&client, "first")?.run());
    let submitted = client.submit(walk::job(STEPS)).await?;
    println!("submitted {}", submitted.job_id());

    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let Some(progress) = submitted.job().await?.progress else { continue };
        println!("first worker: {}", progress.message);
        if progress.fraction.is_some_and(|fraction| fraction >= 0.3) {
            break;
        }
    }

    // As if its machine had lost power: nothing is finished, nothing is said.
    first.abort();
    println!("the first worker is gone; a second one takes over when its session has expired");
    let second = worker(&client, "second")?;
    let handle = second.handle();
    let serving = tokio::spawn(second.run());

    let walked = submitted.output().await?;
    println!("{walked:?}");
    assert_eq!(walked.steps, STEPS);
    assert!(walked.resumed_from > 0, "the second worker went on from a checkpoint");
    assert!(walked.attempt > 1);

    handle.drain(Duration::from_secs(10)).await;
    serving.await.expect("the worker does not panic")?;
    Ok(())
}
