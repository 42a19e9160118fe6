//! What policies say, explain, differ in and would change.

use coretex_domain::Span;
use coretex_domain::policy::OnExpiry;
use coretex_domain::policy::Verdict;
use coretex_policy::{Bundle, Compiled, Facts, Memo, Simulation, compile, diff, explain};
use std::sync::Arc;

const GUIDE: &str = include_str!("../../../docs/guide/policy.md");

/// The example of the guide.
fn example() -> Bundle {
    let text = GUIDE.split("```yaml full\n").nth(1).and_then(|rest| rest.split("```").next());
    Bundle::parse(text.expect("the guide has a full example")).unwrap_or_else(|told| panic!("{told}"))
}

fn policy(default: &str, rules: &str) -> Compiled {
    let text = format!("name: t\ndefault: {default}\nrules:\n{rules}");
    compile(Bundle::parse(&text).unwrap_or_else(|told| panic!("{told}\n{text}")))
}

fn topic(topic: &str) -> Facts<'_> {
    Facts { namespace: "acme", topic, ..Facts::default() }
}

#[test]
fn the_example_of_the_guide_is_read_and_does_what_the_guide_says() {
    let bundle = example();
    assert_eq!(bundle.shadowed(), []);
    assert_eq!(Bundle::parse(&bundle.canonical()).as_ref(), Ok(&bundle));
    let policy = compile(bundle);
    let denied = policy.judge(&topic("sys.destroy.disk"));
    assert_eq!(denied.verdict(), Verdict::Deny);
    assert_eq!(denied.ruling.remediations[0].replacement_topic.as_deref(), Some("job.archive"));
    let tags: [Arc<str>; 2] = ["write".into(), "prod".into()];
    let labels: [(Arc<str>, Arc<str>); 1] = [("env".into(), "prod".into())];
    let write = Facts {
        actor_type: "service",
        risk_tags: &tags,
        labels: &labels,
        payload: b"{}",
        ..topic("job.deploy")
    };
    let gated = policy.judge(&write);
    assert_eq!(gated.verdict(), Verdict::RequireApproval);
    let approval = gated.ruling.approval.clone().unwrap();
    assert_eq!(
        (approval.quorum, approval.expires, approval.on_expiry),
        (2, Span::hours(1), OnExpiry::Reject)
    );
    let limited = policy.judge(&topic("job.code.llm"));
    let constraints = limited.ruling.constraints.clone().unwrap();
    assert_eq!(constraints.budgets.max_runtime, Some(Span::mins(5)));
    assert_eq!(constraints.budgets.max_cost_micros, Some(1_500_000));
    let customer: [(Arc<str>, Arc<str>); 1] = [("customer".into(), "c-7".into())];
    let burst = policy.judge(&Facts { labels: &customer, ..topic("job.mail") });
    assert_eq!(
        (burst.verdict(), &*burst.rate_key, burst.ruling.rate),
        (Verdict::Throttle, "acme/c-7", Some((100, Span::mins(1))))
    );
    assert_eq!(policy.judge(&topic("job.else")).verdict(), Verdict::Deny);
    assert_eq!(&*policy.judge(&topic("job.else")).ruling.rule_id, "");
}

#[test]
fn deny_overrides_wherever_it_stands_and_else_the_first_decides() {
    let rules = "  - { id: all, match: { topics: ['*'] }, verdict: allow }
  - { id: gate, match: { topics: [a] }, verdict: require_approval }
  - { id: never, match: { topics: [a.b] }, verdict: deny }\n";
    let policy = policy("deny", rules);
    let decided = |name| policy.judge(&topic(name)).ruling.rule_id.to_string();
    assert_eq!((decided("a"), decided("a.b")), ("all".into(), "never".into()));
    let told: Vec<String> = policy.bundle().shadowed().iter().map(ToString::to_string).collect();
    assert_eq!(told, ["gate (require_approval) can never decide: all (allow) comes first and covers it"]);
}

