//! What kinds of values expressions read, as far as the workflow tells.

use super::reads::Reads;
use crate::expression::{Key, root};
use crate::model::{Kind, OnFailure, Step};
use coretex_cel::Kinds;
use serde_json::Value;

impl Reads<'_, '_> {
    /// What is known of a name. `is_after_failure`: a step that is read may have failed, and then it gave nothing.
    pub(super) fn kinds_of(&self, number: u16, path: &[Key], is_after_failure: bool) -> Kinds {
        match (number, path) {
            (root::INPUT, path) => {
                self.definition.input.as_ref().map_or(Kinds::ANY, |input| of_schema(&input.value, path))
            }
            (root::STEPS, [Key::Field(id), Key::Field(field)]) => {
                self.kinds_of_step(id, field, is_after_failure)
            }
            (root::STEPS | root::CONFIG | root::LABELS, []) => Kinds::MAP,
            (root::INDEX | root::RUN_VERSION, []) => Kinds::INT,
            (root::RUN_ID | root::RUN_WORKFLOW | root::RUN_START_TIME, []) => Kinds::TEXT,
            _ => Kinds::ANY,
        }
    }

    fn kinds_of_step(&self, id: &str, field: &str, is_after_failure: bool) -> Kinds {
        let Some((step, _)) = self.found.get(id) else { return Kinds::ANY };
        let is_sure = step.when.is_none() && step.on_failure == OnFailure::Fail && !is_after_failure;
        match field {
            "state" => Kinds::TEXT,
            "attempts" => Kinds::INT,
            "output" | "item_outputs" if is_sure => output(step),
            // What was skipped or has failed gives null.
            "output" | "item_outputs" => output(step).or(Kinds::NULL),
            _ => Kinds::ANY,
        }
    }
}

fn output(step: &Step) -> Kinds {
    if step.for_each.is_some() {
        return Kinds::LIST;
    }
    match &step.kind {
        Kind::Approval(_) | Kind::Parallel(_) => Kinds::MAP,
        Kind::Delay(_) | Kind::Until(_) => Kinds::NULL,
        Kind::Work(_) | Kind::WaitEvent(_) => Kinds::ANY,
    }
}

/// The kinds a schema gives to what lies under a path, where it is always there.
fn of_schema(schema: &Value, path: &[Key]) -> Kinds {
    let Some((key, rest)) = path.split_first() else {
        return schema.get("type").map_or(Kinds::ANY, of_types);
    };
    let inner = match key {
        Key::Field(name) => schema.get("properties").and_then(|all| all.get(&**name)).filter(|inner| {
            let required = schema.get("required").and_then(Value::as_array);
            required.is_some_and(|names| names.iter().any(|one| one.as_str() == Some(name)))
                || inner.get("default").is_some()
        }),
        Key::Index(_) => schema.get("items"),
    };
    inner.map_or(Kinds::ANY, |inner| of_schema(inner, rest))
}

fn of_types(types: &Value) -> Kinds {
    match types {
        Value::String(name) => of_type(name),
        Value::Array(names) => {
            names.iter().filter_map(Value::as_str).map(of_type).fold(Kinds::NONE, Kinds::or)
        }
        _ => Kinds::ANY,
    }
}

fn of_type(name: &str) -> Kinds {
    match name {
        "null" => Kinds::NULL,
        "boolean" => Kinds::BOOL,
        // One written as 1.0, or beyond 64 bits, is a number with a fraction here.
        "integer" | "number" => Kinds::NUMBER,
        "string" => Kinds::TEXT,
        "array" => Kinds::LIST,
        "object" => Kinds::MAP,
        _ => Kinds::ANY,
    }
}
