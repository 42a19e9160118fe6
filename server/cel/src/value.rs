//! Values of an expression. What is read is borrowed; what is made is shared.

use crate::fault::Fault;
use crate::inputs::{Lazy, Table};
use crate::kind::Kind;
use crate::limits::VALUE_DEPTH_MAX;
use serde_json::Value as Json;
use std::rc::Rc;
use std::sync::Arc;

/// A value, for as long as what was read is there.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(&'a str),
    /// A text that was made.
    Made(Rc<str>),
    JsonList(&'a [Json]),
    JsonMap(&'a serde_json::Map<String, Json>),
    Texts(&'a [Arc<str>]),
    /// A map of few texts.
    Labels(&'a [(Arc<str>, Arc<str>)]),
    /// A map whose entries are looked up one by one.
    Table(&'a dyn Table),
    /// A value that opens itself when it is looked into.
    Lazy(&'a dyn Lazy),
    /// A list that was made; by [`Value::list`].
    List(Rc<[Value<'a>]>, Levels),
    /// A map that was made; by [`Value::map`].
    Map(Rc<[(Value<'a>, Value<'a>)]>, Levels),
}

/// How deep what was made is nested. Kept beside it and not within, where it would make every value larger.
#[derive(Clone, Copy, Debug)]
pub struct Levels(u16);

// === impl Value ===

impl<'a> Value<'a> {
    /// A list of values, unless it would be nested too deep.
    pub fn list(items: Vec<Value<'a>>) -> Result<Value<'a>, Fault> {
        let levels = levels(items.iter())?;
        Ok(Value::List(items.into(), levels))
    }

    /// A map of entries whose keys differ, unless it would be nested too deep.
    pub fn map(entries: Vec<(Value<'a>, Value<'a>)>) -> Result<Value<'a>, Fault> {
        let levels = levels(entries.iter().map(|(_, value)| value))?;
        Ok(Value::Map(entries.into(), levels))
    }

    /// What is in JSON, borrowed.
    pub fn of_json(json: &'a Json) -> Value<'a> {
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

    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        if let Value::Text(text) = self {
            Some(text)
        } else if let Value::Made(text) = self {
            Some(text)
        } else {
            None
        }
    }

    /// What is inside, if it opens itself; any other value as it is.
    pub fn opened(self) -> Result<Value<'a>, Fault> {
        match self {
            Value::Lazy(lazy) => lazy.open(),
            other => Ok(other),
        }
    }

    /// Its kind; nothing if it has to be opened first.
    pub fn kind(&self) -> Option<Kind> {
        Some(match self {
            Value::Null => Kind::Null,
            Value::Bool(_) => Kind::Bool,
            Value::Int(_) => Kind::Int,
            Value::Double(_) => Kind::Double,
            Value::Text(_) | Value::Made(_) => Kind::Text,
            Value::JsonList(_) | Value::Texts(_) | Value::List(..) => Kind::List,
            Value::JsonMap(_) | Value::Labels(_) | Value::Table(_) | Value::Map(..) => Kind::Map,
            Value::Lazy(_) => return None,
        })
    }

    /// What it is, for a message.
    pub fn told(&self) -> &'static str {
        match self {
            Value::Lazy(lazy) => lazy.told(),
            opened => opened.kind().map_or("a value", Kind::told),
        }
    }

    /// Number of items of a list, or of entries of a map.
    pub(crate) fn count(&self) -> Option<usize> {
        Some(match self {
            Value::JsonList(items) => items.len(),
            Value::Texts(items) => items.len(),
            Value::List(items, _) => items.len(),
            Value::JsonMap(map) => map.len(),
            Value::Labels(labels) => labels.len(),
            Value::Table(table) => table.count(),
            Value::Map(entries, _) => entries.len(),
            Value::Null
            | Value::Bool(_)
            | Value::Int(_)
            | Value::Double(_)
            | Value::Text(_)
            | Value::Made(_)
            | Value::Lazy(_) => return None,
        })
    }

    pub(crate) fn is_list(&self) -> bool {
        self.kind() == Some(Kind::List)
    }

    pub(crate) fn is_map(&self) -> bool {
        self.kind() == Some(Kind::Map)
    }

    /// An item of a list.
    pub(crate) fn item(&self, at: usize) -> Option<Value<'a>> {
        match self {
            Value::JsonList(items) => items.get(at).map(Value::of_json),
            Value::Texts(items) => items.get(at).map(|text| Value::Text(text)),
            Value::List(items, _) => items.get(at).cloned(),
            Value::Null
            | Value::Bool(_)
            | Value::Int(_)
            | Value::Double(_)
            | Value::Text(_)
            | Value::Made(_)
            | Value::JsonMap(_)
            | Value::Labels(_)
            | Value::Table(_)
            | Value::Lazy(_)
            | Value::Map(..) => None,
        }
    }

    /// Levels of what was made, this one included.
    fn levels(&self) -> u16 {
        if let Value::List(_, Levels(levels)) | Value::Map(_, Levels(levels)) = self { *levels } else { 0 }
    }
}

fn levels<'v, 'a: 'v>(inner: impl Iterator<Item = &'v Value<'a>>) -> Result<Levels, Fault> {
    let levels = 1 + inner.map(Value::levels).max().unwrap_or(0);
    if levels > VALUE_DEPTH_MAX {
        return Err(Fault::limit(format!(
            "it makes lists or maps nested deeper than {VALUE_DEPTH_MAX} levels"
        )));
    }
    Ok(Levels(levels))
}
