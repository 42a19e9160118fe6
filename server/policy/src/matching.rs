//! Whether a job meets the match keys of a rule, and which key it misses first.

use crate::bundle::Match;
use crate::facts::Facts;
use crate::glob::Glob;
use std::sync::Arc;

/// A match key, in the order in which keys are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Topics,
    Tenants,
    Actors,
    ActorTypes,
    Capabilities,
    RiskTags,
    Requires,
    Labels,
    Pack,
}

// === impl Key ===

impl Key {
    /// Its name in a bundle.
    pub const fn name(self) -> &'static str {
        match self {
            Key::Topics => "topics",
            Key::Tenants => "tenants",
            Key::Actors => "actors",
            Key::ActorTypes => "actor_types",
            Key::Capabilities => "capabilities",
            Key::RiskTags => "risk_tags",
            Key::Requires => "requires",
            Key::Labels => "labels",
            Key::Pack => "pack",
        }
    }
}

// === impl Match ===

impl Match {
    /// The first key the job misses; nothing if the rule is about it.
    pub fn first_miss(&self, facts: &Facts<'_>) -> Option<Key> {
        let misses = |patterns: &[Glob], name: &str| !patterns.is_empty() && !any(patterns, name);
        let misses_all = |patterns: &[Glob], names: &[Arc<str>]| {
            !patterns.is_empty() && !names.iter().any(|name| any(patterns, name))
        };
        let has_tag = |pattern: &Glob| facts.risk_tags.iter().any(|tag| pattern.matches(tag));
        let has_label = |(key, patterns): (&Arc<str>, &Vec<Glob>)| {
            facts.label(key).is_some_and(|value| any(patterns, value))
        };
        if misses(&self.topics, facts.topic) {
            Some(Key::Topics)
        } else if misses(&self.tenants, facts.namespace) {
            Some(Key::Tenants)
        } else if misses(&self.actors, facts.actor) {
            Some(Key::Actors)
        } else if misses(&self.actor_types, facts.actor_type) {
            Some(Key::ActorTypes)
        } else if misses_all(&self.capabilities, facts.capabilities) {
            Some(Key::Capabilities)
        } else if !self.risk_tags.iter().all(has_tag) {
            Some(Key::RiskTags)
        } else if misses_all(&self.requires, facts.requires) {
            Some(Key::Requires)
        } else if !self.labels.iter().all(has_label) {
            Some(Key::Labels)
        } else if misses(&self.pack, facts.pack) {
            Some(Key::Pack)
        } else {
            None
        }
    }

    /// True if every job the other is about is one of this one's too. May say no where the answer is yes.
    pub(crate) fn covers(&self, other: &Match) -> bool {
        let wider = |ours: &[Glob], theirs: &[Glob]| {
            ours.is_empty()
                || (!theirs.is_empty() && theirs.iter().all(|their| ours.iter().any(|our| our.covers(their))))
        };
        wider(&self.topics, &other.topics)
            && wider(&self.tenants, &other.tenants)
            && wider(&self.actors, &other.actors)
            && wider(&self.actor_types, &other.actor_types)
            && wider(&self.capabilities, &other.capabilities)
            && self.risk_tags.iter().all(|our| other.risk_tags.iter().any(|their| our.covers(their)))
            && wider(&self.requires, &other.requires)
            && self
                .labels
                .iter()
                .all(|(key, our)| other.labels.get(key).is_some_and(|their| wider(our, their)))
            && wider(&self.pack, &other.pack)
    }
}

fn any(patterns: &[Glob], name: &str) -> bool {
    patterns.iter().any(|pattern| pattern.matches(name))
}
