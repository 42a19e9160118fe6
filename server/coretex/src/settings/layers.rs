//! Values of settings from all sources, the stronger over the weaker: defaults, file, environment, flags.

use super::catalog::{CATALOG, FOREIGN, Known, STRUCTURED, find};
use super::file;
use super::refusal::{Origin, Refusal, Refusals, VALUE};
use super::secrets;
use coretex_domain::nearest::hint;
use coretex_secrets::{ANY_NAMESPACE, Values, refs};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::SystemTime;

const PREFIX_KEY: &str = "secrets.env_prefix";

/// Where settings are looked for.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file, if one was named.
    pub config: Option<PathBuf>,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// Key and value from the command line.
    pub flags: Vec<(String, String)>,
    /// Defaults of the profile that replace those of the catalog.
    pub defaults: Vec<(&'static str, String)>,
    /// What time it is. `None`: what the clock of this machine says.
    pub now: Option<SystemTime>,
    /// What kind of file system the store is on, by its magic number. `None`: what this machine says.
    pub file_system: Option<u32>,
}

/// The value of one setting.
#[derive(Clone, Debug)]
pub struct Value {
    /// One item, or those of a list.
    pub items: Vec<String>,
    /// Where it comes from.
    pub origin: Origin,
}

/// What all sources say together, and what is wrong with it so far.
#[derive(Debug)]
pub struct Layers {
    /// When the settings are read.
    pub now: SystemTime,
    /// What kind of file system the store is said to be on.
    pub file_system: Option<u32>,
    /// Secrets of the environment.
    pub(super) secrets: Values,
    values: BTreeMap<&'static str, Value>,
    refusals: Vec<Refusal>,
}

// === impl Sources ===

impl Sources {
    /// The environment of this process, and nothing else.
    pub fn of_process() -> Sources {
        let ours = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok().filter(|name| name.starts_with("CORETEX_"))?;
            Some((name, value.to_string_lossy().into_owned()))
        });
        Sources { env: ours.collect(), ..Sources::default() }
    }
}

// === impl Layers ===

impl Layers {
    /// Reads all sources.
    pub fn read(sources: &Sources) -> Layers {
        let now = sources.now.unwrap_or_else(SystemTime::now);
        let (file_system, secrets) = (sources.file_system, Values::default());
        let mut layers = Layers { now, file_system, secrets, values: BTreeMap::new(), refusals: Vec::new() };
        for known in CATALOG {
            let profile = sources.defaults.iter().find(|(key, _)| *key == known.key);
            let text = profile.map(|(_, text)| text.clone()).or_else(|| known.default.map(str::to_owned));
            if let Some(text) = text {
                layers.values.insert(known.key, Value { items: vec![text], origin: Origin::Default });
            }
        }
        if let Some(path) = &sources.config {
            layers.add_file(path, &sources.env);
        }
        let prefix = layers.secret_prefix(sources);
        layers.add_environment(&sources.env, prefix.as_deref());
        for (key, text) in &sources.flags {
            layers.add_flag(key, text);
        }
        layers
    }

    fn add_file(&mut self, path: &Path, env: &BTreeMap<String, String>) {
        let found = match file::read(path, env) {
            Ok(found) => found,
            Err(refusal) => return self.refuse(*refusal),
        };
        for (key, line, items) in found {
            let origin = Origin::File(path.to_owned(), line);
            match (find(&key), items) {
                (Some(known), Ok(items)) => {
                    self.values.insert(known.key, Value { items, origin });
                }
                (Some(_), Err(refusal)) => self.refuse(refusal.at(origin.place(&key))),
                (None, _) => self.refuse(unknown_key(&key).at(origin.place(&key))),
            }
        }
    }

    /// What variables with secrets begin with, which are no typos of settings.
    fn secret_prefix(&mut self, sources: &Sources) -> Option<String> {
        let flag = sources.flags.iter().rev().find(|(key, _)| key == PREFIX_KEY);
        let flag = flag.map(|(_, text)| (text.clone(), Origin::Flag));
        let variable = || {
            let name = find(PREFIX_KEY)?.env.to_owned();
            Some((sources.env.get(&name)?.clone(), Origin::Env(name)))
        };
        let in_file = self.value(PREFIX_KEY).map(|value| (value.items.concat(), value.origin.clone()));
        let (prefix, origin) = flag.or_else(variable).or(in_file)?;
        if let Err(message) = secrets::check_prefix(&prefix) {
            let mend = format!("write for example `{PREFIX_KEY}: CORETEX_SECRET_`");
            self.refuse(Refusal::new(VALUE, message, mend).at(origin.place(PREFIX_KEY)));
            return None;
        }
        let (values, problems) = secrets::of_environment(&prefix, &sources.env);
        for (variable, message) in problems {
            let mend = "docs/guide/secrets.md has the form of names and values";
            self.refuse(Refusal::new(VALUE, message, mend).at(variable));
        }
        self.secrets = values;
        Some(prefix)
    }

    /// Puts secrets in the place of settings that are `secret://NAME`: those every namespace has, for settings belong to none.
    pub(super) fn resolve(&mut self, values: &Values) {
        let mut missing = Vec::new();
        for (key, value) in &mut self.values {
            for item in &mut value.items {
                let Some(name) = refs::of_text(item) else { continue };
                match values.get(ANY_NAMESPACE, name) {
                    Some(secret) => *item = secret.expose().to_owned(),
                    None => {
                        missing.push((*key, format!("no provider has secret://{name} for every namespace")))
                    }
                }
            }
        }
        for (key, message) in missing {
            self.refuse_at(key, secrets::unresolved(message));
        }
    }

