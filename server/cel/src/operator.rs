//! What an expression can do to values: operators, functions and macros, and the kinds they take and give.

use crate::kind::Kinds;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FoldKind {
    All,
    Exists,
    ExistsOne,
    Filter,
    Map,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
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
pub(crate) enum Function {
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

// === impl FoldKind ===

impl FoldKind {
    pub(crate) fn find(name: &str) -> Option<FoldKind> {
        Some(match name {
            "all" => FoldKind::All,
            "exists" => FoldKind::Exists,
            "exists_one" => FoldKind::ExistsOne,
            "filter" => FoldKind::Filter,
            "map" => FoldKind::Map,
            _ => return None,
        })
    }

    pub(crate) fn gives(self) -> Kinds {
        match self {
            FoldKind::All | FoldKind::Exists | FoldKind::ExistsOne => Kinds::BOOL,
            FoldKind::Filter | FoldKind::Map => Kinds::LIST,
        }
    }
}

// === impl Function ===

impl Function {
    /// Name, function, arguments with the target as the first, may be called without a target, may be with one.
    pub(crate) const ALL: &[(&str, Function, usize, bool, bool)] = &[
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

    pub(crate) fn name(self) -> &'static str {
        Function::ALL
            .iter()
            .find(|(_, function, ..)| *function == self)
            .map_or("a function", |(name, ..)| name)
    }

    /// What it takes. `size` may also take what opens itself and is none of these inside.
    pub(crate) fn takes(self) -> Kinds {
        match self {
            Function::Size => Kinds::TEXT.or(Kinds::LIST).or(Kinds::MAP),
            Function::Contains
            | Function::StartsWith
            | Function::EndsWith
            | Function::LowerAscii
            | Function::UpperAscii => Kinds::TEXT,
            Function::Int | Function::Double => Kinds::NUMBER.or(Kinds::TEXT),
            Function::String => Kinds::NUMBER.or(Kinds::TEXT).or(Kinds::BOOL),
        }
    }

    pub(crate) fn gives(self) -> Kinds {
        match self {
            Function::Size | Function::Int => Kinds::INT,
            Function::Double => Kinds::DOUBLE,
            Function::Contains | Function::StartsWith | Function::EndsWith => Kinds::BOOL,
            Function::LowerAscii | Function::UpperAscii | Function::String => Kinds::TEXT,
        }
    }
}

// === impl Operator ===

impl Operator {
    /// What arithmetic takes on both sides, and then gives.
    pub(crate) fn takes(self) -> Kinds {
        match self {
            Operator::Add => Kinds::NUMBER.or(Kinds::TEXT).or(Kinds::LIST),
            Operator::Remainder => Kinds::INT,
            Operator::Subtract | Operator::Multiply | Operator::Divide => Kinds::NUMBER,
            Operator::Equal
            | Operator::Differ
            | Operator::Less
            | Operator::LessOrEqual
            | Operator::Greater
            | Operator::GreaterOrEqual
            | Operator::In => Kinds::ANY,
        }
    }

    /// What it gives; for `+` that depends on its sides.
    pub(crate) fn gives(self) -> Kinds {
        match self {
            Operator::Add
            | Operator::Subtract
            | Operator::Multiply
            | Operator::Divide
            | Operator::Remainder => self.takes(),
            Operator::Equal
            | Operator::Differ
            | Operator::Less
            | Operator::LessOrEqual
            | Operator::Greater
            | Operator::GreaterOrEqual
            | Operator::In => Kinds::BOOL,
        }
    }
}
