//! Workflows on the wire: definitions as messages, versions, problems.

mod read;
mod write;

pub(crate) use read::document;
pub(crate) use write::definition;

use super::time::timestamp;
use coretex_contract::v1 as pb;
use coretex_domain::nearest::hinted;
use coretex_engine::WorkflowInfo;
use coretex_workflow::Problem;

/// A version. `definition` is left to those who were asked for it.
pub(crate) fn info(info: &WorkflowInfo, view: pb::View) -> pb::Workflow {
    let reference = pb::Workflow {
        name: info.name.to_string(),
        version: info.version,
        newest_version: info.newest_version,
        create_time: (info.version > 0).then(|| timestamp(info.create_time)),
        revision: info.revision,
        delete_time: info.delete_time.map(timestamp),
        ..pb::Workflow::default()
    };
    if view == pb::View::Ref {
        return reference;
    }
    let text = info.text.as_ref().filter(|_| view == pb::View::Full);
    pb::Workflow {
        description: info.description.to_string(),
        digest: info.digest.to_string(),
        yaml: text.map(ToString::to_string).unwrap_or_default(),
        step_count: info.step_count,
        topic_count: info.topic_count,
        actor: info.actor.to_string(),
        comment: info.comment.to_string(),
        ..reference
    }
}

/// A problem. Of a definition that came as a message nobody has seen the lines.
pub(crate) fn problem(problem: &Problem, is_message: bool) -> pb::WorkflowProblem {
    let place = |number: u64| if is_message { 0 } else { u32::try_from(number).unwrap_or(u32::MAX) };
    pb::WorkflowProblem {
        line: place(problem.line),
        column: place(problem.column),
        path: problem.field.clone(),
        message: problem.message.clone(),
        suggestion: hinted(&problem.message).unwrap_or_default().to_owned(),
    }
}

/// Where it is, as the field of a violation or a warning: `yaml:3:5 steps[0](a).topic`.
pub(crate) fn field_of(problem: &Problem, is_message: bool) -> String {
    match (is_message, problem.line, problem.field.as_str()) {
        (true, _, "") => "definition".into(),
        (true, _, field) => format!("definition.{field}"),
        (false, 0, "") => "yaml".into(),
        (false, 0, field) => format!("yaml {field}"),
        (false, line, "") => format!("yaml:{line}:{}", problem.column),
        (false, line, field) => format!("yaml:{line}:{} {field}", problem.column),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coretex_contract::{Duration, Struct, Value, value::Kind};
    use coretex_workflow::parse;
    use prost::Message;

    const EVERYTHING: &str = include_str!("../../../workflow/src/everything.yaml");
    const REVIEW: &str = include_str!("../../../../examples/workflows/code-review.yaml");

    fn text_of(definition: pb::WorkflowDefinition) -> String {
        document(definition).unwrap_or_else(|refusal| panic!("{refusal:?}"))
    }

    #[test]
    fn a_message_says_the_same_as_its_text() {
        // The one number that a message cannot keep.
        let kept = EVERYTHING.replace("9223372036854775807", "9007199254740993");
        for text in [REVIEW, &kept] {
            let normal = parse(text).unwrap_or_else(|problems| panic!("{problems}")).definition.normal();
            let message = definition(&normal).expect("can be said");
            let sent = pb::WorkflowDefinition::decode(message.encode_to_vec().as_slice()).expect("decoded");
            let again = text_of(sent);
            let read = parse(&again).unwrap_or_else(|problems| panic!("{problems}\n{again}"));
            assert_eq!(read.definition.normal(), normal, "{again}");
        }
    }

    fn value(kind: Kind) -> Option<Value> {
        Some(Value { kind: Some(kind) })
    }

    fn one_step(step: pb::WorkflowStep) -> pb::WorkflowDefinition {
        let topic = Some(pb::workflow_step::Kind::Topic("job.a".into()));
        let step = pb::WorkflowStep { id: "a".into(), kind: step.kind.or(topic), ..step };
        pb::WorkflowDefinition { name: "n".into(), steps: vec![step], ..Default::default() }
    }

    #[test]
    fn texts_and_numbers_of_every_kind_come_through() {
        let odd = "\u{0}\u{1}\t\n\r \u{7f}\u{85}\u{a0}\u{2028}\u{2029}\u{feff}\u{fffd}\u{10ffff}'\"\\/: # - ? & * ! | > % @ ` {}[], ~ null true 1e3";
        for text in
            [odd, "", " ", "null", "~", "0x10", "1_000", "2026-01-01", "*a", "<<", "=", "no", "\u{fffe}"]
        {
            let fields = [(format!("k{text}"), Value { kind: Some(Kind::StringValue(text.into())) })];
            let step = pb::WorkflowStep {
                input: value(Kind::StructValue(Struct { fields: fields.into() })),
                ..Default::default()
            };
            let read =
                parse(&text_of(one_step(step))).unwrap_or_else(|problems| panic!("{text:?}: {problems}"));
            let normal = read.definition.normal();
            assert_eq!(normal["steps"][0]["input"][format!("k{text}")], text, "{text:?}");
        }
        for number in [0.0, -1.0, 1.5, 1e300, -2.5e-10, 9_007_199_254_740_992.0, 1e18] {
            let step = pb::WorkflowStep { input: value(Kind::NumberValue(number)), ..Default::default() };
            let read =
                parse(&text_of(one_step(step))).unwrap_or_else(|problems| panic!("{number}: {problems}"));
            assert_eq!(read.definition.normal()["steps"][0]["input"].as_f64(), Some(number));
        }
    }

    #[test]
    fn what_cannot_be_written_as_text_is_refused_by_its_path() {
        let step = pb::WorkflowStep {
            on_failure: 9,
            input: value(Kind::NumberValue(f64::NAN)),
            retry: Some(pb::RetryPolicy { multiplier: Some(f64::INFINITY), ..Default::default() }),
            timeouts: Some(pb::Timeouts {
                stall: Some(Duration { seconds: -1, nanos: 0 }),
                ..Default::default()
            }),
            config: Some(Struct { fields: [("x".to_owned(), Value { kind: None })].into() }),
            ..Default::default()
        };
        let refusal = document(one_step(step)).expect_err("refused");
        let fields: Vec<&str> = refusal.violations.iter().map(|one| one.field.as_str()).collect();
        let step = "definition.steps[0](a)";
        let expected = ["on_failure", "input", "retry.multiplier", "timeouts.stall", "config"];
        assert_eq!(fields, expected.map(|field| format!("{step}.{field}")));
    }

    #[test]
    fn numbers_a_message_cannot_keep_are_named() {
        let text = "name: n\nsteps: [{id: a, topic: t, input: {x: 9007199254740993}}]";
        let normal = parse(text).expect("sound").definition.normal();
        assert_eq!(definition(&normal).expect_err("lost"), "steps[0](a).input");
    }
}
