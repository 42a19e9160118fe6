//! A candidate judged beside the active policy: over recorded jobs, or silently over live ones. What would change?

use crate::bundle::word;
use crate::compiled::Compiled;
use crate::facts::Facts;
use crate::memo::Memo;
use coretex_domain::policy::Verdict;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Counts as it goes; its memory is bounded by the rules and the samples, not by the jobs.
#[derive(Debug)]
pub struct Simulation {
    active: Arc<Compiled>,
    candidate: Arc<Compiled>,
    memos: (Memo, Memo),
    samples_max: usize,
    report: Report,
}

/// What was seen so far. Rules are named by id, the default by the empty text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub judged: u64,
    /// Jobs with another verdict.
    pub changed: u64,
    /// Jobs with the same verdict on other terms: another rule, constraints, approval, rate or reason.
    pub other_terms: u64,
    /// By the words of the old and the new verdict, unchanged ones included.
    pub verdicts: BTreeMap<(&'static str, &'static str), Seen>,
    /// By the id of the rule that decides in either policy.
    pub rules: BTreeMap<Arc<str>, ByRule>,
}

/// How often, and the first few of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub count: u64,
    pub samples: Vec<Sample>,
}

/// How often a rule decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ByRule {
    pub active: u64,
    pub candidate: u64,
    /// Jobs it decides in one of the two and whose verdict changes.
    pub changed: u64,
    /// The first few of those.
    pub samples: Vec<Sample>,
}

/// One job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// As the caller named it, for example by its job id.
    pub name: Arc<str>,
    pub old: Verdict,
    pub new: Verdict,
    pub old_rule: Arc<str>,
    pub new_rule: Arc<str>,
    /// The candidate's.
    pub reason: Arc<str>,
}

// === impl Simulation ===

impl Simulation {
    /// Keeps at most `samples_max` samples per pair of verdicts and per rule.
    pub fn new(active: Arc<Compiled>, candidate: Arc<Compiled>, samples_max: usize) -> Simulation {
        let memos = (Memo::default(), Memo::default());
        Simulation { active, candidate, memos, samples_max, report: Report::default() }
    }

    /// Judges one job by both.
    pub fn see(&mut self, name: &str, facts: &Facts<'_>) {
        let old = self.memos.0.judge(&self.active, facts);
        let new = self.memos.1.judge(&self.candidate, facts);
        let (old_rule, new_rule) = (old.ruling.rule_id.clone(), new.ruling.rule_id.clone());
        let is_changed = old.verdict() != new.verdict();
        let report = &mut self.report;
        report.judged += 1;
        report.changed += u64::from(is_changed);
        report.other_terms += u64::from(!is_changed && old != new);
        let sample = || Sample {
            name: name.into(),
            old: old.verdict(),
            new: new.verdict(),
            old_rule: old_rule.clone(),
            new_rule: new_rule.clone(),
            reason: new.reason(),
        };
        let seen = report.verdicts.entry((word(old.verdict()), word(new.verdict()))).or_default();
        seen.count += 1;
        if seen.samples.len() < self.samples_max {
            seen.samples.push(sample());
        }
        report.rules.entry(old_rule.clone()).or_default().active += 1;
        report.rules.entry(new_rule.clone()).or_default().candidate += 1;
        if is_changed {
            let both = [Some(&old_rule), Some(&new_rule).filter(|new| **new != old_rule)];
            for rule in both.into_iter().flatten() {
                let by_rule = report.rules.entry(rule.clone()).or_default();
                by_rule.changed += 1;
                if by_rule.samples.len() < self.samples_max {
                    by_rule.samples.push(sample());
                }
            }
        }
    }

    /// Judges many jobs, each with its name.
    pub fn run<'f, N: AsRef<str>>(&mut self, jobs: impl IntoIterator<Item = (N, Facts<'f>)>) -> &Report {
        for (name, facts) in jobs {
            self.see(name.as_ref(), &facts);
        }
        &self.report
    }

    pub fn report(&self) -> &Report {
        &self.report
    }
}
