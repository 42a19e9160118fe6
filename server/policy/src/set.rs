//! Several bundles judged as one: all that are in force together.

use crate::bundle::Bundle;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Facts, compile};
    use coretex_domain::policy::Verdict;

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
}
