//! Jobs that compute, on threads of their own and in a lane of their own.
#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use coretex_sdk::{Client, Ctx, HandlerError, Result, Worker, job};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Numbers below this are searched, in so many parts.
const LIMIT: u64 = 1_000_000;
const PARTS: u64 = 16;
/// How many primes there are below the limit.
const PRIMES: u64 = 78_498;

#[derive(Serialize, Deserialize)]
struct Range {
    from: u64,
    to: u64,
}

/// Not `async`: each job gets a thread, and two of them run at a time whatever else the worker does.
#[job(topic = "example.primes", slots = 2, timeout = "5m")]
fn primes(ctx: Ctx, range: Range) -> Result<u64, HandlerError> {
    const STEP: u64 = 10_000;
    let width = (range.to - range.from).max(1) as f64;
    let mut found = 0;
    for start in (range.from..range.to).step_by(STEP as usize) {
        ctx.check()?;
        found += (start..range.to.min(start + STEP)).filter(|number| is_prime(*number)).count() as u64;
        ctx.progress((start - range.from) as f64 / width, format!("{found} found"));
    }
    Ok(found)
}

fn is_prime(number: u64) -> bool {
    number > 1
        && (2..)
            .take_while(|divisor| divisor * divisor <= number)
            .all(|divisor| !number.is_multiple_of(divisor))
}

#[tokio::main]
async fn main() -> Result<()> {
    let client = Client::from_env().await?;
    let worker = Worker::builder(&client).bind(primes).build()?;
    let handle = worker.handle();
    let serving = tokio::spawn(worker.run());

    let started = Instant::now();
    let width = LIMIT / PARTS;
    let mut jobs = Vec::new();
    for part in 0..PARTS {
        let range = Range { from: part * width, to: (part + 1) * width };
        jobs.push(client.submit(primes::job(range)).await?);
    }
    let mut found = 0;
    for job in &jobs {
        found += job.output().await?;
    }
    assert_eq!(found, PRIMES);
    println!("{found} primes below {LIMIT}, in {PARTS} jobs and {:.1?}", started.elapsed());

    handle.drain(Duration::from_secs(10)).await;
    serving.await.expect("the worker does not panic")?;
    Ok(())
}
