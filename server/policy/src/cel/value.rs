//! Values of an expression. What comes from the job is borrowed; what is made is shared.

use super::eval::Fault;
use super::eval::Inputs;
use serde_json::{Map, Value as Json};
use std::rc::Rc;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(&'a str),
    Made(Rc<str>),
    /// A list of a payload or configuration.
    JsonList(&'a [Json]),
    JsonMap(&'a Map<String, Json>),
    Texts(&'a [Arc<str>]),
    Labels(&'a [(Arc<str>, Arc<str>)]),
    /// The payload as a whole: its size is its bytes; anything else looks inside.
    Payload(&'a Inputs<'a>),
    List(Rc<[Value<'a>]>),
    Map(Rc<[(Value<'a>, Value<'a>)]>),
}

impl<'a> Value<'a> {
    pub(crate) fn of_json(json: &'a Json) -> Value<'a> {
        match json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(*value),
            // A whole number within 64 bits is an int, any other a double.
            Json::Number(number) => match number.as_i64() {
                Some(value) => Value::Int(value),
                None => Value::Double(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Value::Text(text),
            Json::Array(items) => Value::JsonList(items),
            Json::Object(map) => Value::JsonMap(map),
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            Value::Made(text) => Some(text),
            Value::Null
            | Value::Bool(_)
            | Value::Int(_)
            | Value::Double(_)
            | Value::JsonList(_)
            | Value::JsonMap(_)
            | Value::Texts(_)
            | Value::Labels(_)
            | Value::Payload(_)
            | Value::List(_)
            | Value::Map(_) => None,
        }
    }

    /// The payload opened; any other value as it is.
    pub(super) fn opened(self) -> Result<Value<'a>, Fault> {
        match self {
            Value::Payload(inputs) => inputs.payload().map(Value::of_json),
            other => Ok(other),
        }
    }

    /// What it is, for a message.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "true or false",
            Value::Int(_) => "a whole number",
            Value::Double(_) => "a number with a fraction",
            Value::Text(_) | Value::Made(_) => "a text",
            Value::JsonList(_) | Value::Texts(_) | Value::List(_) => "a list",
            Value::JsonMap(_) | Value::Labels(_) | Value::Map(_) => "a map",
            Value::Payload(_) => "the payload",
        }
    }

    /// Number of items of a list, or of entries of a map.
    pub(super) fn count(&self) -> Option<usize> {
        Some(match self {
            Value::JsonList(items) => items.len(),
            Value::Texts(items) => items.len(),
            Value::List(items) => items.len(),
            Value::JsonMap(map) => map.len(),
            Value::Labels(labels) => labels.len(),
            Value::Map(entries) => entries.len(),
            Value::Null
            | Value::Bool(_)
            | Value::Int(_)
            | Value::Double(_)
            | Value::Text(_)
            | Value::Made(_)
            | Value::Payload(_) => {
                return None;
            }
        })
    }

    pub(super) fn is_list(&self) -> bool {
        matches!(self, Value::JsonList(_) | Value::Texts(_) | Value::List(_))
    }

    /// An item of a list.
    pub(super) fn item(&self, at: usize) -> Option<Value<'a>> {
        match self {
            Value::JsonList(items) => items.get(at).map(Value::of_json),
            Value::Texts(items) => items.get(at).map(|text| Value::Text(text)),
            Value::List(items) => items.get(at).cloned(),
            Value::Null
            | Value::Bool(_)
            | Value::Int(_)
            | Value::Double(_)
            | Value::Text(_)
            | Value::Made(_)
            | Value::JsonMap(_)
            | Value::Labels(_)
            | Value::Payload(_)
            | Value::Map(_) => None,
        }
    }

    /// The keys of a map, as items to go over.
    pub(super) fn keys(&self) -> Option<Vec<Value<'a>>> {
        Some(match self {
            Value::JsonMap(map) => map.keys().map(|key| Value::Text(key)).collect(),
            Value::Labels(labels) => labels.iter().map(|(key, _)| Value::Text(key)).collect(),
            Value::Map(entries) => entries.iter().map(|(key, _)| key.clone()).collect(),
            Value::Null
            | Value::Bool(_)
            | Value::Int(_)
            | Value::Double(_)
            | Value::Text(_)
            | Value::Made(_)
            | Value::JsonList(_)
            | Value::Texts(_)
            | Value::Payload(_)
            | Value::List(_) => return None,
        })
    }
}
