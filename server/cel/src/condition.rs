//! Conditions: expressions that give true or false.

use crate::expression::{Expression, Mistake};
use crate::fault::Fault;
use crate::inputs::Inputs;
use crate::kind::{Kind, Kinds};
use crate::purse::Purse;
use crate::reads::Read;
use crate::scope::Scope;
use crate::value::Value;
use serde::{Serialize, Serializer};
use std::sync::Arc;

/// A condition, read once.
#[derive(Clone, Debug)]
pub struct Condition {
    text: Arc<str>,
    /// Bytes before the expression in the text it was read from.
    pub(crate) before: usize,
    pub(crate) expression: Arc<Expression>,
}

impl Condition {
    /// Reads `${expression}`, or the expression by itself.
    pub fn parse(text: &str, scope: &'static Scope) -> Result<Condition, Mistake> {
        let trimmed = text.trim();
        let wrong = |at, message| Mistake { at, message };
        let inner = match trimmed.strip_prefix("${") {
            Some(rest) => rest
                .strip_suffix('}')
                .ok_or_else(|| wrong(text.len(), "the `${` is not closed at the end".into()))?,
            None => trimmed,
        };
        let before = inner.as_ptr() as usize - text.as_ptr() as usize;
        let expression = Expression::parse(inner, scope).map_err(|mistake| mistake.after(before))?;
        // What is sure to be one kind is refused here; `check` looks deeper, where kinds are known.
        let kinds = expression.kinds();
        if kinds.told().is_some() && !kinds.has(Kind::Bool) {
            return Err(wrong(before, Condition::gives(kinds)));
        }
        Ok(Condition { text: inner.trim().into(), before, expression: Arc::new(expression) })
    }

    pub(crate) fn gives(kinds: Kinds) -> String {
        // Which kind of number does not matter to someone who needs none.
        let kinds = if kinds.or(Kinds::NUMBER) == Kinds::NUMBER { Kinds::NUMBER } else { kinds };
        format!("a condition gives true or false; this gives {kinds}")
    }

    /// The expression as written, without `${` and `}`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Every name it reads, with its place in the text the condition was read from.
    pub fn reads(&self) -> Vec<Read> {
        let moved = |read: Read| Read { at: self.before + read.at, ..read };
        self.expression.reads().into_iter().map(moved).collect()
    }

    /// Whether it holds; a fault where it has no value.
    pub fn holds(&self, inputs: &dyn Inputs, purse: &Purse) -> Result<bool, Fault> {
        match self.expression.evaluate(inputs, purse)?.opened()? {
            Value::Bool(holds) => Ok(holds),
            other => Err(Fault::new(format!("it gives {}, not true or false", other.told()))),
        }
    }
}

impl PartialEq for Condition {
    fn eq(&self, other: &Condition) -> bool {
        self.text == other.text
    }
}

impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("${{{}}}", self.text))
    }
}
