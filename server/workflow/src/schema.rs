//! The JSON Schema of a workflow, for editors: `coretex workflow schema`.
//!
//! It says what a key may hold; how steps go together only `validate` can tell.

use crate::library;
use crate::limits::*;
use crate::read::{
    APPROVAL_KEYS, BUDGET_KEYS, CONCURRENCY_KEYS, FOR_EACH_KEYS, KEYS, KIND_KEYS, RETRY_KEYS, STEP_KEYS,
    TIMEOUT_KEYS, WAIT_EVENT_KEYS, WORK_KEYS,
};
use coretex_domain::limits::{
    ATTEMPTS_MAX, KEY_LEN_MAX, LABELS_MAX, MULTIPLIER_MAX, PRIORITY_MAX, TOPIC_LEN_MAX, WORKER_ID_LEN_MAX,
};
use serde_json::{Map, Value, json};

const SPAN: &str = r"^\s*([0-9]+(ms|s|m|h|d|w))+\s*$";

/// The schema, in JSON Schema 2020-12.
pub fn schema() -> Value {
    let mut workflow = object(KEYS, &["name", "steps"], &workflow_key);
    workflow["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    workflow["title"] = json!("Coretex workflow");
    let work: Vec<&str> = ["topic", "uses"].iter().chain(WORK_KEYS).copied().collect();
    let step: Vec<&str> = STEP_KEYS
        .iter()
        .chain(KIND_KEYS)
        .chain(&["compensate"])
        .chain(FOR_EACH_KEYS)
        .chain(WORK_KEYS)
        .copied()
        .collect();
    let mut one_step = object(&step, &["id"], &step_key);
    one_step["oneOf"] = KIND_KEYS.iter().map(|word| json!({ "required": [word] })).collect();
    let mut undoing = object(&work, &[], &step_key);
    undoing["oneOf"] = json!([{ "required": ["topic"] }, { "required": ["uses"] }]);
    workflow["$defs"] = json!({
        "steps": { "type": "array", "minItems": 1, "maxItems": STEPS_MAX, "items": { "$ref": "#/$defs/step" } },
        "step": one_step,
        "compensation": undoing,
        "span": { "type": "string", "pattern": SPAN, "examples": ["500ms", "30s", "5m", "1h30m", "2d"] },
        "template": {
            "type": ["string", "number", "boolean"], "maxLength": TEMPLATE_BYTES_MAX,
            "description": "A text; ${…} in it is an expression",
        },
        "expression": { "type": "string", "maxLength": TEMPLATE_BYTES_MAX, "description": "An expression, as ${…}" },
        "names": { "type": "array", "items": { "type": "string", "minLength": 1, "maxLength": KEY_LEN_MAX } },
    });
    workflow
}

/// A map with these keys and no others.
fn object(keys: &[&str], required: &[&str], of: &dyn Fn(&str) -> Value) -> Value {
    let properties: Map<String, Value> = keys.iter().map(|key| ((*key).to_owned(), of(key))).collect();
    let mut schema = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn text(most: usize) -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": most })
}

fn whole(least: u64, most: u64) -> Value {
    json!({ "type": "integer", "minimum": least, "maximum": most })
}

fn refer(name: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{name}") })
}

fn words(words: &[&str]) -> Value {
    json!({ "enum": words })
}

fn workflow_key(key: &str) -> Value {
    match key {
        "name" => text(NAME_LEN_MAX),
        "description" => text(TEXT_LEN_MAX),
        "input_schema" => {
            json!({ "type": "object", "description": "A JSON Schema of what a run must be given" })
        }
        "timeout" => refer("span"),
        "concurrency" => object(CONCURRENCY_KEYS, &["key"], &|key| match key {
            "limit" => whole(1, CONCURRENCY_MAX.into()),
            "on_conflict" => words(&["queue", "reject", "cancel_oldest"]),
            _ => refer("template"),
        }),
        "steps" | "on_failure" => refer("steps"),
        _ => json!({ "description": "Any value; ${…} in its texts are expressions" }),
    }
}

fn step_key(key: &str) -> Value {
    match key {
        "id" => {
            json!({ "type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_-]*$", "maxLength": STEP_ID_LEN_MAX })
        }
        "description" => text(TEXT_LEN_MAX),
        "needs" => {
            json!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" }, "maxItems": NEEDS_MAX }] })
        }
        "when" | "for_each" => refer("expression"),
        "on_failure" | "on_item_failure" => words(&["fail", "continue"]),
        "topic" => text(TOPIC_LEN_MAX),
        "uses" => words(library::NAMES),
        "approval" => object(APPROVAL_KEYS, &["title"], &approval_key),
        "delay" => json!({ "anyOf": [refer("span"), refer("expression")] }),
        "wait_event" => {
            json!({ "anyOf": [text(NAME_LEN_MAX), object(WAIT_EVENT_KEYS, &["name"], &|key| match key {
            "name" => text(NAME_LEN_MAX),
            "match" => refer("expression"),
            _ => refer("span"),
        })] })
        }
        "parallel" => refer("steps"),
        "compensate" => refer("compensation"),
        "max_parallel" => whole(1, PARALLEL_MAX.into()),
        "retry" => object(RETRY_KEYS, &[], &retry_key),
        "timeout" => refer("span"),
        "timeouts" => object(TIMEOUT_KEYS, &[], &|_| refer("span")),
        "labels" => {
            json!({ "type": "object", "maxProperties": LABELS_MAX, "additionalProperties": refer("template") })
        }
        "pool" | "worker_id" => text(WORKER_ID_LEN_MAX),
        "pool_required" | "worker_required" => json!({ "type": "boolean" }),
        "requires" | "risk_tags" => refer("names"),
        "priority" => whole(0, PRIORITY_MAX.into()),
        "capability" => text(KEY_LEN_MAX),
        "budget" => object(BUDGET_KEYS, &[], &|_| whole(1, i64::MAX as u64)),
        "config" => json!({ "type": "object", "description": "Laid over the configuration of the run" }),
        "input" => json!({ "description": "Any value; ${…} in its texts are expressions" }),
        _ => refer("template"),
    }
}

fn approval_key(key: &str) -> Value {
    match key {
        "details" => json!({ "description": "Any value; ${…} in its texts are expressions" }),
        "approvers" => refer("names"),
        "quorum" => whole(1, QUORUM_MAX),
        "expires" => refer("span"),
        "on_expiry" => words(&["reject", "approve"]),
        "requester_may_approve" => json!({ "type": "boolean" }),
        _ => refer("template"),
    }
}

fn retry_key(key: &str) -> Value {
    match key {
        "max_attempts" => whole(1, ATTEMPTS_MAX.into()),
        "multiplier" => json!({ "type": "number", "minimum": 1, "maximum": MULTIPLIER_MAX }),
        "jitter" => json!({ "type": "number", "minimum": 0, "maximum": 1 }),
        "non_retryable_errors" => refer("names"),
        _ => refer("span"),
    }
}
