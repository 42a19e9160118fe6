//! Workflows in files, looked at without a server.

use super::super::problems::{documents, read, tell, unusable};
use super::super::shown::{Format, line, out, print_document};
use crate::outcome::{Failure, Outcome, REFUSED};
use coretex_workflow::{Workflow, draw, parse};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// How a workflow is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Picture {
    /// For a terminal
    #[default]
    Text,
    /// For Graphviz
    Dot,
    /// For documents
    Mermaid,
}

/// Checks workflows.
pub(super) fn validate(files: &[PathBuf], format: Format) -> Outcome {
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
    let (steps, topics) = (definition.step_count(), definition.topics());
    if format == Format::Table {
        line(format!("{name}: {} is sound, {steps} steps, {} topics", definition.name, topics.len()))?;
        workflow.warnings.iter().try_for_each(|one| line(format!("{name}:warning: {one}")))?;
    }
    let topics: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
    let warnings = documents(&workflow.warnings);
    Ok(json!({"file": name, "sound": true, "name": &*definition.name, "steps": steps, "topics": topics,
              "warnings": warnings}))
}

/// Draws a workflow.
pub(super) fn graph(file: &Path, picture: Picture, format: Format) -> Outcome {
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
