//! `coretex workflow`: workflows in files, looked at without a server.

use super::problems::{documents, read, tell, unusable};
use super::shown::{Format, line, out, print_document};
use crate::outcome::{Failure, Outcome, REFUSED};
use coretex_workflow::{Workflow, draw, parse, schema};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Commands about workflows.
#[derive(Debug, clap::Subcommand)]
pub(super) enum WorkflowCommand {
    /// Check workflows in files: every mistake with its line
    Validate {
        /// YAML files
        #[arg(required = true)]
        files: Vec<PathBuf>,
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
}

/// How a workflow is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Picture {
    /// For a terminal
    #[default]
    Text,
    /// For Graphviz
    Dot,
    /// For documents
    Mermaid,
}

/// Runs the command.
pub(super) fn run(command: WorkflowCommand, format: Format) -> Outcome {
    match command {
        WorkflowCommand::Validate { files } => validate(&files, format),
        WorkflowCommand::Graph { file, picture } => graph(&file, picture, format),
        WorkflowCommand::Schema => print_document(Format::Json, &schema(), true),
    }
}

fn validate(files: &[PathBuf], format: Format) -> Outcome {
    let mut found = Vec::new();
    let mut is_good = true;
    for file in files {
        let name = file.display().to_string();
        found.push(match parse(&read(file)?) {
            Ok(workflow) => sound(&name, &workflow, format)?,
            Err(problems) => {
                is_good = false;
                tell(&name, &problems, format)?
            }
        });
    }
    if format != Format::Table {
        print_document(format, &json!({ "workflows": found }), true)?;
    }
    if is_good { Ok(()) } else { Err(Failure::Said(REFUSED)) }
}

fn sound(name: &str, workflow: &Workflow, format: Format) -> Outcome<Value> {
    let definition = &workflow.definition;
    let (mut steps, topics) = (0, definition.topics());
    definition.visit(&mut |_| steps += 1);
    if format == Format::Table {
        line(format!("{name}: {} is sound, {steps} steps, {} topics", definition.name, topics.len()))?;
        workflow.warnings.iter().try_for_each(|one| line(format!("{name}:warning: {one}")))?;
    }
    let topics: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
    let warnings = documents(&workflow.warnings);
    Ok(json!({"file": name, "sound": true, "name": &*definition.name, "steps": steps, "topics": topics,
              "warnings": warnings}))
}

fn graph(file: &Path, picture: Picture, format: Format) -> Outcome {
    let workflow = parse(&read(file)?).map_err(|problems| unusable("workflow", file, &problems))?;
    let drawn = draw(
        &workflow.definition,
        match picture {
            Picture::Text => coretex_workflow::Format::Text,
            Picture::Dot => coretex_workflow::Format::Dot,
            Picture::Mermaid => coretex_workflow::Format::Mermaid,
        },
    );
    match format {
        Format::Table => out(&drawn),
        Format::Json | Format::Yaml => print_document(format, &json!({ "graph": drawn }), true),
    }
}
