//! What an allowed job must observe. Budgets are enforced by the engine; the rest travels with the assignment.

use crate::bundle::span_text;
use coretex_domain::Span;
use serde::{Serialize, Serializer};
use std::sync::Arc;

/// Never empty: the reader refuses constraints that constrain nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Constraints {
    #[serde(skip_serializing_if = "is_default")]
    pub budgets: Budgets,
    #[serde(skip_serializing_if = "is_default")]
    pub sandbox: Sandbox,
    #[serde(skip_serializing_if = "is_default")]
    pub toolchain: Toolchain,
    #[serde(skip_serializing_if = "is_default")]
    pub diff: DiffLimits,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redaction: Option<Redaction>,
}

/// The most a job may use; they lower what the job asked for and never raise it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Budgets {
    /// Of one attempt.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "some_span_text")]
    pub max_runtime: Option<Span>,
    /// Attempts after the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<u32>,
    /// Model tokens over all attempts, read and written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
    /// Cost over all attempts, in millionths of the installation's currency.
    #[serde(rename = "max_cost", skip_serializing_if = "Option::is_none", serialize_with = "some_cost_text")]
    pub max_cost_micros: Option<u64>,
    /// Jobs under this rule that run at the same time, in a namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_concurrent: Option<u32>,
}

/// What the execution may reach. A list that is set and empty allows nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sandbox {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolated: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_allowlist: Option<Vec<Arc<str>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fs_read_only: Option<Vec<Arc<str>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fs_read_write: Option<Vec<Arc<str>>>,
}

/// What the execution may call. A list that is set and empty allows nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Toolchain {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_tools: Option<Vec<Arc<str>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_commands: Option<Vec<Arc<str>>>,
}

/// How much the execution may change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DiffLimits {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_files: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_lines: Option<u32>,
    /// Paths that may not be touched; patterns in the worker's own words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny_path_globs: Vec<Arc<str>>,
}

/// How much is taken out of what the execution leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Redaction {
    None,
    Standard,
    Strict,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn some_span_text<S: Serializer>(span: &Option<Span>, serializer: S) -> Result<S::Ok, S::Error> {
    match span {
        Some(span) => span_text(span, serializer),
        None => serializer.serialize_none(),
    }
}

/// As a decimal text, so that no digit is lost.
fn some_cost_text<S: Serializer>(micros: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    match micros {
        Some(micros) => {
            serializer.serialize_str(&format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000))
        }
        None => serializer.serialize_none(),
    }
}