#[test]
fn a_condition_without_a_value_falls_on_the_safe_side() {
    for (verdict, rest, default, expected, rule) in [
        ("deny", "", "allow", Verdict::Deny, "r"),
        ("require_approval", "", "allow", Verdict::RequireApproval, "r"),
        ("throttle", ", rate: { limit: 1, per: 1s }", "allow", Verdict::Throttle, "r"),
        ("allow", "", "deny", Verdict::Deny, ""),
        ("allow_with_constraints", ", constraints: { redaction: strict }", "allow", Verdict::Deny, "r"),
        ("allow_with_constraints", ", constraints: { redaction: strict }", "deny", Verdict::Deny, "r"),
    ] {
        let rules = format!(
            "  - {{ id: r, match: {{ topics: [a] }}, when: 'job.labels.env == \"x\"', verdict: {verdict}{rest} }}\n"
        );
        let policy = policy(default, &rules);
        let outcome = policy.judge(&topic("a"));
        assert_eq!(
            (outcome.verdict(), &*outcome.ruling.rule_id),
            (expected, rule),
            "{verdict}, default {default}"
        );
        assert_eq!(outcome.fault.is_some(), !rule.is_empty());
        assert!(
            rule.is_empty() || outcome.reason().contains("there is no field `env`"),
            "{}",
            outcome.reason()
        );
        assert!(rule.is_empty() || outcome.ruling.constraints.is_none());
    }
}

#[test]
fn a_rate_key_without_a_value_shares_one_count_and_a_long_one_is_hashed() {
    let rules = "  - { id: r, match: { topics: [a] }, verdict: throttle, rate: { limit: 1, per: 1s, key: '${job.labels.c}' } }\n";
    let policy = policy("allow", rules);
    let none = policy.judge(&topic("a"));
    assert_eq!((&*none.rate_key, none.fault.is_some()), ("", true));
    let key = |value: String| {
        let labels: [(Arc<str>, Arc<str>); 1] = [("c".into(), value.into())];
        policy.judge(&Facts { labels: &labels, ..topic("a") }).rate_key
    };
    let (one, other) = (key("x".repeat(300)), key("x".repeat(301)));
    assert!(one.len() <= 256 && one != other);
}

#[test]
fn an_explanation_names_every_rule_and_the_first_reason_against_it() {
    let rules = "  - { id: late, match: { topics: [a] }, verdict: allow }
  - { id: tags, match: { topics: [a], risk_tags: [prod, write] }, verdict: deny }
  - { id: label, match: { labels: { env: [prod, 'stage*'] } }, verdict: deny }
  - { id: no-label, match: { labels: { region: '*' } }, verdict: deny }
  - { id: false, match: { topics: [a] }, when: 'job.priority > 8', verdict: deny }
  - { id: fails, match: { topics: [a] }, when: 'job.payload.x', verdict: require_approval }
  - { id: other, match: { topics: [b.*], tenants: [other] }, verdict: throttle, rate: { limit: 1, per: 1s } }\n"
        .replace("id: false", "id: 'false'");
    let policy = policy("deny", &rules.replacen("  - { id: late", "  - { id: quiet, match: { topics: [a] }, when: 'job.payload.x', verdict: allow }\n  - { id: late", 1));
    let tags: [Arc<str>; 1] = ["prod".into()];
    let labels: [(Arc<str>, Arc<str>); 1] = [("env".into(), "dev".into())];
    let facts = Facts { risk_tags: &tags, labels: &labels, ..topic("a") };
    let lines: Vec<String> = explain(&policy, &facts).iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "tags (deny): no match by risk_tags: the job has \"prod\" and lacks \"write\"",
            "label (deny): no match by labels: the label env is \"dev\", not \"prod\" or \"stage*\"",
            "no-label (deny): no match by labels: the job has no label region",
            "false (deny): its condition is false",
            "quiet (allow): its condition has no value: the payload is not declared as JSON",
            "late (allow): decides",
            "fails (require_approval): matches, but a rule before it decided",
            "other (throttle): no match by topics: the job has \"a\", not \"b.*\"",
        ]
    );
}

