//! Policies of a run: the built-in rules, a rule with a rate, and one with constraints whose figures change.

use crate::rng::Rng;
use coretex_domain::policy::{
    ApprovalTerms, Budgets, Constraints, Decision, Facts, OnExpiry, Policy, Rules, Terms, Throttle, Verdict,
};
use coretex_domain::topic::Rate;
use coretex_domain::{Span, Time};
use std::sync::Arc;

/// Figures of the rules, drawn from the seed.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    rate: Rate,
    budgets: Budgets,
    approval: ApprovalTerms,
}

/// People who may be asked.
pub(crate) const PEOPLE: [&str; 5] = ["p0", "p1", "p2", "p3", "p4"];

#[derive(Debug)]
struct SimRules {
    version: u64,
    figures: Figures,
    rest: Policy,
}

impl Figures {
    pub(crate) fn draw(roll: &mut Rng) -> Figures {
        let rate = Rate { limit: roll.between(1, 4) as u32, per: Span(roll.between(300, 5_000)) };
        let budgets = Budgets {
            max_runtime: roll.chance(5_000).then(|| Span(roll.skewed(500, 60_000))),
            max_retries: roll.chance(5_000).then(|| roll.below(4) as u32),
            max_tokens: roll.chance(7_000).then(|| roll.between(10, 100)),
            max_cost_micros: None,
            max_concurrent: Some(roll.between(1, 4) as u32),
        };
        let named = if roll.chance(5_000) { roll.between(2, 4) as usize } else { 0 };
        let approval = ApprovalTerms {
            approvers: PEOPLE[..named].iter().map(|name| (*name).into()).collect(),
            quorum: roll.between(1, 3) as u32,
            expires: Span(roll.skewed(2_000, 60_000)),
            on_expiry: if roll.chance(5_000) { OnExpiry::Reject } else { OnExpiry::Approve },
            requester_may_approve: roll.chance(3_000),
        };
        Figures { rate, budgets, approval }
    }

    /// The rules with these figures, as a policy.
    pub(crate) fn policy(&self, version: u64) -> Policy {
        let rest = Policy::built_in_at(version);
        Policy::of(version, Arc::new(SimRules { version, figures: self.clone(), rest }))
    }
}

impl Rules for SimRules {
    fn judge(&self, facts: Facts<'_>) -> Arc<Decision> {
        let (rule_id, verdict, terms) = match &*facts.spec.topic {
            "throttled" => {
                // Two lines, so that they are seen not to mix.
                let key = if facts.spec.priority.is_multiple_of(2) { "even" } else { "odd" }.into();
                let Rate { limit, per } = self.figures.rate;
                let throttle = Some(Throttle { limit, per, key });
                ("pace", Verdict::Throttle, Terms { throttle, ..Terms::default() })
            }
            "metered" => {
                let budgets = self.figures.budgets.clone();
                let constraints = Some(Constraints { budgets, ..Constraints::default() });
                ("meter", Verdict::AllowWithConstraints, Terms { constraints, ..Terms::default() })
            }
            "asked" => {
                let approval = Some(self.figures.approval.clone());
                ("ask", Verdict::RequireApproval, Terms { approval, ..Terms::default() })
            }
            _ => match self.rest.judge(facts, Time(0)) {
                coretex_domain::policy::Answer::Decided(decision) => return decision,
                coretex_domain::policy::Answer::Deferred { .. } | coretex_domain::policy::Answer::Asked => {
                    ("default", Verdict::Deny, Terms::default())
                }
            },
        };
        Arc::new(Decision {
            verdict,
            rule_id: rule_id.into(),
            reason: "as the figures say".into(),
            remediations: Vec::new(),
            policy: "sim".into(),
            policy_version: self.version,
            terms: Some(Arc::new(terms)),
        })
    }
}
