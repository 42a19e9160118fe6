//! An expression: read once, evaluated often.

use crate::fault::Fault;
use crate::inputs::Inputs;
use crate::kind::Kinds;
use crate::node::Node;
use crate::purse::{Meter, Purse};
use crate::scope::Scope;
use crate::value::Value;
use crate::{eval, parse};

/// A checked expression.
#[derive(Debug)]
pub struct Expression {
    pub(crate) root: Node,
    /// Most variables in force at once.
    pub(crate) names_max: usize,
    pub(crate) scope: &'static Scope,
}

/// Why a text is no expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Byte in the text, from 0.
    pub at: usize,
    pub message: String,
}

impl Expression {
    /// Reads a text in which the names of a scope may be used.
    pub fn parse(text: &str, scope: &'static Scope) -> Result<Expression, Mistake> {
        parse::parse(text, scope)
    }

    /// The kinds of value it gives, as far as its outermost form tells. [`check`](Expression::check) looks deeper.
    pub fn kinds(&self) -> Kinds {
        self.root.kinds()
    }

    /// Its value.
    pub fn evaluate<'a>(&'a self, inputs: &'a dyn Inputs, purse: &Purse) -> Result<Value<'a>, Fault> {
        self.evaluate_on(inputs, &mut purse.meter())
    }

    /// Its value, paid for by a meter that goes on to pay for what becomes of it.
    pub fn evaluate_on<'a>(
        &'a self,
        inputs: &'a dyn Inputs,
        meter: &mut Meter<'_>,
    ) -> Result<Value<'a>, Fault> {
        eval::evaluate(self, inputs, meter)
    }
}

// === impl Mistake ===

impl Mistake {
    /// The same mistake in a text that has so many bytes before the expression.
    pub(crate) fn after(self, bytes: usize) -> Mistake {
        Mistake { at: bytes + self.at, ..self }
    }
}
