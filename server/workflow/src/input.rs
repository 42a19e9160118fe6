//! What a run is given: checked against the schema of its workflow, with the defaults that this names.

use crate::model::{Definition, InputSchema};
use coretex_domain::Violation;
use serde_json::{Map, Value};

impl Definition {
    /// The input as the run gets it; nothing given is null, or an empty map where the workflow says what it wants. Or all
    /// that is wrong with it.
    pub fn input_of(&self, given: Option<Value>) -> Result<Value, Vec<Violation>> {
        let Some(InputSchema { value, schema }) = &self.input else {
            return Ok(given.unwrap_or(Value::Null));
        };
        let mut input = given.unwrap_or_else(|| Value::Object(Map::new()));
        fill(value, &mut input);
        let faults = schema.faults("input", &input);
        if faults.is_empty() { Ok(input) } else { Err(faults) }
    }
}

/// Puts in the defaults of properties that are not there, also within maps that are.
fn fill(schema: &Value, value: &mut Value) {
    let (Some(properties), Value::Object(map)) = (schema.get("properties").and_then(Value::as_object), value)
    else {
        return;
    };
    for (name, property) in properties {
        if let Some(default) = property.get("default").filter(|_| !map.contains_key(name)) {
            map.insert(name.clone(), default.clone());
        }
        if let Some(inner) = map.get_mut(name) {
            fill(property, inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn defaults_are_filled_in_and_faults_are_all_told() {
        let text = "
name: a
input_schema:
  type: object
  required: [file]
  properties:
    file: { type: string }
    mode: { type: string, default: fast }
    deep: { type: object, properties: { n: { type: integer, default: 3 } } }
steps: [{ id: x, topic: t }]";
        let definition = crate::parse(text).unwrap().definition;
        let input = definition.input_of(Some(json!({ "file": "f", "deep": {} }))).unwrap();
        assert_eq!(input, json!({ "file": "f", "mode": "fast", "deep": { "n": 3 } }));
        let faults = definition.input_of(Some(json!({ "mode": 7, "deep": { "n": "x" } }))).unwrap_err();
        assert_eq!(faults.len(), 3, "{faults:?}");
        assert!(definition.input_of(None).is_err());
        let free = crate::parse("name: a\nsteps: [{ id: x, topic: t }]").unwrap().definition;
        assert_eq!(free.input_of(None).unwrap(), json!(null));
    }
}
