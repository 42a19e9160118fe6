//! `coretex run`: runs of workflows, started, looked at, waited for, changed.

mod change;
mod live;
mod read;
mod start;
mod watch;

use super::client::ClientArgs;
use crate::outcome::Outcome;
use crate::units::Span;

/// Commands about runs.
#[derive(Debug, clap::Subcommand)]
pub(super) enum RunCommand {
    /// Start a run of a workflow
    Start(Box<start::StartArgs>),
    /// Show a run and its steps
    Get(Id),
    /// List runs, newest first
    List(read::ListArgs),
    /// Watch a run until it is over
    Watch(watch::WatchArgs),
    /// Wait for a run; exit 1 unless it succeeds
    Wait(WaitArgs),
    /// Show what happened to a run
    History(Id),
    /// End a run for good; what was done is undone by its compensations
    Cancel(change::CancelArgs),
    /// Send a signal to a run
    Signal(change::SignalArgs),
    /// Make a new run from one that is over, beginning with a step of it
    Rerun(change::RerunArgs),
    /// Say why a run is where it is
    Explain(Id),
}

/// One run.
#[derive(Debug, clap::Args)]
pub(super) struct Id {
    /// Id of the run
    #[arg(value_name = "RUN_ID")]
    pub run_id: String,
}

/// One run and how long to wait for it.
#[derive(Debug, clap::Args)]
pub(super) struct WaitArgs {
    /// Id of the run
    #[arg(value_name = "RUN_ID")]
    pub run_id: String,
    /// How long to wait; without it, until the run is over
    #[arg(long, value_name = "SPAN")]
    pub timeout: Option<Span>,
}

/// Runs the command.
pub(super) async fn run(command: RunCommand, client: &ClientArgs) -> Outcome {
    match command {
        RunCommand::Start(args) => start::start(*args, client).await,
        RunCommand::Get(id) => read::get(id, client).await,
        RunCommand::List(args) => read::list(args, client).await,
        RunCommand::Watch(args) => watch::watch(args, client).await,
        RunCommand::Wait(args) => start::wait(args, client).await,
        RunCommand::History(id) => read::history(id, client).await,
        RunCommand::Cancel(args) => change::cancel(args, client).await,
        RunCommand::Signal(args) => change::signal(args, client).await,
        RunCommand::Rerun(args) => change::rerun(args, client).await,
        RunCommand::Explain(id) => read::explain(id, client).await,
    }
}
