//! Policies as the catalog keeps them: a head that says which version is in force, and the versions.

use coretex_domain::resource::{Kind, Resource, ResourceKey};
use coretex_domain::{Namespace, Reason, Refusal};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What the head of a policy holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Head {
    /// The version in force.
    pub(super) version: Option<u64>,
    /// The version judged silently beside it.
    pub(super) shadow: Option<u64>,
    /// The newest version there is.
    pub(super) newest: u64,
}

/// What a version holds. Written once; only whether it is live changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Version {
    pub(super) version: u64,
    pub(super) digest: Arc<str>,
    pub(super) yaml: Arc<str>,
    pub(super) description: Arc<str>,
    pub(super) rule_count: u32,
    pub(super) actor: Arc<str>,
    pub(super) comment: Arc<str>,
}

pub(super) fn head_key(name: &str) -> ResourceKey {
    ResourceKey::new(Kind::Policy, Namespace::installation(), name)
}

pub(super) fn version_key(name: &str, version: u64) -> ResourceKey {
    ResourceKey::new(Kind::PolicyVersion, Namespace::installation(), format!("{name}@{version:010}"))
}

pub(super) fn head_of(one: &Resource) -> Result<Head, Refusal> {
    read(one)
}

pub(super) fn version_of(one: &Resource) -> Result<Version, Refusal> {
    read(one)
}

fn read<T: for<'de> Deserialize<'de>>(one: &Resource) -> Result<T, Refusal> {
    serde_json::from_slice(&one.body)
        .map_err(|error| Refusal::new(Reason::DataCorruption, format!("{} {}: {error}", one.kind, one.name)))
}
