//! `coretex policy`: what may run, and who says so.

mod change;
mod job;
mod offline;
mod read;

use super::client::ClientArgs;
use super::{IsPatient, on_runtime};
use crate::outcome::{Failure, Outcome};
use job::JobArgs;
use std::path::PathBuf;

/// Commands about policies.
#[derive(Debug, clap::Subcommand)]
pub(super) enum PolicyCommand {
    /// Check bundles in files: every mistake with its line. Without files, ask the server about a job
    Check {
        /// YAML files
        files: Vec<PathBuf>,
        #[command(flatten)]
        job: Box<JobArgs>,
    },
    /// Say what is decided about a job, and why every rule does or does not: by a file, or by the server
    Explain {
        /// YAML file; left out, the policies in force are asked
        file: Option<PathBuf>,
        #[command(flatten)]
        job: Box<JobArgs>,
    },
    /// Show what differs between two bundles
    Diff {
        /// The bundle as it was
        old: PathBuf,
        /// The bundle as it would be
        new: PathBuf,
    },
    /// Put a bundle in force, or beside what is in force
    Apply(change::ApplyArgs),
    /// Say what a bundle would change about jobs there were
    Simulate(read::SimulateArgs),
    /// Show a policy
    Get {
        /// Its name
        name: String,
        /// Another version than the one in force
        #[arg(long, value_name = "N", default_value_t = 0)]
        version: u64,
    },
    /// List the policies
    List,
    /// List the versions of a policy, newest first
    Versions {
        /// Its name
        name: String,
        /// Most versions to show
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(i32).range(1..=1_000))]
        limit: i32,
    },
    /// Put a version there is in force again
    Rollback(change::RollbackArgs),
    /// Take a policy out of force, or its shadow away
    Delete(change::DeleteArgs),
    /// List what was decided about jobs
    Decisions(read::DecisionsArgs),
}

impl PolicyCommand {
    /// True if no server is asked.
    pub(super) fn is_serverless(&self) -> bool {
        match self {
            PolicyCommand::Check { files, .. } => !files.is_empty(),
            PolicyCommand::Explain { file, .. } => file.is_some(),
            PolicyCommand::Diff { .. } => true,
            _ => false,
        }
    }
}

/// Runs the command.
pub(super) fn run(command: PolicyCommand, options: &ClientArgs) -> Outcome {
    match command {
        PolicyCommand::Check { files, job } if !files.is_empty() && job.topic.is_none() => {
            offline::check(&files, options.output)
        }
        PolicyCommand::Explain { file: Some(file), job } => offline::explain_job(&file, &job, options.output),
        PolicyCommand::Diff { old, new } => offline::show_diff(&old, &new, options.output),
        other => on_runtime(ask(other, options), IsPatient::No),
    }
}

async fn ask(command: PolicyCommand, options: &ClientArgs) -> Outcome {
    match command {
        PolicyCommand::Check { files, job } if files.is_empty() => read::check(&job, options).await,
        PolicyCommand::Check { .. } => {
            Err(Failure::Usage("give files to check, or --topic and what else the job has; not both".into()))
        }
        PolicyCommand::Explain { job, .. } => read::explain(&job, options).await,
        PolicyCommand::Apply(args) => change::apply(args, options).await,
        PolicyCommand::Simulate(args) => read::simulate(args, options).await,
        PolicyCommand::Get { name, version } => read::get(name, version, options).await,
        PolicyCommand::List => read::list(options).await,
        PolicyCommand::Versions { name, limit } => read::versions(name, limit, options).await,
        PolicyCommand::Rollback(args) => change::rollback(args, options).await,
        PolicyCommand::Delete(args) => change::delete(args, options).await,
        PolicyCommand::Decisions(args) => read::decisions(args, options).await,
        PolicyCommand::Diff { old, new } => offline::show_diff(&old, &new, options.output),
    }
}
