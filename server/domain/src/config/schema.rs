//! Schemas of configuration: the part of JSON Schema (2020-12) that is served, and no other word.
//!
//! A word that is not known is refused when the schema is set, so that none is silently without effect.

use super::data::{canonical, crop, kind_of};
use super::path;
use crate::limits::{CONFIG_DEPTH_MAX, CONFIG_FAULTS_MAX, CONFIG_SCHEMA_BYTES_MAX};
use crate::names::shown;
use crate::nearest::hint;
use crate::refusal::Violation;
use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value};

const TYPES: [&str; 7] = ["null", "boolean", "integer", "number", "string", "array", "object"];
/// Words that describe and do not bind.
const NOTES: [&str; 8] =
    ["$schema", "$id", "$comment", "title", "description", "default", "examples", "deprecated"];
const WORDS: [&str; 17] = [
    "type",
    "enum",
    "const",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "minLength",
    "maxLength",
    "pattern",
    "items",
    "minItems",
    "maxItems",
    "properties",
    "required",
    "additionalProperties",
    "propertyNames",
];
/// Memory one compiled pattern may take.
const PATTERN_BYTES_MAX: usize = 256 << 10;

/// A schema ready to judge values.
#[derive(Clone, Debug)]
pub struct Schema(Rule);

#[derive(Clone, Debug, Default)]
struct Rule {
    /// `false`: nothing fits.
    is_never: bool,
    types: Vec<&'static str>,
    choices: Option<Vec<Value>>,
    bounds: Vec<Bound>,
    pattern: Option<Regex>,
    items: Option<Box<Rule>>,
    properties: Vec<(String, Rule)>,
    required: Vec<String>,
    others: Option<Box<Rule>>,
    names: Option<Box<Rule>>,
}

/// A limit: its word, what it measures, and the number.
#[derive(Clone, Copy, Debug)]
struct Bound {
    word: &'static str,
    measure: Measure,
    is_least: bool,
    is_open: bool,
    limit: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measure {
    Number,
    Characters,
    Items,
}

// === impl Schema ===

impl Schema {
    /// Reads a schema. `field` is what callers call it.
    pub fn read(field: &str, value: &Value) -> Result<Schema, Vec<Violation>> {
        let mut reader = Reader { faults: Vec::new() };
        let len = canonical(value).len();
        if len > CONFIG_SCHEMA_BYTES_MAX {
            let message =
                format!("must be at most {CONFIG_SCHEMA_BYTES_MAX} bytes as canonical JSON, got {len}");
            return Err(vec![Violation { field: field.into(), message }]);
        }
        let rule = reader.rule(field, value, 1);
        if reader.faults.is_empty() { Ok(Schema(rule)) } else { Err(reader.faults) }
    }

    /// All faults of a value, up to a hundred. `at` is the path of the value.
    pub fn faults(&self, at: &str, value: &Value) -> Vec<Violation> {
        let mut judge = Judge { faults: Vec::new() };
        judge.judge(&self.0, &mut at.to_owned(), value);
        judge.faults
    }
}

// === impl Reader ===

struct Reader {
    faults: Vec<Violation>,
}

impl Reader {
    fn fault(&mut self, field: &str, message: impl Into<String>) {
        if self.faults.len() < CONFIG_FAULTS_MAX {
            self.faults.push(Violation { field: crop(field), message: message.into() });
        }
    }

    fn rule(&mut self, at: &str, value: &Value, depth: usize) -> Rule {
        let mut rule = Rule::default();
        if depth > CONFIG_DEPTH_MAX {
            self.fault(at, format!("must be nested at most {CONFIG_DEPTH_MAX} deep"));
            return rule;
        }
        let fields = match value {
            Value::Bool(is_any) => {
                rule.is_never = !is_any;
                return rule;
            }
            Value::Object(fields) => fields,
            Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                self.fault(at, format!("must be a schema, a map or a boolean, got {}", kind_of(value)));
                return rule;
            }
        };
        for (word, value) in fields {
            let at = format!("{at}.{word}");
            self.word(&mut rule, &at, word, value, depth);
        }
        rule
    }

