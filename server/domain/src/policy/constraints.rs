//! What an allowed job must observe. Budgets are enforced by the server; the rest travels with the assignment.

use crate::time::Span;
use serde_json::{Map, Value as Json};
use std::sync::Arc;

/// Never empty in a decision: a rule that constrains nothing is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Constraints {
    pub budgets: Budgets,
    pub sandbox: Sandbox,
    pub toolchain: Toolchain,
    pub diff: DiffLimits,
    pub redaction: Option<Redaction>,
}

/// The most a job may use; they lower what the job asked for and never raise it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Budgets {
    /// Of one attempt.
    pub max_runtime: Option<Span>,
    /// Attempts after the first.
    pub max_retries: Option<u32>,
    /// Model tokens over all attempts, read and written.
    pub max_tokens: Option<u64>,
    /// Cost over all attempts, in millionths of the installation's currency.
    pub max_cost_micros: Option<u64>,
    /// Jobs under this rule that run at the same time, in a namespace.
    pub max_concurrent: Option<u32>,
}

/// What the execution may reach. A list that is set and empty allows nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sandbox {
    pub isolated: Option<bool>,
    pub network_allowlist: Option<Vec<Arc<str>>>,
    pub fs_read_only: Option<Vec<Arc<str>>>,
    pub fs_read_write: Option<Vec<Arc<str>>>,
}

/// What the execution may call. A list that is set and empty allows nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Toolchain {
    pub allowed_tools: Option<Vec<Arc<str>>>,
    pub allowed_commands: Option<Vec<Arc<str>>>,
}

/// How much the execution may change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiffLimits {
    pub max_files: Option<u32>,
    pub max_lines: Option<u32>,
    /// Paths that may not be touched; patterns in the worker's own words.
    pub deny_path_globs: Vec<Arc<str>>,
}

/// How much is taken out of what the execution leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redaction {
    None,
    Standard,
    Strict,
}

impl Redaction {
    /// The word of it in a bundle.
    pub const fn word(self) -> &'static str {
        match self {
            Redaction::None => "none",
            Redaction::Standard => "standard",
            Redaction::Strict => "strict",
        }
    }
}

/// The value of one constraint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    Span(Span),
    Count(u64),
    /// Millionths of the currency.
    Micros(u64),
    Flag(bool),
    Texts(&'a [Arc<str>]),
    Word(&'static str),
}

/// The group of a constraint in a bundle, its name there, and its value. `redaction` has no group.
pub type Line<'a> = (&'static str, &'static str, Value<'a>);

impl Constraints {
    /// All that is set, in the order and with the words of a bundle: the one list that whoever writes them walks.
    pub fn lines(&self) -> Vec<Line<'_>> {
        let Constraints { budgets, sandbox, toolchain, diff, redaction } = self;
        let count = |value: Option<u32>| value.map(|value| Value::Count(value.into()));
        let globs = Some(diff.deny_path_globs.as_slice()).filter(|globs| !globs.is_empty());
        let all = [
            ("budgets", "max_runtime", budgets.max_runtime.map(Value::Span)),
            ("budgets", "max_retries", count(budgets.max_retries)),
            ("budgets", "max_tokens", budgets.max_tokens.map(Value::Count)),
            ("budgets", "max_cost", budgets.max_cost_micros.map(Value::Micros)),
            ("budgets", "max_concurrent", count(budgets.max_concurrent)),
            ("sandbox", "isolated", sandbox.isolated.map(Value::Flag)),
            ("sandbox", "network_allowlist", texts(&sandbox.network_allowlist)),
            ("sandbox", "fs_read_only", texts(&sandbox.fs_read_only)),
            ("sandbox", "fs_read_write", texts(&sandbox.fs_read_write)),
            ("toolchain", "allowed_tools", texts(&toolchain.allowed_tools)),
            ("toolchain", "allowed_commands", texts(&toolchain.allowed_commands)),
            ("diff", "max_files", count(diff.max_files)),
            ("diff", "max_lines", count(diff.max_lines)),
            ("diff", "deny_path_globs", globs.map(Value::Texts)),
            ("", "redaction", redaction.map(|redaction| Value::Word(redaction.word()))),
        ];
        all.into_iter().filter_map(|(group, name, value)| Some((group, name, value?))).collect()
    }
}

impl Constraints {
    /// The object a rule would state them with. Lengths of time and amounts are texts, so that no digit is lost.
    pub fn json(&self) -> Map<String, Json> {
        let mut out = Map::new();
        for (group, name, value) in self.lines() {
            if group.is_empty() {
                out.insert(name.to_owned(), value.json());
            } else if let Json::Object(group) = out.entry(group).or_insert_with(|| Json::Object(Map::new())) {
                group.insert(name.to_owned(), value.json());
            }
        }
        out
    }
}

impl Value<'_> {
    fn json(&self) -> Json {
        match self {
            Value::Span(span) => span.to_string().into(),
            Value::Count(count) => (*count).into(),
            Value::Micros(micros) => Amount(*micros).to_string().into(),
            Value::Flag(flag) => (*flag).into(),
            Value::Texts(texts) => texts.iter().map(|text| Json::from(&**text)).collect(),
            Value::Word(word) => (*word).into(),
        }
    }
}

fn texts(value: &Option<Vec<Arc<str>>>) -> Option<Value<'_>> {
    value.as_deref().map(Value::Texts)
}

/// Millionths, shown as a decimal text, so that no digit is lost.
#[derive(Clone, Copy, Debug)]
pub struct Amount(pub u64);

impl std::fmt::Display for Amount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}
