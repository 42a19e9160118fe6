//! What is read, what is refused and where, and what is drawn.

use crate::{Format, draw, parse, schema};
use serde_json::Value;

const REVIEW: &str = include_str!("../../../examples/workflows/code-review.yaml");

/// The problems of a workflow, one a line.
fn problems(text: &str) -> String {
    parse(text).expect_err("it was taken").to_string()
}

/// A workflow of these steps, each a line in the short form of YAML.
fn steps(lines: &[&str]) -> String {
    let mut text = String::from("name: t\nsteps:\n");
    lines.iter().for_each(|line| text.push_str(&format!("  - {line}\n")));
    text
}

#[track_caller]
fn refused(text: &str, wanted: &[&str]) {
    let told = problems(text);
    for part in wanted {
        assert!(told.contains(part), "{part:?} is not told in:\n{told}");
    }
    assert_eq!(told.lines().count(), wanted.len(), "told more or less than {wanted:?}:\n{told}");
}

#[test]
fn the_example_is_sound() {
    let workflow = parse(REVIEW).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(workflow.warnings.is_empty(), "{:?}", workflow.warnings);
    let topics = workflow.definition.topics();
    let topics: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
    assert_eq!(topics, ["job.code.llm", "job.file.read", "job.notify", "job.publish", "job.unpublish"]);
}

#[test]
fn everything_wrong_is_told_at_once() {
    refused(
        "nam: x\nsteps:\n  - id: 1a\n    topic: job.a\n    timeout: 5\n  - id: b\n    topick: job.b\n  - topic: job.c\n",
        &[
            "1:1: name: is missing",
            "1:1: nam: is no key here",
            "3:9: steps[0](1a).id: is \"1a\"; it begins with a letter",
            "5:14: steps[0](1a).timeout: is 5 without a unit",
            "6:5: steps[1](b): does nothing",
            "7:5: steps[1](b).topick: is no key here",
            "8:5: steps[2].id: is missing",
        ],
    );
    refused("", &["the workflow is empty"]);
    refused("name: t\nsteps: []\n", &["2:8: steps: is empty"]);
    refused("name: t\n", &["1:1: steps: is missing"]);
}

#[test]
fn a_step_that_cannot_be_read_makes_no_mistakes_of_others() {
    refused(
        &steps(&[
            "{ id: a, topick: job.a }",
            "5",
            "{ topic: job.c }",
            "{ id: b, needs: a, for_each: input.files, topic: job.b, input: { x: '${steps.a.output.y}', i: '${item}' } }",
            "{ id: c, needs: d, topic: job.c }",
        ]),
        &[
            "3:5: steps[0](a): does nothing",
            "3:14: steps[0](a).topick: is no key here",
            "4:5: steps[1]: is a number, where a map is wanted",
            "5:5: steps[2].id: is missing",
            "6:34: steps[3](b).for_each: is a text, where an expression is wanted",
            "7:21: steps[4](c).needs: names \"d\"",
        ],
    );
    refused(
        "steps:\n  - { id: a, topic: job.a, needs: b }\n",
        &["1:1: name: is missing", "no such step beside it"],
    );
}

#[test]
fn keys_belong_to_kinds() {
    refused(
        &steps(&[
            "{ id: a, delay: 5m, retry: { max_attempts: 2 } }",
            "{ id: b, approval: { title: x }, topic: job.b }",
        ]),
        &["steps[0](a).retry: is no key here", "steps[1](b): has both"],
    );
    refused(
        &steps(&[
            "{ id: a, topic: job.a, max_parallel: 3 }",
            "{ id: b, uses: htp }",
            "{ id: c, uses: http, input: { url: x, verb: GET } }",
        ]),
        &[
            "max_parallel: belongs to `for_each`",
            "did you mean `http`?",
            "steps[2](c).input.verb: is no key of `http`",
        ],
    );
    refused(
        &steps(&[
            "{ id: a, uses: transform, input: { jq: \"${input.q}\", data: 1 } }",
            "{ id: b, uses: log }",
            "{ id: c, uses: http, input: { url: x, method: FETCH }, pool: p }",
        ]),
        &[
            "input.jq: has expressions in it",
            "`log` needs message",
            "method: is \"\\\"FETCH\\\"\"",
            "pool: means nothing to `uses: http`",
        ],
    );
}

