//! Every rule considered for a job, in order, and what became of it.

use crate::bundle::{Match, word};
use crate::compiled::{Asked, Compiled};
use crate::facts::Facts;
use crate::glob::Glob;
use crate::inputs::Inputs;
use crate::matching::Key;
use coretex_domain::names::shown;
use coretex_domain::policy::Verdict;
use std::fmt;
use std::sync::Arc;

/// One rule considered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Considered {
    pub rule_id: Arc<str>,
    /// What the rule would say.
    pub verdict: Verdict,
    pub standing: Standing,
}

/// What became of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It decided.
    Decides,
    /// It decided because its condition has no value, for the reason given.
    DecidesByFault(Arc<str>),
    /// The first match key the job misses, and what was wanted and found.
    Misses { key: Key, why: String },
    /// Its match keys are met; its condition is false.
    ConditionFalse,
    /// Its match keys are met; its condition has no value, and an allow needs one.
    ConditionFails(Arc<str>),
    /// Its match keys are met too, but a rule before it decided; its condition was not asked.
    TooLate,
}

/// Every rule, in the order in which rules are considered: `deny` rules first. If none decides, the default does.
pub fn explain(policy: &Compiled, facts: &Facts<'_>) -> Vec<Considered> {
    let inputs = Inputs::new(*facts);
    let mut is_decided = false;
    let consider = |rank: u32| {
        let rule = policy.rule(rank);
        let standing = match rule.matching.first_miss(facts) {
            Some(key) => Standing::Misses { key, why: why(&rule.matching, key, facts) },
            None if is_decided => Standing::TooLate,
            None => match policy.ask(rank, &inputs) {
                Asked::Silent => Standing::ConditionFalse,
                Asked::SilentByFault(fault) => Standing::ConditionFails(fault),
                Asked::Speaks(fault) => {
                    is_decided = true;
                    fault.map_or(Standing::Decides, Standing::DecidesByFault)
                }
            },
        };
        Considered { rule_id: rule.id.clone(), verdict: rule.verdict, standing }
    };
    policy.ranks().map(consider).collect()
}

fn why(wanted: &Match, key: Key, facts: &Facts<'_>) -> String {
    match key {
        Key::Topics => one(facts.topic, &wanted.topics),
        Key::Tenants => one(facts.namespace, &wanted.tenants),
        Key::Actors => one(facts.actor, &wanted.actors),
        Key::ActorTypes => one(facts.actor_type, &wanted.actor_types),
        Key::Pack => one(facts.pack, &wanted.pack),
        Key::Capabilities => some(facts.capabilities, &wanted.capabilities),
        Key::Requires => some(facts.requires, &wanted.requires),
        Key::RiskTags => {
            let missing =
                wanted.risk_tags.iter().filter(|tag| !facts.risk_tags.iter().any(|has| tag.matches(has)));
            format!("the job has {} and lacks {}", named(facts.risk_tags), listed(missing))
        }
        Key::Labels => {
            let missed = wanted.labels.iter().find(|(label, values)| {
                !facts.label(label).is_some_and(|value| values.iter().any(|pattern| pattern.matches(value)))
            });
            match missed {
                Some((label, values)) => match facts.label(label) {
                    Some(value) => {
                        format!("the label {label} is {}, not {}", shown(value), listed(values.iter()))
                    }
                    None => format!("the job has no label {label}"),
                },
                None => String::new(),
            }
        }
    }
}

fn one(found: &str, wanted: &[Glob]) -> String {
    let found = if found.is_empty() { "nothing".into() } else { shown(found) };
    format!("the job has {found}, not {}", listed(wanted.iter()))
}

fn some(found: &[Arc<str>], wanted: &[Glob]) -> String {
    format!("the job has {}, none of {}", named(found), listed(wanted.iter()))
}

fn named(found: &[Arc<str>]) -> String {
    if found.is_empty() {
        "none".into()
    } else {
        found.iter().map(|text| shown(text)).collect::<Vec<_>>().join(", ")
    }
}

/// The first few of some patterns.
fn listed<'g>(patterns: impl Iterator<Item = &'g Glob>) -> String {
    const SHOWN_MAX: usize = 8;
    let mut all: Vec<String> = patterns.take(SHOWN_MAX + 1).map(|pattern| shown(pattern.as_str())).collect();
    if all.len() > SHOWN_MAX {
        all.truncate(SHOWN_MAX);
        all.push("…".into());
    }
    all.join(" or ")
}

// === impl Considered ===

impl fmt::Display for Considered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): ", self.rule_id, word(self.verdict))?;
        match &self.standing {
            Standing::Decides => f.write_str("decides"),
            Standing::DecidesByFault(fault) => {
                write!(f, "decides, because its condition has no value: {fault}")
            }
            Standing::Misses { key, why } => write!(f, "no match by {}: {why}", key.name()),
            Standing::ConditionFalse => f.write_str("its condition is false"),
            Standing::ConditionFails(fault) => write!(f, "its condition has no value: {fault}"),
            Standing::TooLate => f.write_str("matches, but a rule before it decided"),
        }
    }
}
