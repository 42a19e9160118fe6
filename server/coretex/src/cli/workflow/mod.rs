//! `coretex workflow`: graphs of steps, in files and on a server.

mod offline;
mod online;

use super::client::ClientArgs;
use super::shown::print_document;
use super::{Format, IsPatient, on_runtime};
use crate::outcome::Outcome;
use offline::Picture;
use std::path::PathBuf;

/// Commands about workflows.
#[derive(Debug, clap::Subcommand)]
pub(super) enum WorkflowCommand {
    /// Check workflows in files: every mistake with its line
    Validate {
        /// YAML files
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Ask the server, which also tells topics that no worker serves
        #[arg(long)]
        server: bool,
    },
    /// Draw the steps of a workflow
    Graph {
        /// YAML file
        file: PathBuf,
        /// How it is drawn
        #[arg(long = "as", value_enum, default_value_t)]
        picture: Picture,
    },
    /// Print the JSON Schema of workflows, for editors
    Schema,
    /// Keep a workflow on the server; one that says something else is a new version
    Apply(online::ApplyArgs),
    /// List the workflows of the server
    List(online::ListArgs),
    /// Show a workflow of the server
    Get(online::GetArgs),
    /// List the versions of a workflow, newest first
    Versions(online::VersionsArgs),
    /// Take a workflow away; its versions stay
    Delete(online::DeleteArgs),
}

impl WorkflowCommand {
    /// True if no server is asked.
    pub(super) fn is_serverless(&self) -> bool {
        match self {
            WorkflowCommand::Validate { server, .. } => !server,
            WorkflowCommand::Graph { .. } | WorkflowCommand::Schema => true,
            WorkflowCommand::Apply(_)
            | WorkflowCommand::List(_)
            | WorkflowCommand::Get(_)
            | WorkflowCommand::Versions(_)
            | WorkflowCommand::Delete(_) => false,
        }
    }
}

/// Runs the command.
pub(super) fn run(command: WorkflowCommand, options: &ClientArgs) -> Outcome {
    match command {
        WorkflowCommand::Validate { files, server: false } => offline::validate(&files, options.output),
        WorkflowCommand::Graph { file, picture } => offline::graph(&file, picture, options.output),
        WorkflowCommand::Schema => print_document(Format::Json, &coretex_workflow::schema(), true),
        WorkflowCommand::Validate { files, server: true } => {
            on_runtime(online::validate(&files, options), IsPatient::No)
        }
        WorkflowCommand::Apply(args) => on_runtime(online::apply(args, options), IsPatient::No),
        WorkflowCommand::List(args) => on_runtime(online::list(args, options), IsPatient::No),
        WorkflowCommand::Get(args) => on_runtime(online::get(args, options), IsPatient::No),
        WorkflowCommand::Versions(args) => on_runtime(online::versions(args, options), IsPatient::No),
        WorkflowCommand::Delete(args) => on_runtime(online::delete(args, options), IsPatient::No),
    }
}
