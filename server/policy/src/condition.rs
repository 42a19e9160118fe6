//! Expressions in a bundle: the condition of a rule, and texts with expressions in them.

use crate::inputs::{Inputs, SCOPE};
use coretex_cel::{Mistake, Writes};
use serde::Serialize;

/// A condition in CEL, compiled once.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Condition(coretex_cel::Condition);

/// A text in which `${…}` is replaced by the value of the expression.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Template(coretex_cel::Template);

/// What is wrong with an expression, and at which byte of the text it stands in.
pub(crate) type Wrong = (usize, String);

// === impl Condition ===

impl Condition {
    /// Reads `${expression}`, or the expression by itself.
    pub(crate) fn parse(text: &str) -> Result<Condition, Wrong> {
        coretex_cel::Condition::parse(text, &SCOPE).map(Condition).map_err(wrong)
    }

    /// The expression as written, without `${` and `}`.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether it holds; an error where it has no value.
    pub(crate) fn holds(&self, inputs: &Inputs<'_>) -> Result<bool, String> {
        self.0.holds(inputs, &inputs.purse).map_err(|fault| fault.to_string())
    }
}

// === impl Template ===

impl Template {
    pub(crate) fn parse(text: &str) -> Result<Template, Wrong> {
        coretex_cel::Template::parse(text, &SCOPE, Writes::Keys).map(Template).map_err(wrong)
    }

    /// The text as written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub(crate) fn fill(&self, inputs: &Inputs<'_>) -> Result<String, String> {
        self.0.fill(inputs, &inputs.purse).map_err(|fault| fault.to_string())
    }
}

fn wrong(mistake: Mistake) -> Wrong {
    (mistake.at, mistake.message)
}
