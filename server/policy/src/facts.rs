//! What a policy may look at, borrowed from the job: building it costs nothing.

use serde_json::Value;
use std::sync::Arc;

/// One question. Texts that are not set are empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'a> {
    /// Match key `tenants`.
    pub namespace: &'a str,
    pub topic: &'a str,
    pub actor: &'a str,
    pub actor_type: &'a str,
    /// What the job is about to exercise.
    pub capabilities: &'a [Arc<str>],
    pub risk_tags: &'a [Arc<str>],
    /// What its worker must have.
    pub requires: &'a [Arc<str>],
    pub labels: &'a [(Arc<str>, Arc<str>)],
    pub pack: &'a str,
    pub priority: u8,
    pub payload: &'a [u8],
    pub content_type: &'a str,
    /// The effective configuration of the job, a map.
    pub config: Option<&'a Value>,
}

impl<'a> Facts<'a> {
    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&'a str> {
        self.labels.iter().find(|(known, _)| **known == *key).map(|(_, value)| &**value)
    }

    /// True if the payload is declared as JSON, or as any type that is written in it.
    pub fn is_json(&self) -> bool {
        coretex_cel::is_json(self.content_type)
    }
}
