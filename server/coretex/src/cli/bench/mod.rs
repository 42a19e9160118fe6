//! `coretex bench`: load on a server that runs elsewhere, one figure per line of JSON.
//!
//! Each command is one process on one thread, so that a comparison with another program compares the server.

mod backlog;
mod frames;
mod meter;
mod policy;
mod sessions;
mod stream;
mod unary;
mod worker;

use super::client::ClientArgs;
use crate::outcome::{Failure, INTERRUPTED, Outcome};

/// Commands that measure.
#[derive(Debug, clap::Subcommand)]
pub enum BenchCommand {
    /// Jobs from submit to end over one stream, closed loop
    SubmitStream(stream::StreamArgs),
    /// Jobs from submit to end, one call each
    Run(unary::RunArgs),
    /// One job at a time over one stream
    Latency(stream::LatencyArgs),
    /// Fill a backlog with no worker there, then measure how fast it drains
    Backlog(backlog::BacklogArgs),
    /// Open worker sessions and keep them
    Sessions(sessions::SessionsArgs),
    /// Judge by a bundle, in this process and without a server
    Policy(policy::PolicyArgs),
    /// Be a worker that does nothing, as fast as it can
    Worker(worker::WorkerArgs),
}

/// Runs the command.
pub fn run(command: BenchCommand, options: &ClientArgs) -> Outcome {
    crate::logging::start_quiet();
    crate::settings::raise_files();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::machine("cannot start", error))?;
    let outcome = runtime.block_on(async {
        let work = async {
            match command {
                BenchCommand::SubmitStream(args) => stream::run(args, options).await,
                BenchCommand::Run(args) => unary::run(args, options).await,
                BenchCommand::Latency(args) => stream::latency(args, options).await,
                BenchCommand::Backlog(args) => backlog::run(args, options).await,
                BenchCommand::Sessions(args) => sessions::run(args, options).await,
                BenchCommand::Policy(args) => policy::run(&args),
                BenchCommand::Worker(args) => worker::run(args, options).await,
            }
        };
        tokio::select! {
            outcome = work => outcome,
            _ = tokio::signal::ctrl_c() => Err(Failure::Said(INTERRUPTED)),
        }
    });
    runtime.shutdown_background();
    outcome
}