#[test]
fn ids_and_needs_go_together() {
    refused(
        &steps(&[
            "{ id: fetch, topic: job.a }",
            "{ id: fetch, topic: job.b, needs: [ftech] }",
            "{ id: c, topic: job.c, needs: [c, c] }",
        ]),
        &[
            "4:11: steps[1](fetch).id: \"fetch\" is the id of the step at line 3 already",
            "there is no such step beside it",
            "names \"c\" a second time",
            "is the step itself",
        ],
    );
    refused(
        &steps(&[
            "{ id: a, topic: job.a, needs: [c] }",
            "{ id: b, topic: job.b, needs: [a] }",
            "{ id: c, topic: job.c, needs: [b] }",
            "{ id: d, topic: job.d, needs: [c] }",
        ]),
        &["goes in a circle: a → c → b → a"],
    );
    refused(
        &steps(&["{ id: g, parallel: [{ id: x, topic: job.x }] }", "{ id: y, topic: job.y, needs: [x] }"]),
        &["names \"x\", which is in another list"],
    );
}

#[test]
fn an_expression_reads_what_is_over() {
    refused(
        &steps(&[
            "{ id: a, topic: job.a }",
            "{ id: b, topic: job.b, input: \"${steps.a.output}\" }",
            "{ id: second, topic: job.c, needs: [a], input: \"${steps.secnd.output + steps.a.outputs}\" }",
            "{ id: d, topic: job.d, needs: [a], input: \"${item}\", when: \"${steps.d.output}\" }",
            "{ id: e, topic: job.e, input: \"${steps}\", labels: { x: \"${run.name}\" } }",
        ]),
        &[
            "the step a is not over when this is read; put it into `needs`",
            "there is no step \"secnd\"; did you mean `second`?",
            "has no field \"outputs\"",
            "`item` is only there for the items of a `for_each`",
            "the step d cannot read itself",
            "a step is read by its name",
            "`run` has no field `name`",
        ],
    );
}

#[test]
fn groups_are_read_as_one() {
    let sound = steps(&[
        "{ id: a, topic: job.a }",
        "{ id: g, needs: [a], for_each: \"${steps.a.output}\", parallel: [{ id: x, topic: job.x, input: \"${item}\" }, { id: y, needs: [x], topic: job.y, input: \"${steps.x.output + steps.a.output}\" }] }",
        "{ id: p, needs: [g], parallel: [{ id: q, topic: job.q, input: \"${steps.g.output[0].y}\" }] }",
        "{ id: z, needs: [p], topic: job.z, input: \"${[steps.q.output, steps.p.output.q]}\", compensate: { topic: job.undo, input: \"${steps.z.output}\" } }",
    ]);
    parse(&sound).unwrap_or_else(|problems| panic!("{problems}"));
    refused(
        &steps(&[
            "{ id: g, for_each: \"${input.list}\", parallel: [{ id: x, topic: job.x, input: \"${steps.g.output}\" }] }",
            "{ id: z, needs: [g], topic: job.z, input: \"${steps.x.output}\" }",
            "{ id: w, needs: [z], topic: job.w, input: \"${steps.z.item_outputs}\" }",
        ]),
        &[
            "the step g is the group this one is in",
            "the step x is done for each item of g; read steps.g.output",
            "the step z has no `for_each`",
        ],
    );
}

#[test]
fn what_never_has_a_value_is_refused() {
    let text = "name: t\ninput_schema:\n  type: object\n  required: [n, s]\n  properties: { n: { type: boolean }, s: { type: string } }\nsteps:\n  - { id: a, topic: job.a, input: \"${input.n + input.s}\" }\n  - { id: b, topic: job.b, when: \"${input.s}\" }\n  - { id: c, topic: job.c, for_each: \"${input.s}\" }\n";
    let told = problems(text);
    for id in ["(a).input", "(b).when", "(c).for_each"] {
        assert!(told.contains(id), "{id}:\n{told}");
    }
    assert_eq!(told.lines().count(), 3, "{told}");
}

