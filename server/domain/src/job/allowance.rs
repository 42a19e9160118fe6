//! What a job may use: what it asked for, lowered by the constraints of the decision it stands on.

use super::spec::Budget;
use super::{Job, Usage};
use crate::payload::Payload;
use crate::policy::{Amount, Constraints, Redaction};
use crate::receipt::Dimension;
use crate::time::Span;

/// What the running attempt has asked for and not used yet. What it reports comes out of it first, so that nothing is
/// counted twice; its end gives back the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reserved {
    pub tokens: u64,
    pub cost_micros: u64,
}

/// One limit of a budget, and what all attempts used of it so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// The limit's name in the contract, without `max_`.
    pub dimension: &'static str,
    pub limit: u64,
    pub used: u64,
    /// Given to children: theirs to use.
    pub lent: u64,
}

// === impl Share ===

impl Share {
    pub fn is_exceeded(&self) -> bool {
        self.used.saturating_add(self.lent) > self.limit && self.used > 0
    }

    /// True if nothing is left. A limit of nothing that nothing was used of does not keep a job from starting.
    pub fn is_spent(&self) -> bool {
        self.used > 0 && self.used >= self.limit
    }

    pub fn left(&self) -> u64 {
        self.limit.saturating_sub(self.used).saturating_sub(self.lent)
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.dimension {
            TOKENS => write!(f, "{} tokens used of a budget of {}", self.used, self.limit)?,
            _ => write!(f, "a cost of {} of a budget of {}", Amount(self.used), Amount(self.limit))?,
        }
        match self.lent {
            0 => Ok(()),
            lent if self.dimension == TOKENS => write!(f, ", {lent} of it given to children"),
            lent => write!(f, ", {} of it given to children", Amount(lent)),
        }
    }
}

const TOKENS: &str = Dimension::Tokens.name();
const COST: &str = Dimension::CostMicros.name();

// === impl Job: what it may use ===

impl Job {
    /// What the policy wants observed, if anything.
    pub fn constraints(&self) -> Option<&Constraints> {
        self.decision.as_ref()?.constraints()
    }

    /// Takes what stands under telling names out of a result in JSON, where the policy wants it.
    pub fn redact_strictly(&self, result: &mut Payload) {
        let is_strict = self.constraints().is_some_and(|all| all.redaction == Some(Redaction::Strict));
        if is_strict
            && result.content_type.is_json()
            && let Some(redacted) = crate::redact::by_key(&result.data)
        {
            result.data = redacted.into();
        }
    }

    /// Attempts that count, at most: what was asked for, lowered by the policy.
    pub fn capped_attempts(&self, asked: u32) -> u32 {
        let retries = self.constraints().and_then(|constraints| constraints.budgets.max_retries);
        retries.map_or(asked, |retries| asked.min(retries.saturating_add(1)))
    }

    /// The longest run of one attempt: what was asked for, lowered by the policy.
    pub fn capped_runtime(&self, asked: Span) -> Span {
        let runtime = self.constraints().and_then(|constraints| constraints.budgets.max_runtime);
        runtime.map_or(asked, |runtime| asked.min(runtime))
    }

    /// What it may spend over all attempts: what was asked for, lowered by the policy.
    pub fn budget(&self) -> Budget {
        let own = &self.spec.options().budget;
        let Some(constraints) = self.constraints() else { return own.clone() };
        let lower = |own: Option<u64>, most: Option<u64>| own.into_iter().chain(most).min();
        Budget {
            max_tokens: lower(own.max_tokens, constraints.budgets.max_tokens),
            max_cost_micros: lower(own.max_cost_micros, constraints.budgets.max_cost_micros),
        }
    }

    /// Its budget limit by limit.
    pub fn shares(&self) -> impl Iterator<Item = Share> {
        let budget = self.budget();
        let (tokens, cost) =
            self.rare().usage.as_ref().map_or((0, 0), |used| (used.tokens(), used.cost_micros));
        let lent = self.lent();
        let limits = [
            (TOKENS, budget.max_tokens, tokens, lent.tokens),
            (COST, budget.max_cost_micros, cost, lent.cost_micros),
        ];
        limits
            .into_iter()
            .filter_map(|(dimension, limit, used, lent)| Some(Share { dimension, limit: limit?, used, lent }))
    }

