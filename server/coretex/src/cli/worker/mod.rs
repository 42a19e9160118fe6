//! `coretex worker`: be a worker, or look after those that are.

pub mod exec;
mod fleet;
mod run;

use super::client::ClientArgs;
use crate::outcome::Outcome;

/// Commands about workers.
#[derive(Debug, clap::Subcommand)]
pub enum WorkerCommand {
    /// Be a worker: run a program for each job
    Run(Box<run::RunArgs>),
    /// List workers
    List(fleet::ListArgs),
    /// Show a worker
    Get(fleet::GetArgs),
    /// Give a worker no more jobs, and ask it to leave
    Drain(fleet::DrainArgs),
}

/// Runs the command.
pub async fn run(command: WorkerCommand, options: &ClientArgs) -> Outcome {
    match command {
        WorkerCommand::Run(args) => run::run(*args, options).await,
        WorkerCommand::List(args) => fleet::list(args, options).await,
        WorkerCommand::Get(args) => fleet::get(args, options).await,
        WorkerCommand::Drain(args) => fleet::drain(args, options).await,
    }
}
