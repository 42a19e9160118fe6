//! The one filter grammar of all lists and watches. In: a text and the fields of the thing listed. Out: a claim
//! about one row at a time, hints for the store, and a stable hash. Refused: what does not parse, with its position.
//!
//! Tightest first: `field op value`, parentheses, `NOT`, `AND`, `OR`.

mod instant;
mod parse;
#[cfg(test)]
mod tests;

pub use instant::{parse_time, print_time};

use crate::job::{Job, StateKind};
use crate::time::Time;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// What a field holds, which decides the operators and values it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    /// Whole numbers; ordered.
    Number,
    /// RFC 3339 in quotes; ordered.
    Time,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Texts under keys: `labels.KEY`.
    Map,
}

/// A field a filter may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: &'static str,
    pub kind: Kind,
}

/// The fields of one kind of row.
pub type Schema = &'static [Field];

/// What a row has in a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// Equals `""`, and nothing else.
    Unset,
    Text(Cow<'a, str>),
    /// Several texts: equal to each of them.
    Texts(Vec<&'a str>),
    Number(i64),
    Time(Time),
}

/// Something a filter can look at.
pub trait Row {
    /// The content of the field; `key` is set for maps.
    fn field(&self, name: &'static str, key: &str) -> Found<'_>;
}

/// Why a text is no filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterError {
    /// Byte offset, from 0.
    pub position: usize,
    pub message: String,
}

/// A parsed filter. The empty one accepts everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    schema: Schema,
    expr: Option<Expr>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Expr {
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Not(Box<Expr>),
    Compare(Compare),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Compare {
    field: Field,
    /// Of a map; empty otherwise.
    key: Arc<str>,
    op: Op,
    /// One value, or several with [`Op::In`].
    values: Vec<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Text(Arc<str>),
    Number(i64),
    Time(Time),
}

pub(crate) const STATES: [&str; 12] = {
    let mut names = [""; 12];
    let mut n = 0;
    while n < names.len() {
        names[n] = StateKind::ALL[n].name();
        n += 1;
    }
    names
};

/// Fields of `ListJobs`.
pub const JOB_FIELDS: Schema = &[
    Field { name: "state", kind: Kind::Word(&STATES) },
    Field { name: "topic", kind: Kind::Text },
    Field { name: "priority", kind: Kind::Number },
    Field { name: "pool", kind: Kind::Text },
    Field { name: "worker_id", kind: Kind::Text },
    Field { name: "run_id", kind: Kind::Text },
    Field { name: "workflow", kind: Kind::Text },
    Field { name: "parent_job_id", kind: Kind::Text },
    Field { name: "trace_id", kind: Kind::Text },
    Field { name: "labels", kind: Kind::Map },
    Field { name: "create_time", kind: Kind::Time },
    Field { name: "end_time", kind: Kind::Time },
    Field { name: "failure.type", kind: Kind::Text },
];

// === impl Filter ===

impl Filter {
    /// Parses a filter over jobs.
    pub fn parse(text: &str) -> Result<Filter, FilterError> {
        Filter::parse_for(JOB_FIELDS, text)
    }

    /// Parses a filter over rows with these fields.
    pub fn parse_for(schema: Schema, text: &str) -> Result<Filter, FilterError> {
        parse::parse(schema, text).map(|expr| Filter { schema, expr })
    }

    pub fn is_empty(&self) -> bool {
        self.expr.is_none()
    }

    pub fn matches(&self, job: &Job) -> bool {
        self.matches_row(job)
    }

    pub fn matches_row(&self, row: &dyn Row) -> bool {
        self.expr.as_ref().is_none_or(|expr| expr.accepts(row))
    }

    /// The topic all accepted rows have, if the filter says so.
    pub fn topic(&self) -> Option<&Arc<str>> {
        self.only("topic")
    }

    /// The state all accepted rows have, if the filter says so.
    pub fn state(&self) -> Option<StateKind> {
        self.only("state").and_then(|name| StateKind::from_name(name))
    }

    /// Bounds on the create time, both inclusive, that every accepted row keeps.
    pub fn create_time_bounds(&self) -> (Time, Time) {
        let (mut from, mut to) = (Time(0), Time::NEVER);
        for compare in self.required().filter(|c| c.field.name == "create_time") {
            let [Value::Time(at)] = compare.values.as_slice() else { continue };
            match compare.op {
                Op::Eq => (from, to) = (from.max(*at), to.min(*at)),
                Op::Gt => from = from.max(Time(at.0.saturating_add(1))),
                Op::Ge => from = from.max(*at),
                Op::Lt => to = to.min(Time(at.0.saturating_sub(1))),
                Op::Le => to = to.min(*at),
                Op::Ne | Op::In => {}
            }
        }
        (from, to)
    }

    /// The same for the same filter, whatever its spacing and quotes.
    pub fn hash(&self) -> u64 {
        xxhash_rust::xxh3::xxh3_64(self.to_string().as_bytes())
    }

    fn only(&self, field: &str) -> Option<&Arc<str>> {
        self.required().find_map(|compare| match (compare.op, compare.values.as_slice()) {
            (Op::Eq | Op::In, [Value::Text(text)]) if compare.field.name == field && !text.is_empty() => {
                Some(text)
            }
            _ => None,
        })
    }

    /// Comparisons that every accepted row passes.
    fn required(&self) -> impl Iterator<Item = &Compare> {
        let mut stack: Vec<&Expr> = self.expr.iter().collect();
        std::iter::from_fn(move || {
            while let Some(expr) = stack.pop() {
                match expr {
                    Expr::And(all) => stack.extend(all),
                    Expr::Compare(compare) => return Some(compare),
                    Expr::Or(_) | Expr::Not(_) => {}
                }
            }
            None
        })
    }
}

// === impl Expr ===

impl Expr {
    fn accepts(&self, row: &dyn Row) -> bool {
        match self {
            Expr::And(all) => all.iter().all(|e| e.accepts(row)),
            Expr::Or(any) => any.iter().any(|e| e.accepts(row)),
            Expr::Not(inner) => !inner.accepts(row),
            Expr::Compare(compare) => compare.accepts(&row.field(compare.field.name, &compare.key)),
        }
    }
}

impl Compare {
    fn accepts(&self, found: &Found<'_>) -> bool {
        match self.op {
            Op::Eq | Op::In => self.values.iter().any(|v| v.equals(found)),
            Op::Ne => !self.values.iter().any(|v| v.equals(found)),
            Op::Lt | Op::Le | Op::Gt | Op::Ge => self.values.iter().any(|v| self.orders(v, found)),
        }
    }

    fn orders(&self, value: &Value, found: &Found<'_>) -> bool {
        let order = match (found, value) {
            (Found::Number(have), Value::Number(want)) => have.cmp(want),
            (Found::Time(have), Value::Time(want)) => have.cmp(want),
            (Found::Unset | Found::Text(_) | Found::Texts(_) | Found::Number(_) | Found::Time(_), _) => {
                return false;
            }
        };
        match self.op {
            Op::Lt => order.is_lt(),
            Op::Le => order.is_le(),
            Op::Gt => order.is_gt(),
            Op::Ge => order.is_ge(),
            Op::Eq | Op::Ne | Op::In => false,
        }
    }
}

impl Value {
    fn equals(&self, found: &Found<'_>) -> bool {
        match (found, self) {
            (Found::Unset, Value::Text(want)) => want.is_empty(),
            (Found::Text(have), Value::Text(want)) => have.as_ref() == want.as_ref(),
            (Found::Texts(have), Value::Text(want)) if have.is_empty() => want.is_empty(),
            (Found::Texts(have), Value::Text(want)) => have.contains(&want.as_ref()),
            (Found::Number(have), Value::Number(want)) => have == want,
            (Found::Time(have), Value::Time(want)) => have == want,
            (Found::Unset | Found::Text(_) | Found::Texts(_) | Found::Number(_) | Found::Time(_), _) => false,
        }
    }
}

// === impl Row for Job ===

impl Row for Job {
    fn field(&self, name: &'static str, key: &str) -> Found<'_> {
        let options = self.spec.options();
        match name {
            "state" => Found::Text(self.state.kind().name().into()),
            "topic" => Found::Text(self.spec.topic.as_ref().into()),
            "priority" => Found::Number(self.spec.priority.into()),
            "pool" => optional(options.placement.pool.as_deref()),
            "worker_id" => optional(self.worker_id.as_deref()),
            "run_id" => match &self.id {
                crate::JobId::Named(id) if id.starts_with("run_") => optional(id.split(':').next()),
                crate::JobId::Named(_) | crate::JobId::Made(_) => Found::Unset,
            },
            "parent_job_id" => optional(options.parent_job_id.as_deref()),
            // A whole `traceparent` is 00-<trace>-<span>-<flags>.
            "trace_id" => optional(options.trace_id.as_deref().map(|id| match id.get(3..35) {
                Some(trace) if id.len() == 55 => trace,
                _ => id,
            })),
            "labels" => {
                optional(options.labels.iter().find(|(k, _)| k.as_ref() == key).map(|(_, v)| v.as_ref()))
            }
            "create_time" => Found::Time(self.create_time),
            "end_time" => self.end_time.map_or(Found::Unset, Found::Time),
            "failure.type" => optional(self.failure().map(|f| f.kind.as_ref())),
            _ => Found::Unset,
        }
    }
}

/// A text that may be missing.
pub fn optional(value: Option<&str>) -> Found<'_> {
    match value {
        None | Some("") => Found::Unset,
        Some(text) => Found::Text(text.into()),
    }
}

// === printing ===

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.expr {
            Some(expr) => expr.print(f, 0),
            None => Ok(()),
        }
    }
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "position {}: {}", self.position, self.message)
    }
}

