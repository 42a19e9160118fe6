//! `coretex step`: the processes that the step library runs filters in. Not for people.

use crate::outcome::{Failure, Outcome};

/// Which of them.
#[derive(Clone, Copy, Debug, clap::Subcommand)]
pub(super) enum StepCommand {
    /// Run one jq filter: the question on standard input, the answer on standard output
    Jq,
}

/// Is one of the processes.
pub(super) fn run(command: StepCommand) -> Outcome {
    match command {
        StepCommand::Jq => {
            coretex_steps::jq::answer().map_err(|error| Failure::machine("cannot run the filter", error))
        }
    }
}
