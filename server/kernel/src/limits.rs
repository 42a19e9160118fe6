//! What a job's lease holds besides credit: the slots of its concurrency key and of its rule, the start of its rate key.
//!
//! Keys of rules live under the empty topic, which no job has, so they never meet a key of a caller.

use crate::dispatcher::{Holder, LimitKey};
use coretex_domain::Job;
use coretex_domain::policy::{Decision, Throttle};
use coretex_domain::run::Plea;
use std::sync::{Arc, LazyLock};

static NO_TOPIC: LazyLock<Arc<str>> = LazyLock::new(|| "".into());
const RATE: &str = "rate\0";
const RULE: &str = "rule\0";
const THROTTLE: &str = "throttle\0";
const RUN: &str = "run\0";

/// What kind of limit a key stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitKind<'k> {
    /// A concurrency key of the caller.
    Concurrency,
    /// A rate key of the caller.
    Rate(&'k str),
    /// `max_concurrent` of a rule.
    Rule(&'k str),
    /// The rate of a rule.
    Throttle,
    /// Places of runs.
    Run(&'k str),
}

// === impl LimitKey ===

impl LimitKey {
    pub(crate) fn rate(job: &Job, name: &str) -> LimitKey {
        let key = format!("{RATE}{name}").into();
        LimitKey { namespace: job.namespace.clone(), topic: job.spec.topic.clone(), key }
    }

    /// The slots of a rule with `max_concurrent`.
    pub fn rule(job: &Job, decision: &Decision) -> LimitKey {
        LimitKey::of_rule(job, format!("{RULE}{}\0{}", decision.policy, decision.rule_id))
    }

    /// The count of a rule with a rate.
    pub fn throttle(job: &Job, decision: &Decision, throttle: &Throttle) -> LimitKey {
        let (policy, rule, key) = (&decision.policy, &decision.rule_id, &throttle.key);
        LimitKey::of_rule(job, format!("{THROTTLE}{policy}\0{rule}\0{key}"))
    }

    /// The places of a run's concurrency key, and how many there are.
    pub fn of_run(plea: &Plea) -> Option<(LimitKey, u32)> {
        let (key, limit) = plea.concurrency.as_ref()?;
        let key = format!("{RUN}{}\0{key}", plea.workflow).into();
        Some((LimitKey { namespace: plea.namespace.clone(), topic: NO_TOPIC.clone(), key }, *limit))
    }

    fn of_rule(job: &Job, key: String) -> LimitKey {
        LimitKey { namespace: job.namespace.clone(), topic: NO_TOPIC.clone(), key: key.into() }
    }

    pub fn kind(&self) -> LimitKind<'_> {
        if !self.topic.is_empty() {
            return self.key.strip_prefix(RATE).map_or(LimitKind::Concurrency, LimitKind::Rate);
        }
        if let Some(rule) = self.key.strip_prefix(RULE) {
            return LimitKind::Rule(rule.split_once('\0').map_or(rule, |(_, rule)| rule));
        }
        match self.key.strip_prefix(RUN) {
            Some(run) => LimitKind::Run(run.split_once('\0').map_or(run, |(_, key)| key)),
            None => LimitKind::Throttle,
        }
    }
}

/// The slot a job's lease holds, if its topic or spec asks for one.
pub(crate) fn own_slot(job: &Job, serial: u32) -> Option<(LimitKey, Holder)> {
    let key = job.spec.options.as_ref()?.concurrency_key.clone()?;
    let limit = LimitKey { namespace: job.namespace.clone(), topic: job.spec.topic.clone(), key };
    Some((limit, Holder { job: job.key(), serial }))
}

/// The slot of the rule a job stands on, if that has a number of them.
pub(crate) fn rule_slot(job: &Job, serial: u32) -> Option<Box<(LimitKey, Holder)>> {
    let decision = job.decision.as_ref()?;
    decision.constraints()?.budgets.max_concurrent?;
    Some(Box::new((LimitKey::rule(job, decision), Holder { job: job.key(), serial })))
}
