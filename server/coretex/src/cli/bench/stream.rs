//! Jobs over one submit stream, a window of them on the way at a time.

use super::super::client::ClientArgs;
use super::super::shown::note;
use super::meter::{Meter, spec};
use crate::outcome::{Failure, Outcome};
use coretex_contract::v1;
use coretex_sdk::Client;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc};

/// How long jobs on the way may take to end once no more are sent.
const TAIL_MAX: Duration = Duration::from_secs(60);

/// A closed loop over one stream.
#[derive(Clone, Debug, clap::Args)]
pub struct StreamArgs {
    /// Jobs per message
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    batch: u32,
    /// Jobs on the way at a time
    #[arg(long, default_value_t = 4_096, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    in_flight: u32,
    /// How long to send
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// Most jobs to send
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
    jobs: u64,
    /// Topic of the jobs
    #[arg(long, default_value = "noop")]
    topic: String,
    /// Spread the jobs over this many topics, named TOPIC.0, TOPIC.1 …; 0: the topic itself
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    topics: u32,
    /// Label every n-th job env=prod; 0: none
    #[arg(long, default_value_t = 0)]
    risky_every: u64,
}

/// One job at a time.
#[derive(Clone, Debug, clap::Args)]
pub struct LatencyArgs {
    /// How long to measure
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Topic of the jobs
    #[arg(long, default_value = "noop")]
    topic: String,
}

// === impl StreamArgs ===

impl StreamArgs {
    /// The n-th job.
    fn spec(&self, n: u64) -> v1::JobSpec {
        let mut job = match self.topics {
            0 => spec(&self.topic),
            topics => spec(&topic_of(&self.topic, n % u64::from(topics))),
        };
        if self.risky_every > 0 && n.is_multiple_of(self.risky_every) {
            job.labels.insert("env".into(), "prod".into());
        }
        job
    }
}

/// One of several topics.
pub(super) fn topic_of(topic: &str, n: u64) -> String {
    format!("{topic}.{n}")
}

/// Measures a closed loop.
pub(super) async fn run(args: StreamArgs, options: &ClientArgs) -> Outcome {
    let client = options.connect().await?;
    let what = format!("submit-stream batch={} in_flight={}", args.batch, args.in_flight);
    let (meter, took) = drive(&client, &args).await?;
    meter.report(&what, meter.count(), took)
}

/// Measures one job at a time.
pub(super) async fn latency(args: LatencyArgs, options: &ClientArgs) -> Outcome {
    let client = options.connect().await?;
    let loops = StreamArgs {
        batch: 1,
        in_flight: 1,
        seconds: args.seconds,
        jobs: u64::MAX,
        topic: args.topic,
        topics: 0,
        risky_every: 0,
    };
    let (meter, took) = drive(&client, &loops).await?;
    meter.report("latency", meter.count(), took)
}

/// Submits and follows. A job's time runs from the moment its batch was handed to the transport to its completion.
async fn drive(client: &Client, args: &StreamArgs) -> Outcome<(Meter, Duration)> {
    let window = Arc::new(Semaphore::new(args.in_flight.max(args.batch) as usize));
    let (messages, outgoing) = mpsc::channel::<v1::SubmitJobStreamRequest>(16);
    let start = Instant::now();
    let sent = tokio::spawn(send(args.clone(), window.clone(), messages, start));
    let outgoing =
        futures::stream::unfold(
            outgoing,
            |mut outgoing| async move { Some((outgoing.recv().await?, outgoing)) },
        );
    let mut replies = client.raw().jobs().submit_job_stream(outgoing).await?.into_inner();
    let mut meter = Meter::new();
    let mut first_refusal = None;
    let mut batches: BTreeMap<u64, u32> = BTreeMap::new();
    let limit = Duration::from_secs_f64(args.seconds) + TAIL_MAX;
    loop {
        let left = limit.saturating_sub(start.elapsed());
        let Ok(reply) = tokio::time::timeout(left, replies.message()).await else {
            note(format!(
                "{} jobs had not ended {} after the last was sent",
                batches.len(),
                crate::units::Span(TAIL_MAX)
            ));
            break;
        };
        let Some(reply) = reply? else { break };
        let now = start.elapsed();
        let refused = reply.results.iter().filter_map(|result| match &result.outcome {
            Some(v1::submit_result::Outcome::Error(status)) => Some(status.message.clone()),
            _ => None,
        });
        let refused: Vec<String> = refused.collect();
        if reply.sequence > 0 {
            batches.insert(
                reply.sequence,
                u32::try_from(reply.results.len() - refused.len()).unwrap_or_default(),
            );
        }
        window.add_permits(refused.len() + reply.completions.len());
        first_refusal = first_refusal.or(refused.into_iter().next());
        for end in &reply.completions {
            // The sequence is the time of sending, in microseconds.
            meter.record(now.saturating_sub(Duration::from_micros(end.sequence)));
            if let Some(open) = batches.get_mut(&end.sequence) {
                *open -= 1;
                if *open == 0 {
                    batches.remove(&end.sequence);
                }
            }
        }
    }
    let took = start.elapsed();
    sent.abort();
    match first_refusal {
        Some(why) => Err(Failure::Machine(format!("jobs were refused, the first with: {why}"))),
        None => Ok((meter, took)),
    }
}

async fn send(
    args: StreamArgs,
    window: Arc<Semaphore>,
    messages: mpsc::Sender<v1::SubmitJobStreamRequest>,
    start: Instant,
) {
    let (mut last, mut left) = (0, args.jobs);
    while start.elapsed().as_secs_f64() < args.seconds && left > 0 {
        let count = u64::from(args.batch).min(left);
        let Ok(places) = window.acquire_many(u32::try_from(count).unwrap_or(u32::MAX)).await else { return };
        places.forget();
        left -= count;
        // Sequences are unique: two batches of one microsecond get neighbouring ones.
        last = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX).max(last + 1);
        let specs = (left..left + count).map(|n| args.spec(n)).collect();
        let message =
            v1::SubmitJobStreamRequest { sequence: last, specs, follow: true, request_id: String::new() };
        if messages.send(message).await.is_err() {
            return;
        }
    }
}
