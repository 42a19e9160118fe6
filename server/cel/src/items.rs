//! What a macro goes over: the items of a list, the keys of a map, one at a time.

use crate::inputs::Table;
use crate::value::Value;
use serde_json::Value as Json;
use std::rc::Rc;
use std::slice::Iter;
use std::sync::Arc;

/// Nothing is copied ahead: a macro that stops early has paid for what it saw.
pub(crate) enum Items<'a> {
    Json(Iter<'a, Json>),
    Texts(Iter<'a, Arc<str>>),
    List(Rc<[Value<'a>]>, usize),
    JsonKeys(serde_json::map::Keys<'a>),
    Labels(Iter<'a, (Arc<str>, Arc<str>)>),
    Table(&'a dyn Table, usize),
    Keys(Rc<[(Value<'a>, Value<'a>)]>, usize),
}

impl<'a> Items<'a> {
    /// Of a list or a map; nothing for any other value.
    pub(crate) fn of(value: &Value<'a>) -> Option<Items<'a>> {
        Some(match value {
            Value::JsonList(items) => Items::Json(items.iter()),
            Value::Texts(items) => Items::Texts(items.iter()),
            Value::List(items, _) => Items::List(items.clone(), 0),
            Value::JsonMap(map) => Items::JsonKeys(map.keys()),
            Value::Labels(labels) => Items::Labels(labels.iter()),
            Value::Table(table) => Items::Table(*table, 0),
            Value::Map(entries, _) => Items::Keys(entries.clone(), 0),
            Value::Null
            | Value::Bool(_)
            | Value::Int(_)
            | Value::Double(_)
            | Value::Text(_)
            | Value::Made(_)
            | Value::Lazy(_) => return None,
        })
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        let (found, at) = match self {
            Items::Json(items) => return items.next().map(Value::of_json),
            Items::Texts(texts) => return texts.next().map(|text| Value::Text(text)),
            Items::JsonKeys(keys) => return keys.next().map(|key| Value::Text(key)),
            Items::Labels(labels) => return labels.next().map(|(key, _)| Value::Text(key)),
            Items::List(items, at) => (items.get(*at).cloned(), at),
            Items::Table(table, at) => (table.key(*at).map(Value::Text), at),
            Items::Keys(entries, at) => (entries.get(*at).map(|(key, _)| key.clone()), at),
        };
        *at += 1;
        found
    }
}
