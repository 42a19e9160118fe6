//! JSON text, checked without building it: line and column of the first fault, and the rule it breaks.
//! Also the way between JSON bytes and `google.protobuf.Value`, which never rounds a number.

use coretex_contract::{ListValue, Struct, Value, value::Kind};
use coretex_domain::limits::JSON_DEPTH_MAX;
use rustc_hash::FxHashSet;
use std::borrow::Cow;

mod scan;

pub(crate) use scan::check;

/// Why a text is not JSON as we keep it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct JsonFault {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) rule: String,
}

impl std::fmt::Display for JsonFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "not JSON at {}:{}: {}", self.line, self.column, self.rule)
    }
}

/// Keys of one object; few are compared one by one, many are hashed.
#[derive(Default)]
struct Keys<'a> {
    few: Vec<Cow<'a, [u8]>>,
    many: FxHashSet<Cow<'a, [u8]>>,
}

impl<'a> Keys<'a> {
    const FEW: usize = 16;

    /// False when it was there before.
    fn insert(&mut self, key: Cow<'a, [u8]>) -> bool {
        if !self.many.is_empty() {
            return self.many.insert(key);
        }
        if self.few.contains(&key) {
            return false;
        }
        self.few.push(key);
        if self.few.len() > Keys::FEW {
            self.many = self.few.drain(..).collect();
        }
        true
    }
}

/// The canonical text of a value: keys in order, no space, the shortest number that reads back the same.
pub(crate) fn canonical(value: &Value) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(128);
    write_value(value, &mut out, 0)?;
    Ok(out)
}

fn write_value(value: &Value, out: &mut Vec<u8>, depth: usize) -> Result<(), String> {
    if depth > JSON_DEPTH_MAX {
        return Err(format!("is nested deeper than {JSON_DEPTH_MAX}"));
    }
    match &value.kind {
        None => return Err("has a value of no kind; use null_value for null".into()),
        Some(Kind::NullValue(_)) => out.extend_from_slice(b"null"),
        Some(Kind::BoolValue(true)) => out.extend_from_slice(b"true"),
        Some(Kind::BoolValue(false)) => out.extend_from_slice(b"false"),
        Some(Kind::NumberValue(number)) => write_number(*number, out)?,
        Some(Kind::StringValue(text)) => write_text(text, out)?,
        Some(Kind::ListValue(list)) => {
            out.push(b'[');
            for (n, item) in list.values.iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                write_value(item, out, depth + 1)?;
            }
            out.push(b']');
        }
        Some(Kind::StructValue(object)) => write_object(object, out, depth + 1)?,
    }
    Ok(())
}

/// The canonical text of an object.
pub(crate) fn canonical_object(object: &Struct) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(128);
    write_object(object, &mut out, 1)?;
    Ok(out)
}

fn write_object(object: &Struct, out: &mut Vec<u8>, depth: usize) -> Result<(), String> {
    out.push(b'{');
    for (n, (key, item)) in object.fields.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        write_text(key, out)?;
        out.push(b':');
        write_value(item, out, depth)?;
    }
    out.push(b'}');
    Ok(())
}

fn write_number(number: f64, out: &mut Vec<u8>) -> Result<(), String> {
    /// Up to here every whole number is a double.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if !number.is_finite() {
        return Err(format!("holds {number}, which JSON cannot represent"));
    }
    let is_whole =
        number.fract() == 0.0 && number.abs() <= EXACT && !(number == 0.0 && number.is_sign_negative());
    let text = if is_whole {
        format!("{number:.0}")
    } else {
        serde_json::to_string(&number).map_err(|e| e.to_string())?
    };
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

fn write_text(text: &str, out: &mut Vec<u8>) -> Result<(), String> {
    serde_json::to_writer(out, text).map_err(|e| e.to_string())
}

/// JSON bytes as a value; `None` when they are no JSON, or hold a number that a double cannot keep exactly.
pub(crate) fn to_value(bytes: &[u8]) -> Option<Value> {
    let parsed: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    value_of(parsed)
}

/// JSON bytes of an object.
pub(crate) fn to_object(bytes: &[u8]) -> Option<Struct> {
    object_of(serde_json::from_slice(bytes).ok()?)
}

/// A JSON map; none when it is no map, or holds a number that a double cannot keep exactly.
pub(crate) fn object_of(json: serde_json::Value) -> Option<Struct> {
    match value_of(json)?.kind? {
        Kind::StructValue(object) => Some(object),
        Kind::NullValue(_)
        | Kind::NumberValue(_)
        | Kind::StringValue(_)
        | Kind::BoolValue(_)
        | Kind::ListValue(_) => None,
    }
}

pub(crate) fn value_of(json: serde_json::Value) -> Option<Value> {
    let kind = match json {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(b) => Kind::BoolValue(b),
        serde_json::Value::Number(number) => Kind::NumberValue(double(&number)?),
        serde_json::Value::String(text) => Kind::StringValue(text),
        serde_json::Value::Array(items) => {
            Kind::ListValue(ListValue { values: items.into_iter().map(value_of).collect::<Option<_>>()? })
        }
        serde_json::Value::Object(fields) => Kind::StructValue(Struct {
            fields: fields.into_iter().map(|(k, v)| value_of(v).map(|v| (k, v))).collect::<Option<_>>()?,
        }),
    };
    Some(Value { kind: Some(kind) })
}

fn double(number: &serde_json::Number) -> Option<f64> {
    const EXACT: u64 = 1 << 53;
    let is_exact = match (number.as_u64(), number.as_i64()) {
        (Some(n), _) => n <= EXACT,
        (None, Some(n)) => n.unsigned_abs() <= EXACT,
        (None, None) => true,
    };
    number.as_f64().filter(|_| is_exact)
}

#[cfg(test)]
mod tests;
