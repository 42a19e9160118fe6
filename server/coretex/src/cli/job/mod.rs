//! `coretex job`: submit, look, wait, stop, repeat.

mod asks;
mod change;
mod read;
mod submit;
mod watch;

pub(super) use read::{explanation_text, history_text};

use super::client::ClientArgs;
use crate::outcome::Outcome;
use crate::units::Span;

/// Commands about jobs.
#[derive(Debug, clap::Subcommand)]
pub(super) enum JobCommand {
    /// Submit a job
    Submit(Box<submit::SubmitArgs>),
    /// Show a job
    Get(Id),
    /// List jobs, newest first
    List(read::ListArgs),
    /// Wait for a job; exit 1 unless it succeeds
    Wait(WaitArgs),
    /// Watch jobs change
    Watch(watch::WatchArgs),
    /// Show what happened to a job
    History(Id),
    /// Show what a job's handlers asked and were told
    Asks(Id),
    /// Stop a job for good
    Cancel(change::CancelArgs),
    /// Make a new job from one that ended
    Retry(change::RetryArgs),
    /// Say why a job is where it is
    Explain(Id),
    /// Count jobs
    Count(read::CountArgs),
    /// Show what a job's worker wrote
    Output(watch::OutputArgs),
}

/// One job.
#[derive(Debug, clap::Args)]
pub(super) struct Id {
    /// Id of the job
    #[arg(value_name = "JOB_ID")]
    pub job_id: String,
}

/// One job and how long to wait for it.
#[derive(Debug, clap::Args)]
pub(super) struct WaitArgs {
    /// Id of the job
    #[arg(value_name = "JOB_ID")]
    pub job_id: String,
    /// How long to wait; without it, until the job ends
    #[arg(long, value_name = "SPAN")]
    pub timeout: Option<Span>,
}

/// Runs the command.
pub(super) async fn run(command: JobCommand, client: &ClientArgs) -> Outcome {
    match command {
        JobCommand::Submit(args) => submit::submit(*args, client).await,
        JobCommand::Get(id) => read::get(id, client).await,
        JobCommand::List(args) => read::list(args, client).await,
        JobCommand::Wait(args) => submit::wait(args, client).await,
        JobCommand::Watch(args) => watch::watch(args, client).await,
        JobCommand::History(id) => read::history(id, client).await,
        JobCommand::Asks(id) => asks::asks(id, client).await,
        JobCommand::Cancel(args) => change::cancel(args, client).await,
        JobCommand::Retry(args) => change::retry(args, client).await,
        JobCommand::Explain(id) => read::explain(id, client).await,
        JobCommand::Count(args) => read::count(args, client).await,
        JobCommand::Output(args) => watch::output(args, client).await,
    }
}
