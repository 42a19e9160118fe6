//! A field of null is null for readers that say so, and a fault for the others. Tables and what opens itself.

use super::{purse, shown};
use crate::{Expression, Fault, Inputs, Kinds, Lazy, Payload, Root, Scope, Table, Value};
use serde_json::{Value as Json, json};

static FLOWING: Scope = Scope { roots: ROOTS, null_selects: true };
static STRICT: Scope = Scope { roots: ROOTS, null_selects: false };
const ROOTS: &[Root] = &[
    Root::value("steps", 0, Kinds::MAP),
    Root::value("input", 1, Kinds::ANY),
    Root::value("far", 2, Kinds::ANY),
];

#[derive(Debug)]
struct Step {
    id: &'static str,
    output: Payload<'static>,
    attempts: i64,
}

#[derive(Debug)]
struct Steps(Vec<Step>);

#[derive(Debug)]
struct Run {
    steps: Steps,
    input: Json,
}

impl Table for Steps {
    fn get(&self, key: &str) -> Option<Value<'_>> {
        self.0.iter().find(|step| step.id == key).map(|step| Value::Table(step))
    }

    fn key(&self, at: usize) -> Option<&str> {
        self.0.get(at).map(|step| step.id)
    }

    fn count(&self) -> usize {
        self.0.len()
    }
}

impl Table for Step {
    fn get(&self, key: &str) -> Option<Value<'_>> {
        match key {
            "output" => Some(Value::Lazy(&self.output)),
            "attempts" => Some(Value::Int(self.attempts)),
            _ => None,
        }
    }

    fn key(&self, at: usize) -> Option<&str> {
        ["output", "attempts"].get(at).copied()
    }

    fn count(&self) -> usize {
        2
    }
}

/// Opens to itself, which it must not.
#[derive(Debug)]
struct Mirror;

impl Lazy for Mirror {
    fn open(&self) -> Result<Value<'_>, Fault> {
        Ok(Value::Lazy(self))
    }

    fn told(&self) -> &'static str {
        "a mirror"
    }
}

impl Inputs for Run {
    fn read(&self, number: u16) -> Result<Value<'_>, Fault> {
        match number {
            0 => Ok(Value::Table(&self.steps)),
            1 => Ok(Value::of_json(&self.input)),
            _ => Ok(Value::Lazy(&Mirror)),
        }
    }
}

fn run() -> Run {
    let step = |id, output: &'static str| Step {
        id,
        output: Payload::new(output.as_bytes(), "application/json", 1_000),
        attempts: 2,
    };
    let steps = vec![step("done", r#"{"items": [1, 2]}"#), step("skipped", "null"), step("broken", "{")];
    Run { steps: Steps(steps), input: json!({"gone": null, "list": [null]}) }
}

fn evaluate(text: &str, scope: &'static Scope) -> Result<String, String> {
    let run = run();
    let expression = Expression::parse(text, scope).unwrap();
    expression.evaluate(&run, &purse()).map(|value| shown(&value)).map_err(|fault| fault.to_string())
}

#[test]
fn selecting_from_null_gives_null_where_the_reader_says_so() {
    let cases = [
        ("input.gone.a.b", "null"),
        ("input.gone['a'][0]", "null"),
        ("steps.skipped.output.x == null", "true"),
        ("steps.skipped.output[3].y == null", "true"),
        ("has(input.gone.a) || has(steps.skipped.output.x)", "false"),
        ("input.list[0].x == null ? 'none' : 'some'", "\"none\""),
        ("null.x == null", "true"),
        ("[1, 2].map(n, null[n])[1] == null", "true"),
    ];
    for (text, expected) in cases {
        assert_eq!(evaluate(text, &FLOWING), Ok(expected.into()), "{text}");
        assert!(evaluate(text, &STRICT).is_err_and(|told| told.contains("null has no fields")), "{text}");
    }
}

#[test]
fn null_is_no_value_for_anything_but_selecting() {
    let cases = [
        ("input.missing", "no field `missing`"),
        ("steps.skipped.output.x + 1", "null and a whole number do not go together"),
        ("size(input.gone.a)", "`size` wants"),
        ("input.gone.all(x, true)", "a macro wants"),
        ("1 in input.gone", "null has no fields"),
        ("input.gone.a && true", "wants true or false, not null"),
        ("input.gone < 1", "no order"),
        ("input.gone[1 / 0]", "divided by zero"),
    ];
    for (text, part) in cases {
        for scope in [&FLOWING, &STRICT] {
            let told = evaluate(text, scope).expect_err(text);
            assert!(told.contains(part) || told.contains("null has no fields"), "{text}: {told}");
        }
        assert!(evaluate(text, &FLOWING).unwrap_err().contains(part), "{text}");
    }
}

#[test]
fn tables_are_maps_and_open_what_they_hold_only_when_it_is_looked_into() {
    let cases = [
        ("steps.done.output.items[1] + steps.done.attempts", "4"),
        ("steps.exists(id, id == 'skipped') && 'done' in steps && !('x' in steps)", "true"),
        ("size(steps) == 3 && size(steps.done.output) == 1", "true"),
        ("has(steps.done.output) && !has(steps.done.error)", "true"),
        ("steps.done == {'attempts': 2, 'output': {'items': [1, 2.0]}}", "true"),
        ("steps == steps", "the payload is not JSON"),
        ("steps.broken.attempts", "2"),
        ("steps.broken.output.x", "the payload is not JSON"),
        ("steps[0]", "no such key"),
        ("far", "a mirror"),
        ("far.x", "a mirror has no fields"),
        ("far == far", "false"),
        ("far + 1", "do not go together"),
    ];
    for (text, expected) in cases {
        let told = evaluate(text, &FLOWING).unwrap_or_else(|told| told);
        assert!(told.contains(expected), "{text}: {told}");
    }
}

#[test]
fn a_value_becomes_json_and_pays_for_its_size() {
    let run = run();
    let json = |text: &str| {
        let expression = Expression::parse(text, &FLOWING).unwrap();
        let purse = purse();
        let mut meter = purse.meter();
        let value = expression.evaluate_on(&run, &mut meter).unwrap();
        value.to_json(&mut meter).map_err(|fault| fault.to_string())
    };
    assert_eq!(
        json("{'a': [1, 2.5, 'x' + 'y', null, true], 'b': input}"),
        Ok(json!({
            "a": [1, 2.5, "xy", null, true], "b": {"gone": null, "list": [null]}
        }))
    );
    assert_eq!(json("steps.done"), Ok(json!({"output": {"items": [1, 2]}, "attempts": 2})));
    assert_eq!(json("input.list"), Ok(json!([null])));
    assert_eq!(json("1.0 / 0.0"), Err("inf cannot be written as JSON".into()));
    assert_eq!(json("[0.0 / 0.0]"), Err("NaN cannot be written as JSON".into()));
    assert!(json("{1: 2}").is_err_and(|told| told.contains("wants a text, not a whole number")));
    assert!(json("steps").is_err_and(|told| told.contains("is not JSON")));
    assert_eq!(json("[far]"), Err("a mirror does not open".into()));
    // Twenty doublings take few steps, and a million values to write.
    let doubled = format!("[1]{}", ".map(x, [x, x])".repeat(20));
    assert_eq!(json(&doubled), Err("it costs more than 10000 steps".into()));
}