#[test]
fn a_diff_names_rules_fields_and_order() {
    let old = policy(
        "deny",
        "  - { id: a, match: { topics: [x] }, verdict: allow }
  - { id: b, match: { topics: [y] }, verdict: allow_with_constraints, constraints: { budgets: { max_runtime: 5m, max_retries: 1 } } }
  - { id: c, match: { topics: [z] }, verdict: deny }
  - { id: d, match: { topics: [z] }, verdict: allow }\n",
    );
    let new = policy(
        "allow",
        "  - { id: d, match: { topics: [z] }, verdict: allow }
  - { id: a, match: { topics: [x] }, verdict: allow }
  - { id: b, match: { topics: [y, w] }, verdict: allow_with_constraints, constraints: { budgets: { max_runtime: 10m } } }
  - { id: e, match: { topics: [z] }, verdict: deny }\n",
    );
    assert_eq!(
        diff(old.bundle(), new.bundle()).to_string(),
        "~ default: deny -> allow
+ e
- c
~ b
    constraints.budgets.max_retries: 1 -> nothing
    constraints.budgets.max_runtime: \"5m\" -> \"10m\"
    match.topics: [\"y\"] -> [\"y\",\"w\"]
> d (order)
"
    );
    assert_ne!(old.version(), new.version());
}

#[test]
fn spacing_comments_and_order_of_keys_do_not_make_a_version() {
    let one = Bundle::parse(
        "name: x\nrules:\n- id: a\n  match: {labels: {q: '1', b: ['2']}, topics: a}\n  when: ${true}\n  verdict: deny\n",
    );
    let other = Bundle::parse(
        "# same\nrules: [{verdict: deny, when: ' true ', match: {topics: [a], labels: {b: '2', q: ['1']}}, id: a}]\ndefault: deny\nname: x\n",
    );
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!(one.version(), other.version());
    // A change of the canonical text changes the version of every bundle that is stored: this value is for ever.
    assert_eq!(
        one.canonical(),
        r#"{"name":"x","default":"deny","rules":[{"id":"a","match":{"topics":["a"],"labels":{"b":["2"],"q":["1"]}},"when":"${true}","verdict":"deny"}]}"#
    );
}

#[test]
fn a_simulation_counts_what_would_change_and_keeps_a_few_samples() {
    let active =
        Arc::new(policy("allow", "  - { id: gate, match: { topics: [a] }, verdict: require_approval }\n"));
    let candidate = Arc::new(policy(
        "allow",
        "  - { id: gate, match: { topics: [a, b] }, verdict: require_approval, approval: { quorum: 2 } }
  - { id: stop, match: { topics: [c] }, verdict: deny }\n",
    ));
    let mut simulation = Simulation::new(active, candidate, 2);
    let jobs = ["a", "b", "b", "b", "c", "d"].into_iter().enumerate();
    let report = simulation.run(jobs.map(|(n, name)| (format!("job_{n}"), topic(name)))).clone();
    assert_eq!((report.judged, report.changed, report.other_terms), (6, 4, 1));
    let count = |old, new| report.verdicts.get(&(old, new)).map_or(0, |seen| seen.count);
    assert_eq!(count("allow", "require_approval"), 3);
    assert_eq!(count("allow", "deny"), 1);
    assert_eq!(count("allow", "allow"), 1);
    assert_eq!(count("require_approval", "require_approval"), 1);
    let gated = &report.verdicts[&("allow", "require_approval")].samples;
    assert_eq!(gated.iter().map(|sample| &*sample.name).collect::<Vec<_>>(), ["job_1", "job_2"]);
    let gate = &report.rules["gate"];
    assert_eq!((gate.active, gate.candidate, gate.changed, gate.samples.len()), (1, 4, 3, 2));
    assert_eq!((report.rules[""].changed, report.rules["stop"].changed), (4, 1));
}

#[test]
fn a_memo_hits_forgets_and_starts_over_with_another_policy() {
    let one = policy("allow", "  - { id: a, match: { topics: ['a.*'] }, verdict: deny }\n");
    let other = policy("allow", "  - { id: a, match: { topics: ['a.*'], actors: [eve] }, verdict: deny }\n");
    let mut memo = Memo::new(8);
    for _ in 0..3 {
        assert_eq!(memo.judge(&one, &topic("a.b")).verdict(), Verdict::Deny);
    }
    assert_eq!(memo.hits_and_misses(), (2, 1));
    let eve = Facts { actor: "eve", ..topic("a.b") };
    assert_eq!(memo.judge(&other, &topic("a.b")).verdict(), Verdict::Allow);
    assert_eq!(memo.judge(&other, &eve).verdict(), Verdict::Deny);
    assert_eq!(memo.judge(&one, &topic("a.b")).verdict(), Verdict::Deny);
    for n in 0..100 {
        memo.judge(&one, &topic(&format!("t{n}")));
        assert!(memo.len() <= 8);
    }
    let long = "x".repeat(5_000);
    let before = memo.len();
    memo.judge(&one, &topic(&long));
    assert_eq!(memo.len(), before, "a long key is not kept");
}

#[test]
fn a_policy_that_allows_everything_is_known_as_such() {
    assert!(policy("allow", "  - { id: a, match: { topics: [a] }, verdict: allow }\n").bundle().allows_all());
    assert!(!policy("deny", "  - { id: a, match: { topics: [a] }, verdict: allow }\n").bundle().allows_all());
    assert!(!policy("allow", "  - { id: a, match: { topics: [a] }, verdict: deny }\n").bundle().allows_all());
}
