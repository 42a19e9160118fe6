//! Data from the command line: JSON, files, and single values.

use super::super::input;
use crate::outcome::{Failure, Outcome};
use coretex_contract::Struct;
use coretex_domain::config::Path;
use coretex_sdk::raw::struct_of;
use serde_json::{Map, Value};

/// Where the data comes from.
#[derive(Debug, clap::Args)]
pub(crate) struct DataArgs {
    /// JSON, @FILE or - for standard input
    #[arg(long, value_name = "JSON", conflicts_with = "file")]
    pub(super) data: Option<String>,
    /// YAML or JSON file; - for standard input
    #[arg(long, short, value_name = "FILE")]
    pub(super) file: Option<String>,
}

impl DataArgs {
    /// What was given, if anything was.
    pub(super) fn read(&self) -> Outcome<Option<Value>> {
        match (&self.data, &self.file) {
            (Some(data), _) => from_json(data).map(Some),
            (None, Some(path)) => from_file(path).map(Some),
            (None, None) => Ok(None),
        }
    }
}

fn from_json(data: &str) -> Outcome<Value> {
    let bytes = match data.strip_prefix('@') {
        Some(path) => input::file(path)?,
        None if data == "-" => input::file(data)?,
        None => data.as_bytes().to_vec(),
    };
    serde_json::from_slice(&bytes).map_err(|error| Failure::Usage(format!("--data is not JSON: {error}")))
}

fn from_file(path: &str) -> Outcome<Value> {
    let bytes = input::file(path)?;
    if path.ends_with(".json") {
        return serde_json::from_slice(&bytes)
            .map_err(|error| Failure::machine(format!("{path} is not JSON"), error));
    }
    let text =
        String::from_utf8(bytes).map_err(|error| Failure::machine(format!("{path} is no text"), error))?;
    serde_saphyr::from_str(&text).map_err(|error| Failure::machine(format!("{path} is not YAML"), error))
}

/// `KEY=VALUE`, for clap: a path, and JSON or else a text.
pub(super) fn assignment(text: &str) -> Result<(Path, Value), String> {
    let (path, value) = text.split_once('=').filter(|(path, _)| !path.is_empty()).ok_or_else(|| {
        format!("`{text}` is not KEY=VALUE; nested keys are joined by dots, for example llm.model=big")
    })?;
    let path = path.parse().map_err(|why| format!("`{path}` {why}"))?;
    Ok((path, serde_json::from_str(value).unwrap_or_else(|_| value.into())))
}

/// Puts values where their paths say; what is in their way gives way.
pub(super) fn assign(data: &mut Value, values: Vec<(Path, Value)>) {
    for (path, value) in values {
        let mut place = &mut *data;
        for key in path.0 {
            if !place.is_object() {
                *place = Value::Object(Map::new());
            }
            let Value::Object(fields) = place else { return };
            place = fields.entry(key).or_insert(Value::Null);
        }
        *place = value;
    }
}

/// A map for the wire.
pub(super) fn object(what: &str, value: Value) -> Outcome<Struct> {
    struct_of(value).map_err(|error| Failure::Usage(format!("{what}: {}", error.message())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn single_values_are_json_or_text() {
        let of = |text: &str| assignment(text).map(|(path, value)| (path.to_string(), value));
        assert_eq!(of("llm.limit=5"), Ok(("llm.limit".into(), json!(5))));
        assert_eq!(of("a=b=c"), Ok(("a".into(), json!("b=c"))));
        assert_eq!(of("a.\"b.c\"=[1]"), Ok(("a.\"b.c\"".into(), json!([1]))));
        assert_eq!(of("a=null"), Ok(("a".into(), Value::Null)));
        for bad in ["a", "=1", "a..b=1", "a b=1", "\"a=1"] {
            assert!(of(bad).is_err(), "{bad}");
        }
        let mut data = json!({"a": 1});
        assign(&mut data, vec![assignment("a.b=2").expect("fine"), assignment("c=x").expect("fine")]);
        assert_eq!(data, json!({"a": {"b": 2}, "c": "x"}));
    }

    #[test]
    fn files_are_yaml_unless_they_say_json() {
        let directory = tempfile::tempdir().expect("temp dir");
        let at = |name: &str| directory.path().join(name).display().to_string();
        std::fs::write(at("a.yaml"), "llm:\n  model: big\n  tags: [1, 2.5]\n").expect("written");
        std::fs::write(at("a.json"), "{\"a\": }").expect("written");
        let found = from_file(&at("a.yaml")).expect("YAML");
        assert_eq!(found, json!({"llm": {"model": "big", "tags": [1, 2.5]}}));
        let Err(Failure::Machine(why)) = from_file(&at("a.json")) else { panic!("refused") };
        assert!(why.contains("is not JSON"), "{why}");
        let Err(Failure::Usage(why)) = object("--data", json!([1])) else { panic!("refused") };
        assert!(why.contains("must be a map"), "{why}");
        assert!(object("--data", json!({"n": 9_007_199_254_740_993_u64})).is_err());
    }
}
