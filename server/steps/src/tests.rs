//! The library as a whole: what is enabled, and what each step makes of good and bad input.

use super::*;
use serde_json::json;

fn facts() -> Facts {
    Facts {
        namespace: "default".into(),
        job_id: "job_1".into(),
        attempt: 1,
        idempotency_token: "token".into(),
        within: Duration::from_secs(20),
        hosts: None,
    }
}

async fn run(name: &str, input: Value) -> Result<Value, StepFailure> {
    Library::new(Settings::default()).run(name, input, &facts()).await
}

#[tokio::test]
async fn a_step_that_is_not_enabled_names_the_setting() {
    let settings = Settings { enabled: BTreeSet::from(["set".to_owned()]), ..Settings::default() };
    let library = Library::new(settings);
    assert_eq!(library.run("set", json!(1), &facts()).await, Ok(json!(1)));
    for name in STEPS.iter().filter(|name| **name != "set") {
        let failure = library.run(name, json!({}), &facts()).await.expect_err("not enabled");
        assert_eq!((failure.kind, failure.retryable), ("STEP_DISABLED", false));
        assert!(failure.message.contains("steps.enabled") && failure.message.contains(name), "{failure}");
    }
    assert_eq!(run("nope", json!({})).await.expect_err("none").kind, "STEP_UNKNOWN");
}

#[tokio::test]
async fn set_gives_back_what_it_is_given_within_the_bound() {
    for value in [json!(null), json!({ "a": [1, "x", null] }), json!("text")] {
        assert_eq!(run("set", value.clone()).await, Ok(value));
    }
    let failure = run("set", json!("x".repeat(PAYLOAD_MAX))).await.expect_err("too much");
    assert_eq!((failure.kind, failure.retryable), ("RESULT_TOO_LARGE", false));
}

#[tokio::test]
async fn log_and_emit_give_nothing_and_refuse_what_they_do_not_know() {
    for (name, input) in [
        ("log", json!({ "message": "hello" })),
        ("log", json!({ "message": "", "level": "warn", "fields": { "a": 1 } })),
        ("emit", json!({ "name": "order.paid" })),
        ("emit", json!({ "name": "order.paid", "data": { "id": 1 } })),
    ] {
        assert_eq!(run(name, input).await, Ok(Value::Null));
    }
    let many: serde_json::Map<String, Value> = (0..65).map(|n| (n.to_string(), json!(n))).collect();
    for (name, input, told) in [
        ("log", json!("text"), "input: is a text"),
        ("log", json!({}), "input.message: is missing"),
        ("log", json!({ "message": 1 }), "input.message: is a number"),
        ("log", json!({ "message": null }), "input.message: is null"),
        ("log", json!({ "message": "x".repeat(9_000) }), "at most 8192"),
        ("log", json!({ "message": "x", "level": "wran" }), "did you mean"),
        ("log", json!({ "message": "x", "fields": [] }), "input.fields: is a list"),
        ("log", json!({ "message": "x", "fields": many }), "at most 64"),
        ("log", json!({ "message": "x", "feilds": {} }), "did you mean"),
        ("emit", json!({}), "input.name: is missing"),
        ("emit", json!({ "name": "" }), "must not be empty"),
        ("emit", json!({ "name": "a b" }), "must match"),
        ("emit", json!({ "name": "x".repeat(129) }), "at most 128"),
        ("emit", json!({ "name": "x", "dta": 1 }), "did you mean"),
    ] {
        let failure = run(name, input.clone()).await.expect_err("bad input");
        assert_eq!((failure.kind, failure.retryable), ("INVALID_INPUT", false), "{input}");
        assert!(failure.message.contains(told), "{told} in {failure}");
    }
}

#[tokio::test]
async fn validate_gives_the_data_or_every_fault() {
    let schema =
        json!({ "type": "object", "required": ["a", "b"], "properties": { "a": { "type": "integer" } } });
    let good = json!({ "a": 1, "b": 2 });
    assert_eq!(run("validate", json!({ "schema": schema, "data": good })).await, Ok(good));
    let failure =
        run("validate", json!({ "schema": schema, "data": { "a": "x" } })).await.expect_err("does not fit");
    assert_eq!((failure.kind, failure.retryable), ("VALIDATION_FAILED", false));
    let faults = failure.details.expect("faults")["faults"].as_array().cloned().expect("a list");
    assert_eq!(faults.len(), 2, "{faults:?}");
    let many = json!({ "schema": { "type": "array", "items": { "type": "string" } }, "data": vec![1; 50] });
    let failure = run("validate", many).await.expect_err("fifty faults");
    assert!(failure.message.contains("and 42 more"), "{failure}");
    for (input, kind, told) in [
        (json!({ "data": 1 }), "INVALID_INPUT", "input.schema: is missing"),
        (json!({ "schema": {} }), "INVALID_INPUT", "input.data: is missing"),
        (json!({ "schema": { "typ": "object" }, "data": 1 }), "SCHEMA_INVALID", "input.schema"),
        (json!({ "schema": { "type": "string", "pattern": "(" }, "data": "x" }), "SCHEMA_INVALID", "pattern"),
        (json!({ "schema": 1, "data": "x" }), "SCHEMA_INVALID", "input.schema"),
    ] {
        let failure = run("validate", input.clone()).await.expect_err("bad input");
        assert_eq!((failure.kind, failure.retryable), (kind, false), "{input}");
        assert!(failure.message.contains(told), "{told} in {failure}");
    }
}

#[tokio::test]
async fn transform_refuses_what_is_no_filter_before_it_runs_one() {
    for (input, told) in [
        (json!({ "data": 1 }), "input.jq: is missing"),
        (json!({ "jq": "." }), "input.data: is missing"),
        (json!({ "jq": 1, "data": 1 }), "input.jq: is a number"),
        (json!({ "jq": "x".repeat(70_000), "data": 1 }), "at most 65536"),
        (json!({ "jq": ".", "data": 1, "args": [] }), "no key of `transform`"),
    ] {
        let failure = run("transform", input.clone()).await.expect_err("bad input");
        assert_eq!((failure.kind, failure.retryable), ("INVALID_INPUT", false), "{input}");
        assert!(failure.message.contains(told), "{told} in {failure}");
    }
}

#[tokio::test]
async fn a_program_that_is_no_filter_does_no_harm() {
    for program in ["/no/such/program", "/bin/false", "/bin/true"] {
        let jq = jq::Settings { program: program.into(), ..jq::Settings::default() };
        let library = Library::new(Settings { jq, ..Settings::default() });
        let failure =
            library.run("transform", json!({ "jq": ".", "data": 1 }), &facts()).await.expect_err(program);
        assert_eq!((failure.kind, failure.retryable), ("STEP_BROKEN", true), "{failure}");
    }
}