    fn word(&mut self, rule: &mut Rule, at: &str, word: &str, value: &Value, depth: usize) {
        match word {
            "type" => rule.types = self.types(at, value),
            "enum" => match value.as_array().filter(|choices| !choices.is_empty()) {
                Some(choices) => rule.choices = Some(choices.clone()),
                None => self.fault(at, "must be a list of at least one value"),
            },
            "const" => rule.choices = Some(vec![value.clone()]),
            "pattern" => rule.pattern = self.pattern(at, value),
            "items" => rule.items = Some(Box::new(self.rule(at, value, depth + 1))),
            "additionalProperties" => rule.others = Some(Box::new(self.rule(at, value, depth + 1))),
            "propertyNames" => rule.names = Some(Box::new(self.rule(at, value, depth + 1))),
            "properties" => match value.as_object() {
                Some(fields) => {
                    let read = |(key, value): (&String, &Value)| {
                        (key.clone(), self.rule(&format!("{at}.{key}"), value, depth + 1))
                    };
                    rule.properties = fields.iter().map(read).collect();
                }
                None => self.fault(at, format!("must be a map of schemas, got {}", kind_of(value))),
            },
            "required" => rule.required = self.texts(at, value),
            _ => match bound(word) {
                Some(bound) => rule.bounds.extend(self.limit(at, bound, value)),
                None if NOTES.contains(&word) => {}
                None => {
                    let near = hint(word, WORDS.into_iter().chain(NOTES));
                    self.fault(at, format!("is a word of no schema served here{near}"));
                }
            },
        }
    }

    fn texts(&mut self, at: &str, value: &Value) -> Vec<String> {
        let read = |items: &Vec<Value>| items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
        let found: Option<Vec<String>> = value.as_array().and_then(read);
        if found.is_none() {
            self.fault(at, "must be a list of texts");
        }
        found.unwrap_or_default()
    }

    fn types(&mut self, at: &str, value: &Value) -> Vec<&'static str> {
        let names = match value {
            Value::String(one) => vec![one.clone()],
            _ => self.texts(at, value),
        };
        let mut types = Vec::new();
        for name in &names {
            match TYPES.iter().find(|known| **known == name.as_str()) {
                Some(known) => types.push(*known),
                None => {
                    let near = hint(name, TYPES);
                    self.fault(at, format!("must be of `{}`, got {}{near}", TYPES.join("`, `"), shown(name)));
                }
            }
        }
        if names.is_empty() {
            self.fault(at, "must name at least one type");
        }
        types
    }

    fn pattern(&mut self, at: &str, value: &Value) -> Option<Regex> {
        let Some(text) = value.as_str() else {
            self.fault(at, format!("must be a text, got {}", kind_of(value)));
            return None;
        };
        let built = RegexBuilder::new(text).size_limit(PATTERN_BYTES_MAX).build();
        let why = |error: regex::Error| {
            let text = error.to_string();
            text.lines().last().unwrap_or_default().trim().to_owned()
        };
        built.map_err(|error| self.fault(at, format!("is no pattern: {}", why(error)))).ok()
    }

    fn limit(&mut self, at: &str, bound: Bound, value: &Value) -> Option<Bound> {
        let limit = value.as_f64();
        let is_count = bound.measure != Measure::Number;
        let limit = limit.filter(|limit| !is_count || (*limit >= 0.0 && limit.fract() == 0.0));
        if limit.is_none() {
            let wanted = if is_count { "a whole number from 0" } else { "a number" };
            self.fault(at, format!("must be {wanted}, got {}", said(value)));
        }
        limit.map(|limit| Bound { limit, ..bound })
    }
}

fn bound(word: &str) -> Option<Bound> {
    let (word, measure, is_least, is_open) = match word {
        "minimum" => ("minimum", Measure::Number, true, false),
        "maximum" => ("maximum", Measure::Number, false, false),
        "exclusiveMinimum" => ("exclusiveMinimum", Measure::Number, true, true),
        "exclusiveMaximum" => ("exclusiveMaximum", Measure::Number, false, true),
        "minLength" => ("minLength", Measure::Characters, true, false),
        "maxLength" => ("maxLength", Measure::Characters, false, false),
        "minItems" => ("minItems", Measure::Items, true, false),
        "maxItems" => ("maxItems", Measure::Items, false, false),
        _ => return None,
    };
    Some(Bound { word, measure, is_least, is_open, limit: 0.0 })
}

