//! Between the wire and the domain: nothing behind this module has heard of protobuf.

pub(crate) mod approval;
pub(crate) mod ask;
pub(crate) mod assign;
pub(crate) mod config;
mod constraints;
pub(crate) mod dead_letter;
pub(crate) mod event;
pub(crate) mod job;
pub(crate) mod json;
pub(crate) mod payload;
pub(crate) mod policy;
pub(crate) mod put;
pub(crate) mod receipt;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod schedule;
pub(crate) mod spec;
pub(crate) mod time;
pub(crate) mod topic;
pub(crate) mod worker;
pub(crate) mod workflow;

use coretex_domain::names::{self, shown};
use coretex_domain::{Reason, Refusal, Violation};
use std::sync::Arc;

/// Everything that is wrong with a request, gathered before anything is said.
#[derive(Default)]
pub(crate) struct Faults {
    found: Vec<Violation>,
    /// What the faults have in common, if it is narrower than INVALID_FIELD.
    reason: Option<Reason>,
}

impl Faults {
    pub(crate) fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.add_as(Reason::InvalidField, field, message);
    }

    pub(crate) fn add_as(&mut self, reason: Reason, field: impl Into<String>, message: impl Into<String>) {
        let shared = self.reason.is_none_or(|r| r == reason);
        self.reason = Some(if shared { reason } else { Reason::InvalidField });
        self.found.push(Violation { field: field.into(), message: message.into() });
    }

    pub(crate) fn into_result(self) -> Result<(), Refusal> {
        if self.found.is_empty() {
            return Ok(());
        }
        let reason = self.reason.unwrap_or(Reason::InvalidField);
        Err(Refusal { reason, ..Refusal::fields(self.found) })
    }

    /// A check of the domain applied to a field.
    pub(crate) fn check(&mut self, field: &str, checked: Result<(), String>) {
        if let Err(message) = checked {
            self.add(field, message);
        }
    }

    /// A name given or left out.
    pub(crate) fn name(&mut self, field: &str, value: &str) -> Option<Arc<str>> {
        if value.is_empty() {
            return None;
        }
        self.check(field, names::check_worker_name(value));
        Some(value.into())
    }

    /// A key given or left out.
    pub(crate) fn key(&mut self, field: &str, value: &str) -> Option<Arc<str>> {
        if value.is_empty() {
            return None;
        }
        self.check(field, names::check_key(value));
        Some(value.into())
    }

    /// A text with a limit on its bytes.
    pub(crate) fn text(&mut self, field: &str, value: &str, len_max: usize) {
        if value.len() > len_max {
            self.add(
                field,
                format!("must be at most {len_max} bytes, got {}: {}", value.len(), shown(value)),
            );
        }
    }

    /// Names of a list with a limit on their number.
    pub(crate) fn names(&mut self, field: &str, values: &[String], count_max: usize) -> Vec<Arc<str>> {
        if values.len() > count_max {
            self.add(field, format!("must have at most {count_max} items, got {}", values.len()));
            return Vec::new();
        }
        for (n, value) in values.iter().enumerate() {
            if let Err(message) = names::check_worker_name(value) {
                self.add(format!("{field}[{n}]"), message);
            }
        }
        values.iter().map(|v| v.as_str().into()).collect()
    }

    /// Labels of a job or a worker.
    pub(crate) fn labels(
        &mut self,
        field: &str,
        labels: impl ExactSizeIterator<Item = (String, String)>,
    ) -> Vec<(Arc<str>, Arc<str>)> {
        let count_max = coretex_domain::limits::LABELS_MAX;
        if labels.len() > count_max {
            self.add(field, format!("must have at most {count_max} labels, got {}", labels.len()));
            return Vec::new();
        }
        let mut out: Vec<(Arc<str>, Arc<str>)> = Vec::with_capacity(labels.len());
        for (key, value) in labels {
            if let Err(message) = names::check_label(&key, &value) {
                self.add(format!("{field}[{}]", shown(&key)), message);
            }
            if let Some((other, _)) = out.iter().find(|(k, _)| k.eq_ignore_ascii_case(&key)) {
                self.add(
                    format!("{field}[{}]", shown(&key)),
                    format!("differs from label {} only by case", shown(other)),
                );
            }
            out.push((key.into(), value.into()));
        }
        out
    }
}
