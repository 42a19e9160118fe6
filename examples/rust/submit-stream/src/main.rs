//! Many jobs on one stream, and the ends of all of them.
#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use coretex_sdk::{Client, Ctx, JobRequest, JobState, Payload, Result, Worker};
use std::time::{Duration, Instant};

const BATCH: usize = 500;
const IN_FLIGHT: usize = 16;

#[tokio::main]
async fn main() -> Result<()> {
    let jobs = std::env::var("JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(100_000);
    let client = Client::from_env().await?;
    let worker = Worker::builder(&client).slots(4_096);
    let worker = worker.bind_fn("example.noop", |_: Ctx, input: Payload| async move { Ok(input) }).build()?;
    let handle = worker.handle();
    let serving = tokio::spawn(worker.run());

    let started = Instant::now();
    let mut stream = client.submit_stream().in_flight(IN_FLIGHT).follow(jobs).open();
    let mut left = jobs;
    let mut tickets = Vec::new();
    while left > 0 {
        let size = left.min(BATCH);
        left -= size;
        let batch =
            (0..size).map(|_| JobRequest::new("example.noop").payload(Payload::new("text/plain", "x")));
        tickets.push(stream.send(batch).await?);
    }
    let mut durable = 0;
    for ticket in tickets {
        for submitted in ticket.await? {
            submitted?;
            durable += 1;
        }
    }
    assert_eq!(durable, jobs);
    let took = started.elapsed();
    println!("{jobs} jobs durable in {took:.2?}: {:.0} per second", jobs as f64 / took.as_secs_f64());

    for _ in 0..jobs {
        let end = stream.next_completion().await.expect("every followed job ends");
        assert_eq!(end.state, JobState::Succeeded);
    }
    let took = started.elapsed();
    println!("{jobs} jobs done in {took:.2?}: {:.0} per second", jobs as f64 / took.as_secs_f64());
    stream.finish().await?;

    handle.drain(Duration::from_secs(10)).await;
    serving.await.expect("the worker does not panic")?;
    Ok(())
}
