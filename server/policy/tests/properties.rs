//! Random bundles and facts: the index, the memo and the texts never change what a plain reading of the rules says.

use coretex_domain::policy::Verdict;
use coretex_policy::{Bundle, Facts, Match, Memo, Standing, compile, diff, explain, word};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::sync::Arc;

#[derive(Clone, Debug)]
struct Job {
    texts: [&'static str; 5],
    lists: [Vec<Arc<str>>; 3],
    labels: Vec<(Arc<str>, Arc<str>)>,
    priority: u8,
}

impl Job {
    fn facts(&self) -> Facts<'_> {
        let [topic, namespace, actor, actor_type, pack] = self.texts;
        let [capabilities, risk_tags, requires] = &self.lists;
        let (labels, priority) = (&self.labels, self.priority);
        Facts {
            topic,
            namespace,
            actor,
            actor_type,
            pack,
            capabilities,
            risk_tags,
            requires,
            labels,
            priority,
            ..Facts::default()
        }
    }
}

fn job() -> impl Strategy<Value = Job> {
    let name = || select(vec!["", "a", "b", "a.b", "a.b.c", "b.c"]);
    let list = || vec(name().prop_map(Arc::<str>::from), 0..3);
    let label = (select(vec!["x", "y"]).prop_map(Arc::<str>::from), name().prop_map(Arc::<str>::from));
    ([name(), name(), name(), name(), name()], [list(), list(), list()], vec(label, 0..2), 0u8..10)
        .prop_map(|(texts, lists, labels, priority)| Job { texts, lists, labels, priority })
}

/// One rule as text, without its id.
fn rule() -> impl Strategy<Value = String> {
    let pattern = || select(vec!["a", "b", "a.b", "a.*", "*.c", "*", "?", "a.b.c", "*b*"]);
    let tenant = || select(vec!["a", "b", "*", "?"]);
    let list = |pattern: BoxedStrategy<&'static str>| {
        vec(pattern, 1..3).prop_map(|all| {
            format!("[{}]", all.iter().map(|p| format!("'{p}'")).collect::<Vec<_>>().join(", "))
        })
    };
    let keys = select(vec![
        "topics",
        "tenants",
        "actors",
        "actor_types",
        "capabilities",
        "risk_tags",
        "requires",
        "pack",
    ]);
    let key = (keys, list(pattern().boxed()), list(tenant().boxed()))
        .prop_map(|(key, any, tenants)| format!("{key}: {}", if key == "tenants" { tenants } else { any }));
    let label =
        (select(vec!["x", "y"]), pattern()).prop_map(|(key, value)| format!("labels: {{{key}: '{value}'}}"));
    let when = select(vec![
        "",
        "",
        "",
        "when: '${job.priority > 4}', ",
        "when: \"job.labels.x == 'a'\", ",
        "when: '1 / (job.priority % 2) == 1', ",
    ]);
    let verdict = select(vec![
        "verdict: allow",
        "verdict: deny",
        "verdict: deny",
        "verdict: require_approval",
        "verdict: throttle, rate: {limit: 1, per: 1s, key: '${job.labels.x}'}",
        "verdict: allow_with_constraints, constraints: {budgets: {max_retries: 1}}",
    ]);
    (proptest::collection::btree_set(prop_oneof![4 => key, 1 => label], 1..4), when, verdict).prop_map(
        |(keys, when, verdict)| {
            let mut seen = std::collections::BTreeSet::new();
            let keys: Vec<String> = keys
                .into_iter()
                .filter(|key| seen.insert(key.split(':').next().map(str::to_owned)))
                .collect();
            format!("match: {{{}}}, {when}{verdict}", keys.join(", "))
        },
    )
}

fn bundle() -> impl Strategy<Value = Bundle> {
    (select(vec!["allow", "deny"]), vec(rule(), 0..12)).prop_map(|(default, rules)| {
        let lines: String =
            rules.iter().enumerate().map(|(n, rule)| format!("  - {{id: r{n}, {rule}}}\n")).collect();
        let list = if rules.is_empty() { " []\n".into() } else { format!("\n{lines}") };
        let text = format!("name: random\ndefault: {default}\nrules:{list}");
        Bundle::parse(&text).unwrap_or_else(|told| panic!("{told}\n{text}"))
    })
}

/// A pattern by its definition, letter for letter.
fn is_like(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some((b'*', rest)) => (0..=name.len()).any(|at| is_like(rest, &name[at..])),
        Some((b'?', rest)) => !name.is_empty() && is_like(rest, &name[1..]),
        Some((c, rest)) => name.first() == Some(c) && is_like(rest, &name[1..]),
    }
}

