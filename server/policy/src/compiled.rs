//! Judging. In: a compiled bundle and facts. Out: an outcome, the same for the same facts for ever. Refused: nothing;
//! what an expression cannot answer is decided towards the safe side.
//!
//! Order: all `deny` rules as they stand, then all others as they stand; the first that matches decides, else the
//! default. A condition without a value counts as met for deny, require_approval and throttle and as not met for
//! allow; for allow_with_constraints the answer is deny, since neither reading would be safe.

use crate::bundle::{Bundle, Rule};
use crate::facts::Facts;
use crate::inputs::Inputs;
use crate::outcome::{Outcome, Ruling};
use coretex_domain::limits::KEY_LEN_MAX;
use coretex_domain::policy::Verdict;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// A bundle made ready: immutable, shared by all who judge by it.
#[derive(Debug)]
pub struct Compiled {
    bundle: Arc<Bundle>,
    version: Arc<str>,
    /// Rules in the order in which they are considered.
    ranked: Vec<Ranked>,
    /// Rules that name their topics in full, by topic; ranks ascending.
    exact: FxHashMap<Arc<str>, Vec<u32>>,
    /// Rules with a pattern among their topics, or with none; ranks ascending.
    wide: Vec<u32>,
    default: Arc<Ruling>,
    no_key: Arc<str>,
}

#[derive(Debug)]
struct Ranked {
    /// Its number in the bundle.
    rule: usize,
    ruling: Arc<Ruling>,
    failed: Arc<Ruling>,
}

/// What the condition of a rule comes to.
pub(crate) enum Asked {
    Speaks(Option<Arc<str>>),
    Silent,
    /// It has no value, and an allow needs one.
    SilentByFault(Arc<str>),
}

/// Makes a bundle ready. It cannot fail: a bundle is checked when it is read.
pub fn compile(bundle: Bundle) -> Compiled {
    let mut order: Vec<usize> = (0..bundle.rules.len()).collect();
    // Stable, so rules keep their order within the two groups.
    order.sort_by_key(|number| bundle.rules[*number].verdict != Verdict::Deny);
    let (mut exact, mut wide) = (FxHashMap::<Arc<str>, Vec<u32>>::default(), Vec::new());
    let mut ranked = Vec::with_capacity(order.len());
    for (rank, number) in (0u32..).zip(order) {
        let rule = &bundle.rules[number];
        let topics = &rule.matching.topics;
        if topics.is_empty() || !topics.iter().all(crate::Glob::is_exact) {
            wide.push(rank);
        } else {
            for topic in topics {
                let ranks = exact.entry(topic.as_str().into()).or_default();
                if ranks.last() != Some(&rank) {
                    ranks.push(rank);
                }
            }
        }
        let failed = Arc::new(Ruling::of_failed(rule));
        ranked.push(Ranked { rule: number, ruling: Arc::new(Ruling::of_rule(rule)), failed });
    }
    Compiled {
        version: bundle.version().into(),
        ranked,
        exact,
        wide,
        default: Arc::new(Ruling::of_default(bundle.default)),
        no_key: "".into(),
        bundle: Arc::new(bundle),
    }
}

impl Compiled {
    pub fn bundle(&self) -> &Arc<Bundle> {
        &self.bundle
    }

    /// The hash of the bundle's canonical text.
    pub fn version(&self) -> &Arc<str> {
        &self.version
    }

    /// Judges without remembering anything.
    pub fn judge(&self, facts: &Facts<'_>) -> Outcome {
        let matching =
            self.candidates(facts.topic).filter(|rank| self.rule(*rank).matching.first_miss(facts).is_none());
        self.decide(matching, facts)
    }

    /// Ranks of the rules whose match keys the facts meet, up to the first that needs nothing else.
    pub(crate) fn meeting(&self, facts: &Facts<'_>) -> Box<[u32]> {
        let mut ranks = Vec::new();
        for rank in self.candidates(facts.topic) {
            let rule = self.rule(rank);
            if rule.matching.first_miss(facts).is_none() {
                ranks.push(rank);
                if rule.when.is_none() {
                    break;
                }
            }
        }
        ranks.into()
    }

    /// The first of these rules that speaks, else the default.
    pub(crate) fn decide(&self, matching: impl Iterator<Item = u32>, facts: &Facts<'_>) -> Outcome {
        let inputs = Inputs::new(*facts);
        for rank in matching {
            if let Asked::Speaks(fault) = self.ask(rank, &inputs) {
                return self.outcome(rank, fault, &inputs);
            }
        }
        Outcome { ruling: self.default.clone(), rate_key: self.no_key.clone(), fault: None }
    }

    /// Asks the condition of a rule whose match keys are met.
    pub(crate) fn ask(&self, rank: u32, inputs: &Inputs<'_>) -> Asked {
        let rule = self.rule(rank);
        let Some(condition) = &rule.when else { return Asked::Speaks(None) };
        match (condition.holds(inputs), rule.verdict) {
            (Ok(true), _) => Asked::Speaks(None),
            (Ok(false), _) => Asked::Silent,
            (Err(fault), Verdict::Allow) => Asked::SilentByFault(fault.into()),
            (
                Err(fault),
                Verdict::Deny | Verdict::RequireApproval | Verdict::Throttle | Verdict::AllowWithConstraints,
            ) => Asked::Speaks(Some(fault.into())),
        }
    }

    fn outcome(&self, rank: u32, mut fault: Option<Arc<str>>, inputs: &Inputs<'_>) -> Outcome {
        let ranked = &self.ranked[rank as usize];
        let rule = self.rule(rank);
        let is_failed = fault.is_some() && rule.verdict == Verdict::AllowWithConstraints;
        let ruling = if is_failed { &ranked.failed } else { &ranked.ruling };
        let mut rate_key = self.no_key.clone();
        if let Some(template) = rule.rate.as_ref().and_then(|rate| rate.key.as_ref()) {
            match template.fill(inputs) {
                Ok(key) => rate_key = bounded(key),
                // Jobs without a key share the count of the empty one: stricter than a count each.
                Err(told) => fault = fault.or_else(|| Some(format!("the rate key: {told}").into())),
            }
        }
        Outcome { ruling: ruling.clone(), rate_key, fault }
    }

    pub(crate) fn rule(&self, rank: u32) -> &Rule {
        &self.bundle.rules[self.ranked[rank as usize].rule]
    }

    /// All ranks, in order.
    pub(crate) fn ranks(&self) -> impl Iterator<Item = u32> {
        (0u32..).zip(&self.ranked).map(|(rank, _)| rank)
    }

    /// Ranks of the rules that may be about a topic, ascending.
    fn candidates<'c>(&'c self, topic: &str) -> impl Iterator<Item = u32> + use<'c> {
        let mut exact = self.exact.get(topic).map_or(&[][..], Vec::as_slice);
        let mut wide = self.wide.as_slice();
        std::iter::from_fn(move || {
            let from = match (exact.first(), wide.first()) {
                (Some(one), Some(other)) if one < other => &mut exact,
                (_, Some(_)) => &mut wide,
                (_, None) => &mut exact,
            };
            let (first, rest) = from.split_first()?;
            *from = rest;
            Some(*first)
        })
    }
}

/// A key as it is, or its hash where it is too long to be one.
fn bounded(key: String) -> Arc<str> {
    if key.len() <= KEY_LEN_MAX { key.into() } else { blake3::hash(key.as_bytes()).to_hex().as_str().into() }
}