// === impl Judge ===

struct Judge {
    faults: Vec<Violation>,
}

impl Judge {
    fn fault(&mut self, at: &str, rule: &str, wanted: impl std::fmt::Display, value: &Value) {
        if self.faults.len() < CONFIG_FAULTS_MAX {
            let message = format!("{rule}: {wanted}, got {}", said(value));
            self.faults.push(Violation { field: crop(at), message });
        }
    }

    fn judge(&mut self, rule: &Rule, at: &mut String, value: &Value) {
        if rule.is_never {
            return self.fault(at, "additionalProperties", "must not be there", value);
        }
        if !rule.types.is_empty() && !rule.types.iter().any(|one| is_of(one, value)) {
            return self.fault(at, "type", format_args!("must be {}", rule.types.join(" or ")), value);
        }
        if let Some(choices) = &rule.choices
            && !choices.iter().any(|one| canonical(one) == canonical(value))
        {
            let all: Vec<String> = choices.iter().map(said).collect();
            self.fault(at, "enum", format_args!("must be one of {}", all.join(", ")), value);
        }
        for bound in &rule.bounds {
            self.bound(*bound, at, value);
        }
        if let (Some(pattern), Some(text)) = (&rule.pattern, value.as_str())
            && !pattern.is_match(text)
        {
            self.fault(at, "pattern", format_args!("must match {}", shown(pattern.as_str())), value);
        }
        let len = at.len();
        if let (Some(rule), Some(items)) = (&rule.items, value.as_array()) {
            for (n, item) in items.iter().enumerate() {
                at.push_str(&format!("[{n}]"));
                self.judge(rule, at, item);
                at.truncate(len);
            }
        }
        if let Some(fields) = value.as_object() {
            self.fields(rule, at, fields);
        }
    }

    fn fields(&mut self, rule: &Rule, at: &mut String, fields: &Map<String, Value>) {
        let len = at.len();
        for key in rule.required.iter().filter(|key| !fields.contains_key(*key)) {
            path::push(at, key);
            self.fault(at, "required", "must be there", &Value::Null);
            at.truncate(len);
        }
        for (key, item) in fields {
            path::push(at, key);
            if let Some(rule) = &rule.names {
                self.judge(rule, at, &Value::from(key.as_str()));
            }
            match rule.properties.iter().find(|(known, _)| known == key) {
                Some((_, rule)) => self.judge(rule, at, item),
                None => {
                    if let Some(rule) = &rule.others {
                        self.judge(rule, at, item);
                    }
                }
            }
            at.truncate(len);
        }
    }

    fn bound(&mut self, bound: Bound, at: &str, value: &Value) {
        #[expect(clippy::cast_precision_loss, reason = "a count of parts of 256 KiB is exact")]
        let size = match bound.measure {
            Measure::Number => value.as_f64(),
            Measure::Characters => value.as_str().map(|text| text.chars().count() as f64),
            Measure::Items => value.as_array().map(|items| items.len() as f64),
        };
        let Some(size) = size else { return };
        let is_in = match (bound.is_least, bound.is_open) {
            (true, false) => size >= bound.limit,
            (true, true) => size > bound.limit,
            (false, false) => size <= bound.limit,
            (false, true) => size < bound.limit,
        };
        if is_in {
            return;
        }
        let of = match bound.measure {
            Measure::Number => "",
            Measure::Characters => " characters",
            Measure::Items => " items",
        };
        let side = match (bound.is_least, bound.is_open) {
            (true, false) => "at least",
            (true, true) => "more than",
            (false, false) => "at most",
            (false, true) => "less than",
        };
        let wanted = format!("must be {side} {}{of}", bound.limit);
        if bound.measure == Measure::Number {
            return self.fault(at, bound.word, wanted, value);
        }
        self.fault(at, bound.word, wanted, &Value::from(format!("{size}{of}")));
    }
}

fn is_of(kind: &str, value: &Value) -> bool {
    match kind {
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        kind => kind_of(value) == kind,
    }
}

/// A value for a message, cut.
fn said(value: &Value) -> String {
    match value {
        Value::Null => "nothing".into(),
        Value::String(text) => shown(text),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(fields) => format!("a map of {}", fields.len()),
    }
}
