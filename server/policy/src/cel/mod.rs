//! CEL, the Common Expression Language, under a hard cost limit.
//!
//! In: a text at load time; values at judging time. Out: a checked tree; a value. Refused: what does not parse, what
//! names nothing, what is too big or too deep; at judging time what is not defined or costs too much.
//!
//! The parsers of the known crates recurse without a bound that holds (thirty parentheses end a thread with a 2 MiB
//! stack in one, two thousand negations in the other), and their evaluators count nothing. A rule is judged on a
//! shard's loop with a caller's payload in hand, so both the depth of the text and the steps of the evaluation must
//! be bounded by us. Left out of the language: `uint`, `bytes`, timestamps, durations, messages and optionals;
//! there is no clock here and payloads are JSON.

mod call;
mod compare;
mod eval;
mod lex;
mod node;
mod parse;
mod primary;
#[cfg(test)]
mod tests;
mod value;

pub(crate) use eval::{Fault, Inputs};
pub(crate) use value::Value;

use node::Node;

/// A checked expression.
#[derive(Debug)]
pub(crate) struct Expression {
    root: Node,
    /// Most variables in force at once.
    names_max: usize,
}

/// Why a text is no expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// Byte in the text, from 0.
    pub(crate) at: usize,
    pub(crate) message: String,
}

impl Expression {
    pub(crate) fn parse(text: &str) -> Result<Expression, Mistake> {
        parse::parse(text)
    }

    /// What kind of value it gives, as far as its outermost form tells.
    pub(crate) fn kind(&self) -> Option<&'static str> {
        self.root.kind()
    }

    pub(crate) fn evaluate<'a>(&'a self, inputs: &'a Inputs<'a>) -> (Result<Value<'a>, Fault>, u32) {
        eval::evaluate(&self.root, self.names_max, inputs)
    }
}
