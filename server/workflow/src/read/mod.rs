//! Reads a workflow. In: a text in YAML (or JSON, which is YAML). Out: what its author wrote. Refused: everything that is
//! wrong in itself, with line, column, field, limit and value; how the steps go together is checked after it.

mod approval;
mod shape;
mod step;
mod wait;
mod work;

use crate::expression::Template;
use crate::limits::*;
use crate::model::{Concurrency, Definition, InputSchema, OnConflict};
use coretex_document::{Fields, Limits, Node, Notes, Problems, Spot, items, join, place, text};
use coretex_domain::config::Schema;
use coretex_domain::names;
use serde_json::Value;

pub(crate) use approval::APPROVAL_KEYS;
pub(crate) use shape::literal;
pub(crate) use step::{KIND_KEYS, STEP_KEYS};
pub(crate) use wait::WAIT_EVENT_KEYS;
pub(crate) use work::{BUDGET_KEYS, FOR_EACH_KEYS, RETRY_KEYS, TIMEOUT_KEYS, WORK_KEYS};

/// Keys of a workflow.
pub(crate) const KEYS: &[&str] =
    &["name", "description", "input_schema", "timeout", "concurrency", "steps", "output", "on_failure"];
pub(crate) const CONCURRENCY_KEYS: &[&str] = &["key", "limit", "on_conflict"];
pub(crate) const ON_CONFLICT: &[(&str, OnConflict)] = &[
    ("queue", OnConflict::Queue),
    ("reject", OnConflict::Reject),
    ("cancel_oldest", OnConflict::CancelOldest),
];

const LIMITS: Limits = Limits {
    name: "workflow",
    needs: "`name` and `steps`",
    bytes_max: TEXT_BYTES_MAX,
    nodes_max: NODES_MAX,
    depth_max: TEXT_DEPTH_MAX,
    alias_events_max: ALIAS_EVENTS_MAX,
};

/// What is read so far.
pub(crate) struct Reader {
    pub(crate) notes: Notes,
    /// Steps met, those in groups included.
    steps: usize,
}

/// Reads a text, as far as it can be read.
pub(crate) fn read(source: &str) -> Result<(Option<Definition>, Notes), Problems> {
    let root = coretex_document::read(source, &LIMITS)?;
    let mut reader = Reader { notes: Notes::default(), steps: 0 };
    let definition = reader.definition(&root);
    Ok((definition, reader.notes))
}

impl Reader {
    fn definition(&mut self, root: &Spot) -> Option<Definition> {
        let notes = &mut self.notes;
        let fields = notes.map(root, "", KEYS)?;
        let name = fields.text("name", NAME_LEN_MAX, notes);
        match (&name, fields.spot("name")) {
            (Some(name), Some(spot)) => check_name(spot, name, notes),
            (None, None) => notes.at(root, "name", "is missing; a workflow has a name"),
            _ => {}
        }
        let description = fields.text("description", TEXT_LEN_MAX, notes);
        let input = fields.spot("input_schema").and_then(|spot| input_schema(spot, notes));
        let timeout = fields.span("timeout", TIMER_MIN, TIMER_MAX, notes);
        let concurrency = concurrency(&fields, notes);
        if !fields.has("steps") {
            notes.at(root, "steps", "is missing; a workflow has at least one step");
        }
        let steps = fields.spot("steps").map(|spot| self.steps(spot, "steps", 1)).unwrap_or_default();
        let output = fields.spot("output").and_then(|spot| self.shape(spot, "output"));
        let on_failure =
            fields.spot("on_failure").map(|spot| self.steps(spot, "on_failure", 1)).unwrap_or_default();
        // Without a name the rest is checked all the same.
        let name = name.unwrap_or_default();
        Some(Definition { name, description, input, timeout, concurrency, steps, output, on_failure })
    }
}

/// A name that stands in addresses and ids.
fn check_name(spot: &Spot, name: &str, notes: &mut Notes) {
    notes.check_id(spot, "name", name, NAME_LEN_MAX);
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        notes.at(spot, "name", format!("is {}; it begins with a letter or a digit", names::shown(name)));
    }
}

