//! The tree of an expression, its names already resolved.

use regex::Regex;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Node {
    pub(super) form: Form,
    /// Levels below and including this one.
    pub(super) depth: u32,
}

#[derive(Debug)]
pub(super) enum Form {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(Arc<str>),
    Job(JobField),
    Config,
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
pub(super) struct Fold {
    pub(super) kind: FoldKind,
    pub(super) over: Node,
    /// The number of its variable.
    pub(super) name: usize,
    /// The claim about an item; for `map` with two arguments there is none.
    pub(super) claim: Option<Node>,
    /// What `map` makes of an item.
    pub(super) made: Option<Node>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FoldKind {
    All,
    Exists,
    ExistsOne,
    Filter,
    Map,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    Differ,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Size,
    Contains,
    StartsWith,
    EndsWith,
    LowerAscii,
    UpperAscii,
    Int,
    Double,
    String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JobField {
    Topic,
    Namespace,
    Actor,
    ActorType,
    Capabilities,
    RiskTags,
    Requires,
    Labels,
    Pack,
    Priority,
    Payload,
    Size,
    ContentType,
}

// === impl FoldKind ===

impl FoldKind {
    pub(super) fn find(name: &str) -> Option<FoldKind> {
        Some(match name {
            "all" => FoldKind::All,
            "exists" => FoldKind::Exists,
            "exists_one" => FoldKind::ExistsOne,
            "filter" => FoldKind::Filter,
            "map" => FoldKind::Map,
            _ => return None,
        })
    }
}

// === impl Function ===

impl Function {
    /// Name, function, arguments with the target as the first, may be called without a target, may be with one.
    pub(super) const ALL: &[(&str, Function, usize, bool, bool)] = &[
        ("size", Function::Size, 1, true, true),
        ("contains", Function::Contains, 2, false, true),
        ("startsWith", Function::StartsWith, 2, false, true),
        ("endsWith", Function::EndsWith, 2, false, true),
        ("lowerAscii", Function::LowerAscii, 1, false, true),
        ("upperAscii", Function::UpperAscii, 1, false, true),
        ("int", Function::Int, 1, true, false),
        ("double", Function::Double, 1, true, false),
        ("string", Function::String, 1, true, false),
    ];
}

// === impl JobField ===

impl JobField {
    pub(super) const ALL: &[(&str, JobField)] = &[
        ("topic", JobField::Topic),
        ("namespace", JobField::Namespace),
        ("tenant", JobField::Namespace),
        ("actor", JobField::Actor),
        ("actor_type", JobField::ActorType),
        ("capabilities", JobField::Capabilities),
        ("risk_tags", JobField::RiskTags),
        ("requires", JobField::Requires),
        ("labels", JobField::Labels),
        ("pack", JobField::Pack),
        ("priority", JobField::Priority),
        ("payload", JobField::Payload),
        ("size", JobField::Size),
        ("content_type", JobField::ContentType),
    ];
}

// === impl Node ===

impl Node {
    /// What it surely gives, for a message; nothing where only the data tells.
    pub(super) fn kind(&self) -> Option<&'static str> {
        match &self.form {
            Form::Null => Some("null"),
            Form::Int(_) | Form::Double(_) | Form::Negate(_) => Some("a number"),
            Form::Text(_) => Some("a text"),
            Form::List(_) => Some("a list"),
            Form::Map(_) | Form::Config => Some("a map"),
            Form::Bool(_) | Form::Has(..) | Form::Not(_) | Form::And(_) | Form::Or(_) | Form::Matches(..) => {
                Some("true or false")
            }
            Form::Job(field) => field.kind(),
            Form::Binary(operator, left, _) => match operator {
                Operator::Add => left.kind(),
                Operator::Subtract | Operator::Multiply | Operator::Divide | Operator::Remainder => {
                    Some("a number")
                }
                Operator::Equal
                | Operator::Differ
                | Operator::Less
                | Operator::LessOrEqual
                | Operator::Greater
                | Operator::GreaterOrEqual
                | Operator::In => Some("true or false"),
            },
            Form::Call(function, _) => Some(match function {
                Function::Size | Function::Int | Function::Double => "a number",
                Function::Contains | Function::StartsWith | Function::EndsWith => "true or false",
                Function::LowerAscii | Function::UpperAscii | Function::String => "a text",
            }),
            Form::Fold(fold) => Some(match fold.kind {
                FoldKind::All | FoldKind::Exists | FoldKind::ExistsOne => "true or false",
                FoldKind::Filter | FoldKind::Map => "a list",
            }),
            Form::If(parts) => parts[1].kind().filter(|kind| parts[2].kind() == Some(*kind)),
            Form::Name(_) | Form::Select(..) | Form::Index(..) => None,
        }
    }
}

impl JobField {
    fn kind(self) -> Option<&'static str> {
        match self {
            JobField::Topic
            | JobField::Namespace
            | JobField::Actor
            | JobField::ActorType
            | JobField::Pack
            | JobField::ContentType => Some("a text"),
            JobField::Capabilities | JobField::RiskTags | JobField::Requires => Some("a list"),
            JobField::Labels => Some("a map"),
            JobField::Priority | JobField::Size => Some("a number"),
            // A payload may be just `true`.
            JobField::Payload => None,
        }
    }
}
