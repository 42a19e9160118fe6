//! A set of policies as the rules of the kernel.

use crate::metrics::Histogram;
use coretex_domain::job::Spec;
use coretex_domain::payload::ContentType;
use coretex_domain::policy::{Decision, Facts, Policy, Remediation, Rules, Terms, Throttle};
use coretex_policy::{Compiled, Memo, Outcome, Report, Ruling, Simulation, set};
use rustc_hash::FxHashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Samples a shadow keeps of each pair of verdicts.
const SHADOW_SAMPLES: usize = 10;
/// Decisions for keys of rates that are kept; then they are made anew.
const KEYED_MAX: usize = 4_096;
/// One judgement in so many is timed: two looks at a clock cost more than many an answer.
const TIMED: u64 = 64;

/// Judges by compiled bundles. What was decided before is shared, so that a job carries no copy of its decision.
#[derive(Debug)]
pub(super) struct SetRules {
    pub(super) compiled: Arc<Compiled>,
    version: u64,
    memory: Mutex<Memory>,
    shadow: Option<Mutex<Simulation>>,
    /// How long some of the judgements took.
    seconds: Arc<Histogram>,
}

#[derive(Debug, Default)]
struct Memory {
    memo: Memo,
    asked: u64,
    /// By address of the ruling, which `compiled` keeps alive.
    decisions: FxHashMap<usize, Arc<Decision>>,
    /// The same for rules with a rate that is counted by key.
    keyed: FxHashMap<(usize, Arc<str>), Arc<Decision>>,
}

/// What stands for a set of policies in decisions: a number made of what they say, the same on every node.
fn version_of(compiled: &Compiled) -> u64 {
    let digits: String = compiled.version().chars().take(12).collect();
    u64::from_str_radix(&digits, 16).unwrap_or(1).max(1)
}

// === impl SetRules ===

impl SetRules {
    pub(super) fn new(
        compiled: Arc<Compiled>,
        shadow: Option<Arc<Compiled>>,
        seconds: Arc<Histogram>,
    ) -> SetRules {
        let shadow =
            shadow.map(|candidate| Mutex::new(Simulation::new(compiled.clone(), candidate, SHADOW_SAMPLES)));
        SetRules { version: version_of(&compiled), compiled, memory: Mutex::default(), shadow, seconds }
    }

    pub(super) fn policy(self: &Arc<SetRules>) -> Policy {
        Policy::of(self.version, self.clone())
    }

    /// What the shadow would have decided otherwise so far.
    pub(super) fn shadow_report(&self) -> Option<Report> {
        let shadow = self.shadow.as_ref()?;
        Some(shadow.lock().unwrap_or_else(PoisonError::into_inner).report().clone())
    }

    pub(super) fn decision(&self, outcome: &Outcome) -> Decision {
        let ruling = &outcome.ruling;
        let (policy, rule_id) = match ruling.rule_id.is_empty() {
            true => (set::DEFAULT.into(), "default".into()),
            false => set::parts(&ruling.rule_id),
        };
        let (reason, policy_version) = (outcome.reason(), self.version);
        Decision { rule_id, reason, policy, policy_version, ..ruled(outcome) }
    }
}

impl Rules for SetRules {
    fn judge(&self, facts: Facts<'_>) -> Arc<Decision> {
        let asked = facts_of(facts);
        if let Some(shadow) = &self.shadow {
            let name = format!("{}/{}", facts.namespace, facts.spec.topic);
            shadow.lock().unwrap_or_else(PoisonError::into_inner).see(&name, &asked);
        }
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = memory.asked.is_multiple_of(TIMED).then(Instant::now);
        memory.asked = memory.asked.wrapping_add(1);
        let outcome = memory.memo.judge(&self.compiled, &asked);
        if let Some(begun) = begun {
            self.seconds.observe(begun.elapsed().as_secs_f64());
        }
        if outcome.fault.is_some() {
            return Arc::new(self.decision(&outcome));
        }
        let address = Arc::as_ptr(&outcome.ruling).addr();
        if outcome.rate_key.is_empty() {
            return memory
                .decisions
                .entry(address)
                .or_insert_with(|| Arc::new(self.decision(&outcome)))
                .clone();
        }
        if memory.keyed.len() >= KEYED_MAX {
            memory.keyed.clear();
        }
        let by_key = memory.keyed.entry((address, outcome.rate_key.clone()));
        by_key.or_insert_with(|| Arc::new(self.decision(&outcome))).clone()
    }
}

/// What was ruled, without who ruled it.
fn ruled(outcome: &Outcome) -> Decision {
    let ruling = &outcome.ruling;
    Decision {
        verdict: ruling.verdict,
        rule_id: "".into(),
        reason: "".into(),
        remediations: ruling.remediations.iter().map(remediation).collect(),
        policy: "".into(),
        policy_version: 0,
        terms: terms(outcome).map(Arc::new),
    }
}

/// Reads what another process says was ruled. Rule, reason, policy and version are not in it.
pub fn carried_decision(text: &str, rate_key: Arc<str>) -> Result<Decision, String> {
    Outcome::of_carried(text, rate_key)
        .map(|outcome| ruled(&outcome))
        .map_err(|problems| problems.to_string())
}

/// What comes with the verdict, if anything does.
fn terms(outcome: &Outcome) -> Option<Terms> {
    let Ruling { approval, rate, constraints, .. } = &*outcome.ruling;
    let throttle = rate.map(|(limit, per)| Throttle { limit, per, key: outcome.rate_key.clone() });
    let terms = Terms { approval: approval.clone(), throttle, constraints: constraints.clone() };
    (terms != Terms::default()).then_some(terms)
}

fn remediation(one: &coretex_policy::Remediation) -> Remediation {
    Remediation {
        id: one.id.clone(),
        title: one.title.clone(),
        summary: one.summary.clone(),
        replacement_topic: one.replacement_topic.clone(),
        replacement_capability: one.replacement_capability.clone(),
        add_labels: one.add_labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
        remove_labels: one.remove_labels.clone(),
    }
}

/// The facts of the kernel in the words of bundles.
pub(super) fn facts_of<'a>(facts: Facts<'a>) -> coretex_policy::Facts<'a> {
    let spec: &Spec = facts.spec;
    let options = spec.options();
    let asked = &options.metadata;
    coretex_policy::Facts {
        namespace: facts.namespace,
        topic: &spec.topic,
        actor: facts.actor(),
        actor_type: asked.actor_type.as_deref().unwrap_or_default(),
        capabilities: asked.capability.as_slice(),
        risk_tags: &asked.risk_tags,
        requires: &options.placement.requires,
        labels: &options.labels,
        pack: "",
        priority: spec.priority,
        payload: &spec.payload.data,
        content_type: match &spec.payload.content_type {
            ContentType::None => "",
            ContentType::Json => "application/json",
            ContentType::Binary => "application/octet-stream",
            ContentType::Other(name) => name,
        },
        config: facts.config,
    }
}
