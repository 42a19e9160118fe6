//! A policy bundle as the rules of the engine.

use coretex_domain::job::Spec;
use coretex_domain::payload::ContentType;
use coretex_domain::policy::{Decision, Facts, Policy, Remediation, Rules, Verdict};
use coretex_policy::{Bundle, Compiled, Memo, Outcome, Ruling, compile, word};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Judges by a bundle. What it has decided before is shared, so that a job carries no copy of its decision.
#[derive(Debug)]
struct BundleRules {
    compiled: Compiled,
    version: u64,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    memo: Memo,
    /// By address of the ruling, which `compiled` keeps alive.
    decisions: HashMap<usize, Arc<Decision>>,
}

/// Verdicts that this server can keep. The others need approvals, counted rates and budgets.
fn is_served(verdict: Verdict) -> bool {
    match verdict {
        Verdict::Allow | Verdict::Deny => true,
        Verdict::RequireApproval | Verdict::Throttle | Verdict::AllowWithConstraints => false,
    }
}

/// What a bundle asks for that this server cannot do, one line per rule. Better refused than allowed.
pub fn unserved(bundle: &Bundle) -> Vec<String> {
    let rules = bundle.rules.iter().filter(|rule| !is_served(rule.verdict));
    let say = |rule: &coretex_policy::Rule| {
        format!(
            "rule {}: {} is not served yet; this server takes allow and deny",
            rule.id,
            word(rule.verdict)
        )
    };
    rules.map(say).collect()
}

/// The bundle as a policy. Its version is a number made of the bundle's own, so that a changed bundle judges anew.
pub fn policy(bundle: Bundle) -> Policy {
    let compiled = compile(bundle);
    let digits: String = compiled.version().chars().take(12).collect();
    let version = u64::from_str_radix(&digits, 16).unwrap_or(1).max(1);
    let memory = Mutex::new(Memory::default());
    Policy::of(version, Arc::new(BundleRules { compiled, version, memory }))
}

impl Rules for BundleRules {
    fn judge(&self, facts: Facts<'_>) -> Arc<Decision> {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = memory.memo.judge(&self.compiled, &facts_of(facts));
        if outcome.fault.is_some() {
            return Arc::new(self.decision(&outcome));
        }
        let address = Arc::as_ptr(&outcome.ruling).addr();
        memory.decisions.entry(address).or_insert_with(|| Arc::new(self.decision(&outcome))).clone()
    }
}

impl BundleRules {
    fn decision(&self, outcome: &Outcome) -> Decision {
        let ruling: &Ruling = &outcome.ruling;
        let remediations = ruling.remediations.iter().map(|one| Remediation {
            id: one.id.clone(),
            title: one.title.clone(),
            replacement_topic: one.replacement_topic.clone(),
        });
        Decision {
            verdict: ruling.verdict,
            rule_id: if ruling.rule_id.is_empty() { "default".into() } else { ruling.rule_id.clone() },
            reason: outcome.reason().to_string().into(),
            remediations: remediations.collect(),
            policy: self.compiled.bundle().name.clone(),
            policy_version: self.version,
        }
    }
}

fn facts_of<'a>(facts: Facts<'a>) -> coretex_policy::Facts<'a> {
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