    /// The limit that its attempts went beyond.
    pub fn exceeded_share(&self) -> Option<Share> {
        self.shares().find(Share::is_exceeded)
    }

    /// What may still be asked for of a limit; none where nothing limits it.
    pub fn unreserved(&self, dimension: Dimension) -> Option<u64> {
        let share = self.shares().find(|share| share.dimension == dimension.name())?;
        Some(share.left().saturating_sub(self.rare().reserved.of(dimension)))
    }

    /// Sets aside all of `amount` for the running attempt, or nothing. False if there is not that much left.
    pub fn reserve(&mut self, dimension: Dimension, amount: u64) -> bool {
        let Some(left) = self.unreserved(dimension) else { return true };
        let is_within = amount <= left;
        if is_within && amount > 0 {
            let reserved = self.rare_mut().reserved.of_mut(dimension);
            *reserved = reserved.saturating_add(amount);
        }
        is_within
    }

    /// The attempt is over: what it asked for and did not use is free again.
    pub fn release_reserved(&mut self) {
        if let Some(rare) = &mut self.rare {
            rare.reserved = Reserved::default();
        }
    }

    /// The limit of which nothing is left for another attempt.
    pub fn spent_share(&self) -> Option<Share> {
        // Without usage there is nothing to compare, which is what nearly every job has.
        self.rare().usage.as_ref()?;
        self.shares().find(Share::is_spent)
    }
}

// === impl Reserved ===

impl Reserved {
    pub fn is_empty(&self) -> bool {
        *self == Reserved::default()
    }

    pub fn of(&self, dimension: Dimension) -> u64 {
        match dimension {
            Dimension::Tokens => self.tokens,
            Dimension::CostMicros => self.cost_micros,
        }
    }

    pub fn of_mut(&mut self, dimension: Dimension) -> &mut u64 {
        match dimension {
            Dimension::Tokens => &mut self.tokens,
            Dimension::CostMicros => &mut self.cost_micros,
        }
    }

    /// What was reported as used needs no place here any more.
    pub fn settle(&mut self, used: &Usage) {
        self.tokens = self.tokens.saturating_sub(used.tokens());
        self.cost_micros = self.cost_micros.saturating_sub(used.cost_micros);
    }
}