#[test]
fn a_field_the_schema_does_not_name_is_doubted() {
    let text = |closed: &str| {
        format!(
            "name: t\ninput_schema: {{ type: object, properties: {{ file: {{}} }}{closed} }}\nsteps:\n  - {{ id: a, topic: job.a, input: \"${{input.fiel}}\" }}\n"
        )
    };
    let workflow = parse(&text("")).unwrap_or_else(|problems| panic!("{problems}"));
    let [warning] = workflow.warnings.as_slice() else { panic!("{:?}", workflow.warnings) };
    assert!(warning.to_string().contains("did you mean `file`?"), "{warning}");
    refused(&text(", additionalProperties: false"), &["did you mean `file`?"]);
}

#[test]
fn limits_hold() {
    let many = |count: usize| {
        let lines: Vec<String> = (0..count).map(|n| format!("{{ id: s{n}, topic: job.a }}")).collect();
        steps(&lines.iter().map(String::as_str).collect::<Vec<_>>())
    };
    assert!(parse(&many(10_000)).is_ok());
    refused(&many(10_001), &["has 10001 entries, at most 10000"]);
    let deep = |depth: usize| {
        let mut inner = String::from("{ id: last, topic: job.a }");
        for n in 0..depth {
            inner = format!("{{ id: g{n}, parallel: [{inner}] }}");
        }
        steps(&[&inner])
    };
    assert!(parse(&deep(31)).is_ok());
    refused(&deep(32), &["is nested 33 groups deep, at most 32"]);
    assert!(problems(&deep(5_000)).lines().count() < 3);
    refused(
        &format!("name: t\nsteps: [{{id: a, topic: b}}]\noutput: \"{}\"\n", "x".repeat(2 << 20)),
        &["at most 1048576"],
    );
}

