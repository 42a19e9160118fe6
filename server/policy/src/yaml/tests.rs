use crate::Bundle;
use crate::limits::RULES_MAX;
use coretex_document::PROBLEMS_MAX;

fn told(text: &str) -> String {
    Bundle::parse(text).expect_err(text).to_string()
}

fn rule(rest: &str) -> String {
    format!("name: t\nrules:\n  - id: r\n    match: {{ topics: [a] }}\n{rest}")
}

#[test]
fn every_problem_is_told_at_once_with_its_place() {
    let text = "\
name: bad name
defualt: allow
rules:
  - id: one
    match: { topcs: [a], tenants: [] }
    verdict: alow
  - id: one
    match: {}
    verdict: throttle
    rate: { limit: 0, per: 5, key: '${job.lables.x}' }
    when: '${job.priority +}'
  - match: { topics: ['A*'], labels: { env: 5 } }
    verdict: require_approval
    approval: { quorum: 99, expires: 5 minutes, on_expiry: rejct }
    constraints: { budgets: { max_runtime: 0s, max_retries: -1, max_cost: 1.2345678 }, redaction: hard }
";
    let all = told(text);
    let lines: Vec<&str> = all.lines().collect();
    let expected = [
        ("1:7: name: ", "position 3 is ' ' in \"bad name\""),
        ("2:1: defualt: ", "did you mean `default`?"),
        ("5:14: rules[0](one).match.topcs: ", "did you mean `topics`?"),
        ("5:35: rules[0](one).match.tenants: ", "empty and would never match"),
        ("6:14: rules[0](one).verdict: ", "did you mean `allow`?"),
        ("7:9: rules[1].id: ", "the id of the rule at line 4 already"),
        ("8:12: rules[1](one).match: ", "is empty"),
        ("10:20: rules[1](one).rate.limit: ", "is 0, outside of 1 … 1000000"),
        ("10:28: rules[1](one).rate.per: ", "is 5 without a unit"),
        ("10:36: rules[1](one).rate.key: ", "character 7 of the expression: `job` has no field `lables`;"),
        ("11:11: rules[1](one).when: ", "character 17 of the expression: a value is expected"),
        ("12:5: rules[2].id: ", "is missing"),
        ("12:23: rules[2].match.topics[0]: ", "position 0 is 'A'"),
        ("12:45: rules[2].match.labels.env: ", "put it in quotes"),
        ("14:25: rules[2].approval.quorum: ", "is 99, outside of 1 … 16"),
        ("14:38: rules[2].approval.expires: ", "\"5 minutes\""),
        ("14:60: rules[2].approval.on_expiry: ", "did you mean `reject`?"),
        ("15:18: rules[2].constraints: ", "belongs to the verdict allow_with_constraints"),
        ("15:44: rules[2].constraints.budgets.max_runtime: ", "\"0s\", outside of 1ms … 1830d"),
        ("15:61: rules[2].constraints.budgets.max_retries: ", "is -1, outside of 0 … 99"),
        ("15:75: rules[2].constraints.budgets.max_cost: ", "at most 6 decimals"),
        ("15:99: rules[2].constraints.redaction: ", "it is one of none, standard, strict"),
    ];
    for (place, part) in expected {
        let is_told = lines.iter().any(|line| line.starts_with(place) && line.contains(part));
        assert!(is_told, "{place}{part} is not told in\n{all}");
    }
    assert_eq!(lines.len(), expected.len(), "{all}");
}

