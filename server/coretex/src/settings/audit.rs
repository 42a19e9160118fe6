//! Section `audit`: how long it is kept who did what.

use super::engine::span;
use super::layers::Layers;
use std::time::Duration;

/// What becomes of audit records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    pub retention: Duration,
}

const DAY: Duration = Duration::from_secs(86_400);

impl Audit {
    pub fn build(layers: &mut Layers) -> Option<Audit> {
        let retention = span(layers, "audit.retention", DAY, DAY * 3_660)?;
        Some(Audit { retention })
    }
}
