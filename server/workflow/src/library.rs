//! The step library as far as a definition can be checked against it: which steps there are, and what they are given.

use crate::expression::Shape;
use coretex_document::{Fields, Notes, Spot};
use coretex_domain::names::shown;
use coretex_domain::nearest::hint;
use serde_json::Value;

/// What a built-in step is given under one key of its `input`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Argument {
    pub(crate) name: &'static str,
    pub(crate) is_needed: bool,
    /// Must stand in the definition as it is, without expressions, so that it is checked before a run needs it.
    pub(crate) is_fixed: bool,
    pub(crate) kind: Wanted,
}

/// What kind of value an argument is; expressions are judged when they have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Any,
    Text,
    Map,
    Word(&'static [&'static str]),
}

/// Names of the library, in order.
pub(crate) const NAMES: &[&str] = &["emit", "http", "log", "set", "transform", "validate"];

pub(crate) const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
pub(crate) const LEVELS: &[&str] = &["debug", "info", "warn", "error"];

const fn needed(name: &'static str, kind: Wanted) -> Argument {
    Argument { name, is_needed: true, is_fixed: false, kind }
}

const fn optional(name: &'static str, kind: Wanted) -> Argument {
    Argument { name, is_needed: false, is_fixed: false, kind }
}

const fn fixed(name: &'static str, kind: Wanted) -> Argument {
    Argument { name, is_needed: true, is_fixed: true, kind }
}

const EMIT: &[Argument] = &[needed("name", Wanted::Text), optional("data", Wanted::Any)];
const HTTP: &[Argument] = &[
    needed("url", Wanted::Text),
    optional("method", Wanted::Word(METHODS)),
    optional("headers", Wanted::Map),
    optional("query", Wanted::Map),
    optional("body", Wanted::Any),
];
const LOG: &[Argument] = &[
    needed("message", Wanted::Text),
    optional("level", Wanted::Word(LEVELS)),
    optional("fields", Wanted::Map),
];
const TRANSFORM: &[Argument] = &[fixed("jq", Wanted::Text), needed("data", Wanted::Any)];
const VALIDATE: &[Argument] = &[fixed("schema", Wanted::Map), needed("data", Wanted::Any)];

/// What a step of the library takes; none for `set`, which gives back whatever it is given.
pub(crate) fn arguments(name: &str) -> Option<&'static [Argument]> {
    Some(match name {
        "emit" => EMIT,
        "http" => HTTP,
        "log" => LOG,
        "transform" => TRANSFORM,
        "validate" => VALIDATE,
        _ => return None,
    })
}

/// Checks what a built-in step is given.
pub(crate) fn check(name: &str, fields: &Fields<'_>, input: Option<&Shape>, notes: &mut Notes) {
    let Some(arguments) = arguments(name) else { return };
    let path = fields.path("input");
    let Some(spot) = fields.spot("input") else {
        let needed: Vec<&str> = arguments.iter().filter(|one| one.is_needed).map(|one| one.name).collect();
        if let (Some(at), false) = (fields.spot("uses"), needed.is_empty()) {
            notes.at(at, &path, format!("is missing; `{name}` needs {}", needed.join(", ")));
        }
        return;
    };
    let Some(input) = input else { return };
    let Some(given) = input.entries() else {
        if !input.is_template() {
            notes.at(spot, &path, format!("is {}, where a map is wanted for `{name}`", input.kind()));
        }
        return;
    };
    for (key, _) in &given {
        if !arguments.iter().any(|one| one.name == key) {
            let known = || arguments.iter().map(|one| one.name);
            let all = known().collect::<Vec<_>>().join(", ");
            notes.at(
                spot,
                &format!("{path}.{key}"),
                format!("is no key of `{name}`; it takes {all}{}", hint(key, known())),
            );
        }
    }
    for one in arguments {
        match given.iter().find(|(key, _)| key == one.name) {
            Some((_, shape)) => argument(name, one, shape, (spot, &path), notes),
            None if one.is_needed => {
                notes.at(spot, &format!("{path}.{}", one.name), format!("is missing; `{name}` needs it"));
            }
            None => {}
        }
    }
}

fn argument(name: &str, one: &Argument, shape: &Shape, (spot, path): (&Spot, &str), notes: &mut Notes) {
    let path = format!("{path}.{}", one.name);
    let Some(value) = shape.fixed() else {
        if one.is_fixed {
            notes.at(
                spot,
                &path,
                "has expressions in it; it is checked before any run, so it stands as it is",
            );
        }
        return;
    };
    let told = match (one.kind, &value) {
        (Wanted::Text, Value::String(_)) | (Wanted::Map, Value::Object(_)) | (Wanted::Any, _) => None,
        (Wanted::Text, other) => {
            Some(format!("is {}, where a text is wanted", crate::expression::kind_of(other)))
        }
        (Wanted::Map, other) => {
            Some(format!("is {}, where a map is wanted", crate::expression::kind_of(other)))
        }
        (Wanted::Word(words), Value::String(word)) if words.contains(&word.as_str()) => None,
        (Wanted::Word(words), other) => {
            let word = other.as_str().unwrap_or_default();
            let told = shown(&other.to_string());
            Some(format!("is {told}; it is one of {}{}", words.join(", "), hint(word, words.iter().copied())))
        }
    };
    if let Some(told) = told {
        notes.at(spot, &path, told);
    }
    if name == "validate"
        && one.name == "schema"
        && value.is_object()
        && let Err(faults) = coretex_domain::config::Schema::read(&path, &value)
    {
        for fault in faults {
            notes.at(spot, &fault.field, fault.message);
        }
    }
}
