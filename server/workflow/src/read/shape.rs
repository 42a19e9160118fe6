//! Values with expressions anywhere in them, and values without.

use super::{Reader, template};
use crate::expression::Shape;
use crate::limits::TEMPLATE_BYTES_MAX;
use coretex_document::{Node, Notes, Spot, join};
use coretex_domain::limits::JSON_DEPTH_MAX;
use serde_json::{Map, Number, Value};

/// Longest key of a map, bytes.
const KEY_LEN_MAX: usize = 256;

impl Reader {
    /// A value in which every text may hold expressions.
    pub(super) fn shape(&mut self, spot: &Spot, path: &str) -> Option<Shape> {
        shape(spot, path, 1, &mut self.notes)
    }
}

fn shape(spot: &Spot, path: &str, depth: usize, notes: &mut Notes) -> Option<Shape> {
    if depth > JSON_DEPTH_MAX {
        notes.at(spot, path, format!("is nested more than {JSON_DEPTH_MAX} deep"));
        return None;
    }
    match &spot.value {
        Node::Text(text) if text.contains("${") => template(spot, path, notes).map(Shape::Template),
        Node::List(items) => {
            let read = |(n, item): (usize, &Spot)| shape(item, &format!("{path}[{n}]"), depth + 1, notes);
            let read: Vec<Option<Shape>> = items.iter().enumerate().map(read).collect();
            read.into_iter().collect::<Option<Vec<_>>>().map(Shape::list)
        }
        Node::Map(fields) => {
            let mut read = Vec::with_capacity(fields.len());
            let mut is_whole = true;
            for (key, value) in fields {
                let name =
                    key_of(value, path, &key.value, read.iter().map(|(known, _): &(String, _)| known), notes);
                match shape(value, &join(path, cut(&key.value)), depth + 1, notes).zip(name) {
                    Some((one, name)) => read.push((name, one)),
                    None => is_whole = false,
                }
            }
            is_whole.then(|| Shape::map(read))
        }
        Node::Null | Node::Bool(_) | Node::Whole(_) | Node::Float(_) | Node::Text(_) => {
            plain(spot, path, notes).map(Shape::Fixed)
        }
    }
}

/// A value as it stands; `${` means nothing in it.
pub(crate) fn literal(spot: &Spot, path: &str, notes: &mut Notes) -> Option<Value> {
    value(spot, path, 1, notes)
}

fn value(spot: &Spot, path: &str, depth: usize, notes: &mut Notes) -> Option<Value> {
    if depth > JSON_DEPTH_MAX {
        notes.at(spot, path, format!("is nested more than {JSON_DEPTH_MAX} deep"));
        return None;
    }
    match &spot.value {
        Node::List(items) => {
            let read = |(n, item): (usize, &Spot)| value(item, &format!("{path}[{n}]"), depth + 1, notes);
            let read: Vec<Option<Value>> = items.iter().enumerate().map(read).collect();
            read.into_iter().collect::<Option<Vec<_>>>().map(Value::Array)
        }
        Node::Map(fields) => {
            let mut read = Map::new();
            let mut is_whole = true;
            for (key, inner) in fields {
                let name = key_of(inner, path, &key.value, read.keys(), notes);
                match value(inner, &join(path, cut(&key.value)), depth + 1, notes).zip(name) {
                    Some((one, name)) => drop(read.insert(name, one)),
                    None => is_whole = false,
                }
            }
            is_whole.then_some(Value::Object(read))
        }
        Node::Null | Node::Bool(_) | Node::Whole(_) | Node::Float(_) | Node::Text(_) => {
            plain(spot, path, notes)
        }
    }
}

fn key_of<'k>(
    spot: &Spot,
    path: &str,
    key: &str,
    mut known: impl Iterator<Item = &'k String>,
    notes: &mut Notes,
) -> Option<String> {
    if key.len() > KEY_LEN_MAX {
        notes.at(
            spot,
            &join(path, cut(key)),
            format!("has a key of {} bytes, at most {KEY_LEN_MAX}", key.len()),
        );
        return None;
    }
    if known.any(|one| one == key) {
        notes.at(spot, &join(path, cut(key)), "is given twice");
        return None;
    }
    Some(key.to_owned())
}

fn plain(spot: &Spot, path: &str, notes: &mut Notes) -> Option<Value> {
    let told = match &spot.value {
        Node::Null => return Some(Value::Null),
        Node::Bool(value) => return Some(Value::Bool(*value)),
        Node::Whole(value) => match i64::try_from(*value) {
            Ok(value) => return Some(Value::from(value)),
            Err(_) => format!("is {value}, outside of the whole numbers of 64 bits"),
        },
        Node::Float(value) => match Number::from_f64(*value) {
            Some(value) => return Some(Value::Number(value)),
            None => format!("is {value}, which JSON cannot say"),
        },
        Node::Text(text) if text.len() <= TEMPLATE_BYTES_MAX => return Some(Value::String(text.clone())),
        Node::Text(text) => format!("has {} bytes, at most {TEMPLATE_BYTES_MAX}", text.len()),
        Node::List(_) | Node::Map(_) => return None,
    };
    notes.at(spot, path, told);
    None
}

fn cut(key: &str) -> &str {
    key.get(..64).unwrap_or("…")
}
