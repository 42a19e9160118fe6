//! Equal strings and decisions are shared, so that a million open jobs hold each of them once.

use coretex_domain::policy::Decision;
use rustc_hash::FxHashSet;
use std::sync::Arc;

/// Strings kept at most; beyond it a string is simply not shared.
const STRINGS_MAX: usize = 65_536;
/// Longer strings are rarely equal.
const STRING_LEN_MAX: usize = 128;
/// Decisions kept at most: a policy has few, and the search is linear.
const DECISIONS_MAX: usize = 64;

/// What has been seen while decoding.
#[derive(Default)]
pub struct Interner {
    strings: FxHashSet<Arc<str>>,
    decisions: Vec<Arc<Decision>>,
}

impl Interner {
    pub fn text(&mut self, text: &str) -> Arc<str> {
        if text.len() > STRING_LEN_MAX {
            return text.into();
        }
        if let Some(known) = self.strings.get(text) {
            return known.clone();
        }
        let new: Arc<str> = text.into();
        if self.strings.len() < STRINGS_MAX {
            self.strings.insert(new.clone());
        }
        new
    }

    pub fn opt_text(&mut self, text: Option<&str>) -> Option<Arc<str>> {
        text.map(|t| self.text(t))
    }

    pub fn decision(&mut self, decision: Decision) -> Arc<Decision> {
        if decision.is_keyed() {
            return Arc::new(decision);
        }
        if let Some(known) = self.decisions.iter().find(|known| ***known == decision) {
            return known.clone();
        }
        let new = Arc::new(decision);
        if self.decisions.len() < DECISIONS_MAX {
            self.decisions.push(new.clone());
        }
        new
    }
}
