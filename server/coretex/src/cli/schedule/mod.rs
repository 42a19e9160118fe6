//! `coretex schedule`: what is started by itself, and when.

mod change;
mod file;
mod read;

use super::client::ClientArgs;
use crate::outcome::Outcome;

/// Commands about schedules.
#[derive(Debug, clap::Subcommand)]
pub(super) enum ScheduleCommand {
    /// Make schedules of YAML files, or change those that are there
    Apply(change::ApplyArgs),
    /// Show a schedule, and when it starts its target next
    Get {
        /// Its id
        #[arg(value_name = "ID")]
        id: String,
    },
    /// List schedules
    List {
        /// Filter over schedule_id, paused, topic, workflow and creator, for example: paused = true
        #[arg(long, value_name = "EXPR", default_value = "")]
        filter: String,
    },
    /// Show the next times of a schedule, or of a file that is not applied yet
    Preview(read::PreviewArgs),
    /// Start nothing until it is resumed
    Pause {
        /// Its id
        #[arg(value_name = "ID")]
        id: String,
        /// Why, for people
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Go on with the first time after now
    Resume {
        /// Its id
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Start the target once, now
    Trigger(change::TriggerArgs),
    /// Take a schedule away; what it started goes on
    Delete {
        /// Its id
        #[arg(value_name = "ID")]
        id: String,
        /// Only if it is at this revision
        #[arg(long, value_name = "N", default_value_t = 0)]
        revision: u64,
    },
    /// Start the target for times of the past that it was not started for
    Backfill(change::BackfillArgs),
    /// List what became of times, the latest first
    Fires(read::FiresArgs),
}

/// Runs the command.
pub(super) async fn run(command: ScheduleCommand, options: &ClientArgs) -> Outcome {
    match command {
        ScheduleCommand::Apply(args) => change::apply(args, options).await,
        ScheduleCommand::Get { id } => read::get(id, options).await,
        ScheduleCommand::List { filter } => read::list(filter, options).await,
        ScheduleCommand::Preview(args) => read::preview(args, options).await,
        ScheduleCommand::Pause { id, reason } => change::pause(id, reason, options).await,
        ScheduleCommand::Resume { id } => change::resume(id, options).await,
        ScheduleCommand::Trigger(args) => change::trigger(args, options).await,
        ScheduleCommand::Delete { id, revision } => change::delete(id, revision, options).await,
        ScheduleCommand::Backfill(args) => change::backfill(args, options).await,
        ScheduleCommand::Fires(args) => read::fires(args, options).await,
    }
}