impl std::error::Error for FilterError {}

impl Expr {
    /// `outer`: 0 stands for OR around it, 1 for AND, 2 for NOT.
    fn print(&self, f: &mut fmt::Formatter<'_>, outer: u8) -> fmt::Result {
        let (parts, word, level) = match self {
            Expr::Or(parts) => (parts, " OR ", 0),
            Expr::And(parts) => (parts, " AND ", 1),
            Expr::Not(inner) => {
                f.write_str("NOT ")?;
                return inner.print(f, 2);
            }
            Expr::Compare(compare) => return write!(f, "{compare}"),
        };
        let wrapped = level < outer;
        if wrapped {
            f.write_str("(")?;
        }
        for (n, part) in parts.iter().enumerate() {
            if n > 0 {
                f.write_str(word)?;
            }
            part.print(f, level + 1)?;
        }
        if wrapped { f.write_str(")") } else { Ok(()) }
    }
}

impl fmt::Display for Compare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.field.name)?;
        if self.field.kind == Kind::Map {
            f.write_str(".")?;
            quote(f, &self.key)?;
        }
        let op = match self.op {
            Op::Eq => " = ",
            Op::Ne => " != ",
            Op::Lt => " < ",
            Op::Le => " <= ",
            Op::Gt => " > ",
            Op::Ge => " >= ",
            Op::In => " IN (",
        };
        f.write_str(op)?;
        for (n, value) in self.values.iter().enumerate() {
            if n > 0 {
                f.write_str(", ")?;
            }
            match value {
                Value::Text(text) => quote(f, text)?,
                Value::Number(number) => write!(f, "{number}")?,
                Value::Time(time) => write!(f, "\"{}\"", print_time(*time))?,
            }
        }
        if self.op == Op::In { f.write_str(")") } else { Ok(()) }
    }
}

fn quote(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("\"")
}