fn meets(wanted: &Match, facts: &Facts<'_>) -> bool {
    let like =
        |pattern: &coretex_policy::Glob, name: &str| is_like(pattern.as_str().as_bytes(), name.as_bytes());
    let any = |patterns: &[coretex_policy::Glob], names: &[&str]| {
        patterns.is_empty() || patterns.iter().any(|pattern| names.iter().any(|name| like(pattern, name)))
    };
    let texts = |list: &[Arc<str>]| list.iter().map(|text| text.to_string()).collect::<Vec<_>>();
    let any_of = |patterns: &[coretex_policy::Glob], list: &[Arc<str>]| {
        any(patterns, &texts(list).iter().map(String::as_str).collect::<Vec<_>>())
    };
    any(&wanted.topics, &[facts.topic])
        && any(&wanted.tenants, &[facts.namespace])
        && any(&wanted.actors, &[facts.actor])
        && any(&wanted.actor_types, &[facts.actor_type])
        && any(&wanted.pack, &[facts.pack])
        && any_of(&wanted.capabilities, facts.capabilities)
        && any_of(&wanted.requires, facts.requires)
        && wanted.risk_tags.iter().all(|tag| facts.risk_tags.iter().any(|has| like(tag, has)))
        && wanted
            .labels
            .iter()
            .all(|(key, values)| facts.label(key).is_some_and(|value| any(values, &[value])))
}

/// The three conditions that `rule` writes, by hand.
fn condition(text: &str, facts: &Facts<'_>) -> Option<bool> {
    match text {
        "job.priority > 4" => Some(facts.priority > 4),
        "job.labels.x == 'a'" => facts.label("x").map(|value| value == "a"),
        _ => (facts.priority % 2 == 1).then_some(true),
    }
}

/// Reads the rules from the first to the last, twice: what the guide says and nothing else.
fn judge_plainly(bundle: &Bundle, facts: &Facts<'_>) -> (Verdict, String) {
    for denies in [true, false] {
        for rule in bundle.rules.iter().filter(|rule| (rule.verdict == Verdict::Deny) == denies) {
            if !meets(&rule.matching, facts) {
                continue;
            }
            let holds = rule.when.as_ref().map_or(Some(true), |when| condition(when.as_str(), facts));
            match (holds, rule.verdict) {
                (Some(true), verdict) => return (verdict, rule.id.to_string()),
                (Some(false), _) | (None, Verdict::Allow) => {}
                (None, Verdict::AllowWithConstraints) => return (Verdict::Deny, rule.id.to_string()),
                (None, verdict) => return (verdict, rule.id.to_string()),
            }
        }
    }
    (bundle.default, String::new())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_index_the_memo_and_the_explanation_agree_with_a_plain_reading(bundle in bundle(), jobs in vec(job(), 1..20)) {
        let policy = compile(bundle);
        // Two entries only, so that forgetting is exercised as well.
        let mut memos = [Memo::default(), Memo::new(2)];
        for job in jobs.iter().chain(&jobs) {
            let facts = job.facts();
            let outcome = policy.judge(&facts);
            let (verdict, rule) = judge_plainly(policy.bundle(), &facts);
            prop_assert_eq!((outcome.verdict(), outcome.ruling.rule_id.to_string()), (verdict, rule.clone()));
            for memo in &mut memos {
                prop_assert_eq!(&memo.judge(&policy, &facts), &outcome);
                prop_assert!(memo.len() <= 8_192);
            }
            let deciding: Vec<String> = explain(&policy, &facts)
                .iter()
                .filter(|one| matches!(one.standing, Standing::Decides | Standing::DecidesByFault(_)))
                .map(|one| one.rule_id.to_string())
                .collect();
            prop_assert_eq!(deciding, if rule.is_empty() { vec![] } else { vec![rule] });
        }
        prop_assert!(memos[1].len() <= 2);
    }

    #[test]
    fn the_canonical_text_is_the_bundle(bundle in bundle()) {
        let text = bundle.canonical();
        let again = Bundle::parse(&text).map_err(|told| TestCaseError::fail(format!("{told}\n{text}")))?;
        prop_assert_eq!(&again, &bundle);
        prop_assert_eq!(again.canonical(), text);
        prop_assert!(diff(&again, &bundle).is_empty());
    }

    #[test]
    fn a_shadowed_rule_never_decides(bundle in bundle(), jobs in vec(job(), 1..30)) {
        let shadowed: Vec<String> = bundle.shadowed().iter().map(|one| one.rule_id.to_string()).collect();
        let policy = compile(bundle);
        for job in &jobs {
            let outcome = policy.judge(&job.facts());
            prop_assert!(!shadowed.contains(&outcome.ruling.rule_id.to_string()), "{}", word(outcome.verdict()));
        }
    }

    #[test]
    fn different_bundles_differ(one in bundle(), other in bundle()) {
        let is_same = one == other;
        prop_assert_eq!(is_same, one.version() == other.version());
        prop_assert_eq!(is_same, diff(&one, &other).is_empty());
    }
}
