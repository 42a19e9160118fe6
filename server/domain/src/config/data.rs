//! The data of one scope: its limits, its canonical text, and changes of it.

use super::{Digest, path};
use crate::limits::{
    CONFIG_BYTES_MAX, CONFIG_DEPTH_MAX, CONFIG_FAULTS_MAX, CONFIG_KEY_LEN_MAX, CONFIG_LEAVES_MAX,
};
use crate::names::shown;
use crate::refusal::Violation;
use serde_json::Value;

/// Checks a key: `[A-Za-z0-9_.-]{1,128}`.
pub(super) fn check_key(key: &str) -> Result<(), String> {
    let is_fit = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if let Some((at, c)) = key.char_indices().find(|(_, c)| !is_fit(*c)) {
        return Err(format!("must match [A-Za-z0-9_.-]{{1,128}}; position {at} is {c:?} in {}", shown(key)));
    }
    match key.len() {
        0 => Err("must match [A-Za-z0-9_.-]{1,128}; it is empty".into()),
        len if len > CONFIG_KEY_LEN_MAX => {
            Err(format!("must match [A-Za-z0-9_.-]{{1,128}}; it has {len} characters: {}", shown(key)))
        }
        _ => Ok(()),
    }
}

/// Everything that is wrong with the data of a scope, up to a hundred faults. `field` is what callers call it.
pub fn check_data(field: &str, data: &Value) -> Vec<Violation> {
    if !data.is_object() {
        let message = format!("must be a map, got {}", kind_of(data));
        return vec![Violation { field: field.into(), message }];
    }
    let mut check = Check { faults: Vec::new(), leaves: 0 };
    check.walk(data, &mut field.to_owned(), 1);
    if check.leaves > CONFIG_LEAVES_MAX {
        let message = format!("must have at most {CONFIG_LEAVES_MAX} leaves, got {}", check.leaves);
        check.faults.push(Violation { field: field.into(), message });
    }
    let len = canonical(data).len();
    if len > CONFIG_BYTES_MAX {
        let message = format!("must be at most {CONFIG_BYTES_MAX} bytes as canonical JSON, got {len}");
        check.faults.push(Violation { field: field.into(), message });
    }
    check.faults
}

struct Check {
    faults: Vec<Violation>,
    leaves: usize,
}

impl Check {
    fn walk(&mut self, value: &Value, at: &mut String, depth: usize) {
        if self.faults.len() >= CONFIG_FAULTS_MAX {
            return;
        }
        if depth > CONFIG_DEPTH_MAX && is_nest(value) {
            self.fault(at, format!("must be nested at most {CONFIG_DEPTH_MAX} deep"));
            return;
        }
        let len = at.len();
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                for (key, item) in fields {
                    path::push(at, key);
                    if let Err(rule) = check_key(key) {
                        at.truncate(len);
                        self.fault(at, format!("key {rule}"));
                    } else {
                        self.walk(item, at, depth + 1);
                    }
                    at.truncate(len);
                }
            }
            Value::Array(items) if !items.is_empty() => {
                for (n, item) in items.iter().enumerate() {
                    at.push_str(&format!("[{n}]"));
                    self.walk(item, at, depth + 1);
                    at.truncate(len);
                }
            }
            Value::Object(_)
            | Value::Array(_)
            | Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_) => self.leaves += 1,
        }
    }

    fn fault(&mut self, field: &str, message: String) {
        if self.faults.len() < CONFIG_FAULTS_MAX {
            self.faults.push(Violation { field: crop(field), message });
        }
    }
}

fn is_nest(value: &Value) -> bool {
    value.is_object() || value.is_array()
}

/// A path for a message: deep ones are long.
pub(super) fn crop(path: &str) -> String {
    const SHOWN_MAX: usize = 512;
    match path.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", &path[..end]),
        None => path.to_owned(),
    }
}

pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The canonical text: keys in order, no space, whole numbers without a fraction.
pub fn canonical(value: &Value) -> String {
    let mut out = String::with_capacity(256);
    write(value, &mut out);
    out
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut keys: Vec<(&String, &Value)> = fields.iter().collect();
            keys.sort_unstable_by_key(|(key, _)| *key);
            out.push('{');
            for (n, (key, item)) in keys.into_iter().enumerate() {
                if n > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write(item, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (n, item) in items.iter().enumerate() {
                if n > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        Value::Number(number) => match number.as_f64().filter(|n| number.is_f64() && is_whole(*n)) {
            Some(whole) => out.push_str(&format!("{whole:.0}")),
            None => out.push_str(&number.to_string()),
        },
        Value::Null | Value::Bool(_) | Value::String(_) => out.push_str(&value.to_string()),
    }
}

/// True for doubles that stand for exactly one whole number. Minus zero is written like zero.
fn is_whole(number: f64) -> bool {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    number.fract() == 0.0 && number.abs() <= EXACT && !(number == 0.0 && number.is_sign_negative())
}

pub fn digest_of(canonical: &[u8]) -> Digest {
    *blake3::hash(canonical).as_bytes()
}

/// Data with a merge patch (RFC 7396) applied: maps merge, null removes, everything else replaces.
pub fn merge_patch(present: Value, patch: Value) -> Value {
    let Value::Object(patch) = patch else { return patch };
    let mut fields = match present {
        Value::Object(fields) => fields,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Default::default()
        }
    };
    for (key, change) in patch {
        if change.is_null() {
            fields.remove(&key);
        } else {
            let old = fields.remove(&key).unwrap_or(Value::Null);
            fields.insert(key, merge_patch(old, change));
        }
    }
    Value::Object(fields)
}
