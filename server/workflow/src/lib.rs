//! Workflows as people write them. In: a text in YAML. Out: a definition whose steps go together, and a picture of it.
//! Refused: everything that is wrong, at once, with its line and column and the nearest name for what does not exist.
//! Pure: no I/O, no clock, no chance.
//!
//! ```
//! let text = "
//! name: greet
//! steps:
//!   - id: fetch
//!     topic: job.fetch
//!   - id: greet
//!     needs: [fetch]
//!     topic: job.echo
//!     input: { text: \"Hello ${steps.fetch.output.name}\" }
//! ";
//! let workflow = coretex_workflow::parse(text)?;
//! assert_eq!(workflow.definition.topics().len(), 2);
//! # Ok::<(), coretex_workflow::Problems>(())
//! ```
//!
//! The format is described in `docs/guide/workflows.md`.

mod check;
pub mod decide;
mod draw;
mod expression;
mod facts;
mod input;
mod library;
pub mod limits;
pub mod model;
mod normal;
pub mod plan;
mod read;
mod schema;
#[cfg(test)]
mod tests;

pub use coretex_document::{Problem, Problems, span};
pub use decide::{Bound, Decided, Site};
pub use draw::{Format, draw};
pub use expression::{Expression, Shape, Template};
pub use facts::{Piece, Pieces};
pub use model::Definition;
pub use plan::Plan;
pub use schema::schema;

/// A workflow that can be run.
#[derive(Clone, Debug)]
pub struct Workflow {
    pub definition: Definition,
    /// What may be a mistake, and may not.
    pub warnings: Vec<Problem>,
}

/// Reads and checks a workflow.
pub fn parse(text: &str) -> Result<Workflow, Problems> {
    let (definition, notes) = read::read(text)?;
    // What could be read is checked as well, so that all is told at once.
    let findings = definition.as_ref().map(check::check).unwrap_or_default();
    match (definition, notes.is_empty()) {
        (Some(definition), true) => findings.into_result().map(|warnings| Workflow { definition, warnings }),
        _ => Err(Problems::new(notes.into_list().into_iter().chain(findings.problems).collect())),
    }
}
