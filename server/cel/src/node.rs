//! The tree of an expression, its names already resolved.

use crate::kind::Kinds;
use crate::operator::{FoldKind, Function, Operator};
use crate::scope::Source;
use regex::Regex;
use std::sync::Arc;

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) form: Form,
    /// Byte of its own word in the text: of a literal, a name, an operator, a parenthesis.
    pub(crate) at: u32,
    /// Levels below and including this one.
    pub(crate) depth: u32,
}

#[derive(Debug)]
pub(crate) enum Form {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(Arc<str>),
    /// A name of the scope.
    Root(Source),
    /// A variable of a macro, counted from the outermost.
    Name(usize),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
    Select(Box<Node>, Arc<str>),
    /// `has(x.y)`
    Has(Box<Node>, Arc<str>),
    Index(Box<Node>, Box<Node>),
    Not(Box<Node>),
    Negate(Box<Node>),
    Binary(Operator, Box<Node>, Box<Node>),
    And(Vec<Node>),
    Or(Vec<Node>),
    If(Box<[Node; 3]>),
    Call(Function, Vec<Node>),
    Matches(Box<Node>, Regex),
    Fold(Box<Fold>),
}

/// A macro over a list, or over the keys of a map.
#[derive(Debug)]
pub(crate) struct Fold {
    pub(crate) kind: FoldKind,
    pub(crate) over: Node,
    /// The number of its variable.
    pub(crate) name: usize,
    /// The claim about an item; for `map` with two arguments there is none.
    pub(crate) claim: Option<Node>,
    /// What `map` makes of an item.
    pub(crate) made: Option<Node>,
}

// === impl Form ===

impl Form {
    /// Looks at each part directly below.
    pub(crate) fn each_part<'n>(&'n self, look: &mut dyn FnMut(&'n Node)) {
        match self {
            Form::Null
            | Form::Bool(_)
            | Form::Int(_)
            | Form::Double(_)
            | Form::Text(_)
            | Form::Root(_)
            | Form::Name(_) => {}
            Form::List(parts) | Form::And(parts) | Form::Or(parts) | Form::Call(_, parts) => {
                parts.iter().for_each(look);
            }
            Form::Map(entries) => entries.iter().flat_map(|(key, value)| [key, value]).for_each(look),
            Form::Select(of, _)
            | Form::Has(of, _)
            | Form::Not(of)
            | Form::Negate(of)
            | Form::Matches(of, _) => {
                look(of);
            }
            Form::Index(left, right) | Form::Binary(_, left, right) => {
                [left, right].into_iter().for_each(|part| look(part));
            }
            Form::If(parts) => parts.iter().for_each(look),
            Form::Fold(fold) => {
                look(&fold.over);
                [&fold.claim, &fold.made].into_iter().flatten().for_each(look);
            }
        }
    }
}

// === impl Node ===

impl Node {
    /// The kinds it gives if it gives anything, without a look at what its parts give.
    pub(crate) fn kinds(&self) -> Kinds {
        match &self.form {
            Form::Null => Kinds::NULL,
            Form::Int(_) => Kinds::INT,
            Form::Double(_) => Kinds::DOUBLE,
            Form::Negate(_) => Kinds::NUMBER,
            Form::Text(_) => Kinds::TEXT,
            Form::List(_) => Kinds::LIST,
            Form::Map(_) => Kinds::MAP,
            Form::Bool(_) | Form::Has(..) | Form::Not(_) | Form::And(_) | Form::Or(_) | Form::Matches(..) => {
                Kinds::BOOL
            }
            Form::Root(source) => source.kinds(),
            Form::Binary(Operator::Add, left, _) => left.kinds(),
            Form::Binary(operator, ..) => operator.gives(),
            Form::Call(function, _) => function.gives(),
            Form::Fold(fold) => fold.kind.gives(),
            Form::If(parts) => parts[1].kinds().or(parts[2].kinds()),
            Form::Name(_) | Form::Select(..) | Form::Index(..) => Kinds::ANY,
        }
    }
}
