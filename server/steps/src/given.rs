//! The input of a step: a map with known keys. All that is wrong with it is told at once.

use crate::StepFailure;
use coretex_domain::names::shown;
use coretex_domain::nearest::hint;
use serde_json::{Map, Value};

/// Input that cannot be used.
pub(crate) const INVALID: &str = "INVALID_INPUT";

/// Keys of an input, taken one by one.
pub(crate) struct Given {
    step: &'static str,
    map: Map<String, Value>,
    faults: Vec<String>,
}

// === impl Given ===

impl Given {
    pub(crate) fn read(
        step: &'static str,
        input: Value,
        known: &'static [&'static str],
    ) -> Result<Given, StepFailure> {
        let Value::Object(map) = input else {
            let message = format!("input: is {}, where a map is wanted for `{step}`", kind_of(&input));
            return Err(StepFailure::new(INVALID, message));
        };
        let mut given = Given { step, map, faults: Vec::new() };
        let unknown = given.map.keys().filter(|key| !known.contains(&key.as_str()));
        let tell = |key: &String| {
            let hint = hint(key, known.iter().copied());
            format!("input.{}: is no key of `{step}`; it takes {}{hint}", shown(key), known.join(", "))
        };
        given.faults = unknown.take(16).map(tell).collect();
        Ok(given)
    }

    /// Anything; null where it is left out.
    pub(crate) fn any(&mut self, key: &str) -> Value {
        self.map.remove(key).unwrap_or_default()
    }

    /// Anything that must be there.
    pub(crate) fn needed(&mut self, key: &str) -> Value {
        match self.map.remove(key) {
            Some(value) => value,
            None => {
                self.fault(key, format!("is missing; `{}` needs it", self.step));
                Value::Null
            }
        }
    }

    /// A text that must be there, of at most so many bytes.
    pub(crate) fn needed_text(&mut self, key: &str, most: usize) -> String {
        match self.needed(key) {
            Value::String(text) if text.len() <= most => text,
            Value::String(text) => {
                self.fault(key, format!("has {} bytes, at most {most} are taken", text.len()));
                String::new()
            }
            // What is missing was told.
            Value::Null if !self.faults.is_empty() => String::new(),
            other => {
                self.fault(key, format!("is {}, where a text is wanted", kind_of(&other)));
                String::new()
            }
        }
    }

    /// One of some words; the first where it is left out.
    pub(crate) fn word(&mut self, key: &str, words: &'static [&'static str]) -> &'static str {
        let first = words.first().copied().unwrap_or_default();
        match self.any(key) {
            Value::Null => first,
            Value::String(word) if words.contains(&word.as_str()) => {
                words.iter().copied().find(|one| *one == word).unwrap_or(first)
            }
            other => {
                let word = other.as_str().unwrap_or_default();
                let hint = hint(word, words.iter().copied());
                let given = other.as_str().map_or_else(|| kind_of(&other).to_owned(), shown);
                self.fault(key, format!("is {given}; it is one of {}{hint}", words.join(", ")));
                first
            }
        }
    }

    /// A map of at most so many entries; empty where it is left out.
    pub(crate) fn map(&mut self, key: &str, most: usize) -> Map<String, Value> {
        match self.any(key) {
            Value::Null => Map::new(),
            Value::Object(map) if map.len() <= most => map,
            Value::Object(map) => {
                self.fault(key, format!("has {} entries, at most {most} are taken", map.len()));
                Map::new()
            }
            other => {
                self.fault(key, format!("is {}, where a map is wanted", kind_of(&other)));
                Map::new()
            }
        }
    }

    /// Something is wrong with a key.
    pub(crate) fn fault(&mut self, key: &str, message: impl AsRef<str>) {
        self.faults.push(format!("input.{key}: {}", message.as_ref()));
    }

    /// All faults, if there are any.
    pub(crate) fn finish(self) -> Result<(), StepFailure> {
        match self.faults.is_empty() {
            true => Ok(()),
            false => Err(StepFailure::new(INVALID, self.faults.join("; "))),
        }
    }
}

/// A value's kind, for messages.
pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}