#[test]
fn what_a_verdict_needs_must_be_there() {
    assert!(told(&rule("    verdict: throttle\n")).contains("rate: is missing"));
    assert!(told(&rule("    verdict: allow_with_constraints\n")).contains("constraints: is missing"));
    let empty = "    verdict: allow_with_constraints\n    constraints: { budgets: {} }\n";
    assert!(told(&rule(empty)).contains("constrains nothing"));
    assert!(told(&rule("    reason: x\n")).contains("verdict: is missing"));
    assert!(told(&rule("    verdict: deny\n    when: '1 + 1'\n")).contains("this gives a number"));
    assert!(told(&rule("    verdict: deny\n    when: true\n")).contains("is always true"));
    let quiet = Bundle::parse(&rule("    verdict: require_approval\n")).unwrap();
    let approval = quiet.rules[0].approval.clone().unwrap();
    assert_eq!(
        (approval.quorum, approval.expires, approval.requester_may_approve),
        (1, crate::limits::APPROVAL_EXPIRES_DEFAULT, false)
    );
    assert_eq!(
        quiet.default,
        coretex_domain::policy::Verdict::Deny,
        "a bundle that does not say allows nothing"
    );
}

#[test]
fn what_is_no_bundle_is_refused_as_a_whole() {
    for (text, part) in [
        ("", "is empty"),
        ("# nothing\n---\n", "is empty"),
        ("- a\n", "is a list, where a map is wanted"),
        ("name: x\n", "rules: is missing"),
        ("rules: []\n", "name: is missing"),
        ("name: x\nrules: 5\n", "is a number, where a list of rules is wanted"),
        ("name: x\nrules: [5]\n", "rules[0]: is a number"),
        ("name: [x\n", "1:"),
        ("name: x\nname: y\nrules: []\n", "name"),
        ("name: x\n---\nname: y\n", ""),
        ("name: &a [*a]\nrules: []\n", ""),
    ] {
        let told = told(text);
        assert!(told.contains(part), "{text}: {told}");
    }
    let nested = format!("name: {}1{}\n", "[".repeat(3_000), "]".repeat(3_000));
    assert!(Bundle::parse(&nested).is_err());
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f,*f,*f]\n";
    assert!(Bundle::parse(bomb).is_err());
    assert!(told(&format!("name: x\nrules: []\n# {}", "x".repeat(5 << 20))).contains("at most 4194304"));
}

#[test]
fn there_is_a_most_of_everything() {
    let many = |count: usize, rest: &str| {
        let rules: String =
            (0..count).map(|n| format!("  - {{id: r{n}, match: {{topics: [t{n}]}}, {rest}}}\n")).collect();
        format!("name: x\nrules:\n{rules}")
    };
    assert_eq!(Bundle::parse(&many(RULES_MAX, "verdict: deny")).unwrap().rules.len(), RULES_MAX);
    assert!(told(&many(RULES_MAX + 1, "verdict: deny")).contains("has 10001 rules, at most 10000"));
    let problems = Bundle::parse(&many(150, "verdict: no")).unwrap_err();
    assert_eq!((problems.list.len(), problems.more), (PROBLEMS_MAX, 50));
    assert!(problems.to_string().ends_with("and 50 more"));
    let topics = vec!["a"; 257].join(",");
    let long = format!("name: x\nrules:\n  - {{id: r, match: {{topics: [{topics}]}}, verdict: deny}}\n");
    assert!(told(&long).contains("has 257 entries, at most 256"));
    assert!(
        told(&rule(&format!("    verdict: deny\n    reason: {}\n", "x".repeat(2_000))))
            .contains("2000 bytes, at most 1024")
    );
}

proptest::proptest! {
    #[test]
    fn no_text_ends_the_reader(text in "(?s).{0,200}") {
        let _ = Bundle::parse(&text);
    }

    #[test]
    fn no_shuffled_bundle_ends_the_reader(parts in proptest::collection::vec(proptest::sample::select(vec![
        "name: x\n", "default: allow\n", "rules:\n", "  - id: a\n", "    match: ", "{ topics: [a] }\n", "    verdict: deny\n",
        "    when: ", "'${true}'\n", "\"${job.x}\"\n", "{", "}", "[", "]", "'", "\"", "- ", ": ", "\n", "  ", "&a ", "*a ", "<<: ",
        "!!binary ", "|\n", ">-\n", "5", "~", "\u{85}", "\t", "? ", "#", "%YAML 1.1\n", "---\n", "    rate: ", "    approval: ",
    ]), 0..30)) {
        let _ = Bundle::parse(&parts.concat());
    }
}
