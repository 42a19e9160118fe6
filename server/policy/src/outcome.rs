//! What a judgement comes to.

use crate::bundle::{Remediation, Rule, word};
use coretex_domain::Span;
use coretex_domain::policy::{ApprovalTerms, Constraints, Verdict};
use std::sync::Arc;

/// What one rule (or the default) says, made once when the bundle is compiled and shared by all jobs it is said of.
#[derive(Clone, Debug, PartialEq)]
pub struct Ruling {
    pub verdict: Verdict,
    /// Empty: the default of the bundle.
    pub rule_id: Arc<str>,
    pub reason: Arc<str>,
    pub remediations: Vec<Remediation>,
    /// Set if and only if the verdict asks for an approval.
    pub approval: Option<ApprovalTerms>,
    /// Set if and only if the verdict throttles: at most so many jobs per span.
    pub rate: Option<(u32, Span)>,
    /// Set if and only if the verdict constrains.
    pub constraints: Option<Constraints>,
}

/// The answer to one question.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub ruling: Arc<Ruling>,
    /// For a throttle: which count the job belongs to, at most 256 bytes; empty where the rule has one count for all.
    pub rate_key: Arc<str>,
    /// Why the condition of the rule has no value, where that is what decided.
    pub fault: Option<Arc<str>>,
}

// === impl Ruling ===

impl Ruling {
    pub(crate) fn of_rule(rule: &Rule) -> Ruling {
        let reason = match &rule.reason {
            Some(reason) => reason.clone(),
            None => format!("the rule {} says {}", rule.id, word(rule.verdict)).into(),
        };
        Ruling {
            verdict: rule.verdict,
            rule_id: rule.id.clone(),
            reason,
            remediations: rule.remediations.clone(),
            approval: rule.approval.clone(),
            rate: rule.rate.as_ref().map(|rate| (rate.limit, rate.per)),
            constraints: rule.constraints.clone(),
        }
    }

    /// A rule that would allow under constraints, and whose condition has no value: neither to skip the constraints
    /// nor to allow at all is safe, so it denies.
    pub(crate) fn of_failed(rule: &Rule) -> Ruling {
        Ruling { verdict: Verdict::Deny, constraints: None, ..Ruling::of_rule(rule) }
    }

    pub(crate) fn of_default(verdict: Verdict) -> Ruling {
        let reason = if verdict == Verdict::Allow {
            "no rule speaks of it, and the default of the policy is to allow"
        } else {
            "no rule allows it, and the default of the policy is to deny"
        };
        Ruling {
            verdict,
            rule_id: "".into(),
            reason: reason.into(),
            remediations: Vec::new(),
            approval: None,
            rate: None,
            constraints: None,
        }
    }
}

// === impl Outcome ===

impl Outcome {
    pub fn verdict(&self) -> Verdict {
        self.ruling.verdict
    }

    /// The reason for the submitter: the rule's, and what failed if something did.
    pub fn reason(&self) -> Arc<str> {
        match &self.fault {
            None => self.ruling.reason.clone(),
            Some(fault) => {
                format!("{} (its condition has no value here: {fault})", self.ruling.reason).into()
            }
        }
    }
}