    fn add_environment(&mut self, env: &BTreeMap<String, String>, secret_prefix: Option<&str>) {
        for (name, text) in env {
            match CATALOG.iter().find(|known| known.env == name) {
                Some(known) if text.is_empty() => {
                    let mend = format!("unset {name}, or give it a value such as `{}`", known.example);
                    self.refuse(Refusal::new(VALUE, "it is set and empty", mend).at(name));
                }
                Some(known) => self.add_text(known, text, Origin::Env(name.clone())),
                None if FOREIGN.contains(&name.as_str()) => {}
                None if secret_prefix.is_some_and(|prefix| name.starts_with(prefix)) => {}
                None => {
                    let hint = hint(name, CATALOG.iter().map(|known| known.env));
                    let message = format!("no setting has this variable{hint}");
                    self.refuse(
                        Refusal::new("R15", message, format!("unset {name}, or correct its name")).at(name),
                    );
                }
            }
        }
    }

    fn add_flag(&mut self, key: &str, text: &str) {
        match find(key) {
            Some(known) => self.add_text(known, text, Origin::Flag),
            None => self.refuse(unknown_key(key).at(Origin::Flag.place(key))),
        }
    }

    /// Lists are written with commas where there is one line only.
    fn add_text(&mut self, known: &'static Known, text: &str, origin: Origin) {
        let items = match known.key {
            key if STRUCTURED.contains(&key) && text.trim_start().starts_with('[') => {
                match serde_json::from_str::<Vec<serde_json::Value>>(text) {
                    Ok(items) => items.into_iter().map(text_of).collect(),
                    Err(error) => {
                        let mend = format!("write a list of JSON, or `{}`", known.example);
                        let refusal = Refusal::new(VALUE, format!("it is no list of JSON: {error}"), mend);
                        return self.refuse(refusal.at(origin.place(known.key)));
                    }
                }
            }
            "auth.keys" | "listen.allowed_hosts" | "steps.enabled" | "steps.http.allow" => {
                text.split(',').map(|item| item.trim().to_owned()).collect()
            }
            _ => vec![text.to_owned()],
        };
        self.values.insert(known.key, Value { items, origin });
    }

    /// The value of a setting that exists in the catalog.
    pub fn value(&self, key: &'static str) -> Option<&Value> {
        debug_assert!(find(key).is_some(), "{key} is not in the catalog");
        self.values.get(key)
    }

    /// Its items, if it is set.
    pub fn list(&self, key: &'static str) -> Vec<String> {
        self.value(key).map(|value| value.items.clone()).unwrap_or_default()
    }

    /// Its text, if it is set. A list where one value is wanted is refused.
    pub fn text(&mut self, key: &'static str) -> Option<String> {
        let value = self.value(key)?.clone();
        match <[String; 1]>::try_from(value.items) {
            Ok([text]) => Some(text),
            Err(_) => {
                self.refuse_value(key, "one value is wanted, not a list");
                None
            }
        }
    }

    /// Its value, read as a `T`. What cannot be read is refused, with the reason and an example.
    pub fn parse<T: FromStr<Err: Display>>(&mut self, key: &'static str) -> Option<T> {
        let text = self.text(key)?;
        text.parse().map_err(|error| self.refuse_value(key, format!("`{text}` cannot be used: {error}"))).ok()
    }

    /// Its value, read as a number within bounds.
    pub fn number(&mut self, key: &'static str, least: u64, most: u64) -> Option<u64> {
        let text = self.text(key)?;
        match text.parse::<u64>() {
            Ok(number) if (least..=most).contains(&number) => Some(number),
            Ok(_) | Err(_) => {
                self.refuse_value(key, format!("`{text}` is not a whole number from {least} to {most}"));
                None
            }
        }
    }

    /// Where the value of a setting comes from, for people.
    pub fn place(&self, key: &'static str) -> String {
        self.value(key).map_or_else(|| key.to_owned(), |value| value.origin.place(key))
    }

    /// The value of a setting cannot be used.
    pub fn refuse_value(&mut self, key: &'static str, message: impl Into<String>) {
        let example = find(key).map(|known| known.example).unwrap_or_default();
        let mend = format!("write for example `{key}: {example}`");
        let refusal = Refusal::new(VALUE, message, mend).at(self.place(key));
        self.refuse(refusal);
    }

    /// A reason not to start that is about a setting.
    pub fn refuse_at(&mut self, key: &'static str, refusal: Refusal) {
        let place = self.place(key);
        self.refuse(refusal.at(place));
    }

    /// A reason not to start.
    pub fn refuse(&mut self, refusal: Refusal) {
        self.refusals.push(refusal);
    }

    /// What is wrong, if anything.
    pub fn finish(mut self) -> Result<(), Refusals> {
        // What cannot be used is quoted, and it may come from a reference.
        for refusal in &mut self.refusals {
            refusal.message = coretex_secrets::text(&refusal.message).into_owned();
        }
        if self.refusals.is_empty() { Ok(()) } else { Err(Refusals(self.refusals)) }
    }
}

/// An item of a list as one in a file is kept: a text as it is, anything else as JSON.
fn text_of(value: serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text,
        value => value.to_string(),
    }
}

fn unknown_key(key: &str) -> Refusal {
    let hint = hint(key, CATALOG.iter().map(|known| known.key));
    Refusal::new(
        "R15",
        format!("there is no setting `{key}`{hint}"),
        "correct or remove it; `docs/guide/cli.md` lists all settings",
    )
}
