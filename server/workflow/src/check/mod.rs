//! How the steps of a workflow go together: ids, needs, and what expressions may read where.

mod kinds;
mod order;
mod reads;

use crate::limits::TEXT_LEN_MAX;
use crate::model::{Definition, Place, Step};
use coretex_document::{Problem, Problems};
use coretex_domain::names::shown;
use order::Lists;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// What was found: mistakes, and what may be one.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) problems: Vec<Problem>,
    pub(crate) warnings: Vec<Problem>,
}

/// Every step by its id, and where it lies.
pub(crate) type Found<'d> = FxHashMap<Arc<str>, (&'d Step, order::Chain)>;

/// Checks a workflow whole.
pub(crate) fn check(definition: &Definition) -> Findings {
    let mut findings = Findings::default();
    let mut lists = Lists::default();
    let mut found = Found::default();
    lists.file(&definition.steps, "steps", &order::Chain::default(), &mut found, &mut findings);
    lists.file(&definition.on_failure, "on_failure", &order::Chain::default(), &mut found, &mut findings);
    lists.close(&mut findings);
    no_undoing(&definition.on_failure, "on_failure", &mut findings);
    reads::check(definition, &lists, &found, &mut findings);
    findings
}

/// What is done after a failure is not undone by one.
fn no_undoing(steps: &[Step], path: &str, findings: &mut Findings) {
    for (n, step) in steps.iter().enumerate() {
        let path = path_of(path, n, step);
        if step.compensate.is_some() {
            let told = "means nothing here: what is done after a failure is never undone";
            findings.problem(step.place, &format!("{path}.compensate"), told);
        }
        no_undoing(step.inner(), &format!("{path}.{}", step.word()), findings);
    }
}

/// The path of a step, as the reader writes it.
pub(crate) fn path_of(list: &str, n: usize, step: &Step) -> String {
    if step.id.is_empty() { format!("{list}[{n}]") } else { format!("{list}[{n}]({})", step.id) }
}

// === impl Findings ===

impl Findings {
    pub(crate) fn problem(&mut self, place: Place, field: &str, message: impl Into<String>) {
        self.problems.push(problem(place, field, message.into()));
    }

    pub(crate) fn warning(&mut self, place: Place, field: &str, message: impl Into<String>) {
        self.warnings.push(problem(place, field, message.into()));
    }

    fn twice(&mut self, path: &str, step: &Step, first: &Step) {
        let told = format!("{} is the id of the step at line {} already", shown(&step.id), first.place.0);
        self.problem(step.place, &format!("{path}.id"), told);
    }

    /// The warnings, if there are no problems.
    pub(crate) fn into_result(self) -> Result<Vec<Problem>, Problems> {
        if self.problems.is_empty() { Ok(self.warnings) } else { Err(Problems::new(self.problems)) }
    }
}

fn problem((line, column): Place, field: &str, mut message: String) -> Problem {
    if let Some((cut, _)) = message.char_indices().nth(TEXT_LEN_MAX) {
        message.truncate(cut);
    }
    Problem { line, column, field: field.into(), message }
}
