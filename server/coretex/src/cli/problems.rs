//! What is wrong with a file, told as a compiler does: file, line, column, field, message.

use super::shown::{Format, line};
use crate::outcome::{Failure, Outcome};
use coretex_document::{Problem, Problems};
use serde_json::{Value, json};
use std::path::Path;

/// Reads a file that people wrote.
pub(super) fn read(file: &Path) -> Outcome<String> {
    std::fs::read_to_string(file)
        .map_err(|error| Failure::machine(format!("cannot read {}", file.display()), error))
}

/// The refusal of a command that cannot go on with a file. `what` is what it should be: `bundle`, `workflow`.
pub(super) fn unusable(what: &str, file: &Path, problems: &Problems) -> Failure {
    let lines: Vec<String> =
        problems.to_string().lines().map(|line| format!("{}:{line}", file.display())).collect();
    Failure::Machine(format!("the {what} cannot be used\n{}", lines.join("\n")))
}

/// Tells people what is wrong with a file, and gives the document that tells programs.
pub(super) fn tell(name: &str, problems: &Problems, format: Format) -> Outcome<Value> {
    if format == Format::Table {
        problems.list.iter().try_for_each(|problem| line(format!("{name}:{problem}")))?;
        if problems.more > 0 {
            line(format!("{name}: and {} more", problems.more))?;
        }
    }
    Ok(json!({"file": name, "sound": false, "problems": documents(&problems.list), "more": problems.more}))
}

/// Problems as documents.
pub(super) fn documents(problems: &[Problem]) -> Vec<Value> {
    let one = |problem: &Problem| {
        json!({"line": problem.line, "column": problem.column, "field": problem.field,
               "message": problem.message})
    };
    problems.iter().map(one).collect()
}