fn input_schema(spot: &Spot, notes: &mut Notes) -> Option<InputSchema> {
    let value = literal(spot, "input_schema", notes)?;
    if !matches!(value, Value::Object(_)) {
        let told = format!("is {}, where a JSON Schema is wanted, as in {{type: object}}", spot.value.kind());
        notes.at(spot, "input_schema", told);
        return None;
    }
    match Schema::read("input_schema", &value) {
        Ok(schema) => Some(InputSchema { value, schema }),
        Err(faults) => {
            for fault in faults {
                notes.at(within(spot, &fault.field), &fault.field, fault.message);
            }
            None
        }
    }
}

/// The spot that a dotted path leads to, as far as it leads.
fn within<'n>(root: &'n Spot, path: &str) -> &'n Spot {
    let mut spot = root;
    for part in path.split('.').skip(1) {
        let Node::Map(fields) = &spot.value else { return spot };
        let Some((_, inner)) = fields.iter().find(|(key, _)| key.value == part) else { return spot };
        spot = inner;
    }
    spot
}

fn concurrency(fields: &Fields<'_>, notes: &mut Notes) -> Option<Concurrency> {
    let spot = fields.spot("concurrency")?;
    let fields = notes.map(spot, "concurrency", CONCURRENCY_KEYS)?;
    if !fields.has("key") {
        notes.at(spot, "concurrency.key", "is missing; it says which runs share the limit");
    }
    let key = fields.spot("key").and_then(|spot| template(spot, "concurrency.key", notes));
    let limit = fields.count("limit", 1, CONCURRENCY_MAX, notes).unwrap_or(1);
    let on_conflict = fields.word("on_conflict", ON_CONFLICT, notes).unwrap_or_default();
    Some(Concurrency { key: key?, limit, on_conflict })
}

/// A text with expressions in it; a number or a truth is taken as its text.
pub(crate) fn template(spot: &Spot, path: &str, notes: &mut Notes) -> Option<Template> {
    let source = match &spot.value {
        Node::Bool(value) => value.to_string().into(),
        Node::Whole(value) => value.to_string().into(),
        Node::Null | Node::Float(_) | Node::Text(_) | Node::List(_) | Node::Map(_) => {
            text(spot, path, TEMPLATE_BYTES_MAX, notes)?
        }
    };
    Template::parse(&source, place(spot)).map_err(|told| notes.at(spot, path, told)).ok()
}

/// A map of names to texts with expressions in them.
pub(crate) fn templates(
    fields: &Fields<'_>,
    name: &str,
    most: usize,
    notes: &mut Notes,
) -> Vec<(std::sync::Arc<str>, Template)> {
    let Some(spot) = fields.spot(name) else { return Vec::new() };
    let path = fields.path(name);
    let Node::Map(found) = &spot.value else {
        let told = format!("is {}, where a map is wanted, as in {{model: small}}", spot.value.kind());
        notes.at(spot, &path, told);
        return Vec::new();
    };
    if found.len() > most {
        notes.at(spot, &path, format!("has {} entries, at most {most}", found.len()));
        return Vec::new();
    }
    let mut read: Vec<(std::sync::Arc<str>, Template)> = Vec::with_capacity(found.len());
    for (key, value) in found {
        let path = join(&path, key.value.get(..64).unwrap_or(&key.value));
        let Some(template) = template(value, &path, notes) else { continue };
        if let Some(fixed) = template.fixed()
            && let Err(told) = names::check_label(&key.value, fixed)
        {
            notes.at(value, &path, told);
        } else if let Err(told) = names::check_label(&key.value, "x") {
            notes.at(value, &path, told);
        }
        if read.iter().any(|(known, _)| **known == *key.value) {
            notes.at(value, &path, "is given twice");
            continue;
        }
        read.push((key.value.as_str().into(), template));
    }
    read
}

/// The entries of a list of steps.
fn step_items<'n>(spot: &'n Spot, path: &str, notes: &mut Notes) -> &'n [Spot] {
    let Some(found) = items(spot, path, STEPS_MAX, notes) else { return &[] };
    if found.is_empty() {
        notes.at(spot, path, "is empty; there is at least one step");
    }
    found
}
