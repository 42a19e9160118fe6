//! Jobs by `RunJob`: one call each, many at a time.

use super::super::client::ClientArgs;
use super::super::input;
use super::meter::{Meter, spec};
use crate::outcome::{Failure, Outcome};
use coretex_contract::v1;
use std::time::{Duration, Instant};

/// Calls at a time, and for how long.
#[derive(Clone, Debug, clap::Args)]
pub struct RunArgs {
    /// Calls at a time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    in_flight: u32,
    /// Connections they are spread over
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    connections: u32,
    /// How long to call
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Topic of the jobs
    #[arg(long, default_value = "noop")]
    topic: String,
}

/// Longest that one job may take.
const RUN_MAX: Duration = Duration::from_secs(60);

/// Measures calls.
pub(super) async fn run(args: RunArgs, options: &ClientArgs) -> Outcome {
    let mut clients = Vec::new();
    for _ in 0..args.connections {
        clients.push(options.connect().await?);
    }
    let start = Instant::now();
    let callers: Vec<_> = (0..args.in_flight as usize)
        .map(|index| {
            let jobs = clients[index % clients.len()].raw().jobs();
            tokio::spawn(call(jobs, args.topic.clone(), start, args.seconds))
        })
        .collect();
    let mut meter = Meter::new();
    for caller in callers {
        meter.add(&caller.await.map_err(|error| Failure::machine("a caller ended", error))??);
    }
    meter.report(
        &format!("run in_flight={} connections={}", args.in_flight, args.connections),
        meter.count(),
        start.elapsed(),
    )
}

async fn call(
    mut jobs: v1::job_service_client::JobServiceClient<coretex_sdk::raw::Wire>,
    topic: String,
    start: Instant,
    seconds: f64,
) -> Outcome<Meter> {
    let mut meter = Meter::new();
    while start.elapsed().as_secs_f64() < seconds {
        let before = Instant::now();
        let request = v1::RunJobRequest {
            spec: Some(spec(&topic)),
            timeout: Some(input::span(RUN_MAX)),
            view: v1::View::Ref.into(),
            ..Default::default()
        };
        let job = jobs.run_job(request).await?.into_inner().job.unwrap_or_default();
        if job.state != i32::from(v1::JobState::Succeeded) {
            let state = v1::JobState::try_from(job.state).unwrap_or_default().short_name();
            return Err(Failure::Machine(format!(
                "job {} is {state} after {}",
                job.job_id,
                crate::units::Span(RUN_MAX)
            )));
        }
        meter.record(before.elapsed());
    }
    Ok(meter)
}
