//! Layers into one configuration, and which layer set each leaf.

use super::path;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A part of layered data, with the layer that set it. Laying parts on each other is associative, which plain JSON is
/// not: a map over a scalar must remember that it began afresh.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// An explicit null: what lies below is taken away.
    Gone,
    Leaf {
        by: usize,
        value: Value,
    },
    Map {
        by: usize,
        /// Nothing below it shows through.
        is_fresh: bool,
        entries: BTreeMap<String, Node>,
    },
}

/// What layers give together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effective {
    /// A map.
    pub data: Value,
    /// Path of each leaf to the number of the layer that set it. Lists and empty maps are leaves.
    pub sources: BTreeMap<String, usize>,
}

// === impl Node ===

impl Node {
    /// The data of one layer. Nulls inside lists are values like others.
    pub fn of(value: &Value, by: usize) -> Node {
        match value {
            Value::Null => Node::Gone,
            Value::Object(fields) => {
                let entries = fields.iter().map(|(key, item)| (key.clone(), Node::of(item, by))).collect();
                Node::Map { by, is_fresh: false, entries }
            }
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                Node::Leaf { by, value: value.clone() }
            }
        }
    }

    /// `later` laid on this.
    pub fn under(self, later: Node) -> Node {
        match (self, later) {
            (
                Node::Map { is_fresh, entries: mut below, .. },
                Node::Map { by, is_fresh: false, entries: above },
            ) => {
                for (key, item) in above {
                    let merged = match below.remove(&key) {
                        Some(old) => old.under(item),
                        None => item,
                    };
                    below.insert(key, merged);
                }
                Node::Map { by, is_fresh, entries: below }
            }
            (Node::Leaf { .. } | Node::Gone, Node::Map { by, is_fresh: _, entries }) => {
                Node::Map { by, is_fresh: true, entries }
            }
            (_, later) => later,
        }
    }

    /// What is left when all layers lie on each other.
    pub fn finish(self) -> Effective {
        let mut sources = BTreeMap::new();
        let data = self.show(&mut String::new(), &mut sources).unwrap_or_else(|| Value::Object(Map::new()));
        Effective { data, sources }
    }

    fn show(self, at: &mut String, sources: &mut BTreeMap<String, usize>) -> Option<Value> {
        match self {
            Node::Gone => None,
            Node::Leaf { by, value } => {
                sources.insert(at.clone(), by);
                Some(value)
            }
            Node::Map { by, entries, .. } => {
                let mut fields = Map::new();
                let len = at.len();
                for (key, item) in entries {
                    path::push(at, &key);
                    if let Some(value) = item.show(at, sources) {
                        fields.insert(key, value);
                    }
                    at.truncate(len);
                }
                if fields.is_empty() && !at.is_empty() {
                    sources.insert(at.clone(), by);
                }
                Some(Value::Object(fields))
            }
        }
    }
}

/// Layers laid on each other, the first one lowest.
pub fn effective(layers: &[&Value]) -> Effective {
    let nodes = layers.iter().enumerate().map(|(by, data)| Node::of(data, by));
    let merged = nodes.reduce(Node::under);
    merged.map_or_else(|| Effective { data: Value::Object(Map::new()), ..Effective::default() }, Node::finish)
}
