//! Several bundles judged as one: all that are in force together.

use crate::bundle::{Bundle, Match, Rate, Rule};
use crate::compiled::compile;
use crate::facts::Facts;
use crate::glob::{Alphabet, Glob};
use crate::outcome::Outcome;
use coretex_document::Problems;
use coretex_domain::policy::Verdict;
use std::sync::Arc;

/// The policy whose default holds for all of them, and whose rules stand last.
pub const DEFAULT: &str = "default";

/// Stands between the name of a policy and the id of its rule. Neither may hold it.
const MARK: char = '/';

impl Bundle {
    /// One bundle that says what all of these say: `deny` overrides in all of them, the other rules stand in the order
    /// given and those of `default` behind them. Rules of the others are named `policy/rule`.
    pub fn join(default: Bundle, others: &[Bundle]) -> Bundle {
        let mut rules =
            Vec::with_capacity(others.iter().map(|one| one.rules.len()).sum::<usize>() + default.rules.len());
        for other in others {
            for rule in &other.rules {
                let mut rule = rule.clone();
                rule.id = format!("{}{MARK}{}", other.name, rule.id).into();
                rules.push(rule);
            }
        }
        rules.extend(default.rules);
        Bundle { rules, ..default }
    }
}

/// The policy and the rule that an id in a joined bundle names.
pub fn part(rule_id: &str) -> (&str, &str) {
    rule_id.split_once(MARK).unwrap_or((DEFAULT, rule_id))
}

/// The same, of an id that is shared by all decisions of a rule: the policy's name and the rule's id.
pub fn parts(rule_id: &Arc<str>) -> (Arc<str>, Arc<str>) {
    match rule_id.split_once(MARK) {
        Some((policy, rule)) => (policy.into(), rule.into()),
        None => (DEFAULT.into(), rule_id.clone()),
    }
}

impl Outcome {
    /// What was ruled, as a bundle of one rule that says it of every job: so it travels between processes. None for a
    /// default. The reason is not in it, and a rate has no key: both belong to the job that was asked about.
    pub fn carried(&self) -> Option<String> {
        let ruling = &*self.ruling;
        if ruling.rule_id.is_empty() {
            return None;
        }
        let all = Glob::parse("*", Alphabet::Topic).ok()?;
        let rule = Rule {
            id: parts(&ruling.rule_id).1,
            matching: Match { topics: vec![all], ..Match::default() },
            when: None,
            verdict: ruling.verdict,
            reason: None,
            remediations: ruling.remediations.clone(),
            approval: ruling.approval.clone(),
            rate: ruling.rate.map(|(limit, per)| Rate { limit, per, key: None }),
            constraints: ruling.constraints.clone(),
        };
        let name = parts(&ruling.rule_id).0;
        Some(Bundle { name, description: None, default: Verdict::Deny, rules: vec![rule] }.canonical())
    }

    /// Reads what [`Outcome::carried`] wrote.
    pub fn of_carried(text: &str, rate_key: Arc<str>) -> Result<Outcome, Problems> {
        let outcome = compile(Bundle::parse(text)?).judge(&Facts { topic: "any", ..Facts::default() });
        Ok(Outcome { rate_key, ..outcome })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(name: &str, default: &str, rules: &str) -> Bundle {
        Bundle::parse(&format!("name: {name}\ndefault: {default}\nrules: [{rules}]\n")).expect("a bundle")
    }

    fn says(bundle: &Bundle, topic: &str) -> (Verdict, String, String) {
        let outcome =
            compile(bundle.clone()).judge(&Facts { namespace: "default", topic, ..Facts::default() });
        let (policy, rule) = part(&outcome.ruling.rule_id);
        (outcome.verdict(), policy.to_owned(), rule.to_owned())
    }

    #[test]
    fn deny_overrides_whichever_policy_it_is_in() {
        let default = bundle("default", "deny", "{id: no, match: {topics: [a]}, verdict: deny}");
        let other = bundle(
            "team",
            "allow",
            "{id: yes, match: {topics: [a, b]}, verdict: allow}, {id: no, match: {topics: [c]}, verdict: deny}",
        );
        let all = Bundle::join(default, &[other]);
        assert_eq!(says(&all, "a"), (Verdict::Deny, "default".into(), "no".into()));
        assert_eq!(says(&all, "b"), (Verdict::Allow, "team".into(), "yes".into()));
        assert_eq!(says(&all, "c"), (Verdict::Deny, "team".into(), "no".into()));
        assert_eq!(says(&all, "d").0, Verdict::Deny);
    }

    #[test]
    fn a_changed_part_is_another_whole() {
        let default = || bundle("default", "allow", "");
        let one =
            Bundle::join(default(), &[bundle("x", "allow", "{id: r, match: {topics: [a]}, verdict: deny}")]);
        let two =
            Bundle::join(default(), &[bundle("x", "allow", "{id: r, match: {topics: [b]}, verdict: deny}")]);
        assert_ne!(one.version(), two.version());
        assert_eq!(Bundle::join(default(), &[]).version(), default().version());
    }

    #[test]
    fn what_was_ruled_travels_whole() {
        let rules = "
          {id: a, match: {topics: [a]}, verdict: require_approval, approval: {approvers: [lead], quorum: 2, expires: 5m}},
          {id: b, match: {topics: [b]}, verdict: throttle, rate: {limit: 5, per: 1m, key: '${job.topic}'}},
          {id: c, match: {topics: [c]}, verdict: allow_with_constraints, constraints: {budgets: {max_tokens: 7, max_runtime: 5s},
            sandbox: {network_allowlist: []}, redaction: strict}},
          {id: d, match: {topics: [d]}, when: '${job.labels.x == 1}', verdict: deny, reason: never,
            remediations: [{id: r, title: T, add_labels: {k: v}}]}";
        let all = Bundle::join(bundle("default", "allow", ""), &[bundle("team", "allow", rules)]);
        let policy = compile(all);
        for topic in ["a", "b", "c", "d"] {
            let asked = policy.judge(&Facts { namespace: "default", topic, ..Facts::default() });
            let text = asked.carried().expect("a rule decided");
            let read = Outcome::of_carried(&text, asked.rate_key.clone()).expect("readable");
            let (old, new) = (&*asked.ruling, &*read.ruling);
            assert_eq!((old.verdict, &old.approval, old.rate), (new.verdict, &new.approval, new.rate));
            assert_eq!((&old.constraints, &old.remediations), (&new.constraints, &new.remediations));
            assert_eq!(asked.rate_key, read.rate_key);
        }
        assert_eq!(policy.judge(&Facts::default()).carried(), None);
    }
}
