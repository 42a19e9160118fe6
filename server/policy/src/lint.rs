//! What a bundle says in vain: rules that can never speak because one before them covers all they are about.

use crate::bundle::{Bundle, Rule, word};
use coretex_domain::policy::Verdict;
use std::fmt;
use std::sync::Arc;

/// Each rule is compared with those before it; beyond this many the pairs are too many to look at.
const RULES_COMPARED_MAX: usize = 2_000;

/// A rule that can never decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shadowed {
    pub rule_id: Arc<str>,
    pub verdict: Verdict,
    /// The rule that always comes before it.
    pub by: Arc<str>,
    pub by_verdict: Verdict,
}

impl Bundle {
    /// Rules that can never decide, in the order of the bundle. Only what is certain is told; of a bundle with more
    /// than 2,000 rules, only what is found among the first 2,000.
    pub fn shadowed(&self) -> Vec<Shadowed> {
        let rules = &self.rules[..self.rules.len().min(RULES_COMPARED_MAX)];
        let is_before = |at: usize, other: usize| {
            let rank = |number: usize| (rules[number].verdict != Verdict::Deny, number);
            rank(at) < rank(other)
        };
        let covering = |number: usize| -> Option<&Rule> {
            let rule = &rules[number];
            let found = (0..rules.len()).find(|at| {
                is_before(*at, number)
                    && rules[*at].when.is_none()
                    && rules[*at].matching.covers(&rule.matching)
            });
            found.map(|at| &rules[at])
        };
        let told = |number: usize| {
            let (rule, by) = (&rules[number], covering(number)?);
            let (by_verdict, by) = (by.verdict, by.id.clone());
            Some(Shadowed { rule_id: rule.id.clone(), verdict: rule.verdict, by, by_verdict })
        };
        (0..rules.len()).filter_map(told).collect()
    }
}

impl fmt::Display for Shadowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shadowed { rule_id, by, .. } = self;
        let (verdict, by_verdict) = (word(self.verdict), word(self.by_verdict));
        write!(f, "{rule_id} ({verdict}) can never decide: {by} ({by_verdict}) comes first and covers it")
    }
}
