//! What a loop remembers of its judgements: which rules a job meets, by what the match keys of the bundle read.
//!
//! The conditions of these rules are asked each time, so a memo never changes an outcome. A key holds all it stands
//! for and is compared in full: two jobs whose hashes agree never share a verdict. Two generations bound its size.

use crate::bundle::{Bundle, Match};
use crate::compiled::Compiled;
use crate::facts::Facts;
use crate::limits::{MEMO_ENTRIES_DEFAULT, MEMO_KEY_BYTES_MAX};
use crate::outcome::Outcome;
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// Belongs to one judge (a shard's loop); empties itself when the policy is another.
#[derive(Clone, Debug)]
pub struct Memo {
    version: Option<Arc<str>>,
    reads: Reads,
    fresh: FxHashMap<u64, Known>,
    stale: FxHashMap<u64, Known>,
    generation_max: usize,
    key: Vec<u8>,
    hits: u64,
    misses: u64,
}

#[derive(Clone, Debug)]
struct Known {
    key: Box<[u8]>,
    meeting: Box<[u32]>,
}

/// Which facts the match keys of a bundle look at, besides the topic.
#[derive(Clone, Debug, Default)]
struct Reads {
    tenants: bool,
    actors: bool,
    actor_types: bool,
    capabilities: bool,
    risk_tags: bool,
    requires: bool,
    pack: bool,
    labels: Vec<Arc<str>>,
}

// === impl Memo ===

impl Memo {
    /// Remembers at most `entries` answers; a key has at most 1 KiB.
    pub fn new(entries: usize) -> Memo {
        Memo {
            version: None,
            reads: Reads::default(),
            fresh: FxHashMap::default(),
            stale: FxHashMap::default(),
            generation_max: (entries / 2).max(1),
            key: Vec::new(),
            hits: 0,
            misses: 0,
        }
    }

    /// The same outcome as `policy.judge(facts)`, sooner.
    pub fn judge(&mut self, policy: &Compiled, facts: &Facts<'_>) -> Outcome {
        if !self.version.as_ref().is_some_and(|known| Arc::ptr_eq(known, policy.version())) {
            self.begin(policy);
        }
        self.reads.write_key(facts, &mut self.key);
        if self.key.len() > MEMO_KEY_BYTES_MAX {
            self.misses += 1;
            return policy.judge(facts);
        }
        let hash = xxh3_64(&self.key);
        if let Some(known) = self.fresh.get(&hash).filter(|known| *known.key == *self.key) {
            self.hits += 1;
            return policy.decide(known.meeting.iter().copied(), facts);
        }
        let known = match self.stale.remove(&hash).filter(|known| *known.key == *self.key) {
            Some(known) => {
                self.hits += 1;
                known
            }
            None => {
                self.misses += 1;
                Known { key: self.key.as_slice().into(), meeting: policy.meeting(facts) }
            }
        };
        let outcome = policy.decide(known.meeting.iter().copied(), facts);
        if self.fresh.len() >= self.generation_max {
            self.stale = std::mem::take(&mut self.fresh);
        }
        self.fresh.insert(hash, known);
        outcome
    }

    fn begin(&mut self, policy: &Compiled) {
        // An equal version compiled again has the same rules in the same order.
        if self.version.as_ref() != Some(policy.version()) {
            self.fresh.clear();
            self.stale.clear();
            self.reads = Reads::of(policy.bundle());
        }
        self.version = Some(policy.version().clone());
    }

    /// Answers remembered.
    pub fn len(&self) -> usize {
        self.fresh.len() + self.stale.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Questions answered from memory, and questions that were not.
    pub fn hits_and_misses(&self) -> (u64, u64) {
        (self.hits, self.misses)
    }
}

impl Default for Memo {
    fn default() -> Memo {
        Memo::new(MEMO_ENTRIES_DEFAULT)
    }
}

// === impl Reads ===

impl Reads {
    fn of(bundle: &Bundle) -> Reads {
        let any = |read: fn(&Match) -> bool| bundle.rules.iter().any(|rule| read(&rule.matching));
        let labels: BTreeSet<&Arc<str>> =
            bundle.rules.iter().flat_map(|rule| rule.matching.labels.keys()).collect();
        Reads {
            tenants: any(|m| !m.tenants.is_empty()),
            actors: any(|m| !m.actors.is_empty()),
            actor_types: any(|m| !m.actor_types.is_empty()),
            capabilities: any(|m| !m.capabilities.is_empty()),
            risk_tags: any(|m| !m.risk_tags.is_empty()),
            requires: any(|m| !m.requires.is_empty()),
            pack: any(|m| !m.pack.is_empty()),
            labels: labels.into_iter().cloned().collect(),
        }
    }

    /// Every part has its length in front, so different facts have different keys.
    fn write_key(&self, facts: &Facts<'_>, key: &mut Vec<u8>) {
        key.clear();
        write(key, facts.topic);
        let texts = [
            (self.tenants, facts.namespace),
            (self.actors, facts.actor),
            (self.actor_types, facts.actor_type),
            (self.pack, facts.pack),
        ];
        for (_, text) in texts.iter().filter(|(is_read, _)| *is_read) {
            write(key, text);
        }
        let lists = [
            (self.capabilities, facts.capabilities),
            (self.risk_tags, facts.risk_tags),
            (self.requires, facts.requires),
        ];
        for (_, list) in lists.iter().filter(|(is_read, _)| *is_read) {
            key.extend_from_slice(&(list.len() as u64).to_le_bytes());
            list.iter().for_each(|text| write(key, text));
        }
        for label in &self.labels {
            match facts.label(label) {
                None => key.push(0),
                Some(value) => {
                    key.push(1);
                    write(key, value);
                }
            }
        }
    }
}

fn write(key: &mut Vec<u8>, text: &str) {
    key.extend_from_slice(&(text.len() as u64).to_le_bytes());
    key.extend_from_slice(text.as_bytes());
}