impl Usage {
    /// Model tokens read and written.
    pub fn tokens(&self) -> u64 {
        self.tokens_in.saturating_add(self.tokens_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Spec;
    use crate::policy::{Budgets, Decision, Terms, Verdict};
    use crate::{JobId, Namespace, Payload, ShardId, Time};
    use std::sync::Arc;

    fn job(own: Budget, budgets: Budgets) -> Job {
        let mut spec = Spec::new("job.llm", Payload::empty());
        spec.options_mut().budget = own;
        let id = JobId::make(1, 1, ShardId(0));
        let mut job = Job::submitted(id, Namespace::new("default"), Arc::new(spec), 1, Time(1), None);
        let constraints = Constraints { budgets, ..Constraints::default() };
        let terms = Terms { constraints: Some(constraints), ..Terms::default() };
        job.decision = Some(Arc::new(Decision {
            verdict: Verdict::AllowWithConstraints,
            rule_id: "r".into(),
            reason: "".into(),
            remediations: Vec::new(),
            policy: "p".into(),
            policy_version: 1,
            terms: Some(Arc::new(terms)),
        }));
        job
    }

    #[test]
    fn constraints_lower_what_was_asked_for_and_never_raise_it() {
        let budgets = Budgets {
            max_runtime: Some(Span::secs(5)),
            max_retries: Some(2),
            max_tokens: Some(100),
            ..Budgets::default()
        };
        let own = Budget { max_tokens: Some(500), max_cost_micros: Some(7) };
        let job = job(own, budgets);
        assert_eq!((job.capped_attempts(10), job.capped_attempts(1)), (3, 1));
        assert_eq!(job.capped_runtime(Span::hours(1)), Span::secs(5));
        assert_eq!(job.capped_runtime(Span::secs(1)), Span::secs(1));
        assert_eq!(job.budget(), Budget { max_tokens: Some(100), max_cost_micros: Some(7) });
    }

    #[test]
    fn results_lose_what_stands_under_telling_names_only_where_the_policy_is_strict() {
        let redacted = |redaction| {
            let mut job = job(Budget::default(), Budgets::default());
            let constraints = Constraints { redaction, ..Constraints::default() };
            let terms = Terms { constraints: Some(constraints), ..Terms::default() };
            if let Some(decision) = &mut job.decision {
                Arc::make_mut(decision).terms = Some(Arc::new(terms));
            }
            let mut result = Payload::json(r#"{"password":"x","a":1}"#);
            job.redact_strictly(&mut result);
            result
        };
        assert_eq!(redacted(Some(Redaction::Strict)), Payload::json(r#"{"password":"[redacted]","a":1}"#));
        for lax in [None, Some(Redaction::None), Some(Redaction::Standard)] {
            assert_eq!(redacted(lax), Payload::json(r#"{"password":"x","a":1}"#), "{lax:?}");
        }
    }

    #[test]
    fn a_budget_is_exceeded_above_its_limit_and_spent_at_it() {
        let mut job = job(Budget::default(), Budgets { max_tokens: Some(10), ..Budgets::default() });
        let mut use_up = |more: u64| {
            let used = Usage { tokens_in: more, ..Usage::default() };
            job.rare_mut().usage.get_or_insert_default().add(&used);
            (job.exceeded_share().is_some(), job.spent_share().is_some())
        };
        assert_eq!((use_up(0), use_up(9)), ((false, false), (false, false)));
        assert_eq!((use_up(1), use_up(1)), ((false, true), (true, true)));
        assert_eq!(use_up(u64::MAX), (true, true), "sums do not wrap");
    }

    #[test]
    fn what_is_reserved_is_never_counted_twice_and_never_more_than_is_left() {
        let mut job = job(Budget::default(), Budgets { max_tokens: Some(100), ..Budgets::default() });
        let left = |job: &Job| job.unreserved(Dimension::Tokens);
        assert!(job.reserve(Dimension::Tokens, 60) && !job.reserve(Dimension::Tokens, 41));
        assert_eq!(left(&job), Some(40), "a refusal takes nothing");
        let used = |job: &mut Job, tokens: u64| {
            let used = Usage { tokens_out: tokens, ..Usage::default() };
            let rare = job.rare_mut();
            rare.usage.get_or_insert_default().add(&used);
            rare.reserved.settle(&used);
        };
        used(&mut job, 50);
        assert_eq!(left(&job), Some(40), "used out of what was reserved");
        used(&mut job, 30);
        assert_eq!(left(&job), Some(20), "ten of the reserve, twenty beyond it");
        assert!(job.reserve(Dimension::Tokens, 20) && !job.reserve(Dimension::Tokens, 1));
        job.release_reserved();
        assert_eq!(left(&job), Some(20), "what was not used is free, what was used is not");
        assert!(job.reserve(Dimension::CostMicros, u64::MAX), "nothing limits the cost");
        assert_eq!(job.unreserved(Dimension::CostMicros), None);
    }

    #[test]
    fn a_budget_of_nothing_lets_a_job_start_that_uses_nothing() {
        let mut job = job(Budget { max_cost_micros: Some(0), max_tokens: None }, Budgets::default());
        job.rare_mut().usage = Some(Usage { cpu_ms: 5, ..Usage::default() });
        assert_eq!((job.exceeded_share(), job.spent_share()), (None, None));
        job.rare_mut().usage = Some(Usage { cost_micros: 1_500_000, ..Usage::default() });
        let told = job.exceeded_share().map(|share| share.to_string());
        assert_eq!(told.as_deref(), Some("a cost of 1.500000 of a budget of 0.000000"));
    }
}
