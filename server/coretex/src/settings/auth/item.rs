//! One map of a list of settings: its fields by name, with the place of everything that is wrong.

use crate::settings::layers::Layers;
use crate::settings::refusal::{Refusal, VALUE};
use coretex_domain::access::{Role, Roles};
use coretex_domain::names::check_namespace;
use coretex_domain::nearest::hint;
use serde_json::{Map, Value};

pub(super) struct Item {
    place: String,
    fields: Map<String, Value>,
    /// What to do about anything wrong in it.
    mend: &'static str,
}

// === impl Item ===

impl Item {
    /// Reads a line of JSON. Fields that do not exist are refused.
    pub(super) fn read(
        line: &str,
        place: String,
        known: &[&str],
        mend: &'static str,
        layers: &mut Layers,
    ) -> Option<Item> {
        let Ok(fields) = serde_json::from_str::<Map<String, Value>>(line) else {
            layers.refuse(Refusal::new(VALUE, "it is no map of names and values", mend).at(place));
            return None;
        };
        for name in fields.keys().filter(|name| !known.contains(&name.as_str())) {
            let hint = hint(name, known.iter().copied());
            let message = format!("there is no field {}{hint}", coretex_domain::names::shown(name));
            layers.refuse(Refusal::new("R15", message, mend).at(place.clone()));
        }
        Some(Item { place, fields, mend })
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.fields.contains_key(name)
    }

    /// Something in it cannot be used.
    pub(super) fn refuse(&self, message: impl Into<String>, layers: &mut Layers) {
        layers.refuse(Refusal::new(VALUE, message, self.mend).at(self.place.clone()));
    }

    /// A text, if it is there.
    pub(super) fn text(&self, name: &str, layers: &mut Layers) -> Option<String> {
        match self.fields.get(name)? {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            _ => {
                self.refuse(format!("`{name}` is no text"), layers);
                None
            }
        }
    }

    /// A text that must be there.
    pub(super) fn required(&self, name: &str, layers: &mut Layers) -> Option<String> {
        if !self.has(name) {
            self.refuse(format!("`{name}` is missing"), layers);
        }
        self.text(name, layers)
    }

    /// A list of texts; one text is a list of one. None there: empty.
    pub(super) fn list(&self, name: &str, layers: &mut Layers) -> Vec<String> {
        let Some(value) = self.fields.get(name) else { return Vec::new() };
        texts(value).unwrap_or_else(|| {
            self.refuse(format!("`{name}` is no list of texts"), layers);
            Vec::new()
        })
    }

    /// Names and lists of texts.
    pub(super) fn lists(&self, name: &str, layers: &mut Layers) -> Vec<(String, Vec<String>)> {
        let Some(value) = self.fields.get(name) else { return Vec::new() };
        let read = value.as_object().and_then(|map| {
            map.iter().map(|(name, value)| Some((name.clone(), texts(value)?))).collect::<Option<_>>()
        });
        read.unwrap_or_else(|| {
            self.refuse(format!("`{name}` is no map of names and lists of texts"), layers);
            Vec::new()
        })
    }

    pub(super) fn roles(&self, name: &str, layers: &mut Layers) -> Roles {
        let names = self.list(name, layers);
        roles(&names).unwrap_or_else(|message| {
            self.refuse(format!("`{name}`: {message}"), layers);
            Roles::NONE
        })
    }

    pub(super) fn namespaces(&self, name: &str, layers: &mut Layers) -> Vec<String> {
        let names = self.list(name, layers);
        if self.has(name) && names.is_empty() {
            self.refuse(format!("`{name}` is empty; leave it out to mean all"), layers);
        }
        for problem in names.iter().filter_map(|name| check_namespace(name).err()) {
            self.refuse(format!("`{name}`: a namespace {problem}"), layers);
        }
        names
    }
}

fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

/// Roles by their names.
pub(super) fn roles(names: &[String]) -> Result<Roles, String> {
    names.iter().map(|name| Role::parse(name)).collect()
}
