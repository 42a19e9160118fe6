//! A set of policies as the rules of the kernel.

use coretex_domain::job::Spec;
use coretex_domain::payload::ContentType;
use coretex_domain::policy::{Decision, Facts, Policy, Remediation, Rules};
use coretex_policy::{Compiled, Memo, Outcome, Report, Simulation, set};
use rustc_hash::FxHashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Samples a shadow keeps of each pair of verdicts.
const SHADOW_SAMPLES: usize = 10;

/// Judges by compiled bundles. What was decided before is shared, so that a job carries no copy of its decision.
#[derive(Debug)]
pub(super) struct SetRules {
    pub(super) compiled: Arc<Compiled>,
    version: u64,
    memory: Mutex<Memory>,
    shadow: Option<Mutex<Simulation>>,
}

#[derive(Debug, Default)]
struct Memory {
    memo: Memo,
    /// By address of the ruling, which `compiled` keeps alive.
    decisions: FxHashMap<usize, Arc<Decision>>,
}

/// What stands for a set of policies in decisions: a number made of what they say, the same on every node.
fn version_of(compiled: &Compiled) -> u64 {
    let digits: String = compiled.version().chars().take(12).collect();
    u64::from_str_radix(&digits, 16).unwrap_or(1).max(1)
}

// === impl SetRules ===

impl SetRules {
    pub(super) fn new(compiled: Arc<Compiled>, shadow: Option<Arc<Compiled>>) -> SetRules {
        let shadow =
            shadow.map(|candidate| Mutex::new(Simulation::new(compiled.clone(), candidate, SHADOW_SAMPLES)));
        SetRules { version: version_of(&compiled), compiled, memory: Mutex::default(), shadow }
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
        let remediations = ruling.remediations.iter().map(|one| Remediation {
            id: one.id.clone(),
            title: one.title.clone(),
            replacement_topic: one.replacement_topic.clone(),
        });
        let (policy, rule) = match ruling.rule_id.is_empty() {
            true => (set::DEFAULT.into(), "default".into()),
            false => set::parts(&ruling.rule_id),
        };
        Decision {
            verdict: ruling.verdict,
            rule_id: rule,
            reason: outcome.reason(),
            remediations: remediations.collect(),
            policy,
            policy_version: self.version,
        }
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
        let outcome = memory.memo.judge(&self.compiled, &asked);
        if outcome.fault.is_some() {
            return Arc::new(self.decision(&outcome));
        }
        let address = Arc::as_ptr(&outcome.ruling).addr();
        memory.decisions.entry(address).or_insert_with(|| Arc::new(self.decision(&outcome))).clone()
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
        actor: asked.actor_id.as_deref().unwrap_or_default(),
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
        config: None,
    }
}
