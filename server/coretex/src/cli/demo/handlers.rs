//! What the demo's worker processes do.

use super::digest::{Digest, Wanted, digest};
use crate::outcome::{Failure, Outcome, REFUSED};
use crate::units::Span;
use coretex_sdk::{Client, Ctx, ErrorExt as _, HandlerError, Payload, Worker};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Topic of the digests.
pub(super) const DIGEST: &str = "job.file.digest";
/// Topic of jobs that take their time.
pub(super) const SLOW: &str = "job.slow";

/// Processes of the demo.
#[derive(Debug, clap::Subcommand)]
pub enum HandlerCommand {
    /// A worker with the demo's handlers
    Worker(WorkerArgs),
    /// A program that fails
    Fail,
}

/// Which of them.
#[derive(Debug, clap::Args)]
pub struct WorkerArgs {
    #[arg(long)]
    server: String,
    #[arg(long)]
    worker_id: String,
    #[arg(long, default_value_t = 8)]
    slots: u32,
    #[arg(long = "topic")]
    topics: Vec<String>,
    #[arg(long, default_value_t = Span(Duration::from_secs(3)))]
    session_grace: Span,
}

/// Input of a slow job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Slow {
    pub ms: u64,
}

/// Is one of the processes.
pub fn handle(command: HandlerCommand) -> Outcome {
    match command {
        HandlerCommand::Fail => {
            super::note("the printer is on fire");
            Err(Failure::Said(3))
        }
        HandlerCommand::Worker(args) => {
            crate::logging::start_quiet();
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .map_err(|error| Failure::machine("cannot start", error))?;
            runtime.block_on(work(args))
        }
    }
}

async fn work(args: WorkerArgs) -> Outcome {
    let mut builder = Worker::builder(Client::builder(&args.server))
        .worker_id(&args.worker_id)
        .slots(args.slots)
        .session_grace(args.session_grace.0)
        .heartbeat(args.session_grace.0 / 4)
        .drain_grace(Duration::from_secs(5));
    for topic in &args.topics {
        builder = match topic.as_str() {
            DIGEST => builder.bind_blocking(DIGEST, digest_file),
            SLOW => builder.bind_fn(SLOW, slow),
            other => return Err(Failure::Usage(format!("the demo has no handler for {other}"))),
        };
    }
    let report = builder.build()?.run().await?;
    if report.abandoned > 0 { Err(Failure::Said(REFUSED)) } else { Ok(()) }
}

fn digest_file(_: Ctx, wanted: Wanted) -> Result<Digest, HandlerError> {
    // A file that is gone will not come back by trying again.
    digest(&wanted.path).terminal()
}

async fn slow(ctx: Ctx, wanted: Slow) -> Result<Payload, HandlerError> {
    tokio::select! {
        () = tokio::time::sleep(Duration::from_millis(wanted.ms)) => Ok(Payload::json(&wanted)?),
        cancelled = ctx.cancelled() => Err(cancelled.into()),
    }
}