#[test]
fn a_chain_of_ten_thousand_is_checked_and_drawn() {
    let lines: Vec<String> = (0..10_000)
        .map(|n| match n {
            0 => "{ id: s0, topic: job.a }".to_owned(),
            n => {
                format!("{{ id: s{n}, topic: job.a, needs: [s{}], input: \"${{steps.s0.output}}\" }}", n - 1)
            }
        })
        .rev()
        .collect();
    let text = steps(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    let workflow = parse(&text).unwrap_or_else(|problems| panic!("{problems}"));
    let drawn = draw(&workflow.definition, Format::Text);
    assert_eq!(drawn.lines().nth(1).map(|line| line.contains("s0 ")), Some(true));
}

#[test]
fn pictures_show_every_step() {
    let definition = parse(REVIEW).unwrap_or_else(|problems| panic!("{problems}")).definition;
    let text = draw(&definition, Format::Text);
    assert!(text.contains("└─ publish    job.publish  after cool-down  (when "), "{text}");
    assert!(text.contains("on failure\n└─ tell  job.notify"), "{text}");
    let dot = draw(&definition, Format::Dot);
    assert!(
        dot.starts_with("digraph \"code-review\" {") && dot.contains("\"hunks\" -> \"sign-off\";"),
        "{dot}"
    );
    let mermaid = draw(&definition, Format::Mermaid);
    assert!(mermaid.starts_with("flowchart TD\n") && mermaid.contains("s0 --> s1"), "{mermaid}");
    assert!(!mermaid.contains("${size(\""), "{mermaid}");
}

#[test]
fn hostile_texts_end() {
    for text in [
        "a: &a [*a]",
        "name: !!binary x",
        "[[[[",
        "name: t\nsteps: 5",
        "name: [t]\nsteps: {}",
        "\u{0}",
        "name: t\nsteps: [[], 1, null]",
    ] {
        assert!(!problems(text).is_empty(), "{text:?}");
    }
}

/// Every key of the schema is a key the reader knows: a step that uses it is not told of an unknown key.
#[test]
fn the_schema_knows_the_keys_of_the_reader() {
    let schema = schema();
    let keys = |pointer: &str| -> Vec<String> {
        let found = schema.pointer(pointer).and_then(Value::as_object);
        found.unwrap_or_else(|| panic!("{pointer}")).keys().cloned().collect()
    };
    for key in keys("/$defs/step/properties") {
        let told = parse(&steps(&[&format!("{{ id: a, {key}: null }}")]))
            .map_or_else(|e| e.to_string(), |_| String::new());
        assert!(!told.contains("is no key here"), "{key}: {told}");
    }
    for key in keys("/properties") {
        let told = parse(&format!("{key}: null\n")).map_or_else(|e| e.to_string(), |_| String::new());
        assert!(!told.contains("is no key here"), "{key}: {told}");
    }
}

/// Steps of a random graph, and whether each `needs` names an earlier step.
fn graphs() -> impl proptest::strategy::Strategy<Value = Vec<Vec<usize>>> {
    use proptest::prelude::*;
    prop::collection::vec(prop::collection::vec(0..12_usize, 0..4), 1..12)
}

proptest::proptest! {
    /// Whatever is cut out of a workflow or put into it, it is read or refused with a place within the text.
    #[test]
    fn a_damaged_text_is_read_or_refused(cuts in proptest::collection::vec((0..1_700_usize, 0..40_usize, "[ -~\n]{0,6}"), 1..4)) {
        let mut text = REVIEW.to_owned();
        for (at, len, put) in cuts {
            let at = at.min(text.len());
            text.replace_range(at..(at + len).min(text.len()), &put);
        }
        if let Err(problems) = parse(&text) {
            let lines = text.lines().count() as u64;
            proptest::prop_assert!(!problems.list.is_empty());
            proptest::prop_assert!(problems.list.iter().all(|one| one.line <= lines + 1), "{problems}");
        }
    }

    /// A graph is taken if and only if walking back from no step leads to it again; a step may read exactly those that
    /// walking back from it leads to.
    #[test]
    fn circles_and_reads_are_told_as_a_walk_tells_them(graph in graphs(), reader in 0..12_usize, read in 0..12_usize) {
        let count = graph.len();
        let (reader, read) = (reader % count, read % count);
        let needs: Vec<Vec<usize>> = graph
            .iter()
            .map(|needs| needs.iter().map(|n| n % count).collect::<std::collections::BTreeSet<_>>().into_iter().collect())
            .collect();
        let back = |from: usize| {
            let (mut seen, mut left) = (vec![false; count], needs[from].clone());
            while let Some(at) = left.pop() {
                if !std::mem::replace(&mut seen[at], true) {
                    left.extend(&needs[at]);
                }
            }
            seen
        };
        let has_circle = (0..count).any(|n| back(n)[n]);
        let lines: Vec<String> = (0..count)
            .map(|n| {
                let names: Vec<String> = needs[n].iter().map(|need| format!("s{need}")).collect();
                let input = if n == reader { format!(", input: \"${{steps.s{read}.output}}\"") } else { String::new() };
                format!("{{ id: s{n}, topic: job.a, needs: [{}]{input} }}", names.join(", "))
            })
            .collect();
        let told = parse(&steps(&lines.iter().map(String::as_str).collect::<Vec<_>>())).map_or_else(|e| e.to_string(), |_| String::new());
        if has_circle {
            proptest::prop_assert!(told.contains("in a circle") || told.contains("is the step itself"), "{told}");
        } else {
            proptest::prop_assert_eq!(told.is_empty(), back(reader)[read], "{}", told);
        }
    }
}

#[test]
fn aliases_of_a_long_text_do_not_add_up() {
    let long = "x".repeat(60_000);
    let mut text = format!("name: t\nsteps:\n  - {{ id: a, topic: job.a, input: [&a \"{long}\"");
    (0..9_000).for_each(|_| text.push_str(", *a"));
    text.push_str("] }\n");
    refused(&text, &["budget breached: ScalarBytes"]);
}
