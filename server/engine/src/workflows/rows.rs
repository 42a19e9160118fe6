//! Workflows as the catalog keeps them: a head that says which version is the newest, and the versions.

use coretex_domain::resource::{Kind, Resource, ResourceKey};
use coretex_domain::{Namespace, Reason, Refusal, Time};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What the head of a workflow holds. It stays when the workflow is deleted, so that no number is used twice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Head {
    /// The newest version there is, as far as lists show it.
    pub(super) newest: Facts,
    /// When it was made, in milliseconds.
    pub(super) made: u64,
    /// When the workflow was deleted, in milliseconds.
    pub(super) deleted: Option<u64>,
}

/// What is told of a version beside its text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Facts {
    pub(super) version: u64,
    /// Hash of what it says.
    pub(super) digest: Arc<str>,
    pub(super) description: Arc<str>,
    pub(super) step_count: u32,
    pub(super) topic_count: u32,
    pub(super) actor: Arc<str>,
    pub(super) comment: Arc<str>,
    /// The call that made it, so that a repeat of it is told so.
    pub(super) call: Option<Arc<str>>,
}

/// What a version holds. Written once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Version {
    pub(super) facts: Facts,
    /// As it was applied.
    pub(super) text: Arc<str>,
}

// === impl Head ===

impl Head {
    pub(super) fn delete_time(&self) -> Option<Time> {
        self.deleted.map(Time)
    }
}

pub(super) fn head_key(namespace: &Namespace, name: &str) -> ResourceKey {
    ResourceKey::new(Kind::Workflow, namespace.clone(), name)
}

pub(super) fn version_key(namespace: &Namespace, name: &str, version: u64) -> ResourceKey {
    ResourceKey::new(Kind::WorkflowVersion, namespace.clone(), format!("{name}@{version:010}"))
}

pub(super) fn read<T: for<'de> Deserialize<'de>>(one: &Resource) -> Result<T, Refusal> {
    serde_json::from_slice(&one.body)
        .map_err(|error| Refusal::new(Reason::DataCorruption, format!("{} {}: {error}", one.kind, one.name)))
}
